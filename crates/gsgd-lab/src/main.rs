//! Parse, dispatch, print.

use clap::Parser;
use gsgd_lab::cli::Cli;

/// Large short-lived tensors cost page faults with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // a reader that has seen enough, such as head, ends the program without a word
    sigpipe::reset();
    if let Err(error) = Cli::parse().run() {
        eprintln!("error: {error:#}");
        std::process::exit(2);
    }
}
