//! The positive scaling symmetry of neural networks, and steps that it does not change.
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
//! where Pin and Pout are products along one chosen incoming and outgoing edge per unit, the skeleton.
//!
//! This crate is the method without a framework. A network is a [`Graph`](graph::Graph) of operations, which has a
//! [`ScaleGraph`](scales::ScaleGraph), with a matrix for every parameter; any type that has the operations of
//! [`Matrix`](matrix::Matrix) will do.
//!
//! - [`graph`]: the operations of a network;
//! - [`scales`]: the graph of scaling classes;
//! - [`matrix`]: what is asked of matrices, and matrices in CPU memory;
//! - [`skeleton`]: which paths;
//! - [`chart`]: coordinates, their gradient, and the way back to weights;
//! - [`PathSpace`], [`Moments`]: G-SGD, G-momentum and G-Adam, and the way for any other optimiser;
//! - [`rescale`]: the group of scalings: draw, apply, balance, compare;
//! - [`paths`]: path norms, and all paths of a small network.
//!
//! Reference: Q. Meng, S. Zheng, H. Zhang, W. Chen, Q. Ye, Z.-M. Ma, N. Yu, T.-Y. Liu. *G-SGD: Optimizing ReLU
//! neural networks in its positively scale-invariant space.* ICLR 2019.

pub mod chart;
mod error;
pub mod graph;
pub mod matrix;
mod moments;
mod network;
pub mod paths;
pub mod rescale;
pub mod scales;
pub mod skeleton;
mod space;

pub use error::{Error, GraphError};
pub use moments::Moments;
pub use network::Network;
pub use space::{Coordinated, Lifted, PathSpace};
