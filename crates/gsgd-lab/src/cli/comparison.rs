//! A comparison's folder: lock, plan, runs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::folder::{Earlier, clear};
use crate::compare::{Job, Plan};
use crate::data::Fingerprint;
use crate::folders::{FolderKind, LOCK, Owner, remove};
use crate::models;
use crate::train::{Settings, checkpoint, first_change};

/// Fingerprints by the name of a data set and whether it is taken in grey.
pub type Images = HashMap<(String, bool), Fingerprint>;

/// A comparison's folder that no other process writes.
pub struct ComparisonFolder {
    _lock: File,
}

impl ComparisonFolder {
    /// The folder for a plan: new, of the same plan with runs that fit it, or in place of an earlier comparison with
    /// `Earlier::Replaced`.
    pub fn open(
        path: &Path,
        plan: &Plan,
        jobs: &[Job],
        images: &Images,
        earlier: Earlier,
    ) -> Result<Self> {
        let file = path.join(FolderKind::Comparison.file());
        let ours = FolderKind::Comparison.refuse_others(path)? == Owner::Ours;
        let same = ours && {
            let there = fs::read_to_string(&file);
            let there = there.with_context(|| format!("cannot read {}", file.display()))?;
            Plan::parse(&there).is_ok_and(|there| there.located() == *plan)
        };
        ensure!(
            same || !ours || earlier == Earlier::Replaced,
            "{} holds another comparison: choose another --out, or replace it with --force",
            path.display()
        );
        let planned = jobs.iter().map(|job| path.join(&job.folder));
        for run in planned {
            FolderKind::Run.refuse_others(&run)?;
        }
        match earlier {
            Earlier::Kept => refuse_changes(path, jobs, images)?,
            Earlier::Replaced => {
                for run in begun(path)? {
                    FolderKind::Run.refuse_others(&run)?;
                }
            }
        }
        let folder = Self {
            _lock: FolderKind::Comparison.claim(path)?,
        };
        if earlier == Earlier::Replaced {
            let runs = begun(path)?;
            let locks = runs.iter().map(|run| FolderKind::Run.claim(run));
            let locks = locks.collect::<Result<Vec<_>>>()?;
            runs.iter().try_for_each(|run| remove_run(run))?;
            drop(locks);
        }
        if !same {
            models::save_text(&file, &FolderKind::Comparison.text(&toml::to_string(plan)?))?;
        }
        Ok(folder)
    }
}

/// Refuses to go on with runs that were begun with other settings or other images.
fn refuse_changes(comparison: &Path, jobs: &[Job], images: &Images) -> Result<()> {
    for job in jobs {
        let run = comparison.join(&job.folder);
        let file = run.join(FolderKind::Run.file());
        if !file.is_file() {
            continue;
        }
        let there = toml::Table::try_from(Settings::read(&file)?)?;
        let planned = toml::Table::try_from(&job.settings)?;
        if let Some((key, there, planned)) = first_change(&there, &planned, &[]) {
            bail!(
                "{} has {key} = {there}, the plan asks for {key} = {planned}: choose another --out, or run all of it again \
                 with --force",
                file.display()
            );
        }
        let now = images.get(&(job.settings.data.clone(), job.settings.grey));
        if let (Some(now), Some(before)) = (now, checkpoint::origin(&run)?) {
            let changes = before.changes_of_data(now);
            ensure!(
                changes.is_empty(),
                "{} was trained on other images than {} holds now; other than they were: {}. Bring them back, choose \
                 another --out, or run all of it again with --force",
                run.display(),
                job.settings.data,
                changes.join(", ")
            );
        }
    }
    Ok(())
}

/// Folders of runs in a comparison's folder, by method and by lr and seed.
fn begun(comparison: &Path) -> Result<Vec<PathBuf>> {
    let methods = folders(&comparison.join("runs"))?;
    let runs = methods.iter().map(|method| folders(method));
    Ok(runs.collect::<Result<Vec<_>>>()?.concat())
}

/// The folders in a folder, which need not be there.
fn folders(outer: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("cannot read {}", outer.display());
    let mut found = Vec::new();
    if outer.is_dir() {
        for entry in fs::read_dir(outer).with_context(read)? {
            let path = entry.with_context(read)?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes a run of an earlier comparison: its files, and its folder if nothing else is in it.
fn remove_run(run: &Path) -> Result<()> {
    clear(run)?;
    remove(&run.join(FolderKind::Run.file()))?;
    remove(&run.join(LOCK))?;
    // folders with something else in them stay
    let _ = fs::remove_dir(run);
    let _ = run.parent().map(fs::remove_dir);
    Ok(())
}
