//! A run's folder: lock, metrics, checkpoints, progress.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt;
use super::metrics::{METRICS, Metrics};
use crate::folders::{FolderKind, Owner, lock, remove, remove_temporary};
use crate::text::{say, visible};
use crate::train::{ENDING, Epoch, Origin, Progress, Settings, State, Watcher, Wish, checkpoint};

/// The weights at the end.
pub const FINAL: &str = "final.safetensors";
/// Those at the start, where they are asked for.
pub const INIT: &str = "init.safetensors";

/// The layers of a network that came from a TOML file.
pub const LAYERS: &str = "layers.toml";

/// What has no influence on a run's numbers.
#[derive(Debug, Clone, Args)]
pub struct WatchFlags {
    /// How often a checkpoint is written: after this many epochs, or minutes as in 10m
    #[arg(long, value_name = "EPOCHS|MINUTES", default_value = "1")]
    pub checkpoint_every: Every,
    /// No progress
    #[arg(long, conflicts_with = "plain")]
    pub quiet: bool,
    /// Progress in plain lines, also on a terminal
    #[arg(long)]
    pub plain: bool,
    /// End with a checkpoint when standard input ends, which a comparison holds open for its runs
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

impl WatchFlags {
    /// What the reader of a set of images is to be told.
    pub fn tell(&self, notes: &[String]) {
        if !self.quiet {
            notes.iter().for_each(|note| say(note));
        }
    }
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Every {
    /// This many epochs.
    Epochs(usize),
    /// This many minutes.
    Minutes(f64),
}

impl std::str::FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let every = match text.strip_suffix('m') {
            Some(minutes) => minutes.parse().ok().map(Self::Minutes),
            None => text.parse().ok().map(Self::Epochs),
        };
        let positive = |every: &Self| match every {
            Self::Epochs(epochs) => *epochs > 0,
            Self::Minutes(minutes) => minutes.is_finite() && *minutes > 0.0,
        };
        every.filter(positive).ok_or_else(|| {
            format!(
                "`{text}` is neither a number of epochs, such as 1, nor of minutes, such as 10m"
            )
        })
    }
}

/// A run's folder that no other process writes.
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

/// What a run leaves in its folder, besides config.toml and checkpoints.
const LEFT: [&str; 6] = [METRICS, FINAL, INIT, LAYERS, ENDING, "report.html"];

