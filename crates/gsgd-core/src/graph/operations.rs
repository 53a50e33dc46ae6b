//! Operations and the values between them.

use std::collections::HashMap;

use super::op::{Activation, Op, Reduction, Window};
use super::shapes;
use crate::error::GraphError;
use crate::scales::ParamKey;

/// A value of a [`Graph`]: an input, a parameter, or what an operation made of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(super) usize);

impl Value {
    /// Its place in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A tensor of the network: a parameter, or another that a rescaling may change, such as running statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// What the framework knows it by.
    pub key: ParamKey,
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether it trains. The factor of one that does not is 1.
    pub trains: bool,
}

/// A value and how it is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name, for messages; may be empty.
    pub name: String,
    /// What is done.
    pub op: Op,
    /// With which values.
    pub reads: Vec<Value>,
    /// The shape of the result, with its batch.
    pub shape: Vec<usize>,
}

/// Operations in an order in which they can be carried out, and the parameters that they read.
///
/// ```
/// use gsgd_core::graph::Graph;
///
/// let mut graph = Graph::new();
/// let x = graph.input(&[1, 3])?;
/// let [w, b] = [graph.param("hidden.weight", &[3, 5])?, graph.param("hidden.bias", &[5])?];
/// let y = graph.dense(x, w, Some(b))?;
/// let y = graph.relu(y)?;
/// let w = graph.param("output.weight", &[5, 2])?;
/// let y = graph.dense(y, w, None)?;
/// graph.output(y);
/// let scales = graph.scales(Default::default())?;
/// println!("{} weights, {} hidden classes", scales.weights(), scales.hidden());
/// assert_eq!((scales.weights(), scales.hidden()), (30, 5));
/// # Ok::<(), gsgd_core::GraphError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    pub(super) params: Vec<Param>,
    places: HashMap<ParamKey, usize>,
    pub(super) nodes: Vec<Node>,
    pub(super) outputs: Vec<Value>,
    /// Tensors that stay as they are, and why.
    pub(super) held: HashMap<ParamKey, String>,
}

/// Elements of a value at most.
const LARGEST: usize = 1 << 28;

impl Graph {
    /// A graph without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a tensor that operations may read, without reading it yet.
    ///
    /// # Errors
    /// Its key was taken before, or it has no elements.
    pub fn declare(&mut self, param: Param) -> Result<(), GraphError> {
        let elements = shapes::size(&param.shape);
        if elements.is_none_or(|size| size == 0) {
            return Err(GraphError::Empty { layer: param.name });
        }
        if self.places.insert(param.key, self.params.len()).is_some() {
            return Err(GraphError::Twice { layer: param.name });
        }
        self.params.push(param);
        Ok(())
    }

    /// Declares a parameter that trains and reads it; its key is the number of those before it.
    ///
    /// # Errors
    /// It has no elements.
    pub fn param(&mut self, name: &str, shape: &[usize]) -> Result<Value, GraphError> {
        let key = ParamKey(self.params.len() as u64);
        self.declare(Param {
            key,
            name: name.into(),
            shape: shape.to_vec(),
            trains: true,
        })?;
        self.push(name, Op::Param(key), &[])
    }

    /// Keeps a parameter from being rescaled, and says why: something reads it that the graph does not show.
    pub fn hold(&mut self, key: ParamKey, why: impl Into<String>) {
        self.held.insert(key, why.into());
    }

