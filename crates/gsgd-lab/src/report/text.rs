//! Tables for terminals, Markdown and spreadsheets.

use super::summary::{Row, rows};
use crate::compare::Results;
use crate::compare::stats::{Paired, Summary};
use crate::train::Epoch;

const HEAD: [&str; 9] = [
    "method",
    "lr",
    "training loss",
    "test error %",
    "best %",
    "against",
    "ms/step",
    "x first",
    "MB",
];

/// The row in text, with means written by `mean`.
fn cells(row: &Row, mean: fn(&Summary, f64, usize) -> String) -> [String; 9] {
    let optional = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let percent = |summary: Option<Summary>| optional(summary.map(|s| mean(&s, 100.0, 2)));
    [
        row.name.clone(),
        row.lr_or_outcome(),
        optional(row.train_loss.map(|s| mean(&s, 1.0, 4))),
        percent(row.test_error),
        percent(row.best_test_error),
        optional(row.against.as_ref().map(|(_, paired)| against(paired))),
        optional(row.milliseconds.map(|s| format!("{:.3}", s.mean))),
        optional(row.slowdown.map(|s| format!("{s:.2}"))),
        optional(row.megabytes.map(|m| format!("{m:.0}"))),
    ]
}

/// Mean and 95 % interval.
pub fn around(summary: &Summary, unit: f64, digits: usize) -> String {
    let mean = unit * summary.mean;
    match summary.interval {
        Some(interval) => format!("{mean:.digits$} ± {:.digits$}", unit * interval),
        None => format!("{mean:.digits$}"),
    }
}

/// The same with the standard deviation.
pub fn around_with_deviation(summary: &Summary, unit: f64, digits: usize) -> String {
    let around = around(summary, unit, digits);
    match summary.deviation {
        Some(deviation) => format!("{around} ({:.digits$})", unit * deviation),
        None => around,
    }
}

/// A difference of errors in points, with its p value.
pub fn against(paired: &Paired) -> String {
    let points = 100.0 * paired.difference.mean;
    match paired.p {
        Some(p) if p < 0.001 => format!("{points:+.2} (p < 0.001)"),
        Some(p) => format!("{points:+.2} (p = {p:.3})"),
        None => format!("{points:+.2}"),
    }
}

/// What stands under a table.
pub fn notes(results: &Results) -> Vec<String> {
    let (over, test) = match results.plan.seeds.len() {
        1 => ("1 seed, so there are no intervals.".to_string(), ""),
        seeds => (
            format!(
                "{seeds} seeds; ± is the 95 % interval of the mean over them (Student's t); a number in brackets \
                 is their standard deviation."
            ),
            ", with the paired t test over seeds",
        ),
    };
    let loss = results.loss_name();
    let mut notes = vec![
        format!("{over} Chosen: {}.", results.rule()),
        format!(
            "best: after the epoch with the least {loss} loss.{}",
            match others(results) {
                Some(others) =>
                    format!(" against: difference of test errors in points from {others}{test}."),
                None => String::new(),
            }
        ),
    ];
    for row in rows(results) {
        if row.diverged > 0 {
            notes.push(format!(
                "{}: {} of {} runs diverged.",
                row.name, row.diverged, row.runs
            ));
        }
        if let (failed @ 1.., Some(reason)) = &row.failed {
            notes.push(format!(
                "{}: {failed} of {} runs failed: {reason}",
                row.name, row.runs
            ));
        }
    }
    notes
}

/// What methods are tested against.
fn others(results: &Results) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for row in rows(results) {
        if let Some((name, _)) = row.against
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    match names.as_slice() {
        [] => None,
        [name] => Some(name.clone()),
        _ => Some(format!("{}, as the plan says", names.join("; "))),
    }
}

/// The table for a terminal.
pub fn table(results: &Results) -> String {
    let lines: Vec<[String; 9]> = std::iter::once(HEAD.map(String::from))
        .chain(rows(results).iter().map(|row| cells(row, around)))
        .collect();
    let width = |at: usize| {
        let widths = lines.iter().map(|line| line[at].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
            match at {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push('\n');
    }
    for note in notes(results) {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// The table in Markdown.
pub fn markdown(results: &Results) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&HEAD.map(String::from));
    text.push_str(&line(&HEAD.map(|_| "---".to_string())));
    for row in rows(results) {
        text.push_str(&line(&cells(&row, around_with_deviation)));
    }
    for note in notes(results) {
        text.push_str(&format!("\n{note}\n"));
    }
    text
}

/// A line per run.
pub fn csv(results: &Results) -> String {
    // `way` is a method's name: the files under results/ have it
    let mut text = String::from(
        "way,lr,seed,chosen,outcome,epochs,steps,train_loss,train_error,validation_loss,validation_error,test_loss,\
         test_error,seconds,peak_memory\n",
    );
    for method in &results.methods {
        for (at, rate) in method.rates.iter().enumerate() {
            for run in &rate.runs {
                let figure = |of: fn(&Epoch) -> Option<f64>| {
                    run.last(of)
                        .map_or(String::new(), |value| value.to_string())
                };
                let ending = run.ending.as_ref();
                let outcome = ending.map_or("missing".into(), |e| {
                    format!("{:?}", e.outcome).to_lowercase()
                });
                let cells = [
                    format!("\"{}\"", method.name.replace('"', "\"\"")),
                    rate.lr.to_string(),
                    run.seed.to_string(),
                    (method.chosen == Some(at)).to_string(),
                    outcome,
                    run.epochs.len().to_string(),
                    ending.map_or(0, |e| e.steps).to_string(),
                    figure(|e| Some(e.train_loss)),
                    figure(|e| Some(e.train_error)),
                    figure(|e| e.validation_loss),
                    figure(|e| e.validation_error),
                    figure(|e| Some(e.test_loss)),
                    figure(|e| Some(e.test_error)),
                    ending.map_or(String::new(), |e| e.seconds.to_string()),
                    ending
                        .and_then(|e| e.peak_memory)
                        .map_or(String::new(), |m| m.to_string()),
                ];
                text.push_str(&cells.join(","));
                text.push('\n');
            }
        }
    }
    text
}
