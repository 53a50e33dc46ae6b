//! Burn's operations as those of the core.

use std::collections::HashMap;

use burn::backend::capture::{CapturedGraph, TensorId};
use burn_ir::{
    ActivationOperationIr as Activations, BaseOperationIr as Base, FloatOperationIr as Float,
    ModuleOperationIr as Layer, NumericOperationIr as Numeric, OperationIr, PadModeIr, ScalarIr,
    TensorIr,
};
use gsgd_core::graph::{Activation, Function, Graph, Op, Pooling, Reduction, Value, Window};
use gsgd_core::scales::ParamKey;

use crate::error::Error;

/// Adds the operations of a captured forward pass to a graph that has its parameters.
pub(super) fn add(
    graph: &mut Graph,
    captured: &CapturedGraph,
    params: &HashMap<TensorId, ParamKey>,
) -> Result<(), Error> {
    let mut reader = Reader {
        graph,
        captured,
        params,
        values: HashMap::new(),
        nodes: HashMap::new(),
    };
    for &input in &captured.graph.inputs {
        let operations = captured.graph.operations.iter();
        let mut nodes = operations.flat_map(|operation| operation.inputs());
        if let Some(tensor) = nodes.find(|tensor| tensor.id == input) {
            let op = Op::Input {
                shape: shape(tensor),
            };
            let value = reader.graph.push("input", op, &[])?;
            reader.values.insert(input, value);
        }
    }
    for operation in &captured.graph.operations {
        reader.operation(operation)?;
    }
    let outputs = captured.graph.outputs.iter();
    let outputs: Vec<Value> = outputs
        .filter_map(|id| reader.values.get(id).copied())
        .collect();
    outputs.into_iter().for_each(|value| graph.output(value));
    Ok(())
}

struct Reader<'a> {
    graph: &'a mut Graph,
    captured: &'a CapturedGraph,
    params: &'a HashMap<TensorId, ParamKey>,
    values: HashMap<TensorId, Value>,
    /// The node of a parameter, which several tensors may stand for.
    nodes: HashMap<ParamKey, Value>,
}

fn shape(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().collect()
}

fn number(scalar: &ScalarIr) -> f64 {
    scalar.elem()
}

fn pairs<const N: usize>(padding: [usize; N]) -> Vec<[usize; 2]> {
    padding.iter().map(|&pad| [pad, pad]).collect()
}

fn unequal<const N: usize>(padding: [(usize, usize); N]) -> Vec<[usize; 2]> {
    padding.iter().map(|&(a, b)| [a, b]).collect()
}

/// The window of a layer with this weight.
fn window<const N: usize>(
    weight: &TensorIr,
    stride: [usize; N],
    padding: Vec<[usize; 2]>,
    dilation: [usize; N],
) -> Window {
    Window {
        kernel: shape(weight)[2..].to_vec(),
        stride: stride.to_vec(),
        padding,
        dilation: dilation.to_vec(),
        ceil: false,
    }
}

fn pool<const N: usize>(
    kernel: [usize; N],
    stride: [usize; N],
    padding: [usize; N],
    dilation: [usize; N],
    ceil: bool,
) -> Window {
    Window {
        kernel: kernel.to_vec(),
        stride: stride.to_vec(),
        padding: pairs(padding),
        dilation: dilation.to_vec(),
        ceil,
    }
}

