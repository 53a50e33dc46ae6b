//! A graph as a Burn module: weights, forward pass, wiring.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, PaddingConfig2d};
use burn::tensor::activation::{self, relu};
use burn::tensor::{Device, Tensor, TensorData};
use gsgd::{Channels, Homogeneous, WiringBuilder};

use super::graph::{Function, Graph, Node, Op, Orientation, Window};
use super::tensors::Tensors;

/// The weights of a node.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Weights {
    /// A dense layer.
    Linear(Linear),
    /// A convolution.
    Conv(Conv2d),
    /// A batch norm.
    Norm(BatchNorm),
    /// Slopes below zero.
    Slopes(Param<Tensor<1>>),
}

/// A network of any graph.
#[derive(Module, Debug)]
pub struct Net {
    /// By node; none of most.
    weights: Vec<Option<Weights>>,
    #[module(skip)]
    graph: Graph,
}

/// How a tensor's values are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// In the file's order.
    AsInFile,
    /// Column after column of the file's.
    Transposed,
}

/// A value: features, or maps of channels.
#[derive(Clone)]
enum Value {
    Flat(Tensor<2>),
    Maps(Tensor<4>),
}

impl Net {
    /// The network of the graph with the file's tensors.
    ///
    /// # Errors
    /// A tensor cannot be read, or holds values that are not finite.
    pub fn new(graph: &Graph, tensors: &Tensors) -> Result<Self> {
        let weights = graph.nodes.iter().map(|node| {
            weights(&node.op, tensors).with_context(|| format!("layer `{}`", node.name))
        });
        let net = Self {
            weights: weights.collect::<Result<_>>()?,
            graph: graph.clone(),
        };
        // batch norms by their running statistics
        Ok(net.valid())
    }

    /// What it is made of.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The tensor in the file of every parameter of the module, by its path there.
    pub fn names(&self) -> HashMap<String, String> {
        let mut names = HashMap::new();
        for (at, node) in self.graph.nodes.iter().enumerate() {
            let mut name = |leaf: &str, tensor: &String| {
                names.insert(format!("weights.{at}.{leaf}"), tensor.clone());
            };
            match &node.op {
                Op::Linear { weight, bias, .. } => {
                    name("Linear.weight", weight);
                    bias.iter().for_each(|bias| name("Linear.bias", bias));
                }
                Op::Conv { weight, bias, .. } => {
                    name("Conv.weight", weight);
                    bias.iter().for_each(|bias| name("Conv.bias", bias));
                }
                Op::BatchNorm {
                    weight,
                    bias,
                    mean,
                    variance,
                    ..
                } => {
                    name("Norm.gamma", weight);
                    name("Norm.beta", bias);
                    name("Norm.running_mean", mean);
                    name("Norm.running_var", variance);
                }
                Op::Prelu { slopes } => name("Slopes", slopes),
                _ => {}
            }
        }
        names
    }

