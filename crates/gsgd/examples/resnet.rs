//! G-SGD on a residual network with batch norm: `cargo run --release --example resnet`

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, activation::relu};
use gsgd::GSpaceConfig;

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let stream = relu(self.stem.forward(x));
        let block = self.norm.forward(self.conv.forward(stream.clone()));
        let means = relu(stream + block).mean_dim(3).mean_dim(2); // over rows and columns
        self.head.forward(means.flatten(1, 3))
    }
}

fn main() -> Result<(), gsgd::Error> {
    let device = Device::flex().autodiff();
    let same = |from| Conv2dConfig::new([from, 8], [3, 3]).with_padding(PaddingConfig2d::Same);
    let mut model = Net {
        stem: same(3).init(&device),
        conv: same(8).init(&device),
        norm: BatchNormConfig::new(8).init(&device),
        head: LinearConfig::new(8, 1).init(&device),
    };
    let x = Tensor::<4>::random([32, 3, 6, 6], Distribution::Normal(0.0, 1.0), &device);
    let target = x.clone().abs().flatten::<2>(1, 3).mean_dim(1);
    // an example of the input says what the network is
    let mut optim =
        GSpaceConfig::sgd().init(&model, |model, x| model.forward(x.input([1, 3, 6, 6])))?;
    for step in 1..=8 {
        let loss = (model.forward(x.clone()) - target.clone()).square().mean();
        println!("step {step}  loss {}", loss.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optim.step(0.02, model, grads)?;
    }
    Ok(())
}
