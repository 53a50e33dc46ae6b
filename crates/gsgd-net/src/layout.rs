//! A network as a TOML file: layers in order, sums and concatenations by name.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use gsgd_core::graph::{Activation, Function, Graph, Op, Pooling, Value, Window};

use crate::layers::Layers;
use crate::tensors::Tensors;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    input: Vec<usize>,
    #[serde(default)]
    output: Option<Vec<String>>,
    layers: Vec<toml::Table>,
}

/// The value or values that a layer reads.
#[derive(Deserialize)]
#[serde(untagged)]
enum From {
    One(String),
    Many(Vec<String>),
}

/// A size for all axes of space, or one for each.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Sizes {
    All(usize),
    Each(Vec<usize>),
}

/// Functions that are not positively homogeneous.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum FunctionName {
    Sigmoid,
    Tanh,
    Gelu,
    Silu,
    Relu6,
    HardSigmoid,
    HardSwish,
    Softmax,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum LayerKind {
    Linear {},
    Conv {
        #[serde(default = "one")]
        stride: Sizes,
        #[serde(default = "none")]
        padding: Sizes,
        #[serde(default = "one")]
        dilation: Sizes,
        #[serde(default = "group")]
        groups: usize,
    },
    ConvTranspose {
        #[serde(default = "one")]
        stride: Sizes,
        #[serde(default = "none")]
        padding: Sizes,
        #[serde(default = "one")]
        dilation: Sizes,
        #[serde(default = "group")]
        groups: usize,
        #[serde(default = "none")]
        output_padding: Sizes,
    },
    BatchNorm {
        #[serde(default = "epsilon")]
        epsilon: f64,
    },
    Relu {},
    LeakyRelu {
        #[serde(default = "slope")]
        slope: f64,
    },
    Abs {},
    Prelu {},
    MaxPool {
        size: Sizes,
        stride: Option<Sizes>,
        #[serde(default = "none")]
        padding: Sizes,
    },
    AvgPool {
        size: Sizes,
        stride: Option<Sizes>,
        #[serde(default = "none")]
        padding: Sizes,
    },
    GlobalAvgPool {},
    Add {},
    Mul {},
    Concat {
        #[serde(default = "group")]
        axis: usize,
    },
    Slice {
        #[serde(default = "group")]
        axis: usize,
        start: usize,
        count: usize,
    },
    Reshape {
        shape: Vec<usize>,
    },
    Transpose {
        order: Vec<usize>,
    },
    Flatten {},
    Dropout {},
    Function {
        function: FunctionName,
    },
}

fn one() -> Sizes {
    Sizes::All(1)
}

fn none() -> Sizes {
    Sizes::All(0)
}

fn group() -> usize {
    1
}

fn epsilon() -> f64 {
    1e-5
}

fn slope() -> f64 {
    0.01
}

impl Sizes {
    /// A size for each of this many axes.
    fn of(&self, axes: usize) -> Result<Vec<usize>> {
        match self {
            Self::All(size) => Ok(vec![*size; axes]),
            Self::Each(sizes) => {
                ensure!(
                    sizes.len() == axes,
                    "{sizes:?} are {} sizes, there are {axes} axes of space",
                    sizes.len()
                );
                Ok(sizes.clone())
            }
        }
    }

    /// Zeros before and after each axis: of all, of each axis, or those before all axes and then those after.
    fn around(&self, axes: usize) -> Result<Vec<[usize; 2]>> {
        match self {
            Self::Each(sizes) if axes > 0 && sizes.len() == 2 * axes => {
                let (before, after) = sizes.split_at(axes);
                Ok(before.iter().zip(after).map(|(&a, &b)| [a, b]).collect())
            }
            sizes => Ok(sizes.of(axes)?.into_iter().map(|pad| [pad, pad]).collect()),
        }
    }
}

/// The graph that the file describes, of layers that the tensors belong to.
///
/// # Errors
/// The file cannot be read or is no such description, or does not fit the tensors.
pub fn read(path: &Path, tensors: &Tensors) -> Result<Graph> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, tensors).with_context(|| format!("in {}", path.display()))
}

