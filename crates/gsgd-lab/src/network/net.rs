//! A graph as a Burn module: weights, forward pass, scale graph.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, PaddingConfig2d};
use burn::tensor::activation::{self, relu};
use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use gsgd::ScaleGraph;
use gsgd::core::graph::{Activation, Op as Operation, Pooling, Value, Window as Moving};
use gsgd::core::scales::ParamKey;

use super::entry::Number;
use super::graph::{Graph, Node};
use super::op::{Function, Op, Orientation, Window};
use super::tensors::{Order, Tensors};

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
    /// Tensors of the file that must stay as they are, by the names of the graph.
    #[module(skip)]
    held: HashSet<String>,
    /// The type that all is computed in: f64 where the file has any.
    #[module(skip)]
    dtype: DType,
}

/// A value: features, or maps of channels.
#[derive(Clone)]
enum Computed {
    Flat(Tensor<2>),
    Maps(Tensor<4>),
}

impl Net {
    /// The network of the graph with the file's tensors.
    ///
    /// # Errors
    /// A tensor cannot be read, or holds values that are not finite.
    pub fn new(graph: &Graph, tensors: &Tensors) -> Result<Self> {
        let used = || graph.nodes.iter().flat_map(|node| node.op.tensors());
        let dtype = match used().any(|name| tensors.number(name) == Number::F64) {
            true => DType::F64,
            false => DType::F32,
        };
        let read = Read { tensors, dtype };
        let weights = graph.nodes.iter().map(|node| {
            let weights = read.weights(&node.op);
            weights.with_context(|| format!("layer `{}`", node.name))
        });
        let held = used().filter(|name| graph.held.contains_key(tensors.full_name(name)));
        let net = Self {
            weights: weights.collect::<Result<_>>()?,
            held: held.map(str::to_string).collect(),
            graph: graph.clone(),
            dtype,
        };
        // batch norms by their running statistics
        Ok(net.valid())
    }

    /// What it is made of.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
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