impl RunFolder {
    /// A folder for a new run, in place of an earlier one with `Earlier::Replaced`.
    pub fn fresh(path: PathBuf, earlier: Earlier) -> Result<Self> {
        if FolderKind::Run.refuse_others(&path)? == Owner::Ours {
            ensure!(
                earlier == Earlier::Replaced,
                "{at} holds an earlier run: choose another --out, replace it with --force, or go on with --resume {at}",
                at = path.display()
            );
        }
        let lock = FolderKind::Run.claim(&path)?;
        clear(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder of a run that was begun.
    pub fn existing(path: PathBuf) -> Result<Self> {
        ensure!(
            path.join(FolderKind::Run.file()).is_file(),
            "--resume: {} holds no run: there is no config.toml",
            path.display()
        );
        match lock(&path)? {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => bail!("another process is writing the run in {}", path.display()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What becomes of an earlier run in a folder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Earlier {
    /// It stays.
    Kept,
    /// It goes.
    Replaced,
}

impl Earlier {
    /// By `--force`.
    pub fn by(force: bool) -> Self {
        match force {
            true => Self::Replaced,
            false => Self::Kept,
        }
    }
}

/// Removes what a run left, but for its config.toml, by which the folder is known as a run's.
pub fn clear(run: &Path) -> Result<()> {
    remove_temporary(&run.join("checkpoints"))?;
    checkpoint::clear(run)?;
    LEFT.iter().try_for_each(|name| remove(&run.join(name)))
}

/// Writes metrics and checkpoints, shows progress, listens for Ctrl-C.
pub struct Watch<'a> {
    folder: &'a RunFolder,
    origin: Origin,
    metrics: Metrics,
    every: Every,
    quiet: bool,
    /// Examples of a step.
    batch: usize,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    saved: Instant,
    last: Option<Epoch>,
}

impl<'a> Watch<'a> {
    /// For a run of `steps`, from where it is.
    pub fn new(
        folder: &'a RunFolder,
        flags: &WatchFlags,
        settings: &Settings,
        origin: Origin,
        steps: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let metrics = Metrics::open(&folder.path, progress.epochs)?;
        if flags.until_stdin_ends {
            interrupt::at_end_of_input()?;
        }
        let bar = bar(flags, steps);
        bar.set_position(progress.step as u64);
        Ok(Self {
            folder,
            origin,
            metrics,
            every: flags.checkpoint_every,
            quiet: flags.quiet,
            batch: settings.batch,
            bar,
            stop: interrupt::flag()?,
            saved: Instant::now(),
            last: None,
        })
    }

    /// Ends the display.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The last epoch's figures.
    pub fn last(&self) -> Option<&Epoch> {
        self.last.as_ref()
    }

    fn minutes_are_over(&self) -> bool {
        match self.every {
            Every::Minutes(minutes) => self.saved.elapsed().as_secs_f64() > 60.0 * minutes,
            Every::Epochs(_) => false,
        }
    }

    /// An epoch's figures as a line of a table, with its head before the first.
    fn show(&self, epoch: &Epoch) {
        let training = Some(("training", epoch.train_loss, epoch.train_error));
        let held_back = epoch.validation_loss.zip(epoch.validation_error);
        let held_back = held_back.map(|(loss, error)| ("validation", loss, error));
        let test = Some(("test", epoch.test_loss, epoch.test_error));
        let (mut head, mut line) = ("epoch".to_string(), format!("{:>5}", epoch.epoch));
        for (of, loss, error) in [training, held_back, test].into_iter().flatten() {
            head.push_str(&format!("  {:>15}   error", format!("{of} loss")));
            line.push_str(&format!("  {loss:>15.4} {:>6.2}%", 100.0 * error));
        }
        if self.last.is_none() {
            self.say(&head);
        }
        self.say(&line);
    }

    fn say(&self, line: &str) {
        match self.quiet {
            true => {}
            false if self.bar.is_hidden() => say(line),
            false => self.bar.println(visible(line)),
        }
    }
}

fn bar(flags: &WatchFlags, steps: usize) -> ProgressBar {
    if flags.quiet || flags.plain || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{wide_bar} {pos}/{len} steps, {msg}{eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style)
}

impl Watcher for Watch<'_> {
    fn step(&mut self, progress: &Progress) -> Wish {
        self.bar.set_position(progress.step as u64);
        if self.stops() {
            Wish::Stop
        } else if self.minutes_are_over() {
            Wish::Save
        } else {
            Wish::GoOn
        }
    }

    fn epoch(&mut self, figures: &Epoch, progress: &Progress) -> Result<Wish> {
        self.metrics.add(figures)?;
        self.show(figures);
        self.last = Some(figures.clone());
        self.bar.set_message(format!(
            "test error {:.2}%, {:.0} examples/s, ",
            100.0 * figures.test_error,
            (figures.step * self.batch) as f64 / figures.seconds
        ));
        let due = match self.every {
            Every::Epochs(epochs) => progress.epochs.is_multiple_of(epochs),
            Every::Minutes(_) => self.minutes_are_over(),
        };
        Ok(if self.stops() {
            Wish::Stop
        } else if due {
            Wish::Save
        } else {
            Wish::GoOn
        })
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn save(&mut self, state: &State) -> Result<()> {
        self.saved = Instant::now();
        checkpoint::write(
            self.folder.path(),
            &state.model,
            &state.stepper,
            state.progress,
            &self.origin,
        )?;
        Ok(())
    }
}
