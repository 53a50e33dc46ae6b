//! What a step costs against Burn's own optimisers: `cargo bench --bench step`, or with words that a line must contain, such
//! as `cargo bench --bench step -- training g-adam`.
//!
//! `step` is the optimiser step alone, on gradients made before; `training` is forward, backward and step on a batch
//! of random images. Each of the program's optimisers and its baseline take turns, a few steps each, so that both see the same
//! noise of the machine; the ratio is the median over all turns, with its quartiles.

mod common;

use std::time::{Duration, Instant};

use common::{Run, quantile};

/// Measured time per pair of optimisers.
const BUDGET: Duration = Duration::from_secs(4);
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

/// One of Burn's optimisers, and one of the program's by the flags of `gsgd train`.
const PAIRS: [(&str, &str); 8] = [
    ("sgd", "sgd"),
    ("momentum", "momentum"),
    ("adam", "adam"),
    ("sgd", "gsgd"),
    ("sgd", "gsgd --coordinates=norm"),
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
    println!("{:<62} baseline       ours   ratio (quartiles)", "");
    for what in ["step", "training"] {
        for (arch, batch, turn) in NETWORKS {
            for (baseline, ours) in PAIRS {
                let name = format!("{what} {arch} {ours} / Burn's {baseline}");
                // no path leads through batch norm
                let possible = arch.starts_with("mlp") || ours != "path-sgd";
                if possible && words.iter().all(|word| name.contains(word.as_str())) {
                    let burns = Run::of_burn(arch, batch, baseline);
                    let runs = [burns, Run::new(arch, batch, ours)];
                    println!("{name:<62} {}", compare(runs, what, turn));
                }
            }
        }
    }
}

fn compare(mut runs: [Run; 2], what: &str, turn: usize) -> String {
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
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < BUDGET || ratios.len() < TURNS {
        let turns = [0, 1].map(|at| (0..turn).map(|_| measure(&mut runs[at])).sum::<f64>());
        ratios.push(turns[1] / turns[0]);
        let both = times.iter_mut().zip(turns);
        both.for_each(|(times, sum)| times.push(sum / turn as f64));
    }
    let [base, own] = times.map(|times| 1e6 * quantile(times, 0.5));
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|at| quantile(ratios.clone(), at));
    format!("{base:>7.1} us {own:>7.1} us   {middle:.3} ({low:.3} to {high:.3})")
}
