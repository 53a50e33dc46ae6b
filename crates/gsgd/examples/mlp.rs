//! G-momentum on data of one's own, points on three rings: `cargo run --release --example mlp`

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, activation::relu};
use gsgd::GSpaceConfig;

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

fn main() -> Result<(), gsgd::Error> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let points = (0..600).map(|i| (0.5 + (i % 3) as f32, i as f32)); // r, a
    let inputs: Vec<f32> = points
        .flat_map(|(r, a)| [r * a.cos(), r * a.sin()])
        .collect();
    let labels: Vec<i64> = (0..600).map(|i| i % 3).collect();
    let x = Tensor::<1>::from_data(inputs.as_slice(), &device).reshape([600, 2]);
    let y = Tensor::<1, Int>::from_data(labels.as_slice(), &device);

    let mut model = Net {
        hidden: LinearConfig::new(2, 32).init(&device),
        output: LinearConfig::new(32, 3).init(&device),
    };
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    let mut optim = GSpaceConfig::momentum(0.9).init(&model, |model, example| {
        model.forward(example.input([1, 2]))
    })?;
    for step in 0..300 {
        let loss = cross_entropy.forward(model.forward(x.clone()), y.clone());
        if step % 50 == 49 {
            let loss: f32 = loss.clone().into_scalar();
            println!("step {:3}  loss {loss:.4}", step + 1);
        }
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optim.step(0.1, model, grads)?;
    }
    Ok(())
}
