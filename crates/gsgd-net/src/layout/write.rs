//! From the operations of a graph to a file.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};
use gsgd_core::graph::{Activation, Graph, Node, Op, Pooling, Reduction, Value};
use serde::Serialize;

use super::kinds::{From, FunctionName, LayerKind, Moves, ReductionName, Sizes};
use super::{INPUT, numbered};

/// The file.
#[derive(Serialize)]
struct Written {
    input: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Vec<String>>,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    kind: LayerKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<From>,
}

/// The file that describes a graph: read without tensors, it gives the same operations.
///
/// # Errors
/// The graph has several inputs or none, a batch other than 1, or an operation that nothing is known of.
pub fn write(graph: &Graph) -> Result<String> {
    let mut writer = Writer::new(graph)?;
    for value in graph.values() {
        writer.node(value)?;
    }
    let outputs = graph.outputs().iter();
    let outputs: Result<Vec<String>> = outputs.map(|&value| writer.name(value)).collect();
    let last = graph.values().last();
    let written = Written {
        input: graph.node(writer.input).shape[1..].to_vec(),
        output: match (graph.outputs(), last) {
            (&[output], Some(last)) if output == last => None,
            _ => Some(outputs?),
        },
        layers: writer.layers,
    };
    Ok(toml::to_string(&written)?)
}

