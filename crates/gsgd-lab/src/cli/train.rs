//! `gsgd train`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use clap::{Args, Parser};

use super::folder::{Earlier, FINAL, INIT, LAYERS, RunFolder, Watch, WatchFlags};
use super::metrics::METRICS;
use crate::compare::Results;
use crate::folders::{FolderKind, remove, remove_temporary};
use crate::models::{self, Design, NetworkName};
use crate::report::{self, Format};
use crate::text::{print, say};
use crate::train::{
    ENDING, Ending, Origin, Outcome, Prepared, Progress, Settings, State, Stop, Watcher, begin,
    checkpoint, flags, peak_memory, prepare, read_table, run, start, steps,
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
    /// Go on with the run in this folder, from its newest checkpoint. Its settings stay; other values of --epochs, --steps,
    /// --lr and --schedule may be given, and --out, a new folder to go on in, which leaves the old one unchanged
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Replace an earlier run in the folder; nothing but what runs write is removed
    #[arg(long)]
    force: bool,
    /// Also write the starting weights, as init.safetensors
    #[arg(long)]
    save_init: bool,
    #[command(flatten)]
    watch: WatchFlags,
}

/// `gsgd train --resume DIR` takes those settings that may change on the way, and no others.
#[derive(Debug, Parser)]
#[command(name = "gsgd train", bin_name = "gsgd train")]
struct Resume {
    #[arg(long, value_name = "DIR")]
    resume: PathBuf,
    // read like those of a file, which says what is allowed
    #[arg(long)]
    epochs: Option<String>,
    #[arg(long)]
    steps: Option<String>,
    #[arg(long)]
    lr: Option<String>,
    #[arg(long)]
    schedule: Option<String>,
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    watch: WatchFlags,
}

impl Train {
    pub fn run(self) -> Result<()> {
        if self.resume.is_some() {
            // parsed again without the other settings, so that none of them is passed over in silence
            return Resume::parse_from(std::env::args_os().skip(1)).run();
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
        let table = read_table(file).context("--config")?;
        Settings::part_of_table(&table).with_context(|| format!("--config {}", file.display()))?;
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
        settings.check()?;
        let device = Device::flex().autodiff();
        let data = settings.open_data().context("--data")?;
        self.watch.tell(&data.notes);
        let settings = settings.for_images(&data);
        let prepared = prepare(&settings, &data)?;
        let model = start(&settings, &prepared.design, &device)?;
        let state = begin(&settings, model)?;
        let name = format!("runs/{}-{}", settings.optimizer.as_str(), settings.seed);
        let out = self.out.clone().unwrap_or_else(|| name.into());
        let folder = RunFolder::fresh(out, Earlier::by(self.force))?;
        write_config(&folder, &settings, &prepared.design)?;
        if self.save_init {
            prepared
                .design
                .save(&state.model, &folder.path().join(INIT))?;
        }
        let origin = Origin::new(&settings, &data)?;
        let total = steps(&settings, prepared.splits.train.len());
        let watch = Watch::new(
            &folder,
            &self.watch,
            &settings,
            origin,
            total,
            &state.progress,
        )?;
        train(&settings, &prepared, state, &folder, watch)
    }
}

impl Resume {
    fn run(self) -> Result<()> {
        let from = RunFolder::existing(self.resume.clone())?;
        let settings = self.settings()?;
        let data = settings.open_data().context("data")?;
        self.watch.tell(&data.notes);
        let prepared = prepare(&with_own_layers(&settings, &from), &data)?;
        let origin = Origin::new(&settings, &data)?;
        // every weight is in the checkpoint: the start's file is not looked for
        let (model, stepper, progress) =
            checkpoint::newest(from.path(), &settings, &origin, &prepared.design)?;
        let examples = prepared.splits.train.len();
        let all = steps(&settings, examples);
        ensure!(
            progress.step <= all,
            "the run is at step {}, and --epochs {} and --steps {} end it after {all}: give more, or none",
            progress.step,
            settings.epochs,
            settings
                .steps
                .map_or("all".into(), |steps| steps.to_string()),
        );
        let progress = progress.towards(all, examples.div_ceil(settings.batch));
        let folder = match &self.out {
            Some(out) => self.moved(&from, out)?,
            None => from,
        };
        remove_temporary(folder.path())?;
        remove_temporary(&folder.path().join("checkpoints"))?;
        write_config(&folder, &settings, &prepared.design)?;
        match progress.step {
            step if step == all => say(&format!(
                "the run is complete: {all} steps; more with --epochs or --steps"
            )),
            step => {
                // the end that it had is not its end
                remove(&folder.path().join(ENDING))?;
                remove(&folder.path().join(FINAL))?;
                say(&format!("going on after step {step} of {all}"));
            }
        }
        let state = State {
            model,
            stepper,
            progress,
        };
        let mut watch = Watch::new(&folder, &self.watch, &settings, origin, all, &progress)?;
        if self.out.is_some() {
            watch.save(&state)?;
        }
        train(&settings, &prepared, state, &folder, watch)
    }

