//! `metrics.jsonl`: a line of figures per epoch.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::models::write_whole;
use crate::text::say;
use crate::train::Epoch;

pub const METRICS: &str = "metrics.jsonl";

/// The file, open at its end.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Of a run of which this many epochs are done. Lines of later epochs go, for they will be written again. Lines that are
    /// missing are named on stderr, and the run goes on without them.
    pub fn open(folder: &Path, epochs: usize) -> Result<Self> {
        let path = folder.join(METRICS);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let (kept, missing) = kept(&text, epochs);
        if !missing.is_empty() {
            say(&format!(
                "{} lacks the figures of {}: it was cut or changed since; the run goes on without them",
                path.display(),
                missing.join(", ")
            ));
        }
        if kept != text {
            write_whole(&path, &kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    /// Adds an epoch's line.
    pub fn add(&mut self, figures: &Epoch) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(figures)?);
        let written = self.file.write_all(line.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The whole lines of the first `epochs` epochs, and which of these have none.
fn kept(text: &[u8], epochs: usize) -> (Vec<u8>, Vec<String>) {
    let (mut kept, mut missing, mut next) = (Vec::new(), Vec::new(), 1);
    let mut miss = |from: usize, to: usize| match to.checked_sub(from) {
        None => {}
        Some(0) => missing.push(format!("epoch {from}")),
        Some(_) => missing.push(format!("epochs {from} to {to}")),
    };
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let figures = line
            .strip_suffix(b"\n")
            .map(serde_json::from_slice::<Epoch>);
        if let Some(Ok(Epoch { epoch, .. })) = figures
            && (next..=epochs).contains(&epoch)
        {
            miss(next, epoch - 1);
            kept.extend(line);
            next = epoch + 1;
        }
    }
    miss(next, epochs);
    (kept, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_by_their_epoch_and_missing_ones_named() {
        let line = |epoch: usize| {
            format!(
                "{{\"epoch\":{epoch},\"step\":1,\"train_loss\":1,\"train_error\":null,\"test_loss\":1,\"test_error\":1,\
                 \"imbalance\":{{}},\"path_norm\":1,\"seconds\":1}}\n"
            )
        };
        let lines = |epochs: &[usize]| epochs.iter().map(|&epoch| line(epoch)).collect::<String>();
        let all = lines(&[1, 2, 3, 4, 5]);
        assert_eq!(kept(all.as_bytes(), 3), (lines(&[1, 2, 3]).into(), vec![]));
        assert_eq!(kept(b"", 0), (vec![], vec![]));
        assert_eq!(kept(b"", 2), (vec![], vec!["epochs 1 to 2".into()]));
        // the last line is not whole; then there are NULs, and something else
        let cut = &all[..all.len() - 5];
        assert_eq!(kept(cut.as_bytes(), 5).1, ["epoch 5"]);
        let odd = format!("{}\0\0\0\n{}what\n{}", line(1), line(3), line(6));
        let missing = vec!["epoch 2".into(), "epochs 4 to 5".into()];
        assert_eq!(kept(odd.as_bytes(), 5), (lines(&[1, 3]).into(), missing));
    }
}
