//! Checkpoints of a run: all that it needs to go on bit for bit.
//!
//! One safetensors file holds the network's tensors, the optimiser's state as bytes and, in its metadata, how far the run
//! is. Batches and augmentation follow from seed, epoch and place in the epoch, so there is no random state.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Settings, Stepper};
use crate::models::{self, Model, Part};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Epochs whose figures are written.
    pub epochs: usize,
    /// Seconds spent in training steps.
    pub seconds: f64,
    /// Bytes of `metrics.jsonl` that belong to these epochs.
    pub metrics_bytes: u64,
    /// The epoch with the least validation loss.
    #[serde(default)]
    pub best: Option<Best>,
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Epochs done then.
    pub epoch: usize,
    /// Its validation loss.
    pub loss: f64,
}

/// What the metadata hold.
#[derive(Serialize, Deserialize)]
struct About {
    progress: Progress,
    /// The parameters' ids, by which Burn's optimisers know them.
    ids: HashMap<String, u64>,
}

const ABOUT: &str = "run";
const OPTIMIZER: &str = "optimizer";
/// Checkpoints that are kept.
const KEPT: usize = 2;

fn folder(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// Writes a checkpoint into the run's folder, whole or not at all, and removes the oldest beyond two.
///
/// # Errors
/// The file cannot be written.
pub fn write(run: &Path, model: &Model, stepper: &Stepper, progress: Progress) -> Result<PathBuf> {
    let folder = folder(run);
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(format!("step-{:010}.safetensors", progress.step));
    let tensors = models::tensors(model);
    let optimizer = stepper.to_bytes()?;
    let parts = tensors.iter().map(|t| (t.name.as_str(), Part::Tensor(t)));
    let state = Part::Bytes(&optimizer, [optimizer.len()]);
    let parts = parts.chain([(OPTIMIZER, state)]).collect();
    let about = About {
        progress,
        ids: tensors.iter().map(|t| (t.name.clone(), t.id)).collect(),
    };
    let about = HashMap::from([(ABOUT.to_string(), serde_json::to_string(&about)?)]);
    models::write_parts(&path, parts, about)?;
    for old in newest_first(run)?.into_iter().skip(KEPT) {
        fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(path)
}

/// Removes the checkpoints of an earlier run.
///
/// # Errors
/// A file cannot be removed.
pub fn clear(run: &Path) -> Result<()> {
    let folder = folder(run);
    match folder.is_dir() {
        true => fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display())),
        false => Ok(()),
    }
}

fn newest_first(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder(run);
    let mut paths = Vec::new();
    if folder.is_dir() {
        let entries = fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.reverse();
    Ok(paths)
}

/// The run as its newest readable checkpoint has it, given a network built as at the start. Says on stderr which
/// checkpoints are damaged.
///
/// # Errors
/// There is no readable checkpoint.
pub fn newest(
    run: &Path,
    settings: &Settings,
    start: &Model,
) -> Result<(Model, Stepper, Progress)> {
    let paths = newest_first(run)?;
    for path in &paths {
        match read(path, settings, start.clone()) {
            Ok(state) => return Ok(state),
            Err(error) => eprintln!(
                "{} is damaged ({error:#}): the one before it is taken",
                path.display()
            ),
        }
    }
    match paths.len() {
        0 => bail!("{} has no checkpoint to go on from", run.display()),
        _ => bail!("no checkpoint of {} can be read", run.display()),
    }
}

fn read(path: &Path, settings: &Settings, start: Model) -> Result<(Model, Stepper, Progress)> {
    let data = fs::read(path)?;
    let file = SafeTensors::deserialize(&data)?;
    let (_, header) = SafeTensors::read_metadata(&data)?;
    let about = header.metadata().as_ref().and_then(|m| m.get(ABOUT));
    let about: About = serde_json::from_str(about.context("it has no metadata `run`")?)?;
    let model = models::fill(start, &file, &[OPTIMIZER], Some(&about.ids))?;
    let state = file.tensor(OPTIMIZER)?.data().to_vec();
    let stepper = Stepper::restore(settings, &model, state)?;
    Ok((model, stepper, about.progress))
}
