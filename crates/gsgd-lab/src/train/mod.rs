//! One training run: settings, optimisers, the loop, and the files it leaves.

mod batches;
pub mod checkpoint;
mod ending;
mod lock;
pub mod one_pass;
mod optimizer;
mod run;
mod schedule;
mod settings;

pub use checkpoint::{Best, Progress};
pub use ending::{ENDING, Ending, Outcome, peak_memory};
pub use lock::lock;
pub use optimizer::{OptimizerName, Stepper};
pub use run::{
    Epoch, Prepared, Splits, State, Stop, Watcher, Wish, begin, evaluate, run, start, steps,
};
pub use schedule::Schedule;
pub use settings::{
    BatchNormName, CoordinatesName, Floor, InitName, Settings, SkeletonName, SkipsName, flags,
};
