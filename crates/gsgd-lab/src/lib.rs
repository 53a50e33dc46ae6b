//! Models, data, training and commands around the `gsgd` library.

// they panic where nothing can be written, and let names from files speak to the terminal: see `text`
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod compare;
pub mod data;
mod folders;
#[cfg(test)]
mod fuzz;
mod inspect;
pub mod models;
pub mod report;
pub mod reproduce;
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
