//! Models, data, training and commands around the `gsgd` library.

pub mod cli;
pub mod compare;
mod convolution;
pub mod data;
pub mod models;
pub mod report;
pub mod train;
