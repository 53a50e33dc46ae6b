//! Train ReLU networks in their positively scale-invariant space.
mod coordinates;
mod error;
mod init;
mod kernels;
mod optim;
mod params;
mod paths;
mod rescale;
mod skeleton;
mod wiring;

pub use coordinates::Coordinates;
pub use error::{Error, Rejected, WiringError};
pub use init::skeleton_to_one;
pub use kernels::{Arithmetic, Power};
pub use optim::{BalancedSgd, GSpace, GSpaceConfig, PathSgd, Unwired};
pub use paths::{Path, Paths, Start, basis_path_norm, path_norm};
pub use rescale::{Balance, Balanced, Equivalence, Scaling, balance, equivalent, to_canonical};
pub use skeleton::{Edge, Skeleton, Tree, paper};
pub use wiring::{Channels, Class, Edges, Homogeneous, Wiring, WiringBuilder};
