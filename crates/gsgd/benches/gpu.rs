//! What a training step costs on a GPU: `cargo bench -p gsgd --features wgpu --bench gpu`.
//!
//! Forward, backward and step on a batch of 128 random inputs. Burn's SGD, momentum or Adam and ours on path values take
//! turns of some steps, each until the device has done them; a ratio is the median over all turns, with its quartiles.

use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor, TensorData};
use gsgd::{Channels, GSpace, GSpaceConfig, Homogeneous, WiringBuilder};

const NETWORKS: [[usize; 4]; 3] = [
    [49, 64, 64, 10],
    [784, 1024, 1024, 10],
    [784, 4096, 4096, 10],
];
const BATCH: usize = 128;
const LR: f64 = 1e-4;
/// Steps of a turn.
const STEPS: usize = 10;
/// Measured time of a pair.
const BUDGET: Duration = Duration::from_secs(3);

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(widths: &[usize], device: &Device) -> Self {
        let pairs = widths.windows(2);
        let layers = pairs.map(|pair| LinearConfig::new(pair[0], pair[1]).init(device));
        Self {
            layers: layers.collect(),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut layers = self.layers.iter();
        let first = layers.next().expect("there is a layer").forward(x);
        layers.fold(first, |x, layer| layer.forward(relu(x)))
    }
}

impl Homogeneous for Mlp {
    fn wire(&self, w: &mut WiringBuilder, x: Channels) -> Channels {
        let mut layers = self.layers.iter();
        let first = w.linear(x, layers.next().expect("there is a layer"));
        layers.fold(first, |x, layer| {
            let x = w.relu(x);
            w.linear(x, layer)
        })
    }
}

enum Optimiser {
    Burns(ModuleOptimizer),
    Ours(Box<GSpace>),
}

struct Run<'a> {
    model: Option<Mlp>,
    optim: Optimiser,
    x: Tensor<2>,
    y: Tensor<1, Int>,
    device: &'a Device,
}

impl<'a> Run<'a> {
    fn new(widths: &[usize], device: &'a Device, optim: impl Fn(&Mlp) -> Optimiser) -> Self {
        let model = Mlp::new(widths, device);
        let classes = widths[widths.len() - 1];
        let y: Vec<i64> = (0..BATCH).map(|at| (at % classes) as i64).collect();
        let normal = Distribution::Normal(0.0, 1.0);
        Self {
            optim: optim(&model),
            model: Some(model),
            x: Tensor::random([BATCH, widths[0]], normal, device),
            y: Tensor::from_data(TensorData::from(y.as_slice()), device),
            device,
        }
    }

    fn step(&mut self) {
        let model = self.model.take().expect("there is a model between steps");
        let loss = CrossEntropyLossConfig::new().init(self.device);
        let loss = loss.forward(model.forward(self.x.clone()), self.y.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(match &mut self.optim {
            Optimiser::Burns(optim) => optim.step(LR, model, grads),
            Optimiser::Ours(optim) => optim.step(LR, model, grads).expect("the step is sound"),
        });
    }

    /// Seconds a step.
    fn turn(&mut self) -> f64 {
        let begun = Instant::now();
        (0..STEPS).for_each(|_| self.step());
        self.device.sync().expect("the device works");
        begun.elapsed().as_secs_f64() / STEPS as f64
    }
}

fn main() {
    let device = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    let ball = MomentumConfig::new().with_dampening(0.0);
    let pairs = [
        ("G-SGD / SGD", SgdConfig::new(), GSpaceConfig::sgd()),
        (
            "G-momentum / momentum",
            SgdConfig::new().with_momentum(Some(ball)),
            GSpaceConfig::momentum(0.9),
        ),
    ];
    let pairs = pairs.map(|(name, burns, ours)| (name, burns.init(), ours));
    let adam = (
        "G-Adam / Adam",
        AdamConfig::new().init(),
        GSpaceConfig::adam(),
    );
    for widths in NETWORKS {
        for (name, burns, ours) in pairs.iter().chain([&adam]) {
            let ours = |model: &Mlp| ours.init(model).expect("the network suits");
            let burns = Run::new(&widths, &device, |_| Optimiser::Burns(burns.clone()));
            let ours = Run::new(&widths, &device, |model| {
                Optimiser::Ours(Box::new(ours(model)))
            });
            println!("{widths:?} {name}: {}", compare([burns, ours]));
        }
    }
}

fn compare(mut runs: [Run; 2]) -> String {
    for run in &mut runs {
        (0..3).for_each(|_| _ = run.turn());
    }
    let mut times: Vec<[f64; 2]> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < BUDGET {
        let [burns, ours] = &mut runs;
        times.push([burns.turn(), ours.turn()]);
    }
    let [[_, burns, _], [_, ours, _]] =
        [0, 1].map(|at| quartiles(times.iter().map(|turn| 1e6 * turn[at])));
    let [low, middle, high] = quartiles(times.iter().map(|[burns, ours]| ours / burns));
    format!("{burns:.0} and {ours:.0} us, {middle:.2} ({low:.2} to {high:.2})")
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[quarter * (values.len() - 1) / 4])
}
