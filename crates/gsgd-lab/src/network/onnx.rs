//! ONNX files: their graph, their tensors, and batch norms folded into the layers before them.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use onnx_rs::ast::{
    Attribute, DataLocation, DataType, Dimension, Model, Node, OpType, TensorProto, TypeValue,
    ValueInfo,
};

use super::fold::Folded;
use super::graph::{Function, Graph, Op, Orientation, Window};
use super::tensors::{Entry, Number, Tensors, place};
use super::unpack::unpacked;

fn parse(bytes: &[u8]) -> Result<Model<'_>> {
    let model = onnx_rs::parse(bytes).map_err(|e| anyhow::anyhow!("it is no ONNX file: {e}"))?;
    ensure!(
        model.graph.is_some(),
        "it is no ONNX file, or one without a graph"
    );
    Ok(model)
}

/// The file with every tensor of f32 as raw bytes, which can be replaced where they stand.
pub fn with_raw_tensors(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut model = parse(&bytes)?;
    let graph = model.graph.as_mut().context("there is no graph")?;
    let typed = |t: &TensorProto| t.data_type() == DataType::Float && t.as_raw().is_none();
    if !graph.initializer.iter().any(typed) {
        return Ok(bytes);
    }
    let raw: Vec<Option<Vec<u8>>> = graph
        .initializer
        .iter()
        .map(|tensor| {
            let values = typed(tensor).then(|| tensor.as_f32()).flatten()?;
            Some(
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            )
        })
        .collect();
    for (tensor, raw) in graph.initializer.iter_mut().zip(&raw) {
        if let Some(raw) = raw {
            let dims = tensor.dims().to_vec();
            *tensor = TensorProto::from_raw(tensor.name(), dims, DataType::Float, raw);
        }
    }
    Ok(unpacked(&onnx_rs::encode(&model)))
}

/// Where the tensors stand in the file.
pub fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let model = parse(bytes)?;
    let mut entries = BTreeMap::new();
    for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
        ensure!(
            tensor.data_location() != DataLocation::External,
            "tensor `{}` is in another file: save the model with its tensors inside",
            tensor.name()
        );
        let number = match tensor.data_type() {
            DataType::Float => Number::F32,
            DataType::Double => Number::F64,
            DataType::Float16 => Number::F16,
            DataType::Bfloat16 => Number::BF16,
            _ => Number::Other,
        };
        let size = match number {
            Number::F64 => 8,
            Number::F32 => 4,
            Number::F16 | Number::BF16 => 2,
            Number::Other => 0,
        };
        let shape = dims(tensor)
            .with_context(|| format!("tensor `{}` has shape {:?}", tensor.name(), tensor.dims()))?;
        let raw = tensor.as_raw().unwrap_or_default();
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let whole = count.and_then(|count| count.checked_mul(size)) == Some(raw.len());
        ensure!(
            whole || size == 0,
            "tensor `{}` of shape {shape:?} has {} bytes",
            tensor.name(),
            raw.len()
        );
        let entry = Entry {
            shape,
            number,
            place: place(raw, bytes),
        };
        entries.insert(tensor.name().to_string(), entry);
    }
    Ok(entries)
}

fn dims(tensor: &TensorProto) -> Option<Vec<usize>> {
    let dims = tensor.dims().iter();
    dims.map(|&d| usize::try_from(d).ok()).collect()
}

