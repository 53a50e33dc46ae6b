//! What the runs of a comparison left, and which lr a method is judged by.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::plan::Plan;
use super::stats::Summary;
use crate::text;
use crate::train::{ENDING, Ending, Epoch, Outcome, Settings};

/// A comparison with its runs.
#[derive(Debug, Clone)]
pub struct Results {
    /// What was planned.
    pub plan: Plan,
    /// Whether lrs are chosen by validation loss; by training loss where nothing was held back.
    pub validated: bool,
    /// Methods in the order of the plan.
    pub methods: Vec<MethodResults>,
}

/// A method with its runs.
#[derive(Debug, Clone)]
pub struct MethodResults {
    /// Its name, as it is printed.
    pub name: String,
    /// Its settings, with one of its lrs and seeds.
    pub settings: Settings,
    /// Its runs by learning rate, rising.
    pub rates: Vec<Rate>,
    /// The chosen rate, by its place; `None` where every rate has a run that diverged, failed or is missing.
    pub chosen: Option<usize>,
}

/// The runs of one learning rate.
#[derive(Debug, Clone)]
pub struct Rate {
    /// The learning rate.
    pub lr: f64,
    /// Its runs, in the order of the seeds.
    pub runs: Vec<Run>,
}

/// A run as far as it came.
#[derive(Debug, Clone)]
pub struct Run {
    /// Where it is.
    pub folder: PathBuf,
    /// Its seed.
    pub seed: u64,
    /// Its figures by epoch.
    pub epochs: Vec<Epoch>,
    /// How it ended, if it did.
    pub ending: Option<Ending>,
}

impl Run {
    fn read(folder: &Path, seed: u64) -> Result<Self> {
        let metrics = folder.join("metrics.jsonl");
        let text = match metrics.exists() {
            true => fs::read_to_string(&metrics),
            false => Ok(String::new()),
        };
        let text = text.with_context(|| format!("cannot read {}", metrics.display()))?;
        // a line that is being written has no end yet
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let epochs = whole.map(serde_json::from_str).collect::<Result<_, _>>();
        let epochs = epochs.with_context(|| metrics.display().to_string())?;
        Ok(Self {
            folder: folder.to_path_buf(),
            seed,
            epochs,
            ending: ending(folder)?,
        })
    }

    /// Whether it went through.
    pub fn is_done(&self) -> bool {
        let outcome = self.ending.as_ref().map(|ending| ending.outcome);
        matches!(outcome, Some(Outcome::Done | Outcome::Early)) && !self.epochs.is_empty()
    }

    /// Whether it left the finite numbers.
    pub fn diverged(&self) -> bool {
        let outcome = self.ending.as_ref().map(|ending| ending.outcome);
        outcome == Some(Outcome::Diverged)
    }

    /// Why it could not be carried out, if it could not.
    pub fn failure(&self) -> Option<&str> {
        let ending = self.ending.as_ref()?;
        let failed = ending.outcome == Outcome::Failed;
        failed.then(|| ending.reason.as_deref().unwrap_or_default())
    }

    /// A figure of its last epoch, if it is done.
    pub fn last(&self, figure: impl Fn(&Epoch) -> Option<f64>) -> Option<f64> {
        self.epochs
            .last()
            .filter(|_| self.is_done())
            .and_then(figure)
    }
}