    /// Calls `each` with the tensor's name in the file, its values, and how they are listed, one tensor after the other.
    ///
    /// # Errors
    /// What `each` returns.
    pub fn tensors(&self, each: impl FnMut(&str, &[f32], Listed) -> Result<()>) -> Result<()> {
        struct Visitor<F> {
            path: Vec<String>,
            names: HashMap<String, String>,
            outputs_first: HashSet<String>,
            each: F,
            ended: Result<()>,
        }
        impl<F: FnMut(&str, &[f32], Listed) -> Result<()>> ModuleVisitor for Visitor<F> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.into());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Some(name) = self.names.get(&self.path.join(".")) else {
                    return;
                };
                let listed = match self.outputs_first.contains(name) {
                    true => Listed::Transposed,
                    false => Listed::AsInFile,
                };
                if self.ended.is_ok() {
                    self.ended = match param.val().into_data().as_slice::<f32>() {
                        Ok(values) => (self.each)(name, values, listed),
                        Err(error) => Err(anyhow::anyhow!("{name}: {error:?}")),
                    };
                }
            }
        }
        let outputs_first = self.graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Linear {
                weight,
                orientation: Orientation::OutputsFirst,
                ..
            } => Some(weight.clone()),
            _ => None,
        });
        let mut visitor = Visitor {
            path: Vec::new(),
            names: self.names(),
            outputs_first: outputs_first.collect(),
            each,
            ended: Ok(()),
        };
        self.visit(&mut visitor);
        visitor.ended
    }

    /// The results, each `[batch, values]`, of inputs `[batch, values]`.
    ///
    /// # Errors
    /// An operation that cannot be computed here.
    pub fn outputs(&self, inputs: &[Tensor<2>]) -> Result<Vec<Tensor<2>>> {
        let mut values: Vec<Option<Value>> = Vec::with_capacity(self.graph.nodes.len());
        let mut inputs = inputs.iter();
        let mut left = self.uses();
        for (node, weights) in self.graph.nodes.iter().zip(&self.weights) {
            let value = match &node.op {
                Op::Input { .. } => {
                    let input = inputs.next().context("there are more inputs")?;
                    shaped(input.clone(), &node.shape)
                }
                _ => {
                    let mut read = Vec::with_capacity(node.from.len());
                    for &at in &node.from {
                        left[at] -= 1;
                        // the last use takes the value, so that its memory is free afterwards
                        let value = match left[at] {
                            0 => values[at].take(),
                            _ => values[at].clone(),
                        };
                        read.push(value.context("a value is used before it is there")?);
                    }
                    compute(node, weights.as_ref(), read)
                        .with_context(|| format!("layer `{}`", node.name))?
                }
            };
            values.push(Some(value));
        }
        let outputs = self.graph.outputs.iter().map(|&at| {
            let value = values[at].clone();
            value.map(Value::flat).context("an output is not there")
        });
        outputs.collect()
    }

    /// How often each value is read, once more if it is a result.
    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.graph.nodes.len()];
        let reads = self.graph.nodes.iter().flat_map(|node| &node.from);
        for &at in reads.chain(&self.graph.outputs) {
            uses[at] += 1;
        }
        uses
    }
}

impl Homogeneous for Net {
    fn wire(&self, w: &mut WiringBuilder, x: Channels) -> Channels {
        let mut values: Vec<Channels> = Vec::with_capacity(self.weights.len());
        let mut first = Some(x);
        for (node, weights) in self.graph.nodes.iter().zip(&self.weights) {
            let mut read = node.from.iter().map(|&at| values[at]);
            let from = read.next();
            let value = match (&node.op, weights, from) {
                (Op::Input { .. }, ..) => first.take().unwrap_or_else(|| w.input(node.shape[0])),
                (_, Some(Weights::Linear(layer)), Some(x)) => w.linear(x, layer),
                (_, Some(Weights::Conv(layer)), Some(x)) => w.conv2d(x, layer),
                (_, Some(Weights::Norm(layer)), Some(x)) => w.batch_norm(x, layer),
                (Op::Relu {} | Op::Prelu { .. }, _, Some(x)) => w.relu(x),
                (Op::LeakyRelu { slope }, _, Some(x)) => w.leaky_relu(x, *slope),
                (Op::Add {}, _, Some(x)) => read.fold(x, |sum, next| w.add(sum, next)),
                (Op::Concat {}, _, Some(x)) => w.concat(std::iter::once(x).chain(read)),
                (Op::Flatten {}, _, Some(x)) => {
                    let channels = self.graph.nodes[node.from[0]].shape[0];
                    w.flatten(x, node.shape[0] / channels)
                }
                (Op::Function { .. }, _, Some(x)) => w.ground(x),
                (Op::Opaque { .. }, _, from) => {
                    from.into_iter().chain(read).for_each(|x| w.output(x));
                    w.input(node.shape.first().copied().unwrap_or(1))
                }
                // pooling, dropout and the like
                (_, _, Some(x)) => x,
                (_, _, None) => w.input(0),
            };
            values.push(value);
        }
        let (last, others) = match self.graph.outputs.split_last() {
            Some((last, others)) => (*last, others),
            None => return x,
        };
        others.iter().for_each(|&at| w.output(values[at]));
        values[last]
    }
}

