//! Comparisons: methods x learning rates x seeds, each combination a run of `gsgd train` in its own folder.
//!
//! Seeds decide starting weights and batches, so all methods share them. [`Plan`] says what to run, [`queue`] runs it,
//! [`results`] reads what the runs left, [`stats`] says what that means.

pub mod plan;
pub mod queue;
pub mod results;
pub mod stats;

pub use plan::{Job, Method, Plan};
pub use results::{MethodResults, Rate, Results, Run};
