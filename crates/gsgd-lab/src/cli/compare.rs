//! `gsgd compare`.

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt;
use crate::compare::queue::{self, Observer};
use crate::compare::{Job, Plan, Results, Way};
use crate::data::Dataset;
use crate::models;
use crate::report::{self, Format};
use crate::train::{Ending, OptimizerName, Outcome, Settings};

#[derive(Debug, Args)]
pub struct Compare {
    /// A TOML file with the whole comparison (its `plan.toml` shows the form); without one, flags say what to run
    #[arg(value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// The optimisers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sgd,g-sgd")]
    optimizers: Vec<OptimizerName>,
    /// Their learning rates
    #[arg(long, value_delimiter = ',', default_value = "0.03,0.1,0.3")]
    lrs: Vec<f64>,
    /// Seeds: starting weights and batches, the same for all
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    how: How,
}

/// What has no influence on the numbers.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Folder for plan, runs and report
    #[arg(long, default_value = "runs/compare")]
    pub out: PathBuf,
    /// Runs at a time [default: one per core]
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Replace another comparison in the folder
    #[arg(long)]
    pub force: bool,
    /// No progress
    #[arg(long, conflicts_with = "plain")]
    pub quiet: bool,
    /// Progress in plain lines, also on a terminal
    #[arg(long)]
    pub plain: bool,
}

/// `gsgd compare PLAN` takes no settings.
#[derive(Debug, Parser)]
#[command(name = "gsgd compare")]
struct FromFile {
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    #[command(flatten)]
    how: How,
}

impl Compare {
    pub fn run(self) -> Result<()> {
        if self.plan.is_some() {
            // parsed again without the settings, so that none of them is passed over in silence
            let FromFile { plan, how } = FromFile::parse_from(std::env::args_os().skip(1));
            let text = fs::read_to_string(&plan)
                .with_context(|| format!("cannot read the plan {}", plan.display()))?;
            let parsed = Plan::parse(&text).with_context(|| plan.display().to_string())?;
            parsed.jobs().with_context(|| plan.display().to_string())?;
            return carry_out(&parsed, &how);
        }
        refuse_single()?;
        let mut table = toml::Table::try_from(self.settings.resolved())?;
        for (key, _) in SINGLE {
            table.remove(key);
        }
        let way = |optimizer: &OptimizerName| {
            let name = optimizer.as_str();
            Way {
                name: name.into(),
                against: None,
                lrs: Vec::new(),
                settings: toml::Table::from_iter([("optimizer".to_string(), name.into())]),
            }
        };
        let plan = Plan {
            seeds: self.seeds,
            lrs: self.lrs,
            settings: table,
            ways: self.optimizers.iter().map(way).collect(),
        };
        carry_out(&plan, &self.how)
    }
}

/// What a comparison has several of.
const SINGLE: [(&str, &str); 3] = [
    ("optimizer", "optimizers"),
    ("lr", "lrs"),
    ("seed", "seeds"),
];

/// Flags of one run do not pass in silence.
fn refuse_single() -> Result<()> {
    let matches = super::Cli::command().get_matches();
    let Some(given) = matches.subcommand_matches("compare") else {
        return Ok(());
    };
    for (one, several) in SINGLE {
        ensure!(
            given.value_source(one) != Some(ValueSource::CommandLine),
            "--{one} is for one run: a comparison takes --{several}"
        );
    }
    Ok(())
}

/// Runs what is left of a plan and reports.
pub fn carry_out(plan: &Plan, how: &How) -> Result<()> {
    let results = results_of(plan, how)?;
    println!("{}", report::table(&results).trim_end());
    // its lines can only be told apart by colour
    if std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && let Some(figure) = report::figures(&results).first()
    {
        println!("{}", figure.text(100, 24));
    }
    for path in report::write(&results, &how.out, Format::Html)? {
        eprintln!("report: {}", path.display());
    }
    Ok(())
}

