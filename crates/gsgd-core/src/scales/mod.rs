//! The network as a graph of scaling classes.
//!
//! A hidden unit is a node, every scalar weight an edge from the class it reads to the class it writes, a bias an
//! edge from the ground. A positive scaling multiplies each weight by `c[head] / c[tail]` and leaves the function
//! as it is. A residual add makes two classes one, so a residual stream is a single class per channel.
//!
//! - `classes`, `edges`: what the graph is made of;
//! - `graph`: the graph;
//! - `builder`, `layers`: what makes one, operation by operation.

mod builder;
mod classes;
mod config;
mod edges;
mod graph;
mod layers;

pub(crate) use builder::{Channels, ScaleGraphBuilder, Source};
pub use classes::{Kind, ScaleClass};
pub use config::{BatchNormTreatment, ScaleGraphConfig, SkipTreatment};
pub(crate) use edges::Taps;
pub use edges::{ParamEdges, ParamKey};
pub(crate) use graph::End;
pub use graph::{CoScaled, ScaleGraph};
pub(crate) use layers::{BatchNormParams, WeightForm};
