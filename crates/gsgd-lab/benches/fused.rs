//! What an optimiser step costs against loops written by hand for one array of weights: `cargo bench --bench fused`.
//!
//! The loops are plain SGD, momentum and Adam in one pass each, compiled for the machine's vector instructions and
//! shared by all cores; once alone, over arrays that the same loop went over before, and once in training, where
//! weights and gradients are as a backward pass has just left them in the caches of all cores, which is how an optimiser
//! meets them. All take turns. `copy` copies one array of that size to another: what the memory gives. Words are what a
//! step must move, 4 bytes each.

mod common;

use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
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
            copies.push(copy.copied());
            for row in &mut rows {
                let times = [
                    row.alone.timed(row.rule),
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
            let medians = row.times.clone().map(|times| quantile(times, 0.5));
            let names = ["alone", "in training", row.optimizer, "Burn's"];
            for (name, seconds) in names.iter().zip(medians) {
                println!(
                    "{:<9}{name:<12} {:>8.3} ms {:>6.1} GB/s, {} words",
                    row.name,
                    1e3 * seconds,
                    gigabytes(seconds, row.words),
                    row.words
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
    alone: Arrays,
    by_hand: ByHand,
    ours: Run,
    burns: Run,
    times: [Vec<f64>; 4],
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
            alone: Arrays::new(count),
            by_hand: ByHand::new(Run::new(arch, 64, "sgd")),
            ours,
            burns,
            times: Default::default(),
        }
    }
}

#[derive(Clone, Copy)]
enum Rule {
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

    /// Seconds of a copy of one array to another.
    fn copied(&mut self) -> f64 {
        let Self([to, from, ..]) = self;
        let begun = Instant::now();
        let blocks = to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK));
        blocks.for_each(|(to, from)| to.copy_from_slice(from));
        begun.elapsed().as_secs_f64()
    }

    /// Seconds of one step.
    fn timed(&mut self, rule: Rule) -> f64 {
        let Self([w, g, m, s]) = self;
        g.par_chunks_mut(BLOCK)
            .for_each(|g| g.iter_mut().for_each(|g| *g = -*g));
        let begun = Instant::now();
        step(rule, g, w, [m, s]);
        begun.elapsed().as_secs_f64()
    }
}

/// A network in training whose steps are loops by hand. Its weights stay as they are: the new ones, written where the
/// gradients were, are dropped.
struct ByHand {
    run: Run,
    /// Two moments of every parameter.
    moments: Vec<[Vec<f32>; 2]>,
}

impl ByHand {
    fn new(mut run: Run) -> Self {
        struct Moments(Vec<[Vec<f32>; 2]>);
        impl ModuleVisitor for Moments {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let count = param.val().shape().num_elements();
                self.0.push([0.3, 0.4].map(|value| vec![value; count]));
            }
        }
        let mut moments = Moments(Vec::new());
        let (model, _) = run.backward();
        model.visit(&mut moments);
        run.put(model);
        Self {
            run,
            moments: moments.0,
        }
    }

    /// Seconds of one step.
    fn timed(&mut self, rule: Rule) -> f64 {
        struct Step<'a> {
            rule: Rule,
            grads: GradientsParams,
            moments: std::slice::IterMut<'a, [Vec<f32>; 2]>,
        }
        impl ModuleVisitor for Step<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let flex = |x: Tensor<D>| x.try_into_primitive::<Flex>().expect("a flex tensor");
                let gradient = self.grads.remove::<D>(param.id).expect("a gradient");
                let w: FlexTensor = flex(param.val().inner());
                let mut g: FlexTensor = flex(gradient);
                let [m, s] = self.moments.next().expect("moments of every parameter");
                step(
                    self.rule,
                    g.storage_mut::<f32>(),
                    w.storage::<f32>(),
                    [m, s],
                );
            }
        }
        let (model, grads) = self.run.backward();
        let begun = Instant::now();
        model.visit(&mut Step {
            rule,
            grads,
            moments: self.moments.iter_mut(),
        });
        let seconds = begun.elapsed().as_secs_f64();
        self.run.put(model);
        seconds
    }
}

/// New weights where the gradients were.
fn step(rule: Rule, g: &mut [f32], w: &[f32], [m, s]: [&mut Vec<f32>; 2]) {
    let blocks = g.par_chunks_mut(BLOCK).zip(w.par_chunks(BLOCK));
    let arch = pulp::Arch::new();
    match rule {
        Rule::Sgd => blocks.for_each(|(g, w)| arch.dispatch(|| sgd(g, w))),
        Rule::Momentum => blocks
            .zip(m.par_chunks_mut(BLOCK))
            .for_each(|((g, w), m)| arch.dispatch(|| momentum(g, w, m))),
        Rule::Adam => blocks
            .zip(m.par_chunks_mut(BLOCK).zip(s.par_chunks_mut(BLOCK)))
            .for_each(|((g, w), (m, s))| arch.dispatch(|| adam(g, w, m, s))),
    }
}

const LR: f32 = 1e-4;

#[inline(always)]
fn sgd(g: &mut [f32], w: &[f32]) {
    for (g, w) in g.iter_mut().zip(w) {
        *g = w - LR * *g;
    }
}

#[inline(always)]
fn momentum(g: &mut [f32], w: &[f32], m: &mut [f32]) {
    for ((g, w), m) in g.iter_mut().zip(w).zip(m) {
        *m = 0.9 * *m + *g;
        *g = w - LR * *m;
    }
}

#[inline(always)]
fn adam(g: &mut [f32], w: &[f32], m: &mut [f32], s: &mut [f32]) {
    for (((g, w), m), s) in g.iter_mut().zip(w).zip(m).zip(s) {
        *m = 0.9 * *m + 0.1 * *g;
        *s = 0.999 * *s + 0.001 * *g * *g;
        *g = w - LR * *m / (s.sqrt() + 1e-8);
    }
}
