//! Checkpoints of a run: all that it needs to go on bit for bit, but for the images.
//!
//! One safetensors file holds the network's tensors, the optimiser's state as bytes and, in its metadata as TOML, how far
//! the run is and what its numbers follow from. Its last bytes are a checksum of all before them. Batches and augmentation
//! follow from seed, epoch and place in the epoch, so there is no random state.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use gsgd_net::tensors::Tensors;
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Origin, Settings, Stepper};
use crate::models::{self, Design, FilePart, Net};
use crate::text::say;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Epochs whose figures are written.
    pub epochs: usize,
    /// Seconds spent in training steps.
    pub seconds: f64,
    /// The whole epoch with the least validation loss.
    pub best: Option<Best>,
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Epochs done then.
    pub epoch: usize,
    /// Its validation loss.
    pub loss: f64,
}

/// What the metadata hold.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    progress: Progress,
    origin: Origin,
    /// The parameters' ids, by which Burn's optimisers know them; as text, for they are larger than TOML's numbers.
    ids: HashMap<String, String>,
}

const ABOUT: &str = "run";
const OPTIMIZER: &str = "optimizer";
/// The checksum's tensor; the last in the file, which sorts bytes after numbers, and by name.
const SEAL: &str = "seal";
const UNSEALED: [u8; 4] = [0; 4];
/// Checkpoints that are kept.
const KEPT: usize = 2;

