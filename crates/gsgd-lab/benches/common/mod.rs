//! What the benchmarks share.

use std::time::Instant;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use clap::Parser;
use gsgd_lab::data::ImageShape;
use gsgd_lab::models::{Arch, Architecture, Design, Net, NetworkName};
use gsgd_lab::train::{Settings, Stepper};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The value with a share `at` of the others below it.
pub fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(at * (values.len() - 1) as f64).round() as usize]
}

/// A network in training.
pub struct Run {
    model: Option<Net>,
    stepper: Stepper,
    x: Tensor<2>,
    y: Tensor<1, Int>,
}

impl Run {
    pub fn new(arch: &str, batch: usize, flags: &str) -> Self {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            settings: Settings,
        }
        let flags = format!("bench --arch={arch} --optimizer={flags}");
        let settings = Flags::parse_from(flags.split_whitespace()).settings;
        let NetworkName::Known(arch) = settings.arch.clone() else {
            panic!("{} has no full name", settings.arch);
        };
        let shape = match &arch {
            Arch::Mlp(widths) => ImageShape::grey(1, widths[0]),
            Arch::Conv(_) => ImageShape {
                channels: 3,
                height: 32,
                width: 32,
            },
        };
        let of = Architecture {
            arch,
            bias: false,
            norm: true,
            shape,
            classes: 10,
        };
        let design = Design::try_from(&of).expect("these networks fit these images");
        let model = design.he(0, &device()).expect("all their operations train");
        let normal = Distribution::Normal(0.0, 1.0);
        let y: Vec<i64> = (0..batch as i64).map(|at| at % 10).collect();
        Self {
            stepper: Stepper::new(&settings, &model).expect("these optimisers suit these networks"),
            model: Some(model),
            x: Tensor::random([batch, shape.features()], normal, &device()),
            y: Tensor::from_data(TensorData::from(y.as_slice()), &device()),
        }
    }

    /// The same with one of Burn's own optimisers.
    pub fn of_burn(arch: &str, batch: usize, name: &str) -> Self {
        let ball = MomentumConfig::new().with_dampening(0.0);
        let optim = match name {
            "sgd" => SgdConfig::new().init(),
            "momentum" => SgdConfig::new().with_momentum(Some(ball)).init(),
            _ => AdamConfig::new().with_epsilon(1e-8).init(),
        };
        Self {
            stepper: Stepper::on_weights(optim),
            ..Self::new(arch, batch, name)
        }
    }

    /// The model, and its gradients as a backward pass has just left them.
    pub fn backward(&mut self) -> (Net, GradientsParams) {
        let model = self.model.take().expect("there is a model between steps");
        let loss = CrossEntropyLossConfig::new().init(&device());
        let loss = loss.forward(model.forward(self.x.clone()), self.y.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        (model, grads)
    }

    /// Puts the model back.
    pub fn put(&mut self, model: Net) {
        self.model = Some(model);
    }

    /// Seconds of an optimiser step.
    pub fn step(&mut self) -> f64 {
        let (model, grads) = self.backward();
        let begun = Instant::now();
        let stepped = self.stepper.step(1e-4, model, grads);
        let seconds = begun.elapsed().as_secs_f64();
        self.put(stepped.expect("the step is sound"));
        seconds
    }
}

fn device() -> Device {
    Device::flex().autodiff()
}