fn compute(node: &Node, weights: Option<&Weights>, mut read: Vec<Value>) -> Result<Value> {
    use Value::{Flat, Maps};
    let first = match read.is_empty() {
        true => bail!("it reads nothing"),
        false => read.remove(0),
    };
    Ok(match (&node.op, weights, first) {
        (_, Some(Weights::Linear(layer)), Flat(x)) => Flat(layer.forward(x)),
        (_, Some(Weights::Conv(layer)), Maps(x)) => Maps(layer.forward(x)),
        (_, Some(Weights::Norm(layer)), Maps(x)) => Maps(layer.forward(x)),
        (_, Some(Weights::Norm(layer)), Flat(x)) => Flat(layer.forward(x)),
        (_, Some(Weights::Slopes(slopes)), x) => x.each(
            |x| activation::prelu(x, slopes.val()),
            |x| activation::prelu(x, slopes.val()),
        ),
        (Op::Relu {}, _, x) => x.each(relu, relu),
        (Op::LeakyRelu { slope }, _, x) => x.each(
            |x| activation::leaky_relu(x, *slope),
            |x| activation::leaky_relu(x, *slope),
        ),
        (Op::MaxPool { window }, _, Maps(x)) => {
            let pool = MaxPool2dConfig::new(window.kernel)
                .with_strides(window.stride)
                .with_padding(window.explicit_padding())
                .with_dilation(window.dilation)
                .with_ceil_mode(window.ceil);
            Maps(pool.init().forward(x))
        }
        (
            Op::AvgPool {
                window,
                counts_padding,
            },
            _,
            Maps(x),
        ) => {
            let pool = AvgPool2dConfig::new(window.kernel)
                .with_strides(window.stride)
                .with_padding(window.explicit_padding())
                .with_count_include_pad(*counts_padding)
                .with_ceil_mode(window.ceil);
            Maps(pool.init().forward(x))
        }
        (Op::GlobalAvgPool {}, _, Maps(x)) => Maps(x.mean_dim(3).mean_dim(2)),
        (Op::Add {}, _, x) => read
            .into_iter()
            .try_fold(x, |sum, next| match (sum, next) {
                (Flat(a), Flat(b)) => Ok(Flat(a + b)),
                (Maps(a), Maps(b)) => Ok(Maps(a + b)),
                _ => bail!("it adds features to maps"),
            })?,
        (Op::Concat {}, _, Flat(x)) => {
            let mut all = vec![x];
            all.extend(read.into_iter().map(Value::flat));
            Flat(Tensor::cat(all, 1))
        }
        (Op::Concat {}, _, Maps(x)) => {
            let mut all = vec![x];
            for value in read {
                match value {
                    Maps(x) => all.push(x),
                    Flat(_) => bail!("it puts features beside maps"),
                }
            }
            Maps(Tensor::cat(all, 1))
        }
        (Op::Flatten {}, _, x) => Flat(x.flat()),
        (Op::Identity {}, _, x) => x,
        (Op::Function { function }, _, Flat(x)) => Flat(function.of(x)),
        (Op::Function { function }, _, Maps(x)) => Maps(function.of(x)),
        (Op::Opaque { kind, .. }, ..) => bail!("{kind} cannot be computed here"),
        (op, ..) => bail!("{op:?} cannot take what it reads"),
    })
}

impl Value {
    fn flat(self) -> Tensor<2> {
        match self {
            Self::Flat(x) => x,
            Self::Maps(x) => {
                let batch = x.dims()[0];
                x.reshape([batch as i64, -1])
            }
        }
    }

