//! Layers with PyTorch's names for their tensors: `NAME.weight`, `NAME.bias`, `NAME.running_mean`, `NAME.running_var`.

use gsgd_core::GraphError;
use gsgd_core::graph::{Graph, Op, Value};

/// A graph that grows layer by layer.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub graph: Graph,
}

impl Layers {
    /// The value of a tensor, which is declared where it is not yet.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Value, GraphError> {
        let mut params = self.graph.params().iter();
        match params
            .find(|param| param.name == name)
            .map(|param| param.key)
        {
            Some(key) => self.graph.push(name, Op::Param(key), &[]),
            None => self.graph.param(name, shape),
        }
    }

    /// A layer of this operation with a weight of this shape and, perhaps, a bias of as many numbers.
    pub fn weights(
        &mut self,
        name: &str,
        op: Op,
        x: Value,
        shape: &[usize],
        bias: Option<usize>,
    ) -> Result<Value, GraphError> {
        self.weights_of(name, name, op, x, shape, bias)
    }

    /// The same with tensors of another name.
    pub fn weights_of(
        &mut self,
        name: &str,
        tensors: &str,
        op: Op,
        x: Value,
        shape: &[usize],
        bias: Option<usize>,
    ) -> Result<Value, GraphError> {
        let mut reads = vec![x, self.tensor(&format!("{tensors}.weight"), shape)?];
        if let Some(outputs) = bias {
            reads.push(self.tensor(&format!("{tensors}.bias"), &[outputs])?);
        }
        self.graph.push(name, op, &reads)
    }

    /// A batch norm.
    pub fn batch_norm(
        &mut self,
        name: &str,
        tensors: &str,
        x: Value,
        epsilon: f64,
    ) -> Result<Value, GraphError> {
        let shape = &self.graph.node(x).shape;
        let channels = [shape.get(1).or(shape.first()).copied().unwrap_or(1)];
        let mut reads = vec![x];
        for leaf in ["weight", "bias", "running_mean", "running_var"] {
            reads.push(self.tensor(&format!("{tensors}.{leaf}"), &channels)?);
        }
        self.graph.push(name, Op::BatchNorm { epsilon }, &reads)
    }
}
