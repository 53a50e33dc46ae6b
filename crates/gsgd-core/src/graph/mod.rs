//! A network as a list of operations between values: the one description that everything else is read off.
//!
//! - `op`, `shapes`: the operations and the shapes of their results;
//! - `operations`: the graph;
//! - `ids`: which channel every element of a value belongs to;
//! - `params`: what each parameter is to its reader;
//! - `walk`, `products`, `classes`: from a graph to its scaling classes.

mod classes;
mod ids;
mod op;
mod operations;
mod params;
mod products;
mod shapes;
mod walk;

pub use op::{Activation, Function, Op, Pooling, Reduction, Window};
pub use operations::{Graph, Node, Param, Value};
