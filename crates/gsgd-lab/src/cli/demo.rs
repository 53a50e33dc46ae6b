//! `gsgd` alone: the main job.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use burn::tensor::Device;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::folder::open_folder;
use super::interrupt;
use crate::data::Dataset;
use crate::models;
use crate::train::{
    Epoch, OptimizerName, Progress, Settings, State, Stop, Watcher, Wish, begin, run, start,
};

/// Optimisers side by side from the same weights and batches
#[derive(Debug, Parser)]
pub struct Demo {
    /// Passes over the training images
    #[arg(long, default_value_t = 20)]
    epochs: usize,
    /// Decades by which the second start's units are rescaled
    #[arg(long, default_value_t = 2.0)]
    unbalance: f64,
    /// Decides starting weights and batches
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the results
    #[arg(long, default_value = "runs/demo")]
    out: PathBuf,
}

/// The lr of each optimiser: best training loss from the sane start on the grid of `results/lr-grid.csv`.
fn lr(optimizer: OptimizerName) -> f64 {
    use OptimizerName::*;
    match optimizer {
        Sgd => 0.3,
        Momentum => 0.03,
        Adam => 0.003,
        PathSgd => 0.3,
        BalancedSgd => 0.1,
        Gsgd => 0.3,
        GMomentum => 0.03,
        GAdam => 0.003,
    }
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    start: &'static str,
    optimizer: &'static str,
    lr: f64,
    train_loss: Option<f64>,
    test_error: Option<f64>,
    milliseconds_per_step: f64,
    diverged: bool,
    epochs: Vec<Epoch>,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        let data = Dataset::open("fashion-7x7")?;
        open_folder(&self.out, true)?;
        let starts = [("sane", 0.0), ("unbalanced", self.unbalance)];
        let jobs: Vec<(usize, &'static str, Settings)> = starts
            .iter()
            .flat_map(|&(start, spread)| OptimizerName::ALL.map(|o| (start, spread, o)))
            .enumerate()
            .map(|(at, (start, spread, optimizer))| (at, start, self.settings(optimizer, spread)))
            .collect();
        eprintln!(
            "Fashion-MNIST 7x7, mlp:49-64-64-10, {} epochs, batch 64, seed {}: {} runs, same weights and batches.\n\
             The unbalanced start is the same function with its units rescaled by 10^U(-{s}, {s}).",
            self.epochs,
            self.seed,
            jobs.len(),
            s = self.unbalance
        );
        let stop = interrupt::flag()?;
        let steps = self.epochs * data.train.labels.len().div_ceil(64);
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new((steps * jobs.len()) as u64),
            false => ProgressBar::hidden(),
        };
        bar.set_style(ProgressStyle::with_template(
            "{bar:40} {percent} %, {per_sec} steps, {eta} left",
        )?);
        let next = AtomicUsize::new(0);
        let rows: Mutex<BTreeMap<usize, Result<Row>>> = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    while let Some((at, start, settings)) =
                        jobs.get(next.fetch_add(1, Ordering::SeqCst))
                    {
                        let tick = || {
                            bar.inc(1);
                            !stop.load(Ordering::SeqCst)
                        };
                        let row = train(start, settings, &data, tick);
                        if let Ok(row) = &row {
                            let line = row.line(None);
                            match bar.is_hidden() {
                                true => eprintln!("{line}"),
                                false => bar.println(line),
                            }
                        }
                        if let Ok(mut rows) = rows.lock() {
                            rows.insert(*at, row);
                        }
                    }
                });
            }
        });
        bar.finish_and_clear();
        if stop.load(Ordering::SeqCst) {
            bail!("interrupted: no table is drawn from unfinished runs");
        }
        let rows = rows
            .into_inner()
            .map_err(|_| anyhow::anyhow!("a run ended in a panic"))?;
        let rows: Vec<Row> = rows.into_values().collect::<Result<_>>()?;
        let json = serde_json::to_string_pretty(&rows)?;
        models::save_text(&self.out.join("results.json"), &json)?;
        let table = table(&rows);
        models::save_text(&self.out.join("table.txt"), &table)?;
        println!("{table}");
        eprintln!(
            "figures by epoch: {}",
            self.out.join("results.json").display()
        );
        Ok(())
    }

    fn settings(&self, optimizer: OptimizerName, unbalance: f64) -> Settings {
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            settings: Settings,
        }
        Settings {
            optimizer,
            lr: lr(optimizer),
            epochs: self.epochs,
            seed: self.seed,
            unbalance,
            ..Defaults::parse_from(["demo"]).settings
        }
        .resolved()
    }
}

/// Counts steps and keeps figures; nothing is written before the table.
struct Silent<'a> {
    tick: &'a dyn Fn() -> bool,
    epochs: Vec<Epoch>,
}

impl Watcher for Silent<'_> {
    fn step(&mut self, _: &Progress) -> Wish {
        match (self.tick)() {
            true => Wish::GoOn,
            false => Wish::Stop,
        }
    }

    fn epoch(&mut self, figures: &Epoch, _: &mut Progress) -> Result<Wish> {
        self.epochs.push(*figures);
        Ok(Wish::GoOn)
    }

    fn save(&mut self, _: &State) -> Result<()> {
        Ok(())
    }
}

fn train(
    name: &'static str,
    settings: &Settings,
    data: &Dataset,
    tick: impl Fn() -> bool,
) -> Result<Row> {
    let device = Device::flex().autodiff();
    let prepared = start(settings, data, &device)?;
    let state = begin(settings, prepared.model)?;
    let mut watcher = Silent {
        tick: &tick,
        epochs: Vec::new(),
    };
    let data = (&prepared.train, &prepared.test);
    let (state, stop) = run(settings, data, state, &device, &mut watcher)?;
    let diverged = matches!(stop, Stop::Diverged(_));
    let last = watcher.epochs.last().filter(|_| !diverged);
    let Progress { step, seconds, .. } = state.progress;
    Ok(Row {
        start: name,
        optimizer: settings.optimizer.as_str(),
        lr: settings.lr,
        train_loss: last.map(|epoch| epoch.train_loss),
        test_error: last.map(|epoch| epoch.test_error),
        milliseconds_per_step: 1e3 * seconds / step.max(1) as f64,
        diverged,
        epochs: watcher.epochs,
    })
}

impl Row {
    fn line(&self, sgd: Option<f64>) -> String {
        let figures = match (self.train_loss, self.test_error) {
            (Some(loss), Some(error)) => format!("{loss:>13.4} {:>11.2} %", 100.0 * error),
            _ => format!("{:>13} {:>13}", "diverged", ""),
        };
        let slowdown = sgd.map_or(String::new(), |sgd| {
            format!(" {:>11.2}", self.milliseconds_per_step / sgd)
        });
        format!(
            "{:<11} {:<13} {:>6} {figures} {:>9.3}{slowdown}",
            self.start, self.optimizer, self.lr, self.milliseconds_per_step
        )
    }
}

fn table(rows: &[Row]) -> String {
    let sgd = rows
        .iter()
        .find(|row| row.optimizer == "sgd")
        .map(|row| row.milliseconds_per_step);
    let head = format!(
        "{:<11} {:<13} {:>6} {:>13} {:>13} {:>9} {:>11}",
        "start", "optimiser", "lr", "training loss", "test error", "ms/step", "x SGD"
    );
    let lines: Vec<String> = std::iter::once(head)
        .chain(rows.iter().map(|row| row.line(sgd)))
        .collect();
    lines.join("\n")
}
