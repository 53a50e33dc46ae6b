//! From a layer of the file to an operation of the graph.

use anyhow::{Context, Result, bail, ensure};
use gsgd_core::graph::{Activation, Op, Pooling, Reduction, Value, Window};

use super::kinds::{FunctionName, LayerKind, Moves, Sizes};
use crate::layers::Layers;
use crate::tensors::Tensors;

/// A layer that is added: its name, what its tensors are called, and what it reads.
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub prefix: &'a str,
    pub from: &'a [Value],
    /// Whether the file says what it reads.
    pub said: bool,
    /// The tensors of a file, which then say the shapes of weights.
    pub tensors: Option<&'a Tensors>,
}

impl Place<'_> {
    fn one(&self) -> Result<Value> {
        match self.from {
            [one] => Ok(*one),
            _ => bail!("it reads one value, not {}", self.from.len()),
        }
    }

    /// Whether it reads its weight as a value.
    fn reads_weight(&self) -> bool {
        self.from.len() > 1
    }

    fn axes(&self, net: &Layers) -> usize {
        let shape = self.from.first().map(|&value| &net.graph.node(value).shape);
        shape.map_or(0, |shape| shape.len().saturating_sub(2))
    }

    /// The shape of its weight: of the file's tensor, which `said` must agree with, or `said`.
    fn weight(&self, said: Option<Vec<usize>>, keys: &str) -> Result<Vec<usize>> {
        let name = format!("{}.weight", self.prefix);
        let Some(tensors) = self.tensors else {
            return said
                .with_context(|| format!("there are no tensors that say its size: give {keys}"));
        };
        let found = tensors.known(&name)?.to_vec();
        match said {
            Some(said) if said != found => {
                bail!("`{name}` has shape {found:?}, by {keys} it has {said:?}")
            }
            _ => Ok(found),
        }
    }

    /// The length of its bias, which a file's tensors show; without them it has one, if `said` does not say no.
    fn bias(&self, said: Option<bool>, outputs: usize) -> Result<Option<usize>> {
        let name = format!("{}.bias", self.prefix);
        let found = self.tensors.map(|tensors| tensors.shape(&name).is_some());
        if let (Some(said), Some(found)) = (said, found) {
            ensure!(
                said == found,
                "`bias = {said}`, and there is {} tensor `{name}`",
                if found { "a" } else { "no" }
            );
        }
        let has = said.or(found).unwrap_or(true);
        Ok(has.then_some(outputs))
    }
}

