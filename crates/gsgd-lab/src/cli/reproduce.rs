//! `gsgd reproduce`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use super::compare::{How, STATUS, end, results_of};
use crate::compare::Results;
use crate::folders::{FolderKind, Owner};
use crate::models;
use crate::report::{self, Format};
use crate::reproduce::{self, Name, Scale};
use crate::text::{print, say};
use crate::train::read_table;

#[derive(Debug, Args)]
#[command(after_help = STATUS)]
pub struct Reproduce {
    /// The experiment
    #[arg(value_enum)]
    name: Name,
    /// How large
    #[arg(long, value_enum, default_value = "quick")]
    scale: Scale,
    /// Carry out only these of its parts
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<String>,
    /// Folder for parts, page and images [default: runs/NAME-SCALE]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Runs at a time [default: one per core; one where times are measured]
    #[arg(long)]
    jobs: Option<usize>,
    /// Replace parts that were made by another plan
    #[arg(long)]
    force: bool,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

impl Reproduce {
    pub fn run(self) -> Result<()> {
        let experiment = self.name.experiment(self.scale);
        let known = || experiment.parts.iter().map(|part| part.name.as_str());
        if let Some(wrong) = self
            .only
            .iter()
            .find(|name| !known().any(|k| k == name.as_str()))
        {
            let known: Vec<&str> = known().collect();
            anyhow::bail!("--only {wrong}: the parts are {}", known.join(", "));
        }
        let name = format!("{:?}-{:?}", self.name, self.scale).to_lowercase();
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from("runs").join(name));
        let _lock = self.claim(&out)?;
        let mut done = Vec::new();
        for part in &experiment.parts {
            if !self.only.is_empty() && !self.only.contains(&part.name) {
                continue;
            }
            let how = How {
                out: out.join(&part.name),
                jobs: self.jobs.or(part.timed.then_some(1)),
                force: self.force,
                quiet: self.quiet,
                plain: false,
            };
            let results = results_of(&part.plan, &how)?;
            print(&format!("{}\n{}", part.title, report::table(&results)))?;
            for format in [Format::Html, Format::Csv] {
                report::write(&results, &how.out, format)?;
            }
            for figure in self.name.figures(&results) {
                let name = format!("{}-{}.png", part.name, figure.name);
                report::save_png(&figure, &out.join(name))?;
            }
            done.push((part, results));
            // what is there so far, in case the rest is stopped
            let page = reproduce::page(self.name, &experiment, &done);
            models::save_text(&out.join("report.html"), &page.into_string())?;
        }
        if let Some(figure) = self.name.overview(&done) {
            let path = out.join(format!("{}.svg", figure.name));
            models::save_text(&path, &figure.svg_alone())?;
        }
        say(&format!("report: {}", out.join("report.html").display()));
        let results: Vec<&Results> = done.iter().map(|(_, results)| results).collect();
        end(&results);
        Ok(())
    }

    /// The experiment's folder, for this process alone.
    fn claim(&self, out: &Path) -> Result<File> {
        let file = out.join(FolderKind::Experiment.file());
        let text = format!("name = \"{:?}\"\nscale = \"{:?}\"\n", self.name, self.scale);
        let about: toml::Table = text.parse()?;
        let ours = FolderKind::Experiment.refuse_others(out)? == Owner::Ours;
        let same = ours && read_table(&file)? == about;
        ensure!(
            same || !ours || self.force,
            "{} holds another experiment: choose another --out, or replace it with --force",
            out.display()
        );
        let lock = FolderKind::Experiment.claim(out)?;
        if !same {
            models::save_text(&file, &FolderKind::Experiment.text(&text))?;
        }
        Ok(lock)
    }
}
