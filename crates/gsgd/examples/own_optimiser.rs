//! Any of Burn's optimisers on path values, here AdamW: `cargo run --release --example own_optimiser`

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor, activation::relu};
use gsgd::rescale::{Scaling, apply};
use gsgd::{GSpaceConfig, capture};

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

fn train(mut model: Net, x: &Tensor<2>) -> Result<Vec<f32>, gsgd::Error> {
    let config = GSpaceConfig::new(AdamWConfig::new().init());
    let mut optim = config.init(&model, |model, x| model.forward(x.input([1, 4])))?;
    let mut losses = Vec::new();
    for _ in 0..60 {
        let loss = (model.forward(x.clone()) - x.clone().abs()).square().mean();
        losses.push(loss.clone().into_scalar());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optim.step(0.01, model, grads)?;
    }
    Ok(losses)
}

fn main() -> Result<(), gsgd::Error> {
    let device = Device::flex().autodiff();
    let model = Net {
        hidden: LinearConfig::new(4, 16).init(&device),
        output: LinearConfig::new(16, 4).init(&device),
    };
    let x = Tensor::<2>::random([64, 4], Distribution::Normal(0.0, 1.0), &device);
    let graph = capture(&model, |model, x| model.forward(x.input([1, 4])))?;
    let graph = graph.scales(Default::default())?;
    // every unit's incoming weights times 2^k, |k| <= 10, its outgoing ones divided by it
    let rescaled = apply(
        model.clone(),
        &graph,
        &Scaling::powers_of_two(&graph, 10, 0),
    )?;
    let (plain, rescaled) = (train(model, &x)?, train(rescaled, &x)?);
    println!("step   loss      loss from rescaled weights");
    for step in [0, 20, 40, 59] {
        println!("{step:4}   {:.5}   {:.5}", plain[step], rescaled[step]);
    }
    assert_eq!(plain, rescaled); // bit for bit
    Ok(())
}
