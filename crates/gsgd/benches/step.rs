//! What a step costs against Burn's own optimisers: `cargo bench -p gsgd`.
//!
//! `optimiser`: the optimiser step alone, on gradients made before. `training`: forward, backward and step on a batch
//! of 64. Compare medians within one run.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use divan::Bencher;
use gsgd::{
    Channels, Coordinates, GSpace, GSpaceConfig, Homogeneous, PathSgd, Unwired, WiringBuilder,
};

fn main() {
    divan::main();
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

enum Optim {
    Burn(ModuleOptimizer),
    GSpace(Box<GSpace>),
    Path(Box<PathSgd>),
}

const NAMES: [&str; 9] = [
    "sgd",
    "momentum",
    "adam",
    "gsgd",
    "gsgd norm",
    "g-momentum",
    "g-adam",
    "path-sgd",
    "gsgd lifted",
];

impl Optim {
    fn new(name: &str, model: &Mlp) -> Self {
        let momentum = MomentumConfig::new().with_dampening(0.0);
        let g = |config: GSpaceConfig| Self::GSpace(Box::new(config.init(model).unwrap()));
        match name {
            "sgd" => Self::Burn(SgdConfig::new().init()),
            "momentum" => Self::Burn(SgdConfig::new().with_momentum(Some(momentum)).init()),
            "adam" => Self::Burn(AdamConfig::new().init()),
            "gsgd" => g(GSpaceConfig::sgd()),
            "gsgd norm" => g(GSpaceConfig::sgd().with_coordinates(Coordinates::Norm)),
            "gsgd lifted" => g(GSpaceConfig::new(SgdConfig::new().init())),
            "g-momentum" => g(GSpaceConfig::momentum(0.9)),
            "g-adam" => g(GSpaceConfig::adam()),
            _ => Self::Path(Box::new(PathSgd::init(model, Unwired::Refuse).unwrap())),
        }
    }

    fn step(&mut self, model: Mlp, grads: GradientsParams) -> Mlp {
        match self {
            Self::Burn(optim) => optim.step(1e-4, model, grads),
            Self::GSpace(optim) => optim.step(1e-4, model, grads).unwrap(),
            Self::Path(optim) => optim.step(1e-4, model, grads).unwrap(),
        }
    }
}

fn batch() -> (Tensor<2>, Tensor<1, Int>) {
    let x = Tensor::random([64, 49], Distribution::Normal(0.0, 1.0), &device());
    let y: Vec<i64> = (0..64).map(|i| i % 10).collect();
    (
        x,
        Tensor::from_data(TensorData::from(y.as_slice()), &device()),
    )
}

fn gradients(model: &Mlp, (x, y): &(Tensor<2>, Tensor<1, Int>)) -> GradientsParams {
    let loss = CrossEntropyLossConfig::new().init(&device());
    let loss = loss.forward(model.forward(x.clone()), y.clone());
    GradientsParams::from_grads(loss.backward(), model)
}

#[divan::bench(args = NAMES, consts = [64, 1024], min_time = 1.0)]
fn optimiser<const HIDDEN: usize>(bencher: Bencher, name: &str) {
    let mut model = Some(Mlp::new(HIDDEN));
    let mut optim = Optim::new(name, model.as_ref().unwrap());
    let batch = batch();
    let at = model.clone().unwrap();
    bencher
        .with_inputs(|| gradients(&at, &batch))
        .bench_local_values(|grads| {
            model = Some(optim.step(model.take().unwrap(), grads));
        });
}

#[divan::bench(args = NAMES, consts = [64, 1024], min_time = 2.0)]
fn training<const HIDDEN: usize>(bencher: Bencher, name: &str) {
    let mut model = Some(Mlp::new(HIDDEN));
    let mut optim = Optim::new(name, model.as_ref().unwrap());
    let batch = batch();
    bencher.bench_local(|| {
        let current = model.take().unwrap();
        let grads = gradients(&current, &batch);
        model = Some(optim.step(current, grads));
    });
}
