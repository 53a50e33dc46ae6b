//! One training run: settings, optimisers, the loop, and the files it leaves.

mod batches;
mod optimizer;
mod run;
mod schedule;
mod settings;

pub use optimizer::{OptimizerName, Stepper};
pub use run::{Epoch, Outcome, Prepared, Stop, evaluate, run, start};
pub use schedule::Schedule;
pub use settings::{
    BatchNormName, CoordinatesName, Floor, InitName, Settings, SkeletonName, SkipsName,
};