/// Runs what is left of a plan.
pub fn results_of(plan: &Plan, how: &How) -> Result<Results> {
    let jobs = plan.jobs()?;
    let mut sets: Vec<&str> = jobs.iter().map(|job| job.settings.data.as_str()).collect();
    sets.dedup();
    for set in sets {
        // said once, before anything runs
        Dataset::open(set).context("--data")?;
    }
    open(plan, how)?;
    let stop = interrupt::flag()?;
    let workers = how.jobs.unwrap_or_else(cores).clamp(1, jobs.len());
    let epochs: usize = jobs.iter().map(|job| job.settings.epochs).sum();
    let show = Show::new(plan, how, epochs)?;
    show.say(&format!(
        "{} ways, {} runs, {workers} at a time, in {}",
        plan.ways.len(),
        jobs.len(),
        how.out.display()
    ));
    let through = queue::run(&jobs, &how.out, workers, &stop, &show)?;
    show.bar.finish_and_clear();
    if !through {
        eprintln!(
            "interrupted in {}; the same command goes on",
            how.out.display()
        );
        std::process::exit(130);
    }
    let results = Results::read(&how.out)?;
    let mut runs = results
        .ways
        .iter()
        .flat_map(|way| &way.rates)
        .flat_map(|rate| &rate.runs);
    if let Some(reason) = runs.clone().find_map(|run| run.failure())
        && runs.all(|run| run.failure().is_some())
    {
        bail!("every run failed, the first with: {reason}");
    }
    Ok(results)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The folder of the comparison: new, or of the same plan.
fn open(plan: &Plan, how: &How) -> Result<()> {
    let path = how.out.join("plan.toml");
    if path.exists() && !how.force {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let same = Plan::parse(&text).is_ok_and(|earlier| earlier == *plan);
        ensure!(
            same,
            "{} holds another comparison: choose another --out, or replace it with --force",
            how.out.display()
        );
        return Ok(());
    }
    if how.force {
        let runs = how.out.join("runs");
        if path.exists() && runs.is_dir() {
            fs::remove_dir_all(&runs)
                .with_context(|| format!("cannot remove {}", runs.display()))?;
        }
    }
    fs::create_dir_all(&how.out)
        .with_context(|| format!("cannot make the folder {}", how.out.display()))?;
    let text = format!("# gsgd {}\n{}", crate::version(), toml::to_string(plan)?);
    models::save_text(&path, &text)?;
    Ok(())
}

/// Shows progress on stderr.
struct Show<'a> {
    plan: &'a Plan,
    bar: ProgressBar,
    quiet: bool,
    lines: Mutex<()>,
}

impl<'a> Show<'a> {
    fn new(plan: &'a Plan, how: &How, epochs: usize) -> Result<Self> {
        let bar = match how.quiet || how.plain || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(epochs as u64),
        };
        let style = "{bar:40} {pos}/{len} epochs, {eta} left";
        bar.set_style(ProgressStyle::with_template(style)?);
        Ok(Self {
            plan,
            bar,
            quiet: how.quiet,
            lines: Mutex::new(()),
        })
    }

    fn say(&self, line: &str) {
        let _one_at_a_time = self.lines.lock();
        match self.quiet {
            true => {}
            false if self.bar.is_hidden() => eprintln!("{line}"),
            false => self.bar.println(line),
        }
    }
}

impl Observer for Show<'_> {
    fn epochs(&self, count: usize) {
        self.bar.inc(count as u64);
    }

    fn ended(&self, job: &Job, ending: &Ending) {
        let name = &self.plan.ways[job.way].name;
        let outcome = match ending.outcome {
            Outcome::Done => format!("done in {:.1} s", ending.seconds),
            Outcome::Early => format!("stopped early after {} steps", ending.steps),
            Outcome::Diverged => format!("diverged after {} steps", ending.steps),
            Outcome::Failed => {
                let reason = ending.reason.as_deref().unwrap_or_default();
                format!("failed: {}", reason.lines().next().unwrap_or_default())
            }
        };
        self.say(&format!(
            "{name}  lr {}  seed {}  {outcome}",
            job.lr, job.seed
        ));
    }
}

/// `gsgd report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Folders of comparisons or single runs, finished or not
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// What to write, into each folder
    #[arg(long, value_enum, value_delimiter = ',', default_value = "html")]
    format: Vec<Format>,
}

impl Report {
    pub fn run(self) -> Result<()> {
        for folder in &self.folders {
            let results = Results::read(folder)?;
            println!("{}", report::table(&results).trim_end());
            for &format in &self.format {
                for path in report::write(&results, folder, format)? {
                    eprintln!("written: {}", path.display());
                }
            }
        }
        Ok(())
    }
}
