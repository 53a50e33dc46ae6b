//! The paper's chart: values of basis paths.
//!
//! - [`chart`]: what it is made of;
//! - [`order`]: the order of the skeleton's two trees;
//! - [`entries`]: where its edges stand in each parameter;
//! - [`values`]: the products along in- and out-paths, and the path values they give;
//! - [`gradient`]: the sums by class and the inverse chain rule;
//! - [`allocation`]: weight allocation and the ratio floor;
//! - [`frame`]: a step, from these.

mod allocation;
mod chart;
mod entries;
mod frame;
mod gradient;
mod order;
mod values;

pub use chart::{PathChart, PathChartState};
pub(crate) use frame::PathFrame;
pub use order::Factors;
