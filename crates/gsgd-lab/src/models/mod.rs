//! Networks that train, and their files.
//!
//! - [`Net`]: the network of any graph as a module; `plan`, `batch`: its steps, found once; `operations`, `value`: how they
//!   are carried out; `weights`: its tensors;
//! - `name`: networks as they are asked for; `design`: what a network is; `init`: its starting weights; `file`: checkpoints;
//! - `earlier`: names of parameters in the checkpoints of earlier versions.

mod batch;
mod design;
mod earlier;
mod file;
mod init;
mod name;
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
pub use name::NetworkName;
pub use net::Net;
pub use plan::{Form, Kept, Plan, statistics};
pub use weights::Weight;

#[cfg(test)]
mod tests;