    /// Calls `each` with the tensor's name in the file, its values, and their order, one tensor after the other.
    ///
    /// # Errors
    /// What `each` returns.
    pub fn tensors(&self, each: impl FnMut(&str, TensorData, Order) -> Result<()>) -> Result<()> {
        struct Visitor<F> {
            path: Vec<String>,
            names: HashMap<String, String>,
            outputs_first: HashSet<String>,
            each: F,
            ended: Result<()>,
        }
        impl<F: FnMut(&str, TensorData, Order) -> Result<()>> ModuleVisitor for Visitor<F> {
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
                let order = match self.outputs_first.contains(name) {
                    true => Order::Transposed,
                    false => Order::AsStored,
                };
                if self.ended.is_ok() {
                    self.ended = (self.each)(name, param.val().into_data(), order);
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

    /// The results, each `[batch, values]`, of inputs `[batch, values]`; behind them what functions that level out at the
    /// end read, as a softmax does.
    ///
    /// # Errors
    /// An operation that cannot be computed here.
    pub fn outputs(&self, inputs: &[Tensor<2>]) -> Result<Vec<Tensor<2>>> {
        let mut values: Vec<Option<Computed>> = Vec::with_capacity(self.graph.nodes.len());
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
        let outputs = self.compared().map(|at| {
            let value = values[at].clone();
            value.map(Computed::flat).context("an output is not there")
        });
        outputs.collect()
    }

    /// The most values of an example that are there at one time, and the layer in which they are.
    pub fn most_values(&self) -> (usize, &str) {
        let (mut left, mut there, mut most) = (self.uses(), 0usize, (0, ""));
        let size = |at: usize| self.graph.nodes[at].shape.iter().product::<usize>();
        for (at, node) in self.graph.nodes.iter().enumerate() {
            there = there.saturating_add(size(at));
            if there > most.0 {
                most = (there, &node.name);
            }
            for &from in &node.from {
                left[from] -= 1;
                if left[from] == 0 {
                    there -= size(from);
                }
            }
        }
        most
    }

    /// How often each value is asked for.
    fn uses(&self) -> Vec<usize> {
        let mut uses = self.graph.readers();
        for at in self.compared().skip(self.graph.outputs.len()) {
            uses[at] += 1;
        }
        uses
    }

    /// The results, and what they level out.
    fn compared(&self) -> impl Iterator<Item = usize> {
        let outputs = &self.graph.outputs;
        let before = outputs
            .iter()
            .filter_map(|&at| self.graph.before_levelling(at));
        outputs.iter().copied().chain(before)
    }
}

impl Net {
    /// The scaling classes.
    ///
    /// # Errors
    /// The operations do not fit together.
    pub fn scale_graph(&self) -> Result<ScaleGraph> {
        let mut graph = gsgd::declared(self)?;
        let mut values: Vec<Value> = Vec::with_capacity(self.weights.len());
        for (node, weights) in self.graph.nodes.iter().zip(&self.weights) {
            let mut reads: Vec<Value> = node.from.iter().map(|&at| values[at]).collect();
            let shape = [&[1], &node.shape[..]].concat();
            let mut param = |name: &String, id: ParamId| {
                let key = ParamKey(id.val());
                if self.held.contains(name) {
                    graph.hold(key, "something else reads it");
                }
                graph.push(name, Operation::Param(key), &[])
            };
            let op = match (&node.op, weights) {
                (Op::Input { .. }, _) => Operation::Input { shape },
                (Op::Linear { weight, bias, .. }, Some(Weights::Linear(layer))) => {
                    reads.push(param(weight, layer.weight.id)?);
                    if let (Some(name), Some(bias)) = (bias, &layer.bias) {
                        reads.push(param(name, bias.id)?);
                    }
                    Operation::MatMul { transposed: false }
                }
                (
                    Op::Conv {
                        weight,
                        bias,
                        window,
                        groups,
                    },
                    Some(Weights::Conv(layer)),
                ) => {
                    reads.push(param(weight, layer.weight.id)?);
                    if let (Some(name), Some(bias)) = (bias, &layer.bias) {
                        reads.push(param(name, bias.id)?);
                    }
                    let (window, groups) = (window.moving(), *groups);
                    Operation::Conv { window, groups }
                }
                (
                    Op::BatchNorm {
                        weight,
                        bias,
                        mean,
                        variance,
                        epsilon,
                    },
                    Some(Weights::Norm(layer)),
                ) => {
                    let mut ids = names_of(layer);
                    for (name, leaf) in [
                        (weight, "gamma"),
                        (bias, "beta"),
                        (mean, "running_mean"),
                        (variance, "running_var"),
                    ] {
                        let id = ids.remove(leaf).context("a batch norm of four tensors")?;
                        reads.push(param(name, id)?);
                    }
                    Operation::BatchNorm { epsilon: *epsilon }
                }
                (Op::Prelu { slopes }, Some(Weights::Slopes(param_of))) => {
                    reads.push(param(slopes, param_of.id)?);
                    Operation::Prelu
                }
                (Op::Relu {}, _) => Operation::Activation(Activation::Relu),
                (Op::LeakyRelu { slope }, _) => {
                    Operation::Activation(Activation::LeakyRelu(*slope))
                }
                (Op::MaxPool { window }, _) => Operation::Pool {
                    pooling: Pooling::Max,
                    window: window.moving(),
                },
                (
                    Op::AvgPool {
                        window,
                        counts_padding,
                    },
                    _,
                ) => Operation::Pool {
                    pooling: Pooling::Mean {
                        counts_padding: *counts_padding,
                    },
                    window: window.moving(),
                },
                (Op::GlobalAvgPool {}, _) => Operation::Resample {
                    kind: "mean".into(),
                    shape,
                },
                (Op::Add {}, _) => Operation::Add,
                (Op::Concat {}, _) => Operation::Concat { axis: 1 },
                (Op::Flatten {}, _) => Operation::Reshape { shape },
                (Op::Identity {}, _) => Operation::Identity,
                (Op::Function { .. }, _) => Operation::Opaque {
                    kind: "function".into(),
                    shape,
                },
                (Op::Opaque { kind, .. }, _) => Operation::Opaque {
                    kind: kind.clone(),
                    shape,
                },
                (op, _) => bail!("{op:?} has no weights"),
            };
            let value = graph.push(&node.name, op, &reads);
            values.push(value.with_context(|| format!("layer `{}`", node.name))?);
        }
        let outputs = self.graph.outputs.iter();
        outputs.for_each(|&at| graph.output(values[at]));
        Ok(graph.scales(Default::default())?)
    }
}

/// The ids of a batch norm's tensors, by their names in the module.
fn names_of(layer: &BatchNorm) -> HashMap<String, ParamId> {
    #[derive(Default)]
    struct Names(Vec<String>, HashMap<String, ParamId>);
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.insert(self.0.join("."), param.id);
        }
    }
    let mut names = Names::default();
    layer.visit(&mut names);
    names.1
}

fn compute(node: &Node, weights: Option<&Weights>, mut read: Vec<Computed>) -> Result<Computed> {
    use Computed::{Flat, Maps};
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
            all.extend(read.into_iter().map(Computed::flat));
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
        (Op::Function { function }, _, Flat(x)) => Flat(function.apply(x)),
        (Op::Function { function }, _, Maps(x)) => Maps(function.apply(x)),
        (Op::Opaque { kind, .. }, ..) => bail!("{kind} cannot be computed here"),
        (op, ..) => bail!("{op:?} cannot take what it reads"),
    })
}