    fn each(
        self,
        flat: impl Fn(Tensor<2>) -> Tensor<2>,
        maps: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Self {
        match self {
            Self::Flat(x) => Self::Flat(flat(x)),
            Self::Maps(x) => Self::Maps(maps(x)),
        }
    }
}

fn shaped(x: Tensor<2>, shape: &[usize]) -> Value {
    match *shape {
        [channels, height, width] => {
            let batch = x.dims()[0];
            Value::Maps(x.reshape([batch, channels, height, width]))
        }
        _ => Value::Flat(x),
    }
}

impl Window {
    fn explicit_padding(&self) -> PaddingConfig2d {
        let [top, left, bottom, right] = self.padding;
        PaddingConfig2d::Explicit(top, left, bottom, right)
    }
}

impl Function {
    fn of<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Sigmoid => activation::sigmoid(x),
            Self::Tanh => activation::tanh(x),
            Self::Gelu => activation::gelu(x),
            Self::Silu => activation::silu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Softmax => activation::softmax(x, 1),
        }
    }
}

fn weights(op: &Op, tensors: &Tensors) -> Result<Option<Weights>> {
    let device = Device::flex();
    Ok(Some(match op {
        Op::Linear {
            weight,
            bias,
            orientation,
        } => {
            let matrix: Tensor<2> = match orientation {
                Orientation::InputsFirst => tensor(weight, tensors, &device)?,
                Orientation::OutputsFirst => {
                    let values = finite(weight, tensors.transposed(weight)?)?;
                    let mut shape = tensors.known(weight)?.to_vec();
                    shape.reverse();
                    Tensor::from_data(TensorData::new(values, shape), &device)
                }
            };
            Weights::Linear(Linear {
                weight: Param::from_tensor(matrix),
                bias: vector(bias.as_ref(), tensors, &device)?,
            })
        }
        Op::Conv {
            weight,
            bias,
            window,
            groups,
        } => {
            let taps: Tensor<4> = tensor(weight, tensors, &device)?;
            let [outputs, inputs, ..] = taps.dims();
            // the layer's own weights would be drawn at random first
            let mut conv = Conv2dConfig::new([*groups, *groups], [1, 1])
                .with_stride(window.stride)
                .with_padding(window.explicit_padding())
                .with_dilation(window.dilation)
                .with_groups(*groups)
                .with_bias(false)
                .init(&device);
            ensure!(inputs > 0 && outputs > 0, "`{weight}` has no values");
            conv.kernel_size = window.kernel;
            conv.weight = Param::from_tensor(taps);
            conv.bias = vector(bias.as_ref(), tensors, &device)?;
            Weights::Conv(conv)
        }
        Op::BatchNorm {
            weight,
            bias,
            mean,
            variance,
            epsilon,
        } => {
            let gamma: Tensor<1> = tensor(weight, tensors, &device)?;
            let mut norm = BatchNormConfig::new(gamma.dims()[0])
                .with_epsilon(*epsilon)
                .init(&device);
            norm.gamma = Param::from_tensor(gamma);
            norm.beta = Param::from_tensor(tensor(bias, tensors, &device)?);
            norm.running_mean = burn::module::RunningState::new(tensor(mean, tensors, &device)?);
            norm.running_var = burn::module::RunningState::new(tensor(variance, tensors, &device)?);
            Weights::Norm(norm)
        }
        Op::Prelu { slopes } => {
            let values = finite(slopes, tensors.values(slopes)?)?;
            let shape = [values.len()];
            Weights::Slopes(Param::from_tensor(Tensor::from_data(
                TensorData::new(values, shape),
                &device,
            )))
        }
        _ => return Ok(None),
    }))
}

fn vector(
    name: Option<&String>,
    tensors: &Tensors,
    device: &Device,
) -> Result<Option<Param<Tensor<1>>>> {
    name.map(|name| Ok(Param::from_tensor(tensor(name, tensors, device)?)))
        .transpose()
}

fn tensor<const D: usize>(name: &str, tensors: &Tensors, device: &Device) -> Result<Tensor<D>> {
    let values = finite(name, tensors.values(name)?)?;
    let shape = tensors.known(name)?;
    ensure!(
        shape.len() == D,
        "`{name}` has shape {shape:?}, not {D} dimensions"
    );
    Ok(Tensor::from_data(
        TensorData::new(values, shape.to_vec()),
        device,
    ))
}

fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    ensure!(
        values.iter().all(|value| value.is_finite()),
        "`{name}` holds values that are not finite"
    );
    Ok(values)
}
