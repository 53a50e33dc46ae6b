//! G-momentum under Burn's trainer, which prints progress and a summary: `cargo run --release --example learner`

use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use burn::train::{InferenceStep, RegressionOutput, SupervisedTraining, TrainOutput, TrainStep};
use gsgd::{GSpaceConfig, train::Strategy};

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    output: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(x)))
    }
}

impl InferenceStep for Net {
    type Input = Tensor<2>;
    type Output = RegressionOutput;
    fn step(&self, x: Tensor<2>) -> RegressionOutput {
        let y = self.forward(x.clone());
        RegressionOutput::new((y.clone() - x.clone().abs()).square().mean(), y, x.abs())
    }
}

impl TrainStep for Net {
    type Input = Tensor<2>;
    type Output = RegressionOutput;
    fn step(&self, x: Tensor<2>) -> TrainOutput<RegressionOutput> {
        let output = InferenceStep::step(self, x);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

struct Points;

impl Batcher<[f32; 2], Tensor<2>> for Points {
    fn batch(&self, points: Vec<[f32; 2]>, device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(points.as_flattened(), device).reshape([points.len(), 2])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let (hidden, output) = (LinearConfig::new(2, 16), LinearConfig::new(16, 2));
    let (hidden, output) = (hidden.init(&device), output.init(&device));
    let data = |from: u16| {
        let points = (from..from + 512).map(|i| [(i as f32).sin(), (2.0 * i as f32).sin()]);
        let loader = DataLoaderBuilder::new(Points).batch_size(64);
        loader.build(InMemDataset::new(points.collect()))
    };
    let folder = tempfile::tempdir()?; // for its logs
    let training = SupervisedTraining::new(&folder, data(0), data(512))
        .metrics((burn::train::metric::LossMetric::new(),))
        .num_epochs(3)
        .summary();
    let strategy = Strategy::new(GSpaceConfig::momentum(0.9), |net: &Net, x| {
        net.forward(x.input([1, 2]))
    });
    strategy.launch(training, Net { hidden, output }, 0.1)?;
    Ok(())
}
