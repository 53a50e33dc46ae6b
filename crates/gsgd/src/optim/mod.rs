//! Optimisers in the positively scale-invariant space, and their siblings on the same scale graph.

mod balanced;
mod config;
mod gradients;
mod gspace;
mod path_sgd;
mod state;
mod weight_space;

pub use balanced::BalancedSgd;
pub use config::{GSpaceConfig, Outside};
pub use gspace::GSpace;
pub use path_sgd::PathSgd;