/// Appends a layer.
pub(super) fn add(net: &mut Layers, place: &Place, kind: LayerKind) -> Result<Value> {
    let &Place {
        name, prefix, from, ..
    } = place;
    let op = match kind {
        LayerKind::Linear { outputs, bias } => return linear(net, place, outputs, bias),
        LayerKind::Matmul { transposed } => {
            ensure!(
                place.reads_weight(),
                "it reads two values, and perhaps a bias"
            );
            Op::MatMul { transposed }
        }
        LayerKind::Conv {
            outputs,
            size,
            bias,
            stride,
            padding,
            dilation,
            groups,
        } => {
            let moves = Moves {
                stride,
                padding,
                dilation,
            };
            let op = |window| Op::Conv { window, groups };
            if place.reads_weight() {
                op(moves.window(kernel(net, from[1])?)?)
            } else {
                let shape = filters(net, place, outputs, size, |inputs, outputs| {
                    [outputs, inputs / groups.max(1)]
                })?;
                let bias = place.bias(bias, shape[0])?;
                let op = op(moves.window(shape[2..].to_vec())?);
                return Ok(net.weights_of(name, prefix, op, place.one()?, &shape, bias)?);
            }
        }
        LayerKind::ConvTranspose {
            outputs,
            size,
            bias,
            stride,
            padding,
            dilation,
            groups,
            output_padding,
        } => {
            let moves = Moves {
                stride,
                padding,
                dilation,
            };
            let op = |window: Window| -> Result<Op> {
                Ok(Op::ConvTranspose {
                    output_padding: output_padding.of(window.kernel.len())?,
                    window,
                    groups,
                })
            };
            if place.reads_weight() {
                op(moves.window(kernel(net, from[1])?)?)?
            } else {
                let shape = filters(net, place, outputs, size, |inputs, outputs| {
                    [inputs, outputs / groups.max(1)]
                })?;
                let bias = place.bias(bias, shape[1].saturating_mul(groups))?;
                let op = op(moves.window(shape[2..].to_vec())?)?;
                return Ok(net.weights_of(name, prefix, op, place.one()?, &shape, bias)?);
            }
        }
        LayerKind::BatchNorm { epsilon } => {
            positive(epsilon)?;
            if !place.reads_weight() {
                return Ok(net.batch_norm(name, prefix, place.one()?, epsilon)?);
            }
            Op::BatchNorm { epsilon }
        }
        LayerKind::Prelu { slopes } => {
            if !place.reads_weight() {
                let shape = place.weight(slopes.map(|slopes| vec![slopes]), "`slopes`")?;
                let slopes = net.tensor(&format!("{prefix}.weight"), &shape)?;
                return Ok(net.graph.push(name, Op::Prelu, &[place.one()?, slopes])?);
            }
            Op::Prelu
        }
        LayerKind::GlobalAvgPool {} => Op::Reduce {
            reduction: Reduction::Mean,
            axes: (2..place.axes(net) + 2).collect(),
            keep: true,
        },
        LayerKind::Flatten {} => return Ok(net.graph.flatten(place.one()?)?),
        LayerKind::MaxPool {
            size,
            stride,
            padding,
            dilation,
            ceil,
        } => Op::Pool {
            pooling: Pooling::Max,
            window: pool(place.axes(net), size, stride, padding, dilation, ceil)?,
        },
        LayerKind::AvgPool {
            size,
            stride,
            padding,
            dilation,
            ceil,
            counts_padding,
        } => Op::Pool {
            pooling: Pooling::Mean { counts_padding },
            window: pool(place.axes(net), size, stride, padding, dilation, ceil)?,
        },
        LayerKind::Relu {} => Op::Activation(Activation::Relu),
        LayerKind::LeakyRelu { slope } => Op::Activation(Activation::LeakyRelu(slope)),
        LayerKind::Abs {} => Op::Activation(Activation::Abs),
        LayerKind::Neg {} => Op::Activation(Activation::Neg),
        LayerKind::Reduce { by, axes, keep } => Op::Reduce {
            reduction: by.reduction(),
            axes,
            keep,
        },
        LayerKind::Resample { operation, shape } => Op::Resample {
            kind: operation,
            shape,
        },
        LayerKind::Add {} => {
            ensure!(
                place.said && !from.is_empty(),
                "it adds the values that `from` lists: give two or more"
            );
            Op::Add
        }
        LayerKind::Sub {} => Op::Sub,
        LayerKind::Mul {} => Op::Mul,
        LayerKind::Div {} => Op::Div,
        LayerKind::Concat { axis } => Op::Concat { axis },
        LayerKind::Slice {
            axis,
            start,
            count,
            step,
        } => Op::Slice {
            axis,
            start,
            step,
            count,
        },
        LayerKind::Select { axis, places } => Op::Select { axis, places },
        LayerKind::Gather { axis, shape } => Op::Gather { axis, shape },
        LayerKind::Reshape { shape, whole } => Op::Reshape {
            shape: match (shape, whole) {
                (Some(shape), None) => [&[1], &shape[..]].concat(),
                (None, Some(whole)) => whole,
                _ => bail!(
                    "give its `shape` for one example, or its `whole` shape with the first axis"
                ),
            },
        },
        LayerKind::Transpose { order } => Op::Transpose { order },
        LayerKind::Expand { shape } => Op::Expand { shape },
        LayerKind::Dropout {} => Op::Identity,
        LayerKind::Function { function } => match (function, function.function()) {
            (_, Some(function)) => Op::Function(function),
            (FunctionName::Softmax, _) | (_, None) => Op::Softmax { axis: 1 },
        },
        LayerKind::Softmax { axis } => Op::Softmax { axis },
        LayerKind::Normalise {
            axes,
            groups,
            centred,
            epsilon,
        } => {
            positive(epsilon)?;
            Op::Normalise {
                axes,
                groups,
                centred,
                epsilon,
            }
        }
        LayerKind::Param { tensor, shape } => {
            let known = place.tensors.and_then(|tensors| tensors.shape(&tensor));
            let shape = match (known, shape) {
                (Some(found), Some(said)) if found != said => {
                    bail!("`{tensor}` has shape {found:?}, by `shape` it has {said:?}")
                }
                (Some(found), _) => found.to_vec(),
                (None, Some(said)) if place.tensors.is_none() => said,
                (None, _) if place.tensors.is_some() => bail!("there is no tensor `{tensor}`"),
                _ => bail!("there are no tensors that say its size: give `shape`"),
            };
            return Ok(net.tensor(&tensor, &shape)?);
        }
        LayerKind::Constant { shape } => Op::Constant { shape },
    };
    let from = match op {
        Op::Constant { .. } => &[],
        _ => from,
    };
    Ok(net.graph.push(name, op, from)?)
}

