//! Paths from input to output: exact tools for small networks, norms for networks of any size.

mod exact;
mod norms;
mod rank;
mod sgd;

pub use crate::matrix::Power;
pub use exact::{Path, Paths, Start};
pub(crate) use norms::PathSums;
pub use norms::{basis_path_norm, path_norm};
pub use sgd::{path_sgd, path_sgd_takes};
