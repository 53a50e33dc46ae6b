//! Parse, dispatch, print.

use clap::Parser;
use gsgd_lab::cli::Cli;
use gsgd_lab::text::printable;

/// Large short-lived tensors cost page faults with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a thread's stack: what a main thread has.
const STACK: usize = 8 << 20;

fn main() {
    // a reader that has seen enough, such as head, ends the program without a word
    sigpipe::reset();
    let cli = Cli::parse();
    // inside the pool that shares the work of large layers, whoever shares some takes part instead of waiting for others
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK);
    let outcome = match pool.build_global() {
        Ok(()) => rayon::scope(|_| cli.run()),
        Err(_) => cli.run(),
    };
    if let Err(error) = outcome {
        // names in files are anybody's
        let text = format!("{error:#}");
        let lines: Vec<_> = text.lines().map(printable).collect();
        eprintln!("error: {}", lines.join("\n"));
        std::process::exit(2);
    }
}
