//! One process at a time writes a run's folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

/// Locks a run's folder as long as the file is open, which ends with the process, however that ends; `None` where
/// another process has it.
///
/// # Errors
/// The folder cannot be written.
pub fn lock(folder: &Path) -> Result<Option<File>> {
    let name = folder.join("lock");
    let open = OpenOptions::new().create(true).append(true).open(&name);
    let lock = open.with_context(|| format!("cannot write {}", name.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", name.display()))
        }
    }
}
