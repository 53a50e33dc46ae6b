//! The program: commands for networks in files and, with the feature `train`, models, data and training.

// they panic where nothing can be written, and let names from files speak to the terminal: see `text`
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
#[cfg(feature = "train")]
pub mod compare;
#[cfg(feature = "train")]
pub mod data;
#[cfg(feature = "train")]
mod folders;
#[cfg(all(test, feature = "train"))]
mod fuzz;
mod inspect;
#[cfg(feature = "train")]
pub mod models;
mod page;
#[cfg(feature = "train")]
pub mod report;
#[cfg(feature = "train")]
pub mod reproduce;
pub mod text;
#[cfg(feature = "train")]
pub mod train;

/// Version and commit, as they stand in every file that tells of a run.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("GSGD_COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.into(),
    }
}
