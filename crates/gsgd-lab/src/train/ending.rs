//! How a run ended: the file `ending.json`.

use std::fs;

use serde::{Deserialize, Serialize};

/// The file's name in a run's folder. A run without it has not ended.
pub const ENDING: &str = "ending.json";

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All steps done.
    Done,
    /// Stopped because the validation loss no longer fell.
    Early,
    /// The loss or a gradient left the finite numbers.
    Diverged,
    /// It could not be carried out.
    Failed,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where it diverged or failed.
    pub reason: Option<String>,
    /// Steps done.
    pub steps: usize,
    /// Seconds spent in training steps.
    pub seconds: f64,
    /// Most bytes of memory that the process held at once, where the system tells.
    pub peak_memory: Option<u64>,
}

/// Most bytes of memory that this process held at once; known on Linux.
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