struct Writer<'a> {
    graph: &'a Graph,
    input: Value,
    layers: Vec<Layer>,
    /// What layers call the values so far.
    names: HashMap<Value, String>,
    /// The value of the layer before.
    last: Value,
    /// Names that are taken.
    taken: HashSet<String>,
    /// Parameters that stand before the layer that alone reads them, and come with it.
    own: HashSet<Value>,
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph) -> Result<Self> {
        let values = graph.values().zip(graph.nodes());
        let inputs: Vec<Value> = values
            .filter(|(_, node)| matches!(node.op, Op::Input { .. }))
            .map(|(value, _)| value)
            .collect();
        let [input] = inputs[..] else {
            bail!(
                "the network has {} inputs; a TOML file describes one",
                inputs.len()
            );
        };
        let shape = &graph.node(input).shape;
        ensure!(
            shape.first() == Some(&1),
            "the network's input has shape {shape:?}; a TOML file describes a batch of 1"
        );
        let mut writer = Self {
            graph,
            input,
            layers: Vec::new(),
            names: HashMap::from([(input, INPUT.to_string())]),
            last: input,
            taken: HashSet::from([INPUT.to_string()]),
            own: HashSet::new(),
        };
        for value in graph.values() {
            if writer.tensors(value).is_some() {
                let node = graph.node(value);
                writer.own.extend(&node.reads[1..]);
            }
        }
        Ok(writer)
    }

    fn name(&self, value: Value) -> Result<String> {
        match self.names.get(&value) {
            Some(name) => Ok(name.clone()),
            None => bail!(
                "an operation reads value {}, which comes after it",
                value.index()
            ),
        }
    }

    fn param(&self, value: Value) -> Option<&str> {
        let Op::Param(key) = self.graph.node(value).op else {
            return None;
        };
        self.graph.tensor(key).map(|param| param.name.as_str())
    }

    /// What a layer's tensors are called, if they stand right before it, for it alone, with the names that a layer gives.
    fn tensors(&self, value: Value) -> Option<&str> {
        let node = self.graph.node(value);
        let leaves: &[&str] = match node.op {
            Op::MatMul { transposed: true } | Op::Conv { .. } | Op::ConvTranspose { .. } => {
                &["weight", "bias"]
            }
            Op::BatchNorm { .. } => &["weight", "bias", "running_mean", "running_var"],
            Op::Prelu => &["weight"],
            _ => return None,
        };
        let own = &node.reads[1..];
        let prefix = self.param(*own.first()?)?.strip_suffix(".weight")?;
        let begins = value.index().checked_sub(own.len())?;
        let readers = self.graph.readers();
        let fits = own
            .iter()
            .zip(leaves)
            .enumerate()
            .all(|(at, (&read, leaf))| {
                let name = self.param(read);
                let named = name.is_some_and(|name| name == format!("{prefix}.{leaf}"));
                let shape = &self.graph.node(read).shape;
                let vector = *leaf == "weight"
                    && !matches!(node.op, Op::BatchNorm { .. } | Op::Prelu)
                    || shape.len() == 1;
                named && vector && read.index() == begins + at && readers[read.index()] == 1
            });
        let matrix =
            !matches!(node.op, Op::MatMul { .. }) || self.graph.node(own[0]).shape.len() == 2;
        (fits && matrix).then_some(prefix)
    }

    fn node(&mut self, value: Value) -> Result<()> {
        if value == self.input || self.own.contains(&value) {
            return Ok(());
        }
        let node = self.graph.node(value);
        let tensors = self.tensors(value).map(str::to_string);
        let (kind, reads) = match tensors {
            Some(_) => (self.with_tensors(node), &node.reads[..1]),
            None => (self.kind(node)?, &node.reads[..]),
        };
        let at = self.layers.len();
        // `#2` is the second layer
        let usable = !node.name.is_empty() && !node.name.starts_with('#');
        let own = usable.then(|| node.name.clone());
        let own = own.filter(|name| self.taken.insert(name.clone()));
        let from = match reads {
            [] => None,
            // a sum says what it adds
            &[one] if one == self.last && !matches!(node.op, Op::Add) => None,
            &[one] => Some(From::One(self.name(one)?)),
            several => {
                let names = several.iter().map(|&value| self.name(value));
                Some(From::Many(names.collect::<Result<_>>()?))
            }
        };
        let called = own.clone().unwrap_or_else(|| numbered(at));
        self.layers.push(Layer {
            tensors: tensors.filter(|tensors| *tensors != called),
            name: own,
            kind,
            from,
        });
        self.names.insert(value, called);
        self.last = value;
        Ok(())
    }

    /// A layer with tensors of its own.
    fn with_tensors(&self, node: &Node) -> LayerKind {
        let weight = &self.graph.node(node.reads[1]).shape;
        let bias = (node.reads.len() == 2).then_some(false);
        match &node.op {
            Op::Conv { window, groups } => {
                let Moves {
                    stride,
                    padding,
                    dilation,
                } = Moves::of(window);
                LayerKind::Conv {
                    outputs: Some(weight[0]),
                    size: Some(Sizes::from_list(&window.kernel)),
                    bias,
                    stride,
                    padding,
                    dilation,
                    groups: *groups,
                }
            }
            Op::ConvTranspose {
                window,
                groups,
                output_padding,
            } => {
                let Moves {
                    stride,
                    padding,
                    dilation,
                } = Moves::of(window);
                LayerKind::ConvTranspose {
                    outputs: Some(weight[1] * groups),
                    size: Some(Sizes::from_list(&window.kernel)),
                    bias,
                    stride,
                    padding,
                    dilation,
                    groups: *groups,
                    output_padding: Sizes::from_list(output_padding),
                }
            }
            Op::BatchNorm { epsilon } => LayerKind::BatchNorm { epsilon: *epsilon },
            Op::Prelu => LayerKind::Prelu {
                slopes: Some(weight.iter().product()),
            },
            _ => LayerKind::Linear {
                outputs: Some(weight[0]),
                bias,
            },
        }
    }

    /// A layer whose tensors, if it has any, are values.
    fn kind(&self, node: &Node) -> Result<LayerKind> {
        let read = |at: usize| &self.graph.node(node.reads[at]).shape;
        Ok(match &node.op {
            Op::Input { .. } => bail!("the network has several inputs; a TOML file describes one"),
            Op::Param(_) => LayerKind::Param {
                tensor: self.param_of(node),
                shape: Some(node.shape.clone()),
            },
            Op::Constant { shape } => LayerKind::Constant {
                shape: shape.clone(),
            },
            Op::MatMul { transposed } => LayerKind::Matmul {
                transposed: *transposed,
            },
            Op::Conv { .. } | Op::ConvTranspose { .. } => without_sizes(self.with_tensors(node)),
            Op::BatchNorm { epsilon } => LayerKind::BatchNorm { epsilon: *epsilon },
            Op::Activation(Activation::Relu) => LayerKind::Relu {},
            Op::Activation(Activation::LeakyRelu(slope)) => LayerKind::LeakyRelu { slope: *slope },
            Op::Activation(Activation::Abs) => LayerKind::Abs {},
            Op::Activation(Activation::Neg) => LayerKind::Neg {},
            Op::Prelu => LayerKind::Prelu { slopes: None },
            Op::Pool { pooling, window } => {
                let Moves {
                    stride,
                    padding,
                    dilation,
                } = Moves::of(window);
                let size = Sizes::from_list(&window.kernel);
                let stride = (stride != size).then_some(stride);
                let ceil = window.ceil;
                match pooling {
                    Pooling::Max => LayerKind::MaxPool {
                        size,
                        stride,
                        padding,
                        dilation,
                        ceil,
                    },
                    Pooling::Mean { counts_padding } => LayerKind::AvgPool {
                        size,
                        stride,
                        padding,
                        dilation,
                        ceil,
                        counts_padding: *counts_padding,
                    },
                }
            }
            Op::Reduce {
                reduction,
                axes,
                keep,
            } => {
                let space = (2..read(0).len()).eq(axes.iter().copied());
                match (reduction, keep) {
                    (Reduction::Mean, true) if space => LayerKind::GlobalAvgPool {},
                    _ => LayerKind::Reduce {
                        by: ReductionName::of(*reduction),
                        axes: axes.clone(),
                        keep: *keep,
                    },
                }
            }
            Op::Resample { kind, shape } => LayerKind::Resample {
                operation: kind.clone(),
                shape: shape.clone(),
            },
            Op::Add => LayerKind::Add {},
            Op::Sub => LayerKind::Sub {},
            Op::Mul => LayerKind::Mul {},
            Op::Div => LayerKind::Div {},
            Op::Concat { axis } => LayerKind::Concat { axis: *axis },
            Op::Slice {
                axis,
                start,
                step,
                count,
            } => LayerKind::Slice {
                axis: *axis,
                start: *start,
                count: *count,
                step: *step,
            },
            Op::Select { axis, places } => LayerKind::Select {
                axis: *axis,
                places: places.clone(),
            },
            Op::Gather { axis, shape } => LayerKind::Gather {
                axis: *axis,
                shape: shape.clone(),
            },
            Op::Reshape { shape } => {
                let flat = |from: &[usize]| match from {
                    [batch, rest @ ..] => vec![*batch, rest.iter().product()],
                    [] => vec![1, 1],
                };
                match &shape[..] {
                    shape if *shape == flat(read(0)) => LayerKind::Flatten {},
                    [1, rest @ ..] => LayerKind::Reshape {
                        shape: Some(rest.to_vec()),
                        whole: None,
                    },
                    whole => LayerKind::Reshape {
                        shape: None,
                        whole: Some(whole.to_vec()),
                    },
                }
            }
            Op::Transpose { order } => LayerKind::Transpose {
                order: order.clone(),
            },
            Op::Expand { shape } => LayerKind::Expand {
                shape: shape.clone(),
            },
            Op::Identity => LayerKind::Dropout {},
            Op::Function(function) => LayerKind::Function {
                function: FunctionName::of(*function),
            },
            Op::Softmax { axis } => LayerKind::Softmax { axis: *axis },
            Op::Normalise {
                axes,
                groups,
                centred,
                epsilon,
            } => LayerKind::Normalise {
                axes: axes.clone(),
                groups: *groups,
                centred: *centred,
                epsilon: *epsilon,
            },
            Op::Opaque { kind, .. } => bail!(
                "`{kind}`{} cannot be written: nothing is known of what it computes",
                match node.name.as_str() {
                    "" => String::new(),
                    name => format!(" at `{name}`"),
                }
            ),
        })
    }

    fn param_of(&self, node: &Node) -> String {
        let Op::Param(key) = node.op else {
            return String::new();
        };
        let param = self.graph.tensor(key);
        param.map(|param| param.name.clone()).unwrap_or_default()
    }
}

/// A convolution whose weight is a value that it reads.
fn without_sizes(kind: LayerKind) -> LayerKind {
    match kind {
        LayerKind::Conv {
            stride,
            padding,
            dilation,
            groups,
            ..
        } => LayerKind::Conv {
            outputs: None,
            size: None,
            bias: None,
            stride,
            padding,
            dilation,
            groups,
        },
        LayerKind::ConvTranspose {
            stride,
            padding,
            dilation,
            groups,
            output_padding,
            ..
        } => LayerKind::ConvTranspose {
            outputs: None,
            size: None,
            bias: None,
            stride,
            padding,
            dilation,
            groups,
            output_padding,
        },
        other => other,
    }
}
