//! Starting weights that depend on the seed alone.

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The starting weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with variance 2 / inputs of a unit (He et al. 2015), biases 0.
    He,
    /// The same, then every weight of the paper's skeleton set: 1 in its experiments.
    Skeleton {
        /// To plus or minus this.
        magnitude: f64,
        /// Whether signs are drawn; else all are plus.
        random_signs: bool,
    },
}

/// Draws weights, layer after layer.
pub(super) struct Draw {
    rng: ChaCha8Rng,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn weights(&mut self, count: usize, fan_in: usize) -> Vec<f32> {
        let std = (2.0 / fan_in as f64).sqrt();
        (0..count)
            .map(|_| (std * normal(&mut self.rng)) as f32)
            .collect()
    }

    /// A dense layer, weights `[inputs, outputs]`.
    pub fn linear(&mut self, shape: [usize; 2], bias: bool, device: &Device) -> Linear {
        let weights = self.weights(shape[0] * shape[1], shape[0]);
        Linear {
            weight: param(weights, shape, device),
            bias: bias.then(|| param(vec![0.0; shape[1]], [shape[1]], device)),
        }
    }

    /// A convolution `size` x `size` that keeps the image's size at stride 1.
    pub fn conv(
        &mut self,
        channels: [usize; 2],
        size: usize,
        stride: usize,
        bias: bool,
        device: &Device,
    ) -> Conv2d {
        let [inputs, outputs] = channels;
        let pad = size / 2;
        let mut conv = Conv2dConfig::new(channels, [size, size])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false)
            .init(device);
        let fan_in = inputs * size * size;
        let weights = self.weights(outputs * fan_in, fan_in);
        conv.weight = param(weights, [outputs, inputs, size, size], device);
        conv.bias = bias.then(|| param(vec![0.0; outputs], [outputs], device));
        conv
    }
}

fn param<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
