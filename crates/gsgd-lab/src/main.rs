//! Parse, dispatch, print.

use clap::Parser;
use gsgd_lab::cli::Cli;

fn main() {
    if let Err(error) = Cli::parse().run() {
        eprintln!("error: {error:#}");
        std::process::exit(2);
    }
}
