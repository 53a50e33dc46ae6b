//! Faster training on Burn's CPU backend [flex](https://docs.rs/burn-flex).
//!
//! Each function stands in for an operation of Burn's, with its gradients:
//!
//! | here | in place of | takes over | numbers |
//! |---|---|---|---|
//! | [`conv2d`] | `Conv2d::forward` | no groups, no dilation, the same padding on opposite sides | to rounding |
//! | [`batch_norm`] | `BatchNorm::forward` | images, in training | to rounding |
//! | [`batch_norm_relu`] | the same, and `relu` | the same | to rounding |
//! | [`linear`] | `Linear::forward` | batch × inputs × outputs ≥ 2^22 | to rounding |
//! | [`add_relu`] | `relu(x + skip)` | two tensors of one shape | bit for bit |
//! | [`optim`] | SGD, momentum, Adam | always | bit for bit |
//!
//! What a function does not take over, it hands to Burn: other layers, tensors that are not f32, other backends. So a model
//! that calls it runs anywhere. An optimiser of [`optim`] is for parameters of f32 on flex alone. What is computed here does
//! not depend on the number of threads.
//!
//! On two cores with AVX-512, forward and backward pass take this share of Burn's time (`cargo bench --bench layers`):
//! convolutions 0.14 to 0.53, batch norm 0.17 to 0.55, wide layers 0.41 to 0.53, sums with ReLU 0.93 to 0.98.
//!
//! ```
//! use burn::nn::PaddingConfig2d;
//! use burn::nn::conv::Conv2dConfig;
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::flex().autodiff();
//! let layer = Conv2dConfig::new([3, 8], [3, 3])
//!     .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
//!     .init(&device);
//! let images = Tensor::<4>::random([16, 3, 32, 32], Distribution::Default, &device).require_grad();
//!
//! let ours = flex_kernels::conv2d(&layer, images.clone());
//! let burns = layer.forward(images.clone());
//! let gradient = |y: Tensor<4>| images.grad(&y.square().mean().backward()).unwrap();
//! let apart = |a: Tensor<4>, b: Tensor<4>| (a - b).abs().max().into_scalar::<f32>();
//! assert!(apart(ours.clone().inner(), burns.clone().inner()) < 1e-5);
//! assert!(apart(gradient(ours), gradient(burns)) < 1e-5);
//! ```

mod autodiff;
mod convolution;
mod dense;
mod memory;
mod normalisation;
pub mod optim;
mod residual;
#[cfg(test)]
mod testing;

pub use convolution::conv2d;
pub use dense::linear;
pub use normalisation::{batch_norm, batch_norm_relu};
pub use residual::add_relu;