/// How the run in a folder ended, if it did.
pub fn ending(folder: &Path) -> Result<Option<Ending>> {
    let path = folder.join(ENDING);
    if !path.exists() {
        return Ok(None);
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let ending = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(Some(ending))
}

impl Rate {
    /// A figure of every run's last epoch, if all runs are done.
    pub fn last(&self, figure: impl Fn(&Epoch) -> Option<f64>) -> Option<Vec<f64>> {
        self.runs.iter().map(|run| run.last(&figure)).collect()
    }

    /// Runs that left the finite numbers.
    pub fn diverged(&self) -> usize {
        self.runs.iter().filter(|run| run.diverged()).count()
    }

    /// Milliseconds of a training step, one figure per run with steps.
    pub fn milliseconds(&self) -> Vec<f64> {
        let endings = self.runs.iter().filter_map(|run| run.ending.as_ref());
        let stepped = endings.filter(|ending| ending.steps > 0);
        stepped
            .map(|ending| 1e3 * ending.seconds / ending.steps as f64)
            .collect()
    }

    /// Most megabytes of memory of any run.
    pub fn megabytes(&self) -> Option<f64> {
        let endings = self.runs.iter().filter_map(|run| run.ending.as_ref());
        let most = endings.filter_map(|ending| ending.peak_memory).max();
        most.map(|bytes| bytes as f64 / 1e6)
    }
}

impl MethodResults {
    /// The runs that the method is judged by.
    pub fn judged(&self) -> Option<&Rate> {
        self.chosen.map(|at| &self.rates[at])
    }
}

impl Results {
    /// Reads the comparison in a folder, or a single run as one.
    ///
    /// # Errors
    /// The folder holds neither, or a file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        if folder.join("plan.toml").exists() {
            return Self::of_comparison(folder);
        }
        ensure!(
            folder.join("config.toml").exists(),
            "{} is the folder of no comparison and no run: there is neither plan.toml nor config.toml",
            folder.display()
        );
        Self::of_run(folder)
    }

    fn of_run(folder: &Path) -> Result<Self> {
        let path = folder.join("config.toml");
        let settings = Settings::read(&path)?;
        let plan = Plan::of_run(&settings).with_context(|| path.display().to_string())?;
        let rates = vec![Rate {
            lr: settings.lr(),
            runs: vec![Run::read(folder, settings.seed)?],
        }];
        let validated = settings.validation > 0;
        Ok(Self {
            validated,
            methods: vec![MethodResults {
                name: plan.methods[0].name.clone(),
                settings,
                chosen: choice(&rates, validated),
                rates,
            }],
            plan,
        })
    }

    fn of_comparison(folder: &Path) -> Result<Self> {
        let path = folder.join("plan.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan = Plan::parse(&text).with_context(|| path.display().to_string())?;
        let jobs = plan.jobs().with_context(|| path.display().to_string())?;
        let validated = jobs.iter().all(|job| job.settings.validation > 0);
        let mut methods: Vec<MethodResults> = plan
            .methods
            .iter()
            .enumerate()
            .map(|(at, method)| {
                let mut lrs = plan.lrs(method).to_vec();
                lrs.sort_by(f64::total_cmp);
                let rates = lrs.into_iter().map(|lr| Rate {
                    lr,
                    runs: Vec::new(),
                });
                let first = jobs.iter().find(|job| job.method == at);
                Ok(MethodResults {
                    name: text::printable(&method.name).into_owned(),
                    settings: first.context("a method of the plan")?.settings.clone(),
                    rates: rates.collect(),
                    chosen: None,
                })
            })
            .collect::<Result<_>>()?;
        for job in jobs {
            let run = Run::read(&folder.join(&job.folder), job.seed)?;
            let rates = methods[job.method].rates.iter_mut();
            let mut rates = rates.filter(|rate| rate.lr == job.lr);
            rates.next().context("a rate of the plan")?.runs.push(run);
        }
        for method in &mut methods {
            method.chosen = choice(&method.rates, validated);
        }
        Ok(Self {
            plan,
            validated,
            methods,
        })
    }

    /// All runs.
    pub fn runs(&self) -> impl Iterator<Item = &Run> + Clone {
        let rates = self.methods.iter().flat_map(|method| &method.rates);
        rates.flat_map(|rate| &rate.runs)
    }

    /// The loss that lrs are chosen by.
    pub fn loss(&self, epoch: &Epoch) -> Option<f64> {
        loss(epoch, self.validated)
    }

    /// Which loss that is.
    pub fn loss_name(&self) -> &'static str {
        match self.validated {
            true => "validation",
            false => "training",
        }
    }

    /// The rule by which lrs are chosen.
    pub fn rule(&self) -> String {
        let loss = self.loss_name();
        format!(
            "the lr with the least mean {loss} loss after the last epoch, among those with which every seed came through"
        )
    }
}

/// The loss that lrs are chosen by.
fn loss(epoch: &Epoch, validated: bool) -> Option<f64> {
    match validated {
        true => epoch.validation_loss,
        false => Some(epoch.train_loss),
    }
}

/// The rate with the least mean loss among those with which every run is done.
fn choice(rates: &[Rate], validated: bool) -> Option<usize> {
    let means = rates.iter().enumerate().filter_map(|(at, rate)| {
        let mean = Summary::from_values(&rate.last(|epoch| loss(epoch, validated))?)?.mean;
        mean.is_finite().then_some((at, mean))
    });
    means.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}
