//! What ends a run at its next step: Ctrl-C, SIGTERM, SIGHUP, or the end of the process that started it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::text::say;

static RAISED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A flag that the signals raise; a second signal ends the program.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    if let Some(raised) = RAISED.get() {
        return Ok(raised.clone());
    }
    let raised = RAISED.get_or_init(Arc::default).clone();
    let handle = raised.clone();
    let before = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        handle.store(true, Ordering::SeqCst);
        // not the flag itself, which the end of the input may have raised a moment ago
        if before.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        say("stopping after this step; Ctrl-C again to leave at once");
    })?;
    Ok(raised)
}

/// Raises the flag when standard input ends: it is a pipe that the process that started this one holds open, and that
/// closes with it, however it ends.
pub fn at_end_of_input() -> anyhow::Result<()> {
    let raised = flag()?;
    thread::spawn(move || {
        // what cannot be read has ended too
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        raised.store(true, Ordering::SeqCst);
    });
    Ok(())
}
