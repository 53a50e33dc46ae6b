//! G-momentum under Burn's trainer, with a schedule and checkpoints: `cargo run --release --features gsgd/train --example learner`

use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use burn::train::metric::{LearningRateMetric, LossMetric};
use burn::train::{InferenceStep, RegressionOutput, SupervisedTraining, TrainOutput, TrainStep};
use gsgd::train::Strategy;
use gsgd::{Channels, GSpaceConfig, Homogeneous, ScaleGraphBuilder};

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    output: Linear,
}

impl Homogeneous for Net {
    fn scale_graph(&self, g: &mut ScaleGraphBuilder, x: Channels) -> Channels {
        let y = g.linear(x, &self.hidden);
        let y = g.relu(y);
        g.linear(y, &self.output)
    }
}

impl InferenceStep for Net {
    type Input = Tensor<2>; // [rows, 3]: a point and its target
    type Output = RegressionOutput;

    fn step(&self, rows: Tensor<2>) -> RegressionOutput {
        let (x, y) = (rows.clone().narrow(1, 0, 2), rows.narrow(1, 2, 1));
        let found = self.output.forward(relu(self.hidden.forward(x)));
        RegressionOutput::new((found.clone() - y.clone()).square().mean(), found, y)
    }
}

impl TrainStep for Net {
    type Input = Tensor<2>;
    type Output = RegressionOutput;

    fn step(&self, rows: Tensor<2>) -> TrainOutput<RegressionOutput> {
        let output = InferenceStep::step(self, rows);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

struct Rows;

impl Batcher<[f32; 3], Tensor<2>> for Rows {
    fn batch(&self, rows: Vec<[f32; 3]>, device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(rows.as_flattened(), device).reshape([rows.len(), 3])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = {
        let device = Device::flex().autodiff();
        device.seed(1);
        let (hidden, output) = (LinearConfig::new(2, 16), LinearConfig::new(16, 1));
        let (hidden, output) = (hidden.init(&device), output.init(&device));
        Net { hidden, output }
    };
    let data = |from: u16| {
        let points = (from..from + 256).map(|i| [(i as f32).sin(), (2.3 * i as f32).cos()]);
        let rows = points.map(|[a, b]| [a, b, (a - b).abs()]).collect();
        let loader = DataLoaderBuilder::new(Rows).batch_size(64).shuffle(1);
        loader.build(InMemDataset::new(rows))
    };
    let folder = tempfile::tempdir()?;
    let training = SupervisedTraining::new(&folder, data(0), data(256))
        .metrics((LossMetric::new(), LearningRateMetric::new()))
        .with_default_checkpointers()
        .num_epochs(3)
        .summary();
    let lr = CosineAnnealingLrSchedulerConfig::new(0.1, 12).init()?;
    let result = Strategy::new(GSpaceConfig::momentum(0.9)).launch(training, model, lr)?;
    println!("{}", result.model);
    Ok(())
}
