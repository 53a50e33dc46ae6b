//! What an optimiser step costs against loops written by hand for one array of weights: `cargo bench --bench fused`.
//!
//! The loops are plain SGD, momentum and Adam in one pass each, compiled for the machine's vector instructions and
//! shared by all cores. They and the optimisers take turns; gradients have just been written in either case. `copy` copies
//! one array of that size to another: what the memory gives. Words are what a step must move, 4 bytes each.

mod common;

use std::time::{Duration, Instant};

use common::{Run, quantile};
use rayon::prelude::*;

/// Measured time per network.
const BUDGET: Duration = Duration::from_secs(12);
/// Weights of a block, which one core takes at a time.
const BLOCK: usize = 1 << 15;

const NETWORKS: [&str; 2] = ["mlp:49-1024-1024-10", "mlp:784-2816-2816-10"];

fn main() {
    rayon::scope(|_| measure());
}

fn measure() {
    for arch in NETWORKS {
        let hidden = arch.split([':', '-']).skip(1).map(str::parse);
        let widths: Vec<usize> = hidden.map(|w| w.expect("a width")).collect();
        let count: usize = widths.windows(2).map(|w| w[0] * w[1]).sum();
        println!("{arch}, {count} weights");
        let mut copy = Arrays::new(count);
        let mut rows: Vec<Row> = ROWS.iter().map(|row| Row::new(row, arch, count)).collect();
        let (mut copies, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < BUDGET {
            copies.push(copy.timed(Rule::Copy));
            for row in &mut rows {
                let times = [
                    row.by_hand.timed(row.rule),
                    row.ours.step(),
                    row.burns.step(),
                ];
                for (list, time) in row.times.iter_mut().zip(times) {
                    list.push(time);
                }
            }
        }
        let gigabytes = |seconds: f64, words: usize| (4 * words * count) as f64 / seconds / 1e9;
        let copied = quantile(copies, 0.5);
        println!(
            "{:<12} {:>8.3} ms {:>6.1} GB/s, 2 words",
            "copy",
            1e3 * copied,
            gigabytes(copied, 2)
        );
        for row in rows {
            let [hand, ours, burns] = row.times.clone().map(|times| quantile(times, 0.5));
            let [of_hand, of_burns] = [0, 2].map(|at| {
                let pairs = row.times[1].iter().zip(&row.times[at]);
                let ratios: Vec<f64> = pairs.map(|(own, base)| own / base).collect();
                let [low, middle, high] = [0.25, 0.5, 0.75].map(|at| quantile(ratios.clone(), at));
                format!("{middle:.2} ({low:.2} to {high:.2})")
            });
            println!(
                "{:<12} {:>8.3} ms {:>6.1} GB/s, {} words",
                row.name,
                1e3 * hand,
                gigabytes(hand, row.words),
                row.words
            );
            println!(
                "{:<12} {:>8.3} ms {:>6.1} GB/s, {} words; by hand x {of_hand}; Burn's ({:.3} ms) x {of_burns}",
                row.optimizer,
                1e3 * ours,
                gigabytes(ours, row.words),
                row.words,
                1e3 * burns
            );
        }
    }
}

/// By hand, ours, and the words a weight of both; ours reads some layers once more for sums.
const ROWS: [(&str, Rule, &str, usize); 3] = [
    ("sgd", Rule::Sgd, "gsgd", 3),
    ("momentum", Rule::Momentum, "g-momentum", 5),
    ("adam", Rule::Adam, "g-adam", 7),
];

struct Row {
    name: &'static str,
    optimizer: &'static str,
    rule: Rule,
    words: usize,
    by_hand: Arrays,
    ours: Run,
    burns: Run,
    times: [Vec<f64>; 3],
}

impl Row {
    fn new(row: &(&'static str, Rule, &'static str, usize), arch: &str, count: usize) -> Self {
        let &(name, rule, optimizer, words) = row;
        let [mut ours, mut burns] = [optimizer, name].map(|flags| Run::new(arch, 64, flags));
        // moments come to be in the first step
        for _ in 0..3 {
            ours.step();
            burns.step();
        }
        Self {
            name,
            optimizer,
            rule,
            words,
            by_hand: Arrays::new(count),
            ours,
            burns,
            times: Default::default(),
        }
    }
}

#[derive(Clone, Copy)]
enum Rule {
    Copy,
    Sgd,
    Momentum,
    Adam,
}

/// Weights, gradients and two moments.
struct Arrays([Vec<f32>; 4]);

impl Arrays {
    fn new(count: usize) -> Self {
        Self([0.1, 0.2, 0.3, 0.4].map(|value| vec![value; count]))
    }

    /// Seconds of one step.
    fn timed(&mut self, rule: Rule) -> f64 {
        let Self([w, g, m, s]) = self;
        g.par_chunks_mut(BLOCK)
            .for_each(|g| g.iter_mut().for_each(|g| *g = -*g));
        let begun = Instant::now();
        let blocks = w.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK));
        let arch = pulp::Arch::new();
        match rule {
            Rule::Copy => blocks.for_each(|(w, g)| w.copy_from_slice(g)),
            Rule::Sgd => blocks.for_each(|(w, g)| arch.dispatch(|| sgd(w, g))),
            Rule::Momentum => blocks
                .zip(m.par_chunks_mut(BLOCK))
                .for_each(|((w, g), m)| arch.dispatch(|| momentum(w, g, m))),
            Rule::Adam => blocks
                .zip(m.par_chunks_mut(BLOCK).zip(s.par_chunks_mut(BLOCK)))
                .for_each(|((w, g), (m, s))| arch.dispatch(|| adam(w, g, m, s))),
        }
        begun.elapsed().as_secs_f64()
    }
}

const LR: f32 = 1e-4;

#[inline(always)]
fn sgd(w: &mut [f32], g: &[f32]) {
    for (w, g) in w.iter_mut().zip(g) {
        *w -= LR * g;
    }
}

#[inline(always)]
fn momentum(w: &mut [f32], g: &[f32], m: &mut [f32]) {
    for ((w, g), m) in w.iter_mut().zip(g).zip(m) {
        *m = 0.9 * *m + g;
        *w -= LR * *m;
    }
}

#[inline(always)]
fn adam(w: &mut [f32], g: &[f32], m: &mut [f32], s: &mut [f32]) {
    for (((w, g), m), s) in w.iter_mut().zip(g).zip(m).zip(s) {
        *m = 0.9 * *m + 0.1 * g;
        *s = 0.999 * *s + 0.001 * g * g;
        *w -= LR * *m / (s.sqrt() + 1e-8);
    }
}
