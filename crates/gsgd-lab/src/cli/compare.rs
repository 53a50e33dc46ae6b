//! `gsgd compare`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressStyle};

use super::comparison::{ComparisonFolder, Images};
use super::folder::Earlier;
use super::interrupt;
use crate::compare::queue::{self, Observer};
use crate::compare::{Job, Method, Plan, Results};
use crate::data::Fingerprint;
use crate::models::NetworkName;
use crate::report::{self, Format};
use crate::text::{self, print, print_raw, say, visible};
use crate::train::{Ending, OptimizerName, Outcome, Settings, at_least_one, prepare};

#[derive(Debug, Args)]
#[command(after_help = STATUS)]
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

/// What the exit status says of comparisons.
pub const STATUS: &str = "Exit status: 0, all runs came to an end (a run that diverged did); 3, some runs failed, the others \
                          are in the table; 2, an error; 130, interrupted.";

/// What has no influence on the numbers.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Folder for plan, runs and report
    #[arg(long, default_value = "runs/compare")]
    pub out: PathBuf,
    /// Runs at a time [default: one per core]
    #[arg(long, value_parser = at_least_one)]
    pub jobs: Option<usize>,
    /// Replace an earlier comparison in the folder; nothing but what comparisons write is removed
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
#[command(name = "gsgd compare", bin_name = "gsgd compare")]
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
        let method = |optimizer: &OptimizerName| {
            let name = optimizer.as_str();
            Method {
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
            methods: self.optimizers.iter().map(method).collect(),
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
    print(report::table(&results).trim_end())?;
    // its lines can only be told apart by colour
    if std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && let Some(figure) = report::figures(&results).first()
    {
        print_raw(&format!("{}\n", figure.text(100, 24)))?;
    }
    for path in report::write(&results, &how.out, Format::Html)? {
        say(&format!("report: {}", path.display()));
    }
    end(&[&results]);
    Ok(())
}

/// Leaves the program with status 3 where runs of a comparison failed.
pub fn end(of: &[&Results]) {
    let runs = || of.iter().flat_map(|results| results.runs());
    let failed = runs().filter(|run| run.failure().is_some()).count();
    if failed > 0 {
        say(&format!(
            "{failed} of {} runs failed, for the reasons above; the same command tries them again",
            runs().count()
        ));
        std::process::exit(SOME_FAILED);
    }
}

/// The exit status of a comparison some of whose runs failed.
const SOME_FAILED: i32 = 3;

/// Runs what is left of a plan.
pub fn results_of(plan: &Plan, how: &How) -> Result<Results> {
    let plan = &plan.clone().located();
    let mut jobs = plan.jobs()?;
    let images = images(plan, &mut jobs, how)?;
    let earlier = Earlier::by(how.force);
    let _folder = ComparisonFolder::open(&how.out, plan, &jobs, &images, earlier)?;
    let stop = interrupt::flag()?;
    let workers = how.jobs.unwrap_or_else(cores).min(jobs.len());
    let epochs: usize = jobs.iter().map(|job| job.settings.epochs).sum();
    let show = Show::new(plan, how, epochs)?;
    show.say(&format!(
        "{} methods, {} runs, {workers} at a time, in {}",
        plan.methods.len(),
        jobs.len(),
        how.out.display()
    ));
    let through = queue::run(&jobs, &how.out, workers, &stop, &show)?;
    show.bar.finish_and_clear();
    if !through {
        say(&format!(
            "interrupted in {}; the same command goes on",
            how.out.display()
        ));
        std::process::exit(130);
    }
    let results = Results::read(&how.out)?;
    let failures: Vec<&str> = results.runs().filter_map(|run| run.failure()).collect();
    if let [first, ..] = failures[..]
        && failures.len() == results.runs().count()
    {
        bail!("every run failed, the first with: {first}");
    }
    Ok(results)
}

/// The sets of images of all runs, opened once and before anything runs, by name and whether they are grey. Every method
/// has to fit its set, and gets its network's full name.
fn images(plan: &Plan, jobs: &mut [Job], how: &How) -> Result<Images> {
    let mut images = Images::new();
    let mut names = HashMap::new();
    let set = |job: &Job| (job.settings.data.clone(), job.settings.grey);
    // runs of one method differ in lr and seed alone
    let methods: Vec<&Job> = jobs
        .chunk_by(|a, b| a.method == b.method)
        .filter_map(<[Job]>::first)
        .collect();
    for method in &methods {
        if let Entry::Vacant(place) = images.entry(set(method)) {
            let data = method.settings.open_data().context("--data")?;
            if !how.quiet {
                data.notes.iter().for_each(|note| say(note));
            }
            let of_this_set = methods.iter().filter(|other| set(other) == set(method));
            for Job {
                method, settings, ..
            } in of_this_set
            {
                prepare(settings, &data).with_context(|| {
                    format!("method `{}`", text::printable(&plan.methods[*method].name))
                })?;
                names.insert(*method, settings.arch.for_images(&data));
            }
            place.insert(Fingerprint::from_dataset(&data));
        }
    }
    for job in jobs {
        if let Some(arch) = names.get(&job.method) {
            job.settings.arch = NetworkName::clone(arch);
        }
    }
    Ok(images)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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
            false if self.bar.is_hidden() => say(line),
            false => self.bar.println(visible(line)),
        }
    }
}

impl Observer for Show<'_> {
    fn epochs(&self, count: usize) {
        self.bar.inc(count as u64);
    }

    fn ended(&self, job: &Job, ending: &Ending) {
        let name = text::printable(&self.plan.methods[job.method].name);
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
            print(report::table(&results).trim_end())?;
            for &format in &self.format {
                for path in report::write(&results, folder, format)? {
                    say(&format!("written: {}", path.display()));
                }
            }
        }
        Ok(())
    }
}
