//! What a step costs against Burn's own optimisers: `cargo bench -p gsgd`, or with words that a line must contain,
//! such as `cargo bench -p gsgd -- training g-adam`.
//!
//! `step` is the optimiser step alone, on gradients made before; `training` is forward, backward and step on a batch
//! of 64. Each of our optimisers and its baseline take turns, a few steps each, so that both see the same noise of the
//! machine; the ratio is the median over all turns, with its quartiles.

use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use gsgd::{
    Channels, Coordinates, GSpace, GSpaceConfig, Homogeneous, PathSgd, Unwired, WiringBuilder,
};

/// Measured time per pair of optimisers.
const BUDGET: Duration = Duration::from_secs(4);
/// Steps in one turn.
const TURN: usize = 4;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    println!("                                        baseline       ours   ratio (quartiles)");
    for what in ["step", "training"] {
        for hidden in [64, 1024] {
            for (baseline, ours) in PAIRS {
                let name = format!("{what} [49:{hidden}:{hidden}:10] {ours} / {baseline}");
                if words.iter().all(|word| name.contains(word.as_str())) {
                    println!("{}", compare(&name, what, hidden, baseline, ours));
                }
            }
        }
    }
}

const PAIRS: [(&str, &str); 7] = [
    ("sgd", "sgd"),
    ("sgd", "gsgd"),
    ("sgd", "norm-gsgd"),
    ("sgd", "path-sgd"),
    ("sgd", "lifted-gsgd"),
    ("momentum", "g-momentum"),
    ("adam", "g-adam"),
];

fn compare(name: &str, what: &str, hidden: usize, baseline: &str, ours: &str) -> String {
    let mut runs = [baseline, ours].map(|optimiser| Run::new(hidden, optimiser));
    let measure = |run: &mut Run| match what {
        "step" => run.step(),
        _ => run.training_step(),
    };
    for run in &mut runs {
        (0..20).for_each(|_| _ = measure(run));
    }
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < BUDGET {
        let turns = [0, 1].map(|at| (0..TURN).map(|_| measure(&mut runs[at])).sum::<f64>());
        ratios.push(turns[1] / turns[0]);
        times
            .iter_mut()
            .zip(turns)
            .for_each(|(times, turn)| times.push(turn / TURN as f64));
    }
    let [base, own] = times.map(|times| 1e6 * quantile(times, 0.5));
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|at| quantile(ratios.clone(), at));
    format!("{name:<38} {base:>7.1} us {own:>7.1} us   {middle:.3} ({low:.3} to {high:.3})")
}

fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(at * (values.len() - 1) as f64).round() as usize]
}

/// A network in training.
struct Run {
    model: Option<Mlp>,
    optim: Optim,
    x: Tensor<2>,
    y: Tensor<1, Int>,
}

impl Run {
    fn new(hidden: usize, optimiser: &str) -> Self {
        let model = Mlp::new(hidden);
        let y: Vec<i64> = (0..64).map(|i| i % 10).collect();
        Self {
            optim: Optim::new(optimiser, &model),
            model: Some(model),
            x: Tensor::random([64, 49], Distribution::Normal(0.0, 1.0), &device()),
            y: Tensor::from_data(TensorData::from(y.as_slice()), &device()),
        }
    }

    fn gradients(&self, model: &Mlp) -> GradientsParams {
        let loss = CrossEntropyLossConfig::new().init(&device());
        let loss = loss.forward(model.forward(self.x.clone()), self.y.clone());
        GradientsParams::from_grads(loss.backward(), model)
    }

    /// Seconds of an optimiser step.
    fn step(&mut self) -> f64 {
        let model = self.model.take().expect("there is a model between steps");
        let grads = self.gradients(&model);
        let begun = Instant::now();
        self.model = Some(self.optim.step(model, grads));
        begun.elapsed().as_secs_f64()
    }

    /// Seconds of a training step.
    fn training_step(&mut self) -> f64 {
        let begun = Instant::now();
        self.step();
        begun.elapsed().as_secs_f64()
    }
}

enum Optim {
    Burn(ModuleOptimizer),
    GSpace(Box<GSpace>),
    Path(Box<PathSgd>),
}

impl Optim {
    fn new(name: &str, model: &Mlp) -> Self {
        let momentum = MomentumConfig::new().with_dampening(0.0);
        let g = |config: GSpaceConfig| {
            Self::GSpace(Box::new(config.init(model).expect("the model is wired")))
        };
        match name {
            "sgd" => Self::Burn(SgdConfig::new().init()),
            "momentum" => Self::Burn(SgdConfig::new().with_momentum(Some(momentum)).init()),
            "adam" => Self::Burn(AdamConfig::new().init()),
            "gsgd" => g(GSpaceConfig::sgd()),
            "norm-gsgd" => g(GSpaceConfig::sgd().with_coordinates(Coordinates::Norm)),
            "lifted-gsgd" => g(GSpaceConfig::new(SgdConfig::new().init())),
            "g-momentum" => g(GSpaceConfig::momentum(0.9)),
            "g-adam" => g(GSpaceConfig::adam()),
            _ => Self::Path(Box::new(
                PathSgd::init(model, Unwired::Refuse).expect("the model is wired"),
            )),
        }
    }

    fn step(&mut self, model: Mlp, grads: GradientsParams) -> Mlp {
        match self {
            Self::Burn(optim) => optim.step(1e-4, model, grads),
            Self::GSpace(optim) => optim
                .step(1e-4, model, grads)
                .expect("gradients are finite"),
            Self::Path(optim) => optim
                .step(1e-4, model, grads)
                .expect("gradients are finite"),
        }
    }
}

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(hidden: usize) -> Self {
        let widths = [49, hidden, hidden, 10];
        let layer = |w: &[usize]| {
            LinearConfig::new(w[0], w[1])
                .with_bias(false)
                .init(&device())
        };
        Self {
            layers: widths.windows(2).map(layer).collect(),
        }
    }

    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(if index > 0 { relu(x) } else { x });
        }
        x
    }
}

impl Homogeneous for Mlp {
    fn wire(&self, w: &mut WiringBuilder, mut x: Channels) -> Channels {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = w.relu(x);
            }
            x = w.linear(x, layer);
        }
        x
    }
}

fn device() -> Device {
    Device::flex().autodiff()
}
