//! What an optimiser step costs against loops over weights alone: `cargo bench --bench fused`.
//!
//! The loops are those of the program's SGD, momentum and Adam, one pass each, compiled for the machine's vector
//! instructions and shared by all cores; once alone, over arrays that the same loop went over before, and once in training,
//! where weights and gradients are as a backward pass has just left them in the caches of all cores, which is how an
//! optimiser meets them. All take turns. `copy` copies one array of that size to another: what the memory gives. Bytes are
//! what a step must move for each weight.

mod common;

use std::time::{Duration, Instant};

use common::{Run, quantile};
use flex_kernels::optim::WeightRule;
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
            copies.push(copy.copied());
            for row in &mut rows {
                let times = [
                    row.alone.timed(row.rule),
                    row.own.step(),
                    row.ours.step(),
                    row.burns.step(),
                ];
                for (list, time) in row.times.iter_mut().zip(times) {
                    list.push(time);
                }
            }
        }
        let gigabytes = |seconds: f64, bytes: usize| (bytes * count) as f64 / seconds / 1e9;
        let copied = quantile(copies, 0.5);
        println!(
            "{:<12} {:>8.3} ms {:>6.1} GB/s, 8 bytes a weight",
            "copy",
            1e3 * copied,
            gigabytes(copied, 8)
        );
        for row in rows {
            let medians = row.times.clone().map(|times| quantile(times, 0.5));
            let names = ["alone", "in training", row.optimizer, "Burn's"];
            for (name, seconds) in names.iter().zip(medians) {
                println!(
                    "{:<9}{name:<12} {:>8.3} ms {:>6.1} GB/s, {} bytes a weight",
                    row.name,
                    1e3 * seconds,
                    gigabytes(seconds, row.bytes),
                    row.bytes
                );
            }
            for at in [0, 1, 3] {
                let pairs = row.times[2].iter().zip(&row.times[at]);
                let ratios: Vec<f64> = pairs.map(|(own, base)| own / base).collect();
                let [low, middle, high] = [0.25, 0.5, 0.75].map(|at| quantile(ratios.clone(), at));
                println!(
                    "{} / {}: {middle:.2} ({low:.2} to {high:.2})",
                    row.optimizer, names[at]
                );
            }
        }
    }
}

/// The rule on weights, ours, and the bytes a weight that both move; ours reads some layers once more for sums.
const ROWS: [(&str, WeightRule, &str, usize); 3] = [
    ("sgd", WeightRule::Descent, "g-sgd", 12),
    ("momentum", BALL, "g-momentum", 20),
    ("adam", ADAM, "g-adam", 28),
];

const BALL: WeightRule = WeightRule::HeavyBall { momentum: 0.9 };
const ADAM: WeightRule = WeightRule::Adam {
    betas: [0.9, 0.999],
    epsilon: 1e-8,
};

struct Row {
    name: &'static str,
    optimizer: &'static str,
    rule: WeightRule,
    bytes: usize,
    alone: Arrays,
    own: Run,
    ours: Run,
    burns: Run,
    times: [Vec<f64>; 4],
}

impl Row {
    fn new(
        row: &(&'static str, WeightRule, &'static str, usize),
        arch: &str,
        count: usize,
    ) -> Self {
        let &(name, rule, optimizer, bytes) = row;
        let [mut own, mut ours] = [name, optimizer].map(|flags| Run::new(arch, 64, flags));
        let mut burns = Run::of_burn(arch, 64, name);
        // moments come to be in the first step
        for run in [&mut own, &mut ours, &mut burns] {
            (0..3).for_each(|_| _ = run.step());
        }
        Self {
            name,
            optimizer,
            rule,
            bytes,
            alone: Arrays::new(count),
            own,
            ours,
            burns,
            times: Default::default(),
        }
    }
}

/// Weights, gradients and two moments.
struct Arrays([Vec<f32>; 4]);

impl Arrays {
    fn new(count: usize) -> Self {
        Self([0.1, 0.2, 0.3, 0.4].map(|value| vec![value; count]))
    }

    /// Seconds of a copy of one array to another.
    fn copied(&mut self) -> f64 {
        let Self([to, from, ..]) = self;
        let begun = Instant::now();
        let blocks = to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK));
        blocks.for_each(|(to, from)| to.copy_from_slice(from));
        begun.elapsed().as_secs_f64()
    }

    /// Seconds of one step.
    fn timed(&mut self, rule: WeightRule) -> f64 {
        let Self([w, g, m, s]) = self;
        g.par_chunks_mut(BLOCK)
            .for_each(|g| g.iter_mut().for_each(|g| *g = -*g));
        let begun = Instant::now();
        rule.step(1, 1e-4, g, w, [Some(&mut m[..]), Some(&mut s[..])]);
        begun.elapsed().as_secs_f64()
    }
}
