//! Runs the jobs of a comparison, each in its own process.
//!
//! A process cannot take others down, its memory can be told from theirs, and it goes on from its own checkpoint. This
//! process holds its standard input open: a run ends, with a checkpoint, when that is closed, which happens where the
//! comparison is stopped and where it is killed.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::plan::Job;
use super::results::ending;
use crate::folders::lock;
use crate::models;
use crate::train::{ENDING, Ending, Outcome, Settings, checkpoint, flags};

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Looks on while runs go; called from several threads.
pub trait Observer: Sync {
    /// This many more epochs are done.
    fn epochs(&self, count: usize);
    /// A run has ended, now or in an earlier attempt.
    fn ended(&self, job: &Job, ending: &Ending);
}

/// Runs all jobs that have not ended, `workers` at a time, seed by seed; false where `stop` was raised before
/// they were through.
///
/// A run that diverges or fails is a result, and the others go on.
///
/// # Errors
/// A process cannot be started, or a folder not be written.
pub fn run(
    jobs: &[Job],
    out: &Path,
    workers: usize,
    stop: &AtomicBool,
    observer: &impl Observer,
) -> Result<bool> {
    let waiting = Mutex::new(seed_by_seed(jobs));
    let next = || waiting.lock().ok()?.pop_front();
    let work = || -> Result<()> {
        while let Some(job) = next() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            if let Some(ending) = one(job, out, workers, stop, observer)? {
                observer.ended(job, &ending);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })?;
    Ok(!stop.load(Ordering::SeqCst))
}

/// All methods with one seed, then with the next: a machine that grows slower meanwhile does so for all methods alike.
fn seed_by_seed(jobs: &[Job]) -> VecDeque<&Job> {
    let mut jobs: Vec<&Job> = jobs.iter().collect();
    jobs.sort_by_key(|job| job.seed);
    jobs.into()
}

/// How the job ended; `None` where it was stopped.
fn one(
    job: &Job,
    out: &Path,
    workers: usize,
    stop: &AtomicBool,
    observer: &impl Observer,
) -> Result<Option<Ending>> {
    let folder = out.join(&job.folder);
    let mut seen = 0;
    // an earlier attempt may have been killed and this run have gone on without it
    while folder.is_dir() && lock(&folder)?.is_none() {
        if stop.load(Ordering::SeqCst) {
            return Ok(None);
        }
        sleep(LOOK);
    }
    if let Some(ending) = ending(&folder)?
        && ending.outcome != Outcome::Failed
    {
        observer.epochs(epochs(&folder));
        return Ok(Some(ending));
    }
    let mut child = start(job, &folder, workers)?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let now = epochs(&folder);
        observer.epochs(now.saturating_sub(seen));
        seen = seen.max(now);
        if stop.load(Ordering::SeqCst) {
            drop(child.stdin.take());
        }
        sleep(LOOK);
    };
    observer.epochs(epochs(&folder).saturating_sub(seen));
    if let Some(ending) = ending(&folder)? {
        return Ok(Some(ending));
    }
    if stop.load(Ordering::SeqCst) {
        return Ok(None);
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    let reason = match said.split_once("error: ") {
        None => format!("it ended with {status}"),
        Some((_, reason)) => reason.trim().to_string(),
    };
    let ending = Ending {
        outcome: Outcome::Failed,
        reason: Some(reason),
        steps: 0,
        seconds: 0.0,
        peak_memory: None,
    };
    fs::create_dir_all(&folder)?;
    models::save_text(
        &folder.join(ENDING),
        &serde_json::to_string_pretty(&ending)?,
    )?;
    Ok(Some(ending))
}

fn start(job: &Job, folder: &Path, workers: usize) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(["train", "--quiet", "--until-stdin-ends"]);
    let begun = folder.join("config.toml").is_file() && checkpoint::is_there(folder)?;
    match begun {
        true => command.arg("--resume").arg(folder),
        false => command
            .args(flags(&table(&job.settings)?))
            .arg("--force")
            .arg("--out")
            .arg(folder),
    };
    if workers > 1 {
        command.env("RAYON_NUM_THREADS", "1");
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().context("cannot start a run")
}

fn table(settings: &Settings) -> Result<toml::Table> {
    Ok(toml::Table::try_from(settings)?)
}

/// Epochs whose figures are written.
fn epochs(folder: &Path) -> usize {
    let text = fs::read(folder.join("metrics.jsonl")).unwrap_or_default();
    text.iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::plan::Plan;

    #[test]
    fn methods_take_turns() {
        let plan =
            "seeds = [0, 1]\nlrs = [0.1, 1.0]\nmethods = [{ name = \"a\" }, { name = \"b\" }]";
        let jobs = Plan::parse(plan).unwrap().jobs().unwrap();
        let order = seed_by_seed(&jobs);
        let order: Vec<_> = order.iter().map(|job| (job.seed, job.method)).collect();
        let seed = |seed| [0, 0, 1, 1].map(|method| (seed, method));
        assert_eq!(order, [seed(0), seed(1)].concat());
    }
}