fn folder(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// Writes a checkpoint into the run's folder, whole or not at all, and removes the oldest beyond two.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    run: &Path,
    model: &Net,
    stepper: &Stepper,
    progress: Progress,
    origin: &Origin,
) -> Result<PathBuf> {
    let folder = folder(run);
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(format!("step-{:010}.safetensors", progress.step));
    let tensors = models::tensors(model);
    let optimizer = stepper.to_bytes()?;
    let parts = tensors
        .iter()
        .map(|t| (t.name.as_str(), FilePart::Tensor(t)));
    let state = FilePart::Bytes(&optimizer, [optimizer.len()]);
    let unsealed = FilePart::Bytes(&UNSEALED, [UNSEALED.len()]);
    let parts: Vec<_> = parts
        .chain([(OPTIMIZER, state), (SEAL, unsealed)])
        .collect();
    let ids = tensors.iter().map(|t| (t.name.clone(), t.id.to_string()));
    let about = About {
        progress,
        origin: origin.clone(),
        ids: ids.collect(),
    };
    let about = HashMap::from([(ABOUT.to_string(), toml::to_string(&about)?)]);
    models::move_into_place(&path, |file| {
        safetensors::serialize_to_file(parts, Some(about), file)?;
        seal(file)
    })?;
    for (_, old) in newest_first(run)?.into_iter().skip(KEPT) {
        fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(path)
}

/// Puts the checksum of all before it into a file's last bytes.
fn seal(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let sealed = file.metadata()?.len() - UNSEALED.len() as u64;
    let mut content = crc32fast::Hasher::new();
    let mut some = vec![0; 1 << 16];
    let mut reader = Read::by_ref(&mut file).take(sealed);
    loop {
        match reader.read(&mut some)? {
            0 => break,
            count => content.update(&some[..count]),
        }
    }
    file.seek(SeekFrom::Start(sealed))?;
    file.write_all(&content.finalize().to_le_bytes())?;
    Ok(())
}

/// Removes the checkpoints of an earlier run; what else lies among them stays.
///
/// # Errors
/// A file cannot be removed.
pub fn clear(run: &Path) -> Result<()> {
    for (_, path) in newest_first(run)? {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    // a folder with something else in it is not removed
    let _ = fs::remove_dir(folder(run));
    Ok(())
}

/// Whether a run has a checkpoint.
///
/// # Errors
/// The folder cannot be read.
pub fn is_there(run: &Path) -> Result<bool> {
    Ok(!newest_first(run)?.is_empty())
}

/// The checkpoints with their steps.
fn newest_first(run: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let folder = folder(run);
    let mut found = Vec::new();
    if folder.is_dir() {
        let entries = fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(step) = name.and_then(step_of) {
                found.push((step, path));
            }
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// The step of a checkpoint, by the name that it is given.
fn step_of(name: &str) -> Option<usize> {
    let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
    let digits = step.len() >= 10 && step.bytes().all(|byte| byte.is_ascii_digit());
    step.parse().ok().filter(|_| digits)
}

/// The run of this design as its newest whole checkpoint has it. Says on stderr which checkpoints are
/// damaged.
///
/// # Errors
/// There is no whole checkpoint, or it is of other settings or other images than there are now.
pub fn newest(
    run: &Path,
    settings: &Settings,
    origin: &Origin,
    design: &Design,
) -> Result<(Net, Stepper, Progress)> {
    let found = newest_first(run)?;
    let mut first_reason = None;
    for (_, path) in &found {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        match about(&data) {
            Ok(about) => {
                origin.refuse_changes_since(&about.origin, path)?;
                let state = state(data, &about, settings, design);
                return state.with_context(|| path.display().to_string());
            }
            Err(error) => {
                say(&format!(
                    "{} is damaged ({error:#}): the one before it is taken",
                    path.display()
                ));
                first_reason.get_or_insert(error);
            }
        }
    }
    match first_reason {
        None => bail!("{} has no checkpoint to go on from", run.display()),
        Some(_) => bail!(
            "no checkpoint of {} can be read: begin the run anew with gsgd train --config {}",
            run.display(),
            run.join("config.toml").display()
        ),
    }
}

/// What the newest whole checkpoint of a run follows from, if there is one.
///
/// # Errors
/// The folder or a file in it cannot be read.
pub fn origin(run: &Path) -> Result<Option<Origin>> {
    for (_, path) in newest_first(run)? {
        let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Ok(about) = about(&data) {
            return Ok(Some(about.origin));
        }
    }
    Ok(None)
}

/// What a checkpoint says of itself, if it is as it was written.
fn about(data: &[u8]) -> Result<About> {
    let (content, seal) = data.split_last_chunk().context("it is too short")?;
    let sound = crc32fast::hash(content).to_le_bytes() == *seal;
    ensure!(sound, "its checksum is not that of its content");
    let (_, header) = SafeTensors::read_metadata(data)?;
    let about = header.metadata().as_ref().and_then(|m| m.get(ABOUT));
    let about = about.context("it has no metadata `run`")?;
    toml::from_str(about).context("its metadata `run` are not of this version")
}

fn state(
    data: Vec<u8>,
    about: &About,
    settings: &Settings,
    design: &Design,
) -> Result<(Net, Stepper, Progress)> {
    let optimizer = SafeTensors::deserialize(&data)?
        .tensor(OPTIMIZER)?
        .data()
        .to_vec();
    let ids = about.ids.iter();
    let ids = ids.map(|(name, id)| Ok((name.clone(), id.parse()?)));
    let ids: HashMap<String, u64> = ids.collect::<Result<_>>()?;
    let like = design.he(settings.seed, &Device::flex().autodiff())?;
    let tensors = Tensors::of_safetensors(data)?;
    let model = models::fill(settings.freeze.apply(like), &tensors, Some(&ids))?;
    let stepper = Stepper::restore(settings, &model, optimizer)?;
    Ok((model, stepper, about.progress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::train::begin;

    /// A checkpoint of a small network with all kinds of state: its bytes.
    fn checkpoint(run: &Path) -> (Vec<u8>, Settings, Design) {
        let table = "arch = \"mlp:49-1-1-10\"\noptimizer = \"g-adam\"";
        let settings = Settings::from_table(&table.parse().unwrap()).unwrap();
        let data = Dataset::open(&settings.data).unwrap();
        let origin = Origin::new(&settings, &data).unwrap();
        let design = settings.design(&data).unwrap();
        let model = design.he(0, &Device::flex().autodiff()).unwrap();
        let state = begin(&settings, model).unwrap();
        let progress = Progress {
            step: 12,
            epochs: 3,
            seconds: 0.1,
            best: Some(Best {
                epoch: 2,
                loss: 0.3,
            }),
        };
        let path = write(run, &state.model, &state.stepper, progress, &origin).unwrap();
        (fs::read(path).unwrap(), settings, design)
    }

    #[test]
    fn a_byte_that_is_not_as_it_was_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mut data, settings, design) = checkpoint(folder.path());
        let whole = about(&data).unwrap();
        assert_eq!(whole.progress.best.unwrap().loss, 0.3);
        state(data.clone(), &whole, &settings, &design).unwrap();
        for at in 0..data.len() {
            // a bit, the case of a letter, all bits
            for flip in [1, 0x20, 0xff] {
                data[at] ^= flip;
                assert!(about(&data).is_err(), "byte {at}");
                data[at] ^= flip;
            }
        }
        for length in 0..data.len() {
            assert!(about(&data[..length]).is_err(), "{length} bytes");
        }
        data.push(0);
        assert!(about(&data).is_err());
    }

    #[test]
    fn only_checkpoints_are_taken_for_such_and_removed() {
        for name in [
            "step-1.safetensors",
            "step-00000000x1.safetensors",
            "step-0000000001.pt",
            "mine.safetensors",
        ] {
            assert_eq!(step_of(name), None, "{name}");
        }
        assert_eq!(step_of("step-0000000012.safetensors"), Some(12));
        let folder = tempfile::tempdir().unwrap();
        checkpoint(folder.path());
        let mine = folder.path().join("checkpoints/mine.safetensors");
        fs::write(&mine, "").unwrap();
        clear(folder.path()).unwrap();
        assert!(mine.exists() && !is_there(folder.path()).unwrap());
        fs::remove_file(&mine).unwrap();
        clear(folder.path()).unwrap();
        assert!(!mine.parent().unwrap().exists());
    }
}
