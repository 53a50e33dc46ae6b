//! What a training step costs on a GPU: `cargo bench -p gsgd --features wgpu --bench gpu`.
//!
//! Forward, backward and step on a batch of 128 random inputs. Burn's SGD, momentum or Adam and ours on path values take
//! turns of some steps, each until the device has done them; a ratio is the median over all turns, with its quartiles.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{DType, Device, DeviceKind, Distribution, Int, Tensor, TensorData};
use common::{Described, Mlp, grads};
use gsgd::{GSpace, GSpaceConfig};

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
    fn new(model: &Mlp, widths: [usize; 4], device: &'a Device, optim: Optimiser) -> Self {
        let classes = widths[3];
        let y: Vec<i64> = (0..BATCH).map(|at| (at % classes) as i64).collect();
        let normal = Distribution::Normal(0.0, 1.0);
        Self {
            optim,
            model: Some(model.clone()),
            x: Tensor::random([BATCH, widths[0]], normal, device),
            y: Tensor::from_data(TensorData::from(y.as_slice()), device),
            device,
        }
    }

    fn step(&mut self) {
        let model = self.model.take().expect("there is a model between steps");
        let loss = CrossEntropyLossConfig::new().init(self.device);
        let loss = loss.forward(model.forward(self.x.clone()), self.y.clone());
        let grads = grads(&model, loss);
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
        let model = Mlp::he(0, &widths, true, DType::F32).fork(&device);
        for (name, burns, ours) in pairs.iter().chain([&adam]) {
            let ours = ours
                .init_graph(&model, &model.graph())
                .expect("the network suits");
            let optims = [
                Optimiser::Burns(burns.clone()),
                Optimiser::Ours(Box::new(ours)),
            ];
            let runs = optims.map(|optim| Run::new(&model, widths, &device, optim));
            println!("{widths:?} {name}: {}", compare(runs));
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
