//! The figures of a comparison's table.

use serde::Serialize;

use crate::compare::stats::{Paired, Summary};
use crate::compare::{Rate, Results, Run};
use crate::text;
use crate::train::{Ending, Epoch};

/// A method's line in the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// The method's name.
    pub name: String,
    /// Its chosen lr, if one came through with every seed.
    pub lr: Option<f64>,
    /// Runs of all lrs, and how many of them diverged and failed.
    pub runs: usize,
    /// Runs that left the finite numbers.
    pub diverged: usize,
    /// Runs that could not be carried out, and the first reason.
    pub failed: (usize, Option<String>),
    /// Of the chosen lr, after the last epoch: training loss.
    pub train_loss: Option<Summary>,
    /// Validation error.
    pub validation_error: Option<Summary>,
    /// Test error.
    pub test_error: Option<Summary>,
    /// Test error after the epoch with the least validation loss, or the least training loss where nothing was held back.
    pub best_test_error: Option<Summary>,
    /// Test error against that of another method, by default the first, seed by seed.
    pub against: Option<(String, Paired)>,
    /// Milliseconds of a training step.
    pub milliseconds: Option<Summary>,
    /// Those of the first method.
    pub slowdown: Option<f64>,
    /// Most megabytes of a run.
    pub megabytes: Option<f64>,
}

impl Row {
    /// The chosen lr, or why there is none.
    pub fn lr_or_outcome(&self) -> String {
        match self.lr {
            Some(lr) => lr.to_string(),
            None if self.failed.0 > 0 => "failed".into(),
            None if self.diverged > 0 => "diverged".into(),
            None => "not run".into(),
        }
    }
}

/// A line per method, in the order of the plan.
pub fn rows(results: &Results) -> Vec<Row> {
    let test_error = |rate: &Rate| rate.last(|epoch| Some(epoch.test_error));
    let best = |run: &Run| best(run, results).map(|epoch| epoch.test_error);
    let judged = results.methods.first().and_then(|method| method.judged());
    let first_time = judged.and_then(|rate| Summary::from_values(&rate.milliseconds()));
    let row = |(at, method): (usize, &crate::compare::MethodResults)| {
        let rate = method.judged();
        let mut others = results.methods.iter();
        let other = match &results.plan.methods[at].against {
            Some(name) => others.find(|method| method.name == text::printable(name)),
            None => others.next(),
        };
        let of = |values: Option<Vec<f64>>| values.and_then(|values| Summary::from_values(&values));
        let errors = rate.and_then(test_error);
        let all = || method.rates.iter().flat_map(|rate| &rate.runs);
        let failures: Vec<&Ending> = all()
            .filter_map(|run| run.ending.as_ref())
            .filter(|ending| ending.outcome == crate::train::Outcome::Failed)
            .collect();
        let milliseconds = of(rate.map(Rate::milliseconds));
        Row {
            name: method.name.clone(),
            lr: rate.map(|rate| rate.lr),
            runs: all().count(),
            diverged: method.rates.iter().map(Rate::diverged).sum(),
            failed: (
                failures.len(),
                failures.first().and_then(|ending| ending.reason.clone()),
            ),
            train_loss: of(rate.and_then(|rate| rate.last(|epoch| Some(epoch.train_loss)))),
            validation_error: of(rate.and_then(|rate| rate.last(|epoch| epoch.validation_error))),
            test_error: of(errors.clone()),
            best_test_error: of(rate.and_then(|rate| rate.runs.iter().map(best).collect())),
            against: other
                .filter(|other| other.name != method.name)
                .and_then(|other| {
                    let paired =
                        Paired::new(&other.judged().and_then(test_error)?, errors.as_ref()?)?;
                    Some((other.name.clone(), paired))
                }),
            slowdown: milliseconds
                .zip(first_time)
                .map(|(own, first)| own.mean / first.mean),
            milliseconds,
            megabytes: rate.and_then(Rate::megabytes),
        }
    };
    results.methods.iter().enumerate().map(row).collect()
}

/// A run's best epoch.
fn best<'a>(run: &'a Run, results: &Results) -> Option<&'a Epoch> {
    let loss = |epoch: &Epoch| results.loss(epoch).unwrap_or(f64::INFINITY);
    let epochs = run.epochs.iter().filter(|_| run.is_done());
    epochs.min_by(|a, b| loss(a).total_cmp(&loss(b)))
}

/// Everything, for other programs.
#[derive(Serialize)]
pub struct Whole<'a> {
    version: String,
    plan: &'a crate::compare::Plan,
    rule: String,
    methods: Vec<WholeMethod<'a>>,
}

#[derive(Serialize)]
struct WholeMethod<'a> {
    name: &'a str,
    chosen_lr: Option<f64>,
    rates: Vec<WholeRate<'a>>,
}

#[derive(Serialize)]
struct WholeRate<'a> {
    lr: f64,
    runs: Vec<WholeRun<'a>>,
}

#[derive(Serialize)]
struct WholeRun<'a> {
    seed: u64,
    ending: &'a Option<Ending>,
    epochs: &'a [Epoch],
}

/// All of a comparison.
pub fn whole(results: &Results) -> Whole<'_> {
    let methods = results.methods.iter().map(|method| WholeMethod {
        name: &method.name,
        chosen_lr: method.judged().map(|rate| rate.lr),
        rates: method
            .rates
            .iter()
            .map(|rate| WholeRate {
                lr: rate.lr,
                runs: rate
                    .runs
                    .iter()
                    .map(|run| WholeRun {
                        seed: run.seed,
                        ending: &run.ending,
                        epochs: &run.epochs,
                    })
                    .collect(),
            })
            .collect(),
    });
    Whole {
        version: crate::version(),
        plan: &results.plan,
        rule: results.rule(),
        methods: methods.collect(),
    }
}