/// The graph of a text.
///
/// # Errors
/// As for [`read`].
pub fn parse(text: &str, tensors: &Tensors) -> Result<Graph> {
    let layout: Layout = toml::from_str(text)?;
    let mut net = Layers::default();
    let shape = [&[1], &layout.input[..]].concat();
    let input = net.graph.input(&shape)?;
    let mut last = input;
    let mut places = HashMap::from([("input".to_string(), input)]);
    for (at, mut layer) in layout.layers.into_iter().enumerate() {
        let take = |layer: &mut toml::Table, key: &str| layer.remove(key);
        let name = match take(&mut layer, "name") {
            Some(toml::Value::String(name)) => name,
            None => format!("#{}", at + 1),
            Some(other) => bail!("layer {}: its name is {other}, not a text", at + 1),
        };
        let inside = || format!("layer `{name}`");
        ensure!(
            !places.contains_key(&name),
            "two layers have the name `{name}`"
        );
        let prefix = match take(&mut layer, "tensors") {
            Some(toml::Value::String(prefix)) => prefix,
            None => name.clone(),
            Some(other) => bail!("layer `{name}`: its tensors are {other}, not a text"),
        };
        let from = match take(&mut layer, "from") {
            None => vec![last],
            Some(value) => {
                let from: From = value
                    .try_into()
                    .context("`from` is a name or a list of names")
                    .with_context(inside)?;
                let names = match from {
                    From::One(name) => vec![name],
                    From::Many(names) => names,
                };
                let place = |name: &String| {
                    let place = places.get(name).copied();
                    place.with_context(|| format!("it reads `{name}`, which is no layer before it"))
                };
                let places: Result<_> = names.iter().map(place).collect();
                places.with_context(inside)?
            }
        };
        let kind: LayerKind = toml::Value::Table(layer).try_into().with_context(inside)?;
        last = add(&mut net, &name, &prefix, kind, &from, tensors).with_context(inside)?;
        places.insert(name, last);
    }
    let outputs: Vec<Value> = match layout.output {
        None => vec![last],
        Some(names) => {
            let place = |name: &String| {
                let place = places.get(name).copied();
                place.with_context(|| format!("the output `{name}` is no layer"))
            };
            names.iter().map(place).collect::<Result<_>>()?
        }
    };
    outputs
        .into_iter()
        .for_each(|value| net.graph.output(value));
    Ok(net.graph)
}

