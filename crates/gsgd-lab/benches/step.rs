//! What a step costs: `cargo bench --bench step`, or with words that a line must contain, such as
//! `cargo bench --bench step -- training g-adam`.
//!
//! `step` is the optimiser step alone, on gradients made before; `training` is forward, backward and step on a batch
//! of random images. Burn's SGD, momentum or Adam, the program's own on weights and one of ours on path values take turns,
//! a few steps each, so that all see the same noise of the machine. The lines are those of the table in docs/performance.md.

mod common;

use std::time::{Duration, Instant};

use common::{Run, quantile};

/// Measured time per optimiser of ours.
const BUDGET: Duration = Duration::from_secs(6);
/// Turns at least.
const TURNS: usize = 30;

/// A network with its batch size and the steps of one turn.
const NETWORKS: [(&str, usize, usize); 5] = [
    ("mlp:49-64-64-10", 64, 4),
    ("mlp:49-1024-1024-10", 64, 4),
    ("mlp:784-64-64-64-64-64-10", 64, 4),
    ("plain:20", 128, 1),
    ("resnet:20", 128, 1),
];

/// A baseline, and one of ours by the flags of `gsgd train`.
const PAIRS: [(&str, &str); 5] = [
    ("sgd", "g-sgd"),
    ("sgd", "g-sgd --coordinates=norm"),
    ("sgd", "path-sgd"),
    ("momentum", "g-momentum"),
    ("adam", "g-adam"),
];

fn main() {
    rayon::scope(|_| measure_all());
}

fn measure_all() {
    let words = std::env::args().skip(1);
    let words: Vec<String> = words.filter(|word| !word.starts_with("--")).collect();
    println!("| step | network, batch | optimiser | mean ± s | min | max | relative |");
    println!("|---|---|---|---|---|---|---|");
    for what in ["step", "training"] {
        for (arch, batch, turn) in NETWORKS {
            for (baseline, ours) in PAIRS {
                let name = format!("{what} {arch} {ours} / {baseline}");
                // no path leads through batch norm
                let possible = arch.starts_with("mlp") || ours != "path-sgd";
                if possible && words.iter().all(|word| name.contains(word.as_str())) {
                    let burns = Run::of_burn(arch, batch, baseline);
                    let [own, lifted] = [baseline, ours].map(|flags| Run::new(arch, batch, flags));
                    let times = measure([burns, own, lifted], what, turn);
                    let names = [
                        format!("{baseline} of Burn"),
                        baseline.into(),
                        ours.replace("--", ""),
                    ];
                    for (name, of) in names.iter().zip(&times) {
                        println!(
                            "| {what} | {arch}, {batch} | {name} | {} |",
                            row(of, &times[0])
                        );
                    }
                }
            }
        }
    }
}

/// Seconds of a step, by optimiser and turn.
fn measure(mut runs: [Run; 3], what: &str, turn: usize) -> [Vec<f64>; 3] {
    let measure = |run: &mut Run| match what {
        "step" => run.step(),
        _ => {
            let begun = Instant::now();
            run.step();
            begun.elapsed().as_secs_f64()
        }
    };
    for run in &mut runs {
        (0..5 * turn).for_each(|_| _ = measure(run));
    }
    let mut times: [Vec<f64>; 3] = Default::default();
    let begun = Instant::now();
    while begun.elapsed() < BUDGET || times[0].len() < TURNS {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let turns = (0..turn).map(|_| measure(run));
            times.push(turns.sum::<f64>() / turn as f64);
        }
    }
    times
}

/// The figures of a line: of a turn's steps, and the median of their ratios to the baseline's in the same turn, with its
/// quartiles.
fn row(times: &[f64], baseline: &[f64]) -> String {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    let [least, greatest] = [0.0, 1.0].map(|at| quantile(times.to_vec(), at));
    let ratios: Vec<f64> = times.iter().zip(baseline).map(|(a, b)| a / b).collect();
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|at| quantile(ratios.clone(), at));
    let (unit, scale, digits) = match mean {
        1e-2.. => ("ms", 1e3, 1),
        1e-3.. => ("ms", 1e3, 2),
        _ => ("us", 1e6, 1),
    };
    let [mean, deviation, least, greatest] =
        [mean, deviation, least, greatest].map(|time| format!("{:.digits$}", scale * time));
    format!(
        "{mean} ± {deviation} {unit} | {least} {unit} | {greatest} {unit} | {middle:.3} ({low:.3} to {high:.3})"
    )
}
