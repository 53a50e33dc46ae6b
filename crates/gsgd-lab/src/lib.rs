//! Models, data, training and commands around the `gsgd` library.

pub mod cli;
mod convolution;
pub mod data;
pub mod models;
pub mod train;