/// Appends a layer.
fn add(
    net: &mut Layers,
    name: &str,
    prefix: &str,
    kind: LayerKind,
    from: &[Value],
    tensors: &Tensors,
) -> Result<Value> {
    let one = || match from {
        [one] => Ok(*one),
        _ => bail!("it reads one value, not {}", from.len()),
    };
    let weight =
        || -> Result<Vec<usize>> { Ok(tensors.known(&format!("{prefix}.weight"))?.to_vec()) };
    let bias = |outputs: usize| tensors.shape(&format!("{prefix}.bias")).map(|_| outputs);
    let axes = |net: &Layers| net.graph.node(from[0]).shape.len().saturating_sub(2);
    let op = match kind {
        LayerKind::Linear {} => {
            let shape = weight()?;
            let &[outputs, _] = &shape[..] else {
                bail!("`{prefix}.weight` has shape {shape:?}, that of a dense layer has two axes");
            };
            let op = Op::MatMul { transposed: true };
            let value = net.weights_of(name, prefix, op, one()?, &shape, bias(outputs));
            return value.map_err(|error| flatten_first(net, from, &shape, error.into()));
        }
        LayerKind::Conv {
            stride,
            padding,
            dilation,
            groups,
        } => {
            let shape = weight()?;
            let window = moving(prefix, &shape, [&stride, &dilation], &padding)?;
            let op = Op::Conv { window, groups };
            let bias = bias(shape[0]);
            return Ok(net.weights_of(name, prefix, op, one()?, &shape, bias)?);
        }
        LayerKind::ConvTranspose {
            stride,
            padding,
            dilation,
            groups,
            output_padding,
        } => {
            let shape = weight()?;
            let window = moving(prefix, &shape, [&stride, &dilation], &padding)?;
            let op = Op::ConvTranspose {
                output_padding: output_padding.of(shape.len() - 2)?,
                window,
                groups,
            };
            let bias = bias(shape[1].saturating_mul(groups));
            return Ok(net.weights_of(name, prefix, op, one()?, &shape, bias)?);
        }
        LayerKind::BatchNorm { epsilon } => {
            ensure!(
                epsilon > 0.0 && epsilon.is_finite(),
                "an epsilon of {epsilon}, not a number > 0"
            );
            return Ok(net.batch_norm(name, prefix, one()?, epsilon)?);
        }
        LayerKind::Prelu {} => {
            let slopes = net.tensor(&format!("{prefix}.weight"), &weight()?)?;
            return Ok(net.graph.push(name, Op::Prelu, &[one()?, slopes])?);
        }
        LayerKind::GlobalAvgPool {} => {
            let op = Op::Reduce {
                reduction: gsgd_core::graph::Reduction::Mean,
                axes: (2..axes(net) + 2).collect(),
                keep: true,
            };
            return Ok(net.graph.push(name, op, &[one()?])?);
        }
        LayerKind::Flatten {} => return Ok(net.graph.flatten(one()?)?),
        LayerKind::MaxPool {
            size,
            stride,
            padding,
        } => Op::Pool {
            pooling: Pooling::Max,
            window: pool(axes(net), &size, stride.as_ref(), &padding)?,
        },
        LayerKind::AvgPool {
            size,
            stride,
            padding,
        } => Op::Pool {
            pooling: Pooling::Mean {
                counts_padding: true,
            },
            window: pool(axes(net), &size, stride.as_ref(), &padding)?,
        },
        LayerKind::Relu {} => Op::Activation(Activation::Relu),
        LayerKind::LeakyRelu { slope } => Op::Activation(Activation::LeakyRelu(slope)),
        LayerKind::Abs {} => Op::Activation(Activation::Abs),
        LayerKind::Add {} => {
            ensure!(from.len() >= 2, "it adds two values or more");
            Op::Add
        }
        LayerKind::Mul {} => Op::Mul,
        LayerKind::Concat { axis } => Op::Concat { axis },
        LayerKind::Slice { axis, start, count } => Op::Slice {
            axis,
            start,
            step: 1,
            count,
        },
        LayerKind::Reshape { shape } => Op::Reshape {
            shape: [&[1], &shape[..]].concat(),
        },
        LayerKind::Transpose { order } => Op::Transpose { order },
        LayerKind::Dropout {} => Op::Identity,
        LayerKind::Function { function } => match function {
            FunctionName::Sigmoid => Op::Function(Function::Sigmoid),
            FunctionName::Tanh => Op::Function(Function::Tanh),
            FunctionName::Gelu => Op::Function(Function::Gelu),
            FunctionName::Silu => Op::Function(Function::Silu),
            FunctionName::Relu6 => Op::Function(Function::Relu6),
            FunctionName::HardSigmoid => Op::Function(Function::HardSigmoid),
            FunctionName::HardSwish => Op::Function(Function::HardSwish),
            FunctionName::Softmax => Op::Softmax { axis: 1 },
        },
    };
    Ok(net.graph.push(name, op, from)?)
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

/// The window of a layer with a weight of this shape.
fn moving(
    prefix: &str,
    weight: &[usize],
    [stride, dilation]: [&Sizes; 2],
    padding: &Sizes,
) -> Result<Window> {
    ensure!(
        (3..=5).contains(&weight.len()),
        "`{prefix}.weight` has shape {weight:?}, that of a convolution has three to five axes"
    );
    let axes = weight.len() - 2;
    Ok(Window {
        kernel: weight[2..].to_vec(),
        stride: stride.of(axes)?,
        padding: padding.around(axes)?,
        dilation: dilation.of(axes)?,
        ceil: false,
    })
}

fn pool(axes: usize, size: &Sizes, stride: Option<&Sizes>, padding: &Sizes) -> Result<Window> {
    Ok(Window {
        kernel: size.of(axes)?,
        stride: stride.unwrap_or(size).of(axes)?,
        padding: padding.around(axes)?,
        dilation: vec![1; axes],
        ceil: false,
    })
}
