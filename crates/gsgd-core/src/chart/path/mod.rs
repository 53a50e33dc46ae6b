//! The paper's chart: values of basis paths.
//!
//! - [`chart`]: what it is made of;
//! - [`values`]: products along in- and out-paths; [`gradient`]: sums by class and the inverse chain rule;
//! - [`allocation`]: weight allocation and the ratio floor;
//! - [`frame`]: a step, from these.

mod allocation;
mod chart;
mod frame;
mod gradient;
mod values;

pub use chart::PathChart;
pub(crate) use frame::PathFrame;