/// The graph of the file.
pub fn graph(tensors: &Tensors) -> Result<Graph> {
    let model = parse(tensors.bytes())?;
    let file = model.graph.as_ref().context("there is no graph")?;
    let mut reader = Reader {
        graph: Graph::default(),
        tensors,
        values: HashMap::new(),
        constants: HashMap::new(),
        aliases: HashMap::new(),
        shapes: HashMap::new(),
        uses: HashMap::new(),
    };
    for name in file.node.iter().flat_map(|node| &node.input) {
        *reader.uses.entry(name).or_insert(0) += 1;
    }
    for output in &file.output {
        *reader.uses.entry(output.name).or_insert(0) += 1;
    }
    for value in file.value_info.iter().chain(&file.output) {
        reader.shapes.insert(value.name, value);
    }
    for tensor in &file.initializer {
        if let Some(values) = tensor.as_i64() {
            reader.constants.insert(tensor.name(), values.to_vec());
        }
    }
    for input in &file.input {
        if tensors.shape(input.name).is_none() && !reader.constants.contains_key(input.name) {
            let shape = without_batch(input).with_context(|| {
                format!(
                    "input `{}` needs a shape of fixed numbers behind the batch",
                    input.name
                )
            })?;
            let at = reader
                .graph
                .push(input.name, Op::Input { shape }, Vec::new(), tensors)?;
            reader.values.insert(input.name, at);
        }
    }
    for node in &file.node {
        reader.node(node)?;
    }
    let mut graph = reader.graph;
    for output in &file.output {
        let Some(&at) = reader.values.get(output.name) else {
            bail!("output `{}` is computed by nothing", output.name);
        };
        graph.outputs.push(at);
    }
    Ok(graph)
}

fn without_batch(value: &ValueInfo) -> Option<Vec<usize>> {
    let shape = match &value.r#type.as_ref()?.value {
        Some(TypeValue::Tensor(tensor)) => tensor.shape.as_ref()?,
        _ => return None,
    };
    // a batch of numbers has one feature
    if shape.dim.len() == 1 {
        return Some(vec![1]);
    }
    let numbers = shape.dim.iter().skip(1).map(|dim| match dim.value {
        Dimension::Value(n) => usize::try_from(n).ok(),
        _ => None,
    });
    numbers.collect()
}

struct Reader<'a> {
    graph: Graph,
    tensors: &'a Tensors,
    /// Places of the values that depend on inputs.
    values: HashMap<&'a str, usize>,
    /// Whole numbers that are known, or at least do not depend on inputs' values (then empty).
    constants: HashMap<&'a str, Vec<i64>>,
    /// Other names of tensors, as reshaping gives them.
    aliases: HashMap<&'a str, &'a str>,
    shapes: HashMap<&'a str, &'a ValueInfo<'a>>,
    uses: HashMap<&'a str, usize>,
}

impl<'a> Reader<'a> {
    fn node(&mut self, node: &'a Node<'a>) -> Result<()> {
        let Some(&output) = node.output.first() else {
            return Ok(());
        };
        let inputs: Vec<&str> = node
            .input
            .iter()
            .copied()
            .filter(|n| !n.is_empty())
            .collect();
        if node.op_type == OpType::Constant {
            let known = attribute(node, "value").and_then(|a| a.t.as_ref());
            let known = known.and_then(|t| t.as_i64().map(|values| values.to_vec()));
            self.constants.insert(output, known.unwrap_or_default());
            return Ok(());
        }
        if let OpType::Identity | OpType::Unsqueeze | OpType::Squeeze = node.op_type
            && let Some(&first) = node.input.first()
            && self.tensor(first).is_some()
        {
            let tensor = self.aliases.get(first).copied().unwrap_or(first);
            self.aliases.insert(output, tensor);
            return Ok(());
        }
        let dynamic = inputs.iter().any(|name| self.values.contains_key(name));
        // what is computed from shapes and constants alone
        if node.op_type == OpType::Shape || !dynamic {
            self.constants.insert(output, Vec::new());
            return Ok(());
        }
        let name = match node.name {
            "" => output,
            name => name,
        };
        if self.bias_of(node, output)? {
            return Ok(());
        }
        let (op, from) = match self.known(node)? {
            Some(known) => known,
            None => self.opaque(node, output)?,
        };
        let at = self
            .graph
            .push(name, op, from, self.tensors)
            .with_context(|| format!("{} `{name}`", node.op_type))?;
        self.values.insert(output, at);
        Ok(())
    }

    /// The tensor of this name, or of which it is another name.
    fn tensor(&self, name: &'a str) -> Option<(&'a str, &[usize])> {
        let name = self.aliases.get(name).copied().unwrap_or(name);
        Some((name, self.tensors.shape(name)?))
    }

