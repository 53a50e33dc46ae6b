//! Parse, dispatch, print.

use gsgd_lab::cli::Cli;
use gsgd_lab::text::say;

/// Large short-lived tensors cost page faults with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a thread's stack: what a main thread has.
const STACK: usize = 8 << 20;

fn main() {
    let cli = Cli::of_command_line();
    // inside the pool that shares the work of large layers, whoever shares some takes part instead of waiting for others
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK);
    let outcome = match pool.build_global() {
        Ok(()) => rayon::scope(|_| cli.run()),
        Err(_) => cli.run(),
    };
    if let Err(error) = outcome {
        say(&format!("error: {error:#}"));
        std::process::exit(2);
    }
}
