//! Networks that train, and their files.
//!
//! - [`Net`]: the network of any graph as a module; `plan`, `batch`: its steps, found once; `operations`, `value`: how they
//!   are carried out; `weights`: its tensors;
//! - `design`: what a network is, by its name or a file; `init`: its starting weights; `file`: checkpoints;
//! - `earlier`: names of parameters in the checkpoints of earlier versions.

mod batch;
mod design;
mod earlier;
mod file;
mod init;
mod net;
mod operations;
mod plan;
mod value;
mod weights;

pub use gsgd_net::arch::{Arch, Conv};
pub use gsgd_net::architecture::Architecture;
pub use gsgd_net::known::network_of;

pub use design::Design;
pub use earlier::name_now;
pub use file::{
    FilePart, NETWORK, TEMPORARY, fill, move_into_place, save, save_text, tensors, write_whole,
};
pub use init::Init;
pub use net::Net;
pub use plan::{Form, Kept, Plan, statistics};
pub use weights::Weight;
