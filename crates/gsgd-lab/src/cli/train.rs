//! `gsgd train`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::{Args, Parser};

use super::folder::{RunFolder, Watch, WatchFlags};
use crate::compare::Results;
use crate::models;
use crate::report::{self, Format};
use crate::train::{
    ENDING, Ending, Outcome, Prepared, Progress, Settings, State, Stop, begin, checkpoint, flags,
    peak_memory, run, start, steps,
};

#[derive(Debug, Args)]
pub struct Train {
    #[command(flatten)]
    settings: Settings,
    /// Take settings from a TOML file, such as an earlier run's config.toml; flags go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for config.toml, metrics.jsonl, checkpoints and final.safetensors [default: runs/OPTIMIZER-SEED]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, from its newest checkpoint; its settings stay
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Replace an earlier run in the folder
    #[arg(long)]
    force: bool,
    /// Also write the starting weights, as init.safetensors
    #[arg(long)]
    save_init: bool,
    #[command(flatten)]
    watch: WatchFlags,
}

/// `gsgd train --resume DIR` takes no settings.
#[derive(Debug, Parser)]
#[command(name = "gsgd train")]
struct Resume {
    #[arg(long, value_name = "DIR")]
    resume: PathBuf,
    #[command(flatten)]
    watch: WatchFlags,
}

impl Train {
    pub fn run(self) -> Result<()> {
        if self.resume.is_some() {
            // parsed again without the settings, so that none of them is passed over in silence
            let Resume { resume, watch } = Resume::parse_from(std::env::args_os().skip(1));
            return go_on(&resume, watch);
        }
        match self.config.clone() {
            Some(file) => self.with_config(&file)?.begin(),
            None => self.begin(),
        }
    }

    /// The same with a file's settings, under those on the command line.
    fn with_config(self, file: &Path) -> Result<Self> {
        #[derive(Parser)]
        #[command(name = "gsgd train", args_override_self = true)]
        struct Whole {
            #[command(flatten)]
            train: Train,
        }
        let text = fs::read_to_string(file)
            .with_context(|| format!("--config: cannot read {}", file.display()))?;
        let table: toml::Table = text
            .parse()
            .with_context(|| format!("--config: {} is no TOML file", file.display()))?;
        let flags = std::iter::once("gsgd train".into()).chain(flags(&table));
        let mut args: Vec<std::ffi::OsString> = flags.map(Into::into).collect();
        args.extend(std::env::args_os().skip(2));
        let mut parsed = Whole::try_parse_from(args)
            .map_err(|error| anyhow::anyhow!("--config {}: {error}", file.display()))?
            .train;
        parsed.config = None;
        Ok(parsed)
    }

    fn begin(self) -> Result<()> {
        let settings = self.settings.resolved();
        let device = Device::flex().autodiff();
        let data = settings.open_data().context("--data")?;
        let prepared = start(&settings, &data, &device)?;
        let state = begin(&settings, prepared.model.clone())?;
        let name = format!("runs/{}-{}", settings.optimizer.as_str(), settings.seed);
        let folder = RunFolder::fresh(self.out.clone().unwrap_or_else(|| name.into()), self.force)?;
        models::save_text(&folder.path().join("config.toml"), &config(&settings)?)?;
        if self.save_init {
            let path = folder.path().join("init.safetensors");
            models::save(&prepared.model, &prepared.plan, &path)?;
        }
        train(&settings, &prepared, state, &folder, &self.watch)
    }
}

/// Goes on with the run in a folder.
fn go_on(path: &Path, watch: WatchFlags) -> Result<()> {
    let folder = RunFolder::existing(path.into())?;
    let file = path.join("config.toml");
    let text = fs::read_to_string(&file)
        .with_context(|| format!("--resume: cannot read {}", file.display()))?;
    let settings: Settings = toml::from_str(&text).with_context(|| {
        format!(
            "--resume: {} holds no settings of this version",
            file.display()
        )
    })?;
    let device = Device::flex().autodiff();
    let data = settings.open_data().context("data")?;
    let prepared = start(&settings, &data, &device)?;
    let (model, stepper, progress) = checkpoint::newest(path, &settings, &prepared.model)?;
    match steps(&settings, prepared.splits.train.len()) {
        all if progress.step >= all => eprintln!("the run is complete: {all} steps"),
        all => eprintln!("going on after step {} of {all}", progress.step),
    }
    let state = State {
        model,
        stepper,
        progress,
    };
    train(&settings, &prepared, state, &folder, &watch)
}

fn train(
    settings: &Settings,
    prepared: &Prepared,
    state: State,
    folder: &RunFolder,
    watch: &WatchFlags,
) -> Result<()> {
    let out = folder.path();
    let (splits, plan) = (&prepared.splits, &prepared.plan);
    let total = steps(settings, splits.train.len());
    let mut watch = Watch::new(folder, watch, settings, total, &state.progress)?;
    let device = Device::flex().autodiff();
    let (state, stop) = run(settings, splits, state, &device, &mut watch)?;
    watch.finish();
    let end = out.join("final.safetensors");
    let Progress { step, seconds, .. } = state.progress;
    let ending = |ending, reason| -> Result<()> {
        let ending = Ending {
            outcome: ending,
            reason,
            steps: step,
            seconds,
            peak_memory: peak_memory(),
        };
        let text = serde_json::to_string_pretty(&ending)?;
        models::save_text(&out.join(ENDING), &text)
    };
    match stop {
        Stop::Interrupted => {
            eprintln!(
                "interrupted after {} of {total} steps; go on with: gsgd train --resume {}",
                state.progress.step,
                out.display()
            );
            std::process::exit(130);
        }
        Stop::Diverged(reason) => {
            models::save(&state.model, plan, &end)?;
            ending(Outcome::Diverged, Some(reason.clone()))?;
            bail!(
                "diverged after {} steps: {reason}\nthe weights before that step are in {}; try a lower --lr",
                state.progress.step,
                end.display()
            )
        }
        Stop::Early => {
            models::save(&state.model, plan, &end)?;
            ending(Outcome::Early, None)?;
            eprintln!("stopped early: the validation loss no longer falls");
        }
        Stop::Done => {
            models::save(&state.model, plan, &end)?;
            ending(Outcome::Done, None)?;
        }
    }
    report::write(&Results::read(out)?, out, Format::Html)?;
    if let Some(last) = watch.last() {
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

/// `config.toml`: every setting, and what ran.
fn config(settings: &Settings) -> Result<String> {
    let version = crate::version();
    Ok(format!("# gsgd {version}\n{}", toml::to_string(settings)?))
}