fn positive(epsilon: f64) -> Result<()> {
    ensure!(
        epsilon > 0.0 && epsilon.is_finite(),
        "an epsilon of {epsilon}, not a number > 0"
    );
    Ok(())
}

fn linear(
    net: &mut Layers,
    place: &Place,
    outputs: Option<usize>,
    bias: Option<bool>,
) -> Result<Value> {
    let x = place.one()?;
    let inputs = net.graph.node(x).shape.last().copied().unwrap_or(1);
    // with tensors the weight's own inputs are looked at below, where it is said what does not fit
    let said = outputs.map(|outputs| vec![outputs, inputs]);
    let shape = place.weight(said, "`outputs`")?;
    let prefix = place.prefix;
    let &[outputs, _] = &shape[..] else {
        bail!("`{prefix}.weight` has shape {shape:?}, that of a dense layer has two axes");
    };
    let bias = place.bias(bias, outputs)?;
    let op = Op::MatMul { transposed: true };
    let value = net.weights_of(place.name, prefix, op, x, &shape, bias);
    value.map_err(|error| flatten_first(net, place.from, &shape, error.into()))
}

/// The shape of a convolution's weight, whose first two sizes `channels` gives for inputs and outputs.
fn filters(
    net: &Layers,
    place: &Place,
    outputs: Option<usize>,
    size: Option<Sizes>,
    channels: impl Fn(usize, usize) -> [usize; 2],
) -> Result<Vec<usize>> {
    let x = &net.graph.node(place.one()?).shape;
    let inputs = x.get(1).copied().unwrap_or(1);
    let said = match (outputs, size) {
        (Some(outputs), Some(size)) => {
            let size = size.of(place.axes(net))?;
            Some([&channels(inputs, outputs)[..], &size].concat())
        }
        _ => None,
    };
    let weight = place.weight(said, "`outputs` and `size`")?;
    ensure!(
        (3..=5).contains(&weight.len()),
        "`{}.weight` has shape {weight:?}, that of a convolution has three to five axes",
        place.prefix
    );
    Ok(weight)
}

/// The size of the filters in a value.
fn kernel(net: &Layers, weight: Value) -> Result<Vec<usize>> {
    match &net.graph.node(weight).shape[..] {
        [_, _, kernel @ ..] if !kernel.is_empty() => Ok(kernel.to_vec()),
        shape => {
            bail!("its weight has shape {shape:?}, that of a convolution has three to five axes")
        }
    }
}

/// An error of a dense layer, which is often one of maps that were not flattened.
fn flatten_first(
    net: &Layers,
    from: &[Value],
    weight: &[usize],
    error: anyhow::Error,
) -> anyhow::Error {
    match &net.graph.node(from[0]).shape[..] {
        [_, map @ ..] if map.len() > 1 => {
            let size: usize = map.iter().product();
            let said = format!(
                "it takes {} features, the layer before gives {map:?}, {size} of them once flattened (flatten it first)",
                weight[1]
            );
            error.context(said)
        }
        _ => error,
    }
}

fn pool(
    axes: usize,
    size: Sizes,
    stride: Option<Sizes>,
    padding: Sizes,
    dilation: Sizes,
    ceil: bool,
) -> Result<Window> {
    let moves = Moves {
        stride: stride.unwrap_or_else(|| size.clone()),
        padding,
        dilation,
    };
    Ok(Window {
        ceil,
        ..moves.window(size.of(axes)?)?
    })
}