    /// Appends an operation.
    ///
    /// # Errors
    /// It does not fit what it reads, or its result is too large.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        op: Op,
        reads: &[Value],
    ) -> Result<Value, GraphError> {
        let name = name.into();
        let fail = |why: String| GraphError::Shape {
            value: name.clone(),
            operation: op.name().to_string(),
            why,
        };
        if let Some(value) = reads.iter().find(|value| value.0 >= self.nodes.len()) {
            return Err(fail(format!("there is no value {}", value.0)));
        }
        let shapes: Vec<&[usize]> = reads
            .iter()
            .map(|value| self.nodes[value.0].shape.as_slice())
            .collect();
        let shape = shapes::result(&op, &shapes, |key| Some(self.tensor(key)?.shape.clone()));
        let shape = shape.map_err(&fail)?;
        match shapes::size(&shape) {
            Some(size) if (1..=LARGEST).contains(&size) => {}
            _ => {
                return Err(fail(format!(
                    "it gives {shape:?}, elements between 1 and {LARGEST} are allowed"
                )));
            }
        }
        self.nodes.push(Node {
            name,
            op,
            reads: reads.to_vec(),
            shape,
        });
        Ok(Value(self.nodes.len() - 1))
    }

    /// Marks a value as an output of the network.
    pub fn output(&mut self, value: Value) {
        self.outputs.push(value);
    }

    /// All values, in the order of their operations.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A value.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.0]
    }

    /// All values by their place.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        (0..self.nodes.len()).map(Value)
    }

    /// The outputs, in their order.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The tensors, in the order in which they were declared.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// A tensor by its key.
    pub fn tensor(&self, key: ParamKey) -> Option<&Param> {
        self.places.get(&key).map(|&at| &self.params[at])
    }

    /// The tensors that stay as they are, and why.
    pub fn held(&self) -> &HashMap<ParamKey, String> {
        &self.held
    }

    /// How often each value is read, once more if it is an output.
    pub fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.nodes.len()];
        let reads = self.nodes.iter().flat_map(|node| &node.reads);
        for value in reads.chain(&self.outputs) {
            readers[value.0] += 1;
        }
        readers
    }
}

/// Operations by their usual names.
impl Graph {
    /// An input `[batch, ..]`.
    ///
    /// # Errors
    /// It has no elements.
    pub fn input(&mut self, shape: &[usize]) -> Result<Value, GraphError> {
        let shape = shape.to_vec();
        self.push("input", Op::Input { shape }, &[])
    }

    /// A dense layer on the last axis, weight `[inputs, outputs]`, bias `[outputs]`.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn dense(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
    ) -> Result<Value, GraphError> {
        let op = Op::MatMul { transposed: false };
        self.layer(op, x, weight, bias)
    }

    /// A convolution in one group, weight `[outputs, inputs, ..]`, bias `[outputs]`.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn conv(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
        window: Window,
    ) -> Result<Value, GraphError> {
        self.layer(Op::Conv { window, groups: 1 }, x, weight, bias)
    }

    /// A layer with a weight and, perhaps, a bias; named after its weight.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn layer(
        &mut self,
        op: Op,
        x: Value,
        weight: Value,
        bias: Option<Value>,
    ) -> Result<Value, GraphError> {
        let name = self.nodes.get(weight.0).map(|node| node.name.clone());
        let reads: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        self.push(name.unwrap_or_default(), op, &reads)
    }

    /// Batch norm over the channels of `[batch, channels, ..]`: gamma, beta, running mean and running variance, each
    /// `[channels]`.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn batch_norm(
        &mut self,
        x: Value,
        tensors: [Value; 4],
        epsilon: f64,
    ) -> Result<Value, GraphError> {
        let name = self.nodes.get(tensors[0].0).map(|node| node.name.clone());
        let [gamma, beta, mean, variance] = tensors;
        let op = Op::BatchNorm { epsilon };
        self.push(
            name.unwrap_or_default(),
            op,
            &[x, gamma, beta, mean, variance],
        )
    }

    /// ReLU.
    ///
    /// # Errors
    /// There is no such value.
    pub fn relu(&mut self, x: Value) -> Result<Value, GraphError> {
        self.push("", Op::Activation(Activation::Relu), &[x])
    }

    /// The sum of two values.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.push("", Op::Add, &[a, b])
    }

    /// Values side by side along an axis.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Result<Value, GraphError> {
        self.push("", Op::Concat { axis }, values)
    }

    /// Everything but the batch in one axis.
    ///
    /// # Errors
    /// There is no such value.
    pub fn flatten(&mut self, x: Value) -> Result<Value, GraphError> {
        let shape = self.nodes.get(x.0).map(|node| node.shape.clone());
        let shape = match shape.as_deref() {
            Some([batch, rest @ ..]) => vec![*batch, rest.iter().product()],
            _ => vec![1, 1],
        };
        self.push("", Op::Reshape { shape }, &[x])
    }

    /// The mean over all axes behind the channels.
    ///
    /// # Errors
    /// There is no such value.
    pub fn global_mean(&mut self, x: Value) -> Result<Value, GraphError> {
        let rank = self.nodes.get(x.0).map_or(0, |node| node.shape.len());
        let op = Op::Reduce {
            reduction: Reduction::Mean,
            axes: (2..rank).collect(),
            keep: false,
        };
        self.push("", op, &[x])
    }
}
