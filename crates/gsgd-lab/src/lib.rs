//! Models, data, training and commands around the `gsgd` library.

pub mod cli;
pub mod compare;
mod convolution;
pub mod data;
mod dense;
#[cfg(test)]
mod fuzz;
mod inspect;
mod memory;
pub mod models;
mod network;
mod normalisation;
#[cfg(test)]
mod passes;
pub mod report;
pub mod reproduce;
mod residual;
pub mod text;
pub mod train;

/// Version and commit, as they stand in every file that tells of a run.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("GSGD_COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.into(),
    }
}
