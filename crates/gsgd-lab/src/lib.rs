//! Models, data, training and commands around the `gsgd` library.

pub mod cli;
pub mod data;
pub mod models;
pub mod train;
