//! What forward and backward pass of a layer cost beside Burn's: `cargo bench --bench layers`.
//!
//! Both take turns in one process, with a product and a sum behind the layer that give it a gradient. A line has the median
//! of each in milliseconds, and the median of their ratios in the same turn, with its quartiles.

use std::time::{Duration, Instant};

use burn::nn::conv::Conv2dConfig;
use burn::nn::{BatchNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use flex_kernels::{add_relu, batch_norm, batch_norm_relu, conv2d, linear};

/// Measured time per line.
const BUDGET: Duration = Duration::from_secs(3);

fn main() {
    // where rayon's threads are, so that no pass has to wake them from outside
    rayon::scope(|_| measure_all());
}

fn measure_all() {
    let device = Device::flex().autodiff();
    println!("layer, shape | ours ms | Burn's ms | ours / Burn's");
    for (channels, size, kernel, stride) in [
        ([3, 16], 32, 3, 1),
        ([16, 16], 32, 3, 1),
        ([16, 32], 32, 3, 2),
        ([32, 32], 16, 3, 1),
        ([64, 64], 8, 3, 1),
        ([32, 64], 16, 1, 2),
    ] {
        let padding = kernel / 2;
        let layer = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(
                padding, padding, padding, padding,
            ))
            .init(&device);
        let name = format!("conv2d {channels:?}, {size}x{size}, kernel {kernel}, stride {stride}");
        let x = images([128, channels[0], size, size]);
        measure(&name, &x, |x| conv2d(&layer, x), |x| layer.forward(x));
    }
    for shape in [[128, 16, 32, 32], [128, 64, 8, 8]] {
        let x = images(shape);
        let layer = BatchNormConfig::new(shape[1]).init(&device);
        let name = |of: &str| format!("{of} {shape:?}");
        let burns = |x| layer.forward(x);
        measure(&name("batch_norm"), &x, |x| batch_norm(&layer, x), burns);
        let burns = |x| relu(layer.forward(x));
        measure(
            &name("batch_norm_relu"),
            &x,
            |x| batch_norm_relu(&layer, x),
            burns,
        );
        let skip = images(shape);
        let sum = |x| add_relu(x, skip.clone());
        measure(&name("add_relu"), &x, sum, |x| relu(x + skip.clone()));
    }
    for [batch, inputs, outputs] in [[64, 784, 1024], [64, 1024, 1024], [64, 2816, 2816]] {
        let layer = LinearConfig::new(inputs, outputs).init(&device);
        let x = images([batch, inputs]);
        let name = format!("linear [{batch}, {inputs}] to {outputs}");
        measure(&name, &x, |x| linear(&layer, x), |x| layer.forward(x));
    }
}

fn images<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
}

fn measure<const D: usize>(
    name: &str,
    x: &Tensor<D>,
    ours: impl Fn(Tensor<D>) -> Tensor<D>,
    burns: impl Fn(Tensor<D>) -> Tensor<D>,
) {
    let up = images(ours(x.clone()).dims()).inner();
    let up = Tensor::from_inner(up);
    let time = |forward: &dyn Fn(Tensor<D>) -> Tensor<D>| {
        let begun = Instant::now();
        let grads = (forward(x.clone()) * up.clone()).sum().backward();
        let seconds = begun.elapsed().as_secs_f64();
        drop(grads);
        seconds
    };
    (0..3).for_each(|_| _ = (time(&ours), time(&burns)));
    let (mut times, begun) = ([vec![], vec![], vec![]], Instant::now());
    while begun.elapsed() < BUDGET {
        let (ours, burns) = (time(&ours), time(&burns));
        let found = [ours, burns, ours / burns];
        times
            .iter_mut()
            .zip(found)
            .for_each(|(list, one)| list.push(one));
    }
    times
        .iter_mut()
        .for_each(|list| list.sort_by(f64::total_cmp));
    let [ours, burns, ratios] = times;
    let at = |list: &[f64], share: f64| list[(share * (list.len() - 1) as f64).round() as usize];
    println!(
        "{name} | {:.2} | {:.2} | {:.2} ({:.2} to {:.2})",
        1e3 * at(&ours, 0.5),
        1e3 * at(&burns, 0.5),
        at(&ratios, 0.5),
        at(&ratios, 0.25),
        at(&ratios, 0.75)
    );
}
