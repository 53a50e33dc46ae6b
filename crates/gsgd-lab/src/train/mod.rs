//! One training run: settings, optimisers, the loop, and the files it leaves.

mod batches;
mod optimizer;
mod run;
mod settings;

pub use optimizer::{OptimizerName, Stepper};
pub use run::{Epoch, Outcome, Prepared, Stop, evaluate, run, start};
pub use settings::{CoordinatesName, Floor, InitName, Settings, SkeletonName};
