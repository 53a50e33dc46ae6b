//! What a step costs against Burn's own optimisers: `cargo bench`, or with words that a line must contain, such as
//! `cargo bench -- training g-adam`.
//!
//! `step` is the optimiser step alone, on gradients made before; `training` is forward, backward and step on a batch
//! of random images. Each of our optimisers and its baseline take turns, a few steps each, so that both see the same
//! noise of the machine; the ratio is the median over all turns, with its quartiles.

use std::time::{Duration, Instant};

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use clap::Parser;
use gsgd_lab::data::ImageShape;
use gsgd_lab::models::{Arch, Model, Plan};
use gsgd_lab::train::{Settings, Stepper};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// A baseline and one of ours, by the flags of `gsgd train`.
const PAIRS: [(&str, &str); 6] = [
    ("sgd", "sgd"),
    ("sgd", "gsgd"),
    ("sgd", "gsgd --coordinates=norm"),
    ("sgd", "path-sgd"),
    ("momentum", "g-momentum"),
    ("adam", "g-adam"),
];

fn main() {
    let words = std::env::args().skip(1);
    let words: Vec<String> = words.filter(|word| !word.starts_with("--")).collect();
    println!("{:<62} baseline       ours   ratio (quartiles)", "");
    for what in ["step", "training"] {
        for (arch, batch, turn) in NETWORKS {
            for (baseline, ours) in PAIRS {
                let name = format!("{what} {arch} {ours} / {baseline}");
                // no path leads through batch norm
                let possible = arch.starts_with("mlp") || ours != "path-sgd";
                if possible && words.iter().all(|word| name.contains(word.as_str())) {
                    let runs = [baseline, ours].map(|flags| Run::new(arch, batch, flags));
                    println!("{name:<62} {}", compare(runs, what, turn));
                }
            }
        }
    }
}

fn compare(mut runs: [Run; 2], what: &str, turn: usize) -> String {
    let measure = |run: &mut Run| match what {
        "step" => run.step(),
        _ => run.training_step(),
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

fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(at * (values.len() - 1) as f64).round() as usize]
}

/// A network in training.
struct Run {
    model: Option<Model>,
    stepper: Stepper,
    x: Tensor<2>,
    y: Tensor<1, Int>,
}

impl Run {
    fn new(arch: &str, batch: usize, flags: &str) -> Self {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            settings: Settings,
        }
        let flags = format!("bench --arch={arch} --optimizer={flags}");
        let settings = Flags::parse_from(flags.split_whitespace()).settings;
        let shape = match &settings.arch {
            Arch::Mlp(widths) => ImageShape::grey(1, widths[0]),
            Arch::Conv(_) => ImageShape {
                channels: 3,
                height: 32,
                width: 32,
            },
        };
        let plan = Plan {
            arch: settings.arch.clone(),
            bias: false,
            norm: true,
            shape,
            classes: 10,
        };
        let model = Model::he(&plan, 0, &device());
        let normal = Distribution::Normal(0.0, 1.0);
        let y: Vec<i64> = (0..batch as i64).map(|at| at % 10).collect();
        Self {
            stepper: Stepper::new(&settings, &model).expect("these optimisers suit these networks"),
            model: Some(model),
            x: Tensor::random([batch, shape.features()], normal, &device()),
            y: Tensor::from_data(TensorData::from(y.as_slice()), &device()),
        }
    }

    /// Seconds of an optimiser step.
    fn step(&mut self) -> f64 {
        let model = self.model.take().expect("there is a model between steps");
        let loss = CrossEntropyLossConfig::new().init(&device());
        let loss = loss.forward(model.forward(self.x.clone()), self.y.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let begun = Instant::now();
        let stepped = self.stepper.step(1e-4, model, grads);
        let seconds = begun.elapsed().as_secs_f64();
        self.model = stepped.ok();
        seconds
    }

    /// Seconds of a training step.
    fn training_step(&mut self) -> f64 {
        let begun = Instant::now();
        self.step();
        begun.elapsed().as_secs_f64()
    }
}

fn device() -> Device {
    Device::flex().autodiff()
}
