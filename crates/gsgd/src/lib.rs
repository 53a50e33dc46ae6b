//! Train ReLU networks in their positively scale-invariant space.
//!
//! Multiply a ReLU unit's incoming weights by c > 0 and divide its outgoing weights by c: the function stays the
//! same, but SGD, momentum and Adam take another step. The values of **basis paths** (products of weights along a
//! path from input to output) do not change under such rescaling, and m - H of them (m weights, H hidden units)
//! describe the function completely. G-SGD (Meng et al., ICLR 2019) steps those values:
//!
//! ```text
//! v_e      = Pin(tail e) w_e Pout(head e)             path values          (skeleton method)
//! dL/dv_e  = g_e / (Pin(tail e) Pout(head e))         their gradient       (inverse chain rule)
//! w'_e     = (w_e + dv_e / (Pin Pout)) / rho(tail e)  back to the weights  (weight allocation)
//! ```
//!
//! where Pin and Pout are products along one chosen incoming and outgoing edge per unit, the skeleton. [`GSpace`]
//! does this for networks of any widths, with convolutions, biases, residual connections, concatenations and batch
//! norm, around any Burn optimiser; [`networks`] says how.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::GradientsParams;
//! use burn::tensor::{Device, Distribution, Tensor, activation::relu};
//! use gsgd::GSpaceConfig;
//!
//! #[derive(Module, Debug)]
//! struct Net {
//!     hidden: Linear,
//!     output: Linear,
//! }
//!
//! impl Net {
//!     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.output.forward(relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! # fn main() -> Result<(), gsgd::Error> {
//! let device = Device::flex().autodiff();
//! let mut model = Net {
//!     hidden: LinearConfig::new(4, 8).init(&device),
//!     output: LinearConfig::new(8, 1).init(&device),
//! };
//! let x = Tensor::<2>::random([16, 4], Distribution::Normal(0.0, 1.0), &device);
//! let loss = |model: &Net| model.forward(x.clone()).sub_scalar(1.0).square().mean();
//!
//! // an example forward pass says what the network is
//! let mut optim = GSpaceConfig::momentum(0.9)
//!     .init(&model, |model, example| model.forward(example.input([1, 4])))?;
//! let before: f32 = loss(&model).into_scalar();
//! for _ in 0..50 {
//!     let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
//!     model = optim.step(0.02, model, grads)?;
//! }
//! let after: f32 = loss(&model).into_scalar();
//! assert!(after < before);
//! # Ok(())
//! # }
//! ```
//!
//! # What else is here
//! - [`capture`]: the graph of a module from its forward pass; [`Graph`]: by hand.
//! - [`skeleton`] and [`Coordinates`]: which paths, and a second chart ([`Coordinates::Norm`]) without skeleton or
//!   poles.
//! - [`ScaleGraphConfig`]: batch norm exactly or as in the paper, invariance across residual connections or inside blocks.
//! - [`PathSgd`], [`BalancedSgd`]: siblings for comparison.
//! - [`rescale`]: the group of positive scalings: draw, apply, balance, compare.
//! - [`paths`]: exact tools and norms.
//! - [`Execution`]: passes over CPU memory, or the readable reference in tensor operations.
//! - `train`, behind a feature of that name: a strategy for Burn's trainer, on one device or on several.
//! - [`core`]: the method without Burn.
//!
//! Reference: Q. Meng, S. Zheng, H. Zhang, W. Chen, Q. Ye, Z.-M. Ma, N. Yu, T.-Y. Liu. *G-SGD: Optimizing ReLU
//! neural networks in its positively scale-invariant space.* ICLR 2019.

mod capture;
mod error;
mod matrix;
mod names;
#[doc = include_str!("../docs/networks.md")]
pub mod networks {}
mod optim;
mod params;
pub mod paths;
pub mod rescale;
pub mod skeleton;
#[cfg(feature = "train")]
pub mod train;
mod verify;

pub use capture::{AnyTensor, Example, OutputVisitor, Outputs, capture, declared};
pub use error::{Error, Rejected};
pub use gsgd_core as core;
pub use gsgd_core::GraphError;
pub use gsgd_core::chart::Coordinates;
pub use gsgd_core::graph::Graph;
pub use gsgd_core::scales::{
    BatchNormTreatment, Kind, ParamEdges, ScaleClass, ScaleGraph, ScaleGraphConfig, SkipTreatment,
};
pub use matrix::Execution;
pub use optim::{BalancedSgd, GSpace, GSpaceConfig, Outside, PathSgd};
pub use skeleton::Skeleton;
pub use verify::verify;
