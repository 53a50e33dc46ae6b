//! Ctrl-C or SIGTERM ends a run at the next step; a second one ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static RAISED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A flag that Ctrl-C and SIGTERM raise.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    if let Some(raised) = RAISED.get() {
        return Ok(raised.clone());
    }
    let raised = RAISED.get_or_init(Arc::default).clone();
    let handle = raised.clone();
    ctrlc::set_handler(move || {
        if handle.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; Ctrl-C again to leave at once");
    })?;
    Ok(raised)
}
