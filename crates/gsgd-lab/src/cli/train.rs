//! `gsgd train`.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt;
use crate::data::Dataset;
use crate::models;
use crate::train::{Epoch, Settings, Stop, run, start};

#[derive(Debug, Args)]
pub struct Train {
    #[command(flatten)]
    settings: Settings,
    /// Folder for config.toml, metrics.jsonl and final.safetensors [default: runs/OPTIMIZER-SEED]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace an earlier run in that folder
    #[arg(long)]
    force: bool,
    /// Also write the starting weights, as init.safetensors
    #[arg(long)]
    save_init: bool,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

impl Train {
    pub fn run(self) -> Result<()> {
        let settings = self.settings.resolved();
        let device = Device::flex().autodiff();
        let data = Dataset::open(&settings.data).context("--data")?;
        let prepared = start(&settings, &data, &device)?;
        let name = format!("runs/{}-{}", settings.optimizer.as_str(), settings.seed);
        let out = self.out.clone().unwrap_or_else(|| name.into());
        open_folder(&out, self.force)?;
        models::save_text(&out.join("config.toml"), &config(&settings)?)?;
        if self.save_init {
            models::save(
                &prepared.model,
                &prepared.plan,
                &out.join("init.safetensors"),
            )?;
        }
        let path = out.join("metrics.jsonl");
        let mut metrics =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;

        let plan = prepared.plan.clone();
        let stop = interrupt::flag()?;
        let steps = settings.epochs * prepared.train.len().div_ceil(settings.batch);
        let bar = self.bar(settings.steps.unwrap_or(usize::MAX).min(steps));
        let outcome = run(
            &settings,
            prepared,
            &device,
            |epoch| {
                writeln!(metrics, "{}", serde_json::to_string(epoch)?)?;
                self.report(&bar, epoch);
                Ok(())
            },
            |step| {
                bar.set_position(step as u64);
                !stop.load(Ordering::SeqCst)
            },
        )?;
        bar.finish_and_clear();
        metrics.sync_all()?;
        let end = out.join("final.safetensors");
        models::save(&outcome.model, &plan, &end)?;
        match outcome.stop {
            Stop::Done => {}
            Stop::Interrupted => {
                eprintln!(
                    "interrupted after {} steps; weights in {}",
                    outcome.steps,
                    end.display()
                );
                std::process::exit(130);
            }
            Stop::Diverged(reason) => bail!(
                "diverged after {} steps: {reason}\nthe weights before that step are in {}; try a lower --lr",
                outcome.steps,
                end.display()
            ),
        }
        if let Some(last) = outcome.epochs.last() {
            println!(
                "{}: training loss {:.4}, test error {:.2} %, {} steps in {:.1} s, {}",
                settings.optimizer.as_str(),
                last.train_loss,
                100.0 * last.test_error,
                last.step,
                last.seconds,
                out.display()
            );
        }
        Ok(())
    }

    fn bar(&self, steps: usize) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = "{bar:30} {pos}/{len} steps, {per_sec}, {eta} left {msg}";
        let style =
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(steps as u64).with_style(style)
    }

    fn report(&self, bar: &ProgressBar, epoch: &Epoch) {
        let line = format!(
            "epoch {:>3}  training loss {:.4}  error {:>6.2} %  test loss {:.4}  error {:>6.2} %",
            epoch.epoch,
            epoch.train_loss,
            100.0 * epoch.train_error,
            epoch.test_loss,
            100.0 * epoch.test_error
        );
        match self.quiet {
            true => {}
            false if bar.is_hidden() => eprintln!("{line}"),
            false => bar.println(line),
        }
    }
}

/// The run's folder, empty or cleared of an earlier run.
pub(super) fn open_folder(folder: &Path, force: bool) -> Result<()> {
    ensure!(
        force || !folder.join("config.toml").exists(),
        "{} holds an earlier run: choose another --out, or replace it with --force",
        folder.display()
    );
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// `config.toml`: every setting, and what ran.
fn config(settings: &Settings) -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!("# gsgd {version}\n{}", toml::to_string(settings)?))
}
