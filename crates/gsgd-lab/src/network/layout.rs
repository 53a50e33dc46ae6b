//! A network as a TOML file: layers in order, sums and concatenations by name.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::graph::Graph;
use super::op::{Function, Op, Orientation, Window};
use super::tensors::Tensors;

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

/// A size for both axes, or one for each.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Pair {
    Both(usize),
    Each([usize; 2]),
}

/// Zeros on all sides, above and beside, or at top, left, bottom and right.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Sides {
    All(usize),
    Axes([usize; 2]),
    Each([usize; 4]),
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum LayerKind {
    Linear {},
    Conv {
        #[serde(default = "one")]
        stride: Pair,
        #[serde(default = "none")]
        padding: Sides,
        #[serde(default = "one")]
        dilation: Pair,
        #[serde(default = "group")]
        groups: usize,
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
    Prelu {},
    MaxPool {
        size: Pair,
        stride: Option<Pair>,
        #[serde(default = "none")]
        padding: Sides,
    },
    AvgPool {
        size: Pair,
        stride: Option<Pair>,
        #[serde(default = "none")]
        padding: Sides,
    },
    GlobalAvgPool {},
    Add {},
    Concat {},
    Flatten {},
    Dropout {},
    Function {
        function: Function,
    },
}

fn one() -> Pair {
    Pair::Both(1)
}

fn none() -> Sides {
    Sides::All(0)
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

impl Pair {
    fn sizes(self) -> [usize; 2] {
        match self {
            Self::Both(size) => [size; 2],
            Self::Each(sizes) => sizes,
        }
    }
}

impl Sides {
    fn sizes(self) -> [usize; 4] {
        match self {
            Self::All(size) => [size; 4],
            Self::Axes([rows, columns]) => [rows, columns, rows, columns],
            Self::Each(sizes) => sizes,
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
    let mut graph = Graph::default();
    let shape = layout.input;
    let input = graph.push("input", Op::Input { shape }, Vec::new(), tensors)?;
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
            None => vec![graph.nodes.len() - 1],
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
        let op = op(kind, &prefix, tensors).with_context(inside)?;
        let at = graph.push(name.as_str(), op, from, tensors)?;
        places.insert(name, at);
    }
    graph.outputs = match layout.output {
        None => vec![graph.nodes.len() - 1],
        Some(names) => {
            let place = |name: &String| {
                let place = places.get(name).copied();
                place.with_context(|| format!("the output `{name}` is no layer"))
            };
            names.iter().map(place).collect::<Result<_>>()?
        }
    };
    Ok(graph)
}

fn op(kind: LayerKind, prefix: &str, tensors: &Tensors) -> Result<Op> {
    let named = |leaf: &str| format!("{prefix}.{leaf}");
    let bias = || Some(named("bias")).filter(|name| tensors.shape(name).is_some());
    let pool = |size: Pair, stride: Option<Pair>, padding: Sides| Window {
        kernel: size.sizes(),
        stride: stride.unwrap_or(size).sizes(),
        padding: padding.sizes(),
        dilation: [1, 1],
        ceil: false,
    };
    Ok(match kind {
        LayerKind::Linear {} => Op::Linear {
            weight: named("weight"),
            bias: bias(),
            orientation: Orientation::OutputsFirst,
        },
        LayerKind::Conv {
            stride,
            padding,
            dilation,
            groups,
        } => conv(
            prefix,
            tensors,
            stride.sizes(),
            padding.sizes(),
            dilation.sizes(),
            groups,
        )?,
        LayerKind::BatchNorm { epsilon } => batch_norm(prefix, epsilon),
        LayerKind::Relu {} => Op::Relu {},
        LayerKind::LeakyRelu { slope } => Op::LeakyRelu { slope },
        LayerKind::Prelu {} => Op::Prelu {
            slopes: named("weight"),
        },
        LayerKind::MaxPool {
            size,
            stride,
            padding,
        } => Op::MaxPool {
            window: pool(size, stride, padding),
        },
        LayerKind::AvgPool {
            size,
            stride,
            padding,
        } => Op::AvgPool {
            window: pool(size, stride, padding),
            counts_padding: true,
        },
        LayerKind::GlobalAvgPool {} => Op::GlobalAvgPool {},
        LayerKind::Add {} => Op::Add {},
        LayerKind::Concat {} => Op::Concat {},
        LayerKind::Flatten {} => Op::Flatten {},
        LayerKind::Dropout {} => Op::Identity {},
        LayerKind::Function { function } => Op::Function { function },
    })
}

/// A convolution with the tensors `prefix.weight` and, if there is one, `prefix.bias`.
pub fn conv(
    prefix: &str,
    tensors: &Tensors,
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
    groups: usize,
) -> Result<Op> {
    let weight = format!("{prefix}.weight");
    let &[_, _, height, width] = tensors.known(&weight)? else {
        bail!(
            "`{weight}` has shape {:?}, that of a convolution has four dimensions",
            tensors.known(&weight)?
        );
    };
    Ok(Op::Conv {
        bias: Some(format!("{prefix}.bias")).filter(|name| tensors.shape(name).is_some()),
        weight,
        window: Window {
            kernel: [height, width],
            stride,
            padding,
            dilation,
            ceil: false,
        },
        groups,
    })
}

/// A batch norm with PyTorch's names.
pub fn batch_norm(prefix: &str, epsilon: f64) -> Op {
    let named = |leaf: &str| format!("{prefix}.{leaf}");
    Op::BatchNorm {
        weight: named("weight"),
        bias: named("bias"),
        mean: named("running_mean"),
        variance: named("running_var"),
        epsilon,
    }
}
