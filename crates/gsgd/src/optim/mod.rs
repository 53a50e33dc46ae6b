//! Optimisers in the positively scale-invariant space, and their siblings on the same wiring.

mod balanced;
mod config;
mod gradients;
mod gspace;
mod moments;
mod path_sgd;
mod scaled;
mod state;

pub use balanced::BalancedSgd;
pub use config::{GSpaceConfig, Unwired};
pub use gspace::GSpace;
pub use path_sgd::PathSgd;