    /// Whether the node adds a bias to a dense layer that has none: then it becomes a part of that layer.
    fn bias_of(&mut self, node: &Node<'a>, output: &'a str) -> Result<bool> {
        if node.op_type != OpType::Add {
            return Ok(false);
        }
        let [a, b] = node.input[..] else {
            return Ok(false);
        };
        for (value, tensor) in [(a, b), (b, a)] {
            let (Some(&at), Some((tensor, shape))) = (self.values.get(value), self.tensor(tensor))
            else {
                continue;
            };
            let shape = shape.to_vec();
            let once = self.uses.get(value) == Some(&1);
            let layer = &mut self.graph.nodes[at];
            if let Op::Linear {
                bias: bias @ None, ..
            } = &mut layer.op
                && once
                && shape == layer.shape
            {
                *bias = Some(tensor.into());
                self.values.insert(output, at);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The node as an operation that is known here.
    fn known(&self, node: &Node<'a>) -> Result<Option<(Op, Vec<usize>)>> {
        let value = |at: usize| {
            let name = node.input.get(at)?;
            self.values.get(name).copied()
        };
        let tensor = |at: usize| {
            let (name, shape) = self.tensor(node.input.get(at)?)?;
            Some((name.to_string(), shape))
        };
        let named = |at: usize| tensor(at).map(|(name, _)| name);
        let Some(x) = value(0) else {
            return Ok(None);
        };
        let one = |op: Op| Ok(Some((op, vec![x])));
        let shape = &self.graph.nodes[x].shape;
        match node.op_type {
            OpType::Relu => one(Op::Relu {}),
            OpType::LeakyRelu => one(Op::LeakyRelu {
                slope: f64::from(attribute(node, "alpha").map_or(0.01, |a| a.f)),
            }),
            OpType::PRelu => match named(1) {
                Some(slopes) => one(Op::Prelu { slopes }),
                None => Ok(None),
            },
            OpType::Dropout | OpType::Identity => one(Op::Identity {}),
            OpType::Sigmoid => one(Op::Function {
                function: Function::Sigmoid,
            }),
            OpType::Tanh => one(Op::Function {
                function: Function::Tanh,
            }),
            OpType::Softmax
                if attribute(node, "axis").is_none_or(|a| matches!(a.i, 1 | -1))
                    && shape.len() == 1 =>
            {
                one(Op::Function {
                    function: Function::Softmax,
                })
            }
            OpType::Gemm => {
                let plain = |name: &str| attribute(node, name).is_none_or(|a| a.f == 1.0);
                let whole = |name: &str| attribute(node, name).map_or(0, |a| a.i);
                let bias = match node.input.get(2) {
                    Some(&name) if !name.is_empty() => match named(2) {
                        Some(bias) => Some(bias),
                        None => return Ok(None),
                    },
                    _ => None,
                };
                match named(1) {
                    Some(weight) if plain("alpha") && plain("beta") && whole("transA") == 0 => {
                        one(Op::Linear {
                            weight,
                            bias,
                            orientation: match whole("transB") {
                                0 => Orientation::InputsFirst,
                                _ => Orientation::OutputsFirst,
                            },
                        })
                    }
                    _ => Ok(None),
                }
            }
            OpType::MatMul => match tensor(1) {
                Some((weight, [_, _])) if shape.len() == 1 => one(Op::Linear {
                    weight,
                    bias: None,
                    orientation: Orientation::InputsFirst,
                }),
                _ => Ok(None),
            },
            OpType::Conv => {
                let Some((weight, &[_, _, height, width])) = tensor(1) else {
                    return Ok(None);
                };
                one(Op::Conv {
                    weight,
                    bias: named(2),
                    window: self.window(node, [height, width], shape)?,
                    groups: usize::try_from(attribute(node, "group").map_or(1, |a| a.i))?,
                })
            }
            OpType::BatchNormalization => match [1, 2, 3, 4].map(named) {
                [Some(weight), Some(bias), Some(mean), Some(variance)] => one(Op::BatchNorm {
                    weight,
                    bias,
                    mean,
                    variance,
                    epsilon: f64::from(attribute(node, "epsilon").map_or(1e-5, |a| a.f)),
                }),
                _ => Ok(None),
            },
            OpType::MaxPool | OpType::AveragePool if node.output.len() == 1 => {
                let kernel = sizes::<2>(node, "kernel_shape")?
                    .context("a pooling needs a kernel_shape of two numbers")?;
                let window = self.window(node, kernel, shape)?;
                one(match node.op_type {
                    OpType::MaxPool => Op::MaxPool { window },
                    _ => Op::AvgPool {
                        window,
                        counts_padding: attribute(node, "count_include_pad")
                            .is_some_and(|a| a.i != 0),
                    },
                })
            }
            OpType::GlobalAveragePool if shape.len() == 3 => one(Op::GlobalAvgPool {}),
            OpType::ReduceMean if shape.len() == 3 => {
                let axes = match attribute(node, "axes") {
                    Some(a) => Some(&a.ints),
                    None => node.input.get(1).and_then(|name| self.constants.get(name)),
                };
                let spatial =
                    axes.is_some_and(|axes| matches!(axes[..], [2, 3] | [-1, -2] | [-2, -1]));
                let keeps = attribute(node, "keepdims").is_none_or(|a| a.i != 0);
                match spatial && keeps {
                    true => one(Op::GlobalAvgPool {}),
                    false => Ok(None),
                }
            }
            OpType::Flatten if attribute(node, "axis").is_none_or(|a| a.i == 1) => {
                one(Op::Flatten {})
            }
            OpType::Squeeze if shape.len() == 3 && shape[1..] == [1, 1] => one(Op::Flatten {}),
            OpType::Reshape => {
                let to = node.input.get(1).and_then(|name| self.constants.get(name));
                let features: usize = shape.iter().product();
                let flattens = match to.map(Vec::as_slice) {
                    // a shape that is computed: only [batch, -1] is made this way
                    Some([]) => true,
                    Some(&[_, -1]) => true,
                    Some(&[-1..=1, to]) => usize::try_from(to) == Ok(features),
                    _ => false,
                };
                match flattens {
                    true => one(Op::Flatten {}),
                    false => Ok(None),
                }
            }
            OpType::Add => match (value(0), value(1)) {
                (Some(a), Some(b)) if shape == &self.graph.nodes[b].shape => {
                    Ok(Some((Op::Add {}, vec![a, b])))
                }
                _ => Ok(None),
            },
            OpType::Concat if attribute(node, "axis").is_some_and(|a| a.i == 1) => {
                let from: Option<Vec<usize>> = (0..node.input.len()).map(value).collect();
                Ok(from.map(|from| (Op::Concat {}, from)))
            }
            _ => Ok(None),
        }
    }

    fn opaque(&self, node: &Node<'a>, output: &str) -> Result<(Op, Vec<usize>)> {
        let from = node.input.iter().filter_map(|name| self.values.get(name));
        let from: Vec<usize> = from.copied().collect();
        // most functions keep the shape; where one does not and says nothing, what follows does not fit
        let said = self
            .shapes
            .get(output)
            .and_then(|value| without_batch(value));
        let shape = match (said, from.first()) {
            (Some(shape), _) => shape,
            (None, Some(&first)) => self.graph.nodes[first].shape.clone(),
            (None, None) => bail!("{} reads nothing", node.op_type),
        };
        let kind = node.op_type.to_string();
        Ok((Op::Opaque { kind, shape }, from))
    }

    fn window(&self, node: &Node, kernel: [usize; 2], shape: &[usize]) -> Result<Window> {
        let stride = sizes::<2>(node, "strides")?.unwrap_or([1, 1]);
        let dilation = sizes::<2>(node, "dilations")?.unwrap_or([1, 1]);
        let same = match attribute(node, "auto_pad").map_or(&b"NOTSET"[..], |a| a.s) {
            b"SAME_UPPER" => Some(false),
            b"SAME_LOWER" => Some(true),
            _ => None,
        };
        let padding = match (same, shape) {
            (Some(lower), &[_, height, width]) => {
                let pads = |axis: usize, size: usize| {
                    let reach = (kernel[axis].saturating_sub(1)).saturating_mul(dilation[axis]);
                    let steps = size.div_ceil(stride[axis].max(1)).saturating_sub(1);
                    let all = (steps.saturating_mul(stride[axis]).saturating_add(reach) + 1)
                        .saturating_sub(size);
                    match lower {
                        true => (all - all / 2, all / 2),
                        false => (all / 2, all - all / 2),
                    }
                };
                let ((top, bottom), (left, right)) = (pads(0, height), pads(1, width));
                [top, left, bottom, right]
            }
            _ => sizes::<4>(node, "pads")?.unwrap_or([0; 4]),
        };
        Ok(Window {
            kernel,
            stride,
            padding,
            dilation,
            ceil: attribute(node, "ceil_mode").is_some_and(|a| a.i != 0),
        })
    }
}

/// The file with folded layers in place of batch norms.
pub fn folded(
    bytes: &[u8],
    graph: &Graph,
    removed: &HashSet<&str>,
    all: &[Folded],
) -> Result<Vec<u8>> {
    let mut model = parse(bytes)?;
    let file = model.graph.as_mut().context("there is no graph")?;
    let raw = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let values: Vec<[Vec<u8>; 2]> = all
        .iter()
        .map(|folded| [raw(&folded.weight.1), raw(&folded.bias.1)])
        .collect();
    for (folded, [weight, bias]) in all.iter().zip(&values) {
        let norm = graph.nodes[folded.norm].op.tensors();
        let reads = |node: &Node, tensor: &str| node.input.contains(&tensor);
        let at = file.node.iter().position(|node| {
            node.op_type == OpType::BatchNormalization && norm.iter().all(|t| reads(node, t))
        });
        let norm = file.node.remove(at.context("its node is gone")?);
        let layer = file
            .node
            .iter_mut()
            .find(|node| reads(node, &folded.weight.0));
        let layer = layer.context("the layer's node is gone")?;
        ensure!(
            matches!(layer.op_type, OpType::Conv | OpType::Gemm),
            "the batch norm `{}` follows a {}",
            norm.name,
            layer.op_type
        );
        layer.output[0] = norm.output[0];
        let place = file
            .initializer
            .iter()
            .position(|t| t.name() == folded.weight.0);
        let old = &file.initializer[place.context("the layer's weight is gone")?];
        let weight =
            TensorProto::from_raw(old.name(), old.dims().to_vec(), DataType::Float, weight);
        file.initializer
            .retain(|t| t.name() != folded.weight.0 && t.name() != folded.bias.0);
        let dims = vec![i64::try_from(folded.bias.1.len())?];
        layer.input.truncate(2);
        layer.input.push(&folded.bias.0);
        file.initializer.push(weight);
        let bias = TensorProto::from_raw(&folded.bias.0, dims, DataType::Float, bias);
        file.initializer.push(bias);
    }
    file.initializer.retain(|t| !removed.contains(t.name()));
    file.input.retain(|input| !removed.contains(input.name));
    Ok(unpacked(&onnx_rs::encode(&model)))
}

fn attribute<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Attribute<'a>> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}

/// An attribute of so many sizes, none of them negative.
fn sizes<const N: usize>(node: &Node, name: &str) -> Result<Option<[usize; N]>> {
    let Some(attribute) = attribute(node, name) else {
        return Ok(None);
    };
    let sizes: Option<Vec<usize>> = attribute
        .ints
        .iter()
        .map(|&n| usize::try_from(n).ok())
        .collect();
    let sizes = sizes.and_then(|sizes| sizes.try_into().ok());
    match sizes {
        Some(sizes) => Ok(Some(sizes)),
        None => bail!(
            "`{}` has {name} {:?}, not {N} sizes",
            node.name,
            attribute.ints
        ),
    }
}