    /// The run's settings, with those that are given in their place.
    fn settings(&self) -> Result<Settings> {
        let file = self.resume.join(FolderKind::Run.file());
        let mut table = read_table(&file).context("--resume")?;
        Settings::from_table(&table).with_context(|| file.display().to_string())?;
        let given = [
            ("epochs", &self.epochs),
            ("steps", &self.steps),
            ("lr", &self.lr),
            ("schedule", &self.schedule),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                table.insert(key.into(), value.as_str().into());
            }
        }
        Settings::from_table(&table)
    }

    /// A new folder with the figures that the run has so far.
    fn moved(&self, from: &RunFolder, out: &Path) -> Result<RunFolder> {
        let folder = RunFolder::fresh(out.into(), Earlier::Kept)?;
        let figures = from.path().join(METRICS);
        if figures.is_file() {
            fs::copy(&figures, folder.path().join(METRICS)).with_context(|| {
                format!("cannot copy {} to {}", figures.display(), out.display())
            })?;
        }
        Ok(folder)
    }
}

fn train(
    settings: &Settings,
    prepared: &Prepared,
    state: State,
    folder: &RunFolder,
    mut watch: Watch,
) -> Result<()> {
    let out = folder.path();
    let (splits, design) = (&prepared.splits, &prepared.design);
    let total = steps(settings, splits.train.len());
    let device = Device::flex().autodiff();
    let (state, stop) = run(settings, splits, state, &device, &mut watch)?;
    watch.finish();
    let end = out.join(FINAL);
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
            say(&format!(
                "interrupted after {} of {total} steps; go on with: gsgd train --resume {}",
                state.progress.step,
                out.display()
            ));
            std::process::exit(130);
        }
        Stop::Diverged(reason) => {
            design.save(&state.model, &end)?;
            ending(Outcome::Diverged, Some(reason.clone()))?;
            bail!(
                "diverged after {} steps: {reason}\nthe weights before that step are in {}; try a lower --lr",
                state.progress.step,
                end.display()
            )
        }
        Stop::Early => {
            design.save(&state.model, &end)?;
            ending(Outcome::Early, None)?;
            say("stopped early: the validation loss no longer falls");
        }
        Stop::Done => {
            design.save(&state.model, &end)?;
            ending(Outcome::Done, None)?;
        }
    }
    report::write(&Results::read(out)?, out, Format::Html)?;
    if let Some(last) = watch.last() {
        print(&format!(
            "{}: training loss {:.4}, test error {:.2} %, {} steps in {:.1} s, {}",
            settings.optimizer.as_str(),
            last.train_loss,
            100.0 * last.test_error,
            last.step,
            last.seconds,
            out.display()
        ))?;
    }
    Ok(())
}

/// The settings with the layers that a run has in its own folder in place of the file that it began with.
fn with_own_layers(settings: &Settings, folder: &RunFolder) -> Settings {
    let own = folder.path().join(LAYERS);
    match settings.arch {
        NetworkName::File(_) if own.is_file() => Settings {
            arch: NetworkName::File(own),
            ..settings.clone()
        },
        _ => settings.clone(),
    }
}

/// Writes `config.toml`: what ran, and every setting. One with these settings stays. The layers of a network without a name
/// go into a file beside it.
fn write_config(folder: &RunFolder, settings: &Settings, design: &Design) -> Result<()> {
    if let Some(layers) = design.layers() {
        models::save_text(&folder.path().join(LAYERS), layers)?;
    }
    let file = folder.path().join(FolderKind::Run.file());
    if Settings::read(&file).is_ok_and(|there| there == *settings) {
        return Ok(());
    }
    models::save_text(&file, &FolderKind::Run.text(&toml::to_string(settings)?))
}