impl Reader<'_> {
    /// The value of a tensor: made before, a parameter, or a constant.
    fn read(&mut self, tensor: &TensorIr) -> Result<Value, Error> {
        if let Some(&value) = self.values.get(&tensor.id) {
            return Ok(value);
        }
        let value = match self.params.get(&tensor.id) {
            Some(&key) => match self.nodes.get(&key) {
                Some(&value) => value,
                None => {
                    let name = self.graph.tensor(key).map(|param| param.name.clone());
                    let name = name.unwrap_or_default();
                    let value = self.graph.push(name, Op::Param(key), &[])?;
                    self.nodes.insert(key, value);
                    value
                }
            },
            None => {
                let shape = shape(tensor);
                self.graph.push("", Op::Constant { shape }, &[])?
            }
        };
        self.values.insert(tensor.id, value);
        Ok(value)
    }

    /// The result of an operation. One that does not come out as Burn says is taken for unknown.
    fn make(&mut self, op: Op, reads: &[&TensorIr], out: &TensorIr) -> Result<(), Error> {
        let reads: Result<Vec<Value>, Error> =
            reads.iter().map(|tensor| self.read(tensor)).collect();
        self.put(op, &reads?, out)
    }

    fn put(&mut self, op: Op, reads: &[Value], out: &TensorIr) -> Result<(), Error> {
        let shape = shape(out);
        let kind = op.name().to_string();
        let made = self.graph.push("", op, reads);
        let value = match made {
            Ok(value) if self.graph.node(value).shape == shape => value,
            _ => self.graph.push("", Op::Opaque { kind, shape }, reads)?,
        };
        self.values.insert(out.id, value);
        Ok(())
    }

    fn layer(
        &mut self,
        op: Op,
        x: &TensorIr,
        weight: &TensorIr,
        bias: Option<&TensorIr>,
        out: &TensorIr,
    ) -> Result<(), Error> {
        let reads: Vec<&TensorIr> = [x, weight].into_iter().chain(bias).collect();
        self.make(op, &reads, out)
    }

    /// Something that nothing is known of.
    fn opaque(&mut self, operation: &OperationIr) -> Result<(), Error> {
        let said = format!("{operation:?}");
        // the innermost name: `Float(F32, Exp(UnaryOpIr { .. }))`
        let names = said.split(" {").next().unwrap_or_default();
        let names = names
            .split(['(', ')', ',', ' '])
            .filter(|name| !name.is_empty());
        let names: Vec<&str> = names.filter(|name| !name.ends_with("OpIr")).collect();
        let kind = names.last().copied().unwrap_or("operation").to_string();
        let reads: Result<Vec<Value>, Error> =
            operation.inputs().map(|tensor| self.read(tensor)).collect();
        let reads = reads?;
        for out in operation.outputs() {
            let op = Op::Opaque {
                kind: kind.clone(),
                shape: shape(out),
            };
            let value = self.graph.push("", op, &reads)?;
            self.values.insert(out.id, value);
        }
        Ok(())
    }

    fn operation(&mut self, operation: &OperationIr) -> Result<(), Error> {
        match operation {
            OperationIr::Drop(_) => Ok(()),
            OperationIr::Init(init) => self.read(&init.out).map(drop),
            OperationIr::Module(layer) => self.module(layer, operation),
            OperationIr::BaseFloat(base) => self.base(base, operation),
            OperationIr::NumericFloat(_, numeric) => self.numeric(numeric, operation),
            OperationIr::Activation(activation) => self.activation(activation, operation),
            OperationIr::Float(_, Float::Matmul(o)) => {
                let op = Op::MatMul { transposed: false };
                self.make(op, &[&o.lhs, &o.rhs], &o.out)
            }
            OperationIr::Float(_, Float::Tanh(o)) => {
                self.make(Op::Function(Function::Tanh), &[&o.input], &o.out)
            }
            _ => self.opaque(operation),
        }
    }

    fn module(&mut self, layer: &Layer, operation: &OperationIr) -> Result<(), Error> {
        match layer {
            Layer::BatchNorm(o) => {
                let epsilon = number(&o.epsilon);
                let reads = [&o.x, &o.gamma, &o.beta, &o.mean, &o.variance];
                self.make(Op::BatchNorm { epsilon }, &reads, &o.out)
            }
            Layer::Embedding(o) => {
                let shape = shape(&o.out);
                let op = Op::Gather { axis: 0, shape };
                self.make(op, &[&o.weights, &o.indices], &o.out)
            }
            Layer::Linear(o) => {
                let op = Op::MatMul { transposed: false };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::Conv1d(o) => {
                let c = &o.options;
                let op = Op::Conv {
                    window: window(&o.weight, c.stride, unequal(c.padding), c.dilation),
                    groups: c.groups,
                };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::Conv2d(o) => {
                let c = &o.options;
                let op = Op::Conv {
                    window: window(&o.weight, c.stride, unequal(c.padding), c.dilation),
                    groups: c.groups,
                };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::Conv3d(o) => {
                let c = &o.options;
                let op = Op::Conv {
                    window: window(&o.weight, c.stride, pairs(c.padding), c.dilation),
                    groups: c.groups,
                };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::ConvTranspose1d(o) => {
                let c = &o.options;
                let op = Op::ConvTranspose {
                    window: window(&o.weight, c.stride, pairs(c.padding), c.dilation),
                    groups: c.groups,
                    output_padding: c.padding_out.to_vec(),
                };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::ConvTranspose2d(o) => {
                let c = &o.options;
                let op = Op::ConvTranspose {
                    window: window(&o.weight, c.stride, pairs(c.padding), c.dilation),
                    groups: c.groups,
                    output_padding: c.padding_out.to_vec(),
                };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::ConvTranspose3d(o) => {
                let c = &o.options;
                let op = Op::ConvTranspose {
                    window: window(&o.weight, c.stride, pairs(c.padding), c.dilation),
                    groups: c.groups,
                    output_padding: c.padding_out.to_vec(),
                };
                self.layer(op, &o.x, &o.weight, o.bias.as_ref(), &o.out)
            }
            Layer::AvgPool1d(o) => {
                let window = pool([o.kernel_size], [o.stride], [o.padding], [1], o.ceil_mode);
                self.pool(o.count_include_pad.into(), window, &o.x, &o.out)
            }
            Layer::AvgPool2d(o) => {
                let window = pool(o.kernel_size, o.stride, o.padding, [1; 2], o.ceil_mode);
                self.pool(o.count_include_pad.into(), window, &o.x, &o.out)
            }
            Layer::MaxPool1d(o) => {
                let size = [o.kernel_size];
                let window = pool(size, [o.stride], [o.padding], [o.dilation], o.ceil_mode);
                self.pool(None, window, &o.x, &o.out)
            }
            Layer::MaxPool2d(o) => {
                let window = pool(o.kernel_size, o.stride, o.padding, o.dilation, o.ceil_mode);
                self.pool(None, window, &o.x, &o.out)
            }
            Layer::MaxPool1dWithIndices(o) => {
                self.opaque(operation)?;
                let size = [o.kernel_size];
                let window = pool(size, [o.stride], [o.padding], [o.dilation], o.ceil_mode);
                self.pool(None, window, &o.x, &o.out)
            }
            Layer::MaxPool2dWithIndices(o) => {
                self.opaque(operation)?;
                let window = pool(o.kernel_size, o.stride, o.padding, o.dilation, o.ceil_mode);
                self.pool(None, window, &o.x, &o.out)
            }
            Layer::AdaptiveAvgPool1d(o) => self.resample("adaptive pooling", &o.x, &o.out),
            Layer::AdaptiveAvgPool2d(o) => self.resample("adaptive pooling", &o.x, &o.out),
            Layer::AdaptiveAvgPool3d(o) => self.resample("adaptive pooling", &o.x, &o.out),
            Layer::Interpolate(o) => self.resample("interpolate", &o.x, &o.out),
            Layer::Attention(o) => {
                // softmax(Q K^T) V, of which V alone goes through
                let [q, k] = [shape(&o.query), shape(&o.key)];
                let mut weights = q.clone();
                if let (Some(last), [.., keys, _]) = (weights.last_mut(), &k[..]) {
                    *last = *keys;
                }
                let op = Op::Opaque {
                    kind: "attention weights".into(),
                    shape: weights,
                };
                let mut reads = vec![self.read(&o.query)?, self.read(&o.key)?];
                for other in [&o.mask, &o.attn_bias].into_iter().flatten() {
                    reads.push(self.read(other)?);
                }
                let weights = self.graph.push("", op, &reads)?;
                let value = self.read(&o.value)?;
                let op = Op::MatMul { transposed: false };
                self.put(op, &[weights, value], &o.out)
            }
            Layer::LayerNorm(o) => {
                let x = self.read(&o.input)?;
                let rank = shape(&o.input).len();
                let op = Op::Normalise {
                    axes: vec![rank - 1],
                    groups: None,
                    centred: true,
                    epsilon: number(&o.epsilon),
                };
                let y = self.graph.push("", op, &[x])?;
                let gamma = self.read(&o.gamma)?;
                let Some(beta) = &o.beta else {
                    return self.put(Op::Mul, &[y, gamma], &o.out);
                };
                let y = self.graph.push("", Op::Mul, &[y, gamma])?;
                let beta = self.read(beta)?;
                self.put(Op::Add, &[y, beta], &o.out)
            }
            _ => self.opaque(operation),
        }
    }

    /// A pooling: of the largest where it is not said whether the mean counts padding.
    fn pool(
        &mut self,
        counts_padding: Option<bool>,
        window: Window,
        x: &TensorIr,
        out: &TensorIr,
    ) -> Result<(), Error> {
        let pooling = match counts_padding {
            Some(counts_padding) => Pooling::Mean { counts_padding },
            None => Pooling::Max,
        };
        self.make(Op::Pool { pooling, window }, &[x], out)
    }

    fn resample(&mut self, kind: &str, x: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let op = Op::Resample {
            kind: kind.into(),
            shape: shape(out),
        };
        self.make(op, &[x], out)
    }

    fn base(&mut self, base: &Base, operation: &OperationIr) -> Result<(), Error> {
        match base {
            Base::Reshape(o) => {
                let shape = shape(&o.out);
                self.make(Op::Reshape { shape }, &[&o.input], &o.out)
            }
            Base::Expand(o) => {
                let shape = shape(&o.out);
                self.make(Op::Expand { shape }, &[&o.input], &o.out)
            }
            Base::SwapDims(o) => {
                let mut order: Vec<usize> = (0..shape(&o.input).len()).collect();
                order.swap(o.dim1, o.dim2);
                self.make(Op::Transpose { order }, &[&o.input], &o.out)
            }
            Base::Permute(o) => {
                let order = o.axes.clone();
                self.make(Op::Transpose { order }, &[&o.input], &o.out)
            }
            Base::Cast(o) => self.make(Op::Identity, &[&o.input], &o.out),
            Base::Flip(o) => {
                let sizes = shape(&o.input);
                let slices = o.axes.iter().map(|&axis| Op::Slice {
                    axis,
                    start: sizes[axis] - 1,
                    step: -1,
                    count: sizes[axis],
                });
                self.chain(slices.collect(), &o.input, &o.out)
            }
            Base::Slice(o) => {
                let sizes = shape(&o.tensor);
                let ranges = o.ranges.iter().enumerate();
                let slices = ranges.map(|(axis, slice)| {
                    let (range, step) = slice.to_range_and_step(sizes[axis]);
                    let backwards = step < 0;
                    Op::Slice {
                        axis,
                        start: if backwards {
                            range.end.saturating_sub(1)
                        } else {
                            range.start
                        },
                        step,
                        count: slice.output_size(sizes[axis]),
                    }
                });
                self.chain(slices.collect(), &o.tensor, &o.out)
            }
            Base::Select(o) => {
                let places = self.captured.values.get(&o.indices.id);
                let places: Option<Vec<usize>> = places.map(|data| {
                    let places = data.iter::<i64>();
                    places
                        .map(|at| usize::try_from(at).unwrap_or(usize::MAX))
                        .collect()
                });
                match places {
                    Some(places) => {
                        let op = Op::Select {
                            axis: o.dim,
                            places,
                        };
                        self.make(op, &[&o.tensor], &o.out)
                    }
                    None => {
                        let op = Op::Gather {
                            axis: o.dim,
                            shape: shape(&o.out),
                        };
                        self.make(op, &[&o.tensor, &o.indices], &o.out)
                    }
                }
            }
            Base::RepeatDim(o) => {
                let reads = vec![&o.tensor; o.times];
                self.make(Op::Concat { axis: o.dim }, &reads, &o.out)
            }
            Base::Cat(o) => {
                let reads: Vec<&TensorIr> = o.tensors.iter().collect();
                self.make(Op::Concat { axis: o.dim }, &reads, &o.out)
            }
            Base::Zeros(o) | Base::Ones(o) | Base::Empty(o) => {
                let shape = shape(&o.out);
                self.make(Op::Constant { shape }, &[], &o.out)
            }
            _ => self.opaque(operation),
        }
    }

    /// Operations of one value, one after the other.
    fn chain(&mut self, mut ops: Vec<Op>, x: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let mut value = self.read(x)?;
        let last = ops.pop().unwrap_or(Op::Identity);
        for op in ops {
            value = self.graph.push("", op, &[value])?;
        }
        self.put(last, &[value], out)
    }

    /// An operation with a number.
    fn with_number(&mut self, op: Op, x: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let x = self.read(x)?;
        let number = self.graph.push("", Op::Constant { shape: vec![1] }, &[])?;
        self.put(op, &[x, number], out)
    }

    fn reduce(
        &mut self,
        reduction: Reduction,
        axes: Option<&[usize]>,
        x: &TensorIr,
        out: &TensorIr,
    ) -> Result<(), Error> {
        let rank = shape(x).len();
        let all: Vec<usize> = (0..rank).collect();
        let op = Op::Reduce {
            reduction,
            axes: axes.unwrap_or(&all).to_vec(),
            keep: true,
        };
        let x = self.read(x)?;
        let y = self.graph.push("", op, &[x])?;
        let shape = shape(out);
        self.put(Op::Reshape { shape }, &[y], out)
    }

    fn numeric(&mut self, numeric: &Numeric, operation: &OperationIr) -> Result<(), Error> {
        let relu = Op::Activation(Activation::Relu);
        match numeric {
            Numeric::Add(o) => self.make(Op::Add, &[&o.lhs, &o.rhs], &o.out),
            Numeric::Sub(o) => self.make(Op::Sub, &[&o.lhs, &o.rhs], &o.out),
            Numeric::Mul(o) => self.make(Op::Mul, &[&o.lhs, &o.rhs], &o.out),
            Numeric::Div(o) => self.make(Op::Div, &[&o.lhs, &o.rhs], &o.out),
            Numeric::AddScalar(o) | Numeric::SubScalar(o) if number(&o.rhs) == 0.0 => {
                self.make(Op::Identity, &[&o.lhs], &o.out)
            }
            Numeric::AddScalar(o) => self.with_number(Op::Add, &o.lhs, &o.out),
            Numeric::SubScalar(o) => self.with_number(Op::Sub, &o.lhs, &o.out),
            Numeric::MulScalar(o) => self.with_number(Op::Mul, &o.lhs, &o.out),
            Numeric::DivScalar(o) => self.with_number(Op::Div, &o.lhs, &o.out),
            Numeric::Abs(o) => self.make(Op::Activation(Activation::Abs), &[&o.input], &o.out),
            Numeric::Neg(o) => self.make(Op::Activation(Activation::Neg), &[&o.input], &o.out),
            Numeric::MeanDim(o) => self.reduce(Reduction::Mean, Some(&[o.axis]), &o.input, &o.out),
            Numeric::SumDim(o) => self.reduce(Reduction::Sum, Some(&[o.axis]), &o.input, &o.out),
            Numeric::MaxDim(o) => self.reduce(Reduction::Max, Some(&[o.axis]), &o.input, &o.out),
            Numeric::MinDim(o) => self.reduce(Reduction::Min, Some(&[o.axis]), &o.input, &o.out),
            Numeric::SumDims(o) => self.reduce(Reduction::Sum, Some(&o.axes), &o.input, &o.out),
            Numeric::Mean(o) => self.reduce(Reduction::Mean, None, &o.input, &o.out),
            Numeric::Sum(o) => self.reduce(Reduction::Sum, None, &o.input, &o.out),
            Numeric::Max(o) => self.reduce(Reduction::Max, None, &o.input, &o.out),
            Numeric::Min(o) => self.reduce(Reduction::Min, None, &o.input, &o.out),
            Numeric::ClampMin(o) if number(&o.rhs) == 0.0 => self.make(relu, &[&o.lhs], &o.out),
            Numeric::ClampMax(o) if number(&o.rhs) == 0.0 => {
                // min(x, 0) = -relu(-x)
                let neg = Op::Activation(Activation::Neg);
                self.chain(vec![neg.clone(), relu, neg], &o.lhs, &o.out)
            }
            Numeric::Clamp(o) if number(&o.min) == 0.0 && number(&o.max) == f64::INFINITY => {
                self.make(relu, &[&o.tensor], &o.out)
            }
            Numeric::Clamp(o) if number(&o.min) == 0.0 && number(&o.max) == 6.0 => {
                self.make(Op::Function(Function::Relu6), &[&o.tensor], &o.out)
            }
            Numeric::Pad(o) => match o.mode {
                PadModeIr::Constant(value) if number(&value) != 0.0 => self.opaque(operation),
                // mirrored and repeated rows are the value's own
                _ => self.resample("pad", &o.input, &o.out),
            },
            Numeric::Full(o) => {
                let shape = shape(&o.out);
                self.make(Op::Constant { shape }, &[], &o.out)
            }
            _ => self.opaque(operation),
        }
    }

    fn activation(
        &mut self,
        activation: &Activations,
        operation: &OperationIr,
    ) -> Result<(), Error> {
        let (op, x, out) = match activation {
            Activations::Relu(o) => (Op::Activation(Activation::Relu), &o.input, &o.out),
            Activations::LeakyRelu(o) => {
                let slope = number(&o.rhs);
                (Op::Activation(Activation::LeakyRelu(slope)), &o.lhs, &o.out)
            }
            Activations::PRelu(o) => return self.make(Op::Prelu, &[&o.lhs, &o.rhs], &o.out),
            Activations::Gelu(o) => (Op::Function(Function::Gelu), &o.input, &o.out),
            Activations::Sigmoid(o) => (Op::Function(Function::Sigmoid), &o.input, &o.out),
            Activations::Softmax(o) => (Op::Softmax { axis: o.axis }, &o.input, &o.out),
            _ => return self.opaque(operation),
        };
        self.make(op, &[x], out)
    }
}
