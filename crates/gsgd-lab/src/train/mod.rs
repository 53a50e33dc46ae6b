//! One training run: settings, optimisers, the loop, and the files it leaves.

mod batches;
pub mod checkpoint;
mod ending;
mod freeze;
mod optimizer;
mod origin;
mod run;
mod schedule;
pub mod seed;
mod settings;

pub use checkpoint::{Best, Progress};
pub use ending::{ENDING, Ending, Outcome, peak_memory};
pub use freeze::Freeze;
pub use optimizer::{OptimizerName, Stepper};
pub use origin::{MAY_CHANGE, Origin, first_change};
pub use run::{
    Epoch, Prepared, Splits, State, Stop, Watcher, Wish, begin, prepare, run, start, steps,
};
pub use schedule::Schedule;
pub use settings::{
    BatchNormName, CoordinatesName, Floor, InitName, Settings, SkeletonName, SkipsName,
    at_least_one, flags, not_negative, read_table,
};