impl Computed {
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

fn shaped(x: Tensor<2>, shape: &[usize]) -> Computed {
    match *shape {
        [channels, height, width] => {
            let batch = x.dims()[0];
            Computed::Maps(x.reshape([batch, channels, height, width]))
        }
        _ => Computed::Flat(x),
    }
}

impl Window {
    fn moving(&self) -> Moving {
        let [top, left, bottom, right] = self.padding;
        Moving {
            kernel: self.kernel.to_vec(),
            stride: self.stride.to_vec(),
            padding: vec![[top, bottom], [left, right]],
            dilation: self.dilation.to_vec(),
            ceil: self.ceil,
        }
    }

    fn explicit_padding(&self) -> PaddingConfig2d {
        let [top, left, bottom, right] = self.padding;
        PaddingConfig2d::Explicit(top, left, bottom, right)
    }
}

impl Function {
    fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
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

/// Tensors as they are read from a file.
struct Read<'a> {
    tensors: &'a Tensors,
    dtype: DType,
}

impl Read<'_> {
    fn weights(&self, op: &Op) -> Result<Option<Weights>> {
        let device = Device::flex();
        Ok(Some(match op {
            Op::Linear {
                weight,
                bias,
                orientation,
            } => {
                let order = match orientation {
                    Orientation::InputsFirst => Order::AsStored,
                    Orientation::OutputsFirst => Order::Transposed,
                };
                Weights::Linear(Linear {
                    weight: Param::from_tensor(self.tensor(weight, order)?),
                    bias: self.vector(bias.as_ref())?,
                })
            }
            Op::Conv {
                weight,
                bias,
                window,
                groups,
            } => {
                let taps: Tensor<4> = self.tensor(weight, Order::AsStored)?;
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
                conv.bias = self.vector(bias.as_ref())?;
                Weights::Conv(conv)
            }
            Op::BatchNorm {
                weight,
                bias,
                mean,
                variance,
                epsilon,
            } => {
                let one = |name: &String| self.tensor::<1>(name, Order::AsStored);
                let gamma = one(weight)?;
                let mut norm = BatchNormConfig::new(gamma.dims()[0])
                    .with_epsilon(*epsilon)
                    .init(&device);
                norm.gamma = Param::from_tensor(gamma);
                norm.beta = Param::from_tensor(one(bias)?);
                norm.running_mean = burn::module::RunningState::new(one(mean)?);
                norm.running_var = burn::module::RunningState::new(one(variance)?);
                Weights::Norm(norm)
            }
            Op::Prelu { slopes } => {
                let count = self.tensors.known(slopes)?.iter().product();
                let data = self.data(slopes, vec![count], Order::AsStored)?;
                Weights::Slopes(Param::from_tensor(Tensor::from_data(
                    data,
                    (&device, self.dtype),
                )))
            }
            _ => return Ok(None),
        }))
    }

    fn vector(&self, name: Option<&String>) -> Result<Option<Param<Tensor<1>>>> {
        let vector = name.map(|name| self.tensor(name, Order::AsStored));
        Ok(vector.transpose()?.map(Param::from_tensor))
    }

    fn tensor<const D: usize>(&self, name: &str, order: Order) -> Result<Tensor<D>> {
        let mut shape = self.tensors.known(name)?.to_vec();
        ensure!(
            shape.len() == D,
            "`{name}` has shape {shape:?}, not {D} dimensions"
        );
        if order == Order::Transposed {
            shape.reverse();
        }
        let data = self.data(name, shape, order)?;
        Ok(Tensor::from_data(data, (&Device::flex(), self.dtype)))
    }

    fn data(&self, name: &str, shape: Vec<usize>, order: Order) -> Result<TensorData> {
        match self.dtype {
            DType::F64 => self.values::<f64>(name, shape, order, |value| value.is_finite()),
            _ => self.values::<f32>(name, shape, order, |value| value.is_finite()),
        }
    }

    fn values<T: Element>(
        &self,
        name: &str,
        shape: Vec<usize>,
        order: Order,
        is_finite: impl Fn(&T) -> bool,
    ) -> Result<TensorData> {
        let values: Vec<T> = match order {
            Order::AsStored => self.tensors.values(name)?,
            Order::Transposed => self.tensors.transposed(name)?,
        };
        ensure!(
            values.iter().all(is_finite),
            "`{name}` holds values that are not finite"
        );
        Ok(TensorData::new(values, shape))
    }
}
