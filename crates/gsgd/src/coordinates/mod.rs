//! Coordinates of the positively scale-invariant space: weights to path values, gradients, and back.
//!
//! Both charts write a coordinate as `v_e = T(tail) w_e D(head)` with one factor T and one factor D per class, so
//! that all work on weights is a scaling of rows and columns; what is special to a chart is O(H) numbers.
//!
//! - [`places`]: the classes' places in the skeleton;
//! - [`values`]: the products along in- and out-paths, and the path values they give;
//! - [`point`]: what the skeleton's own edges tell at one network and gradient;
//! - [`gradient`]: the sums by class and the inverse chain rule;
//! - [`allocation`]: weight allocation and the floor guard;
//! - [`way`]: the way back to weights;
//! - [`norm`]: the second chart, without a skeleton.
//!
//! [`Chart`] is what an optimiser sees.

pub(crate) mod allocation;
mod chart;
pub(crate) mod gradient;
pub(crate) mod norm;
mod parts;
mod places;
mod point;
mod skeletal;
mod survey;
pub(crate) mod values;
mod way;

pub(crate) use chart::{Chart, Network, Survey, Update};
pub(crate) use norm::NormChart;
pub(crate) use places::Factors;
pub(crate) use skeletal::SkeletonChart;

/// The coordinates an optimiser works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// Values of basis paths, as in the paper.
    Plain,
    /// Values of basis paths over `S0(e) = |Pin(tail) Pout(head)|`, taken at the start in the balanced network:
    /// the first step's lr then means what it means to SGD on the balanced network.
    Normalised,
    /// Norm coordinates `v_e = A(tail) w_e / A(head)`: no skeleton and no poles.
    Norm,
}
