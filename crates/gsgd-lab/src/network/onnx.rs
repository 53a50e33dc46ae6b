//! The graph of an ONNX file.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use onnx_rs::ast::{Dimension, Node, OpType, TypeValue, ValueInfo};

use super::graph::Graph;
use super::growth;
use super::onnx_tensors::{attribute, parse};
use super::op::{Function, Op, Orientation, Window};
use super::reads::{Reads, inside, label, name_of, renames};
use super::tensors::Tensors;

/// The graph of the file.
pub fn graph(tensors: &Tensors) -> Result<Graph> {
    let model = parse(tensors.bytes())?;
    let file = model.graph.as_ref().context("there is no graph")?;
    let mut reader = Reader {
        graph: Graph::default(),
        tensors,
        values: HashMap::new(),
        constants: HashMap::new(),
        computed: HashMap::new(),
        reshaped: HashSet::new(),
        shapes: HashMap::new(),
        reads: Reads::from_graph(file, tensors)?,
    };
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
    let Reader {
        mut graph,
        values,
        reads,
        ..
    } = reader;
    // a result that depends on no input is the same for every scaling: what it reads is held
    let places = file
        .output
        .iter()
        .filter_map(|output| values.get(output.name));
    graph.outputs = places.copied().collect();
    ensure!(
        !graph.outputs.is_empty(),
        "none of its results depends on its inputs"
    );
    for tensor in graph.nodes.iter().flat_map(|node| node.op.changing()) {
        if let readers @ [_, _, ..] = reads.readers(tensor) {
            let mut readers: Vec<&str> = readers.iter().map(String::as_str).collect();
            readers.dedup();
            let said = format!("it is read by {}", readers.join(" and "));
            graph.held.insert(tensor.to_string(), said);
        }
    }
    Ok(graph)
}

/// Refuses a file that asks for more memory than a network takes.
pub fn check_sizes(bytes: &[u8]) -> Result<()> {
    let model = parse(bytes)?;
    growth::check(model.graph.as_ref().context("there is no graph")?)
}

/// The values that functions which level out read where they give the results: they hide how far their inputs are off.
pub fn before_levelling(bytes: &[u8]) -> Result<Vec<String>> {
    let model = parse(bytes)?;
    let file = model.graph.as_ref().context("there is no graph")?;
    let nodes = file.node.iter().flat_map(|node| {
        let outputs = node.output.iter();
        outputs.map(move |&output| (output, node))
    });
    let by_output: HashMap<&str, &Node> = nodes.collect();
    let mut found = Vec::new();
    for output in &file.output {
        let (mut at, mut before) = (output.name, None);
        // each node once at most, should the file lead in a circle
        for _ in 0..file.node.len() {
            let Some(node) = by_output.get(at) else { break };
            let levels = match node.op_type {
                OpType::Softmax
                | OpType::LogSoftmax
                | OpType::Sigmoid
                | OpType::HardSigmoid
                | OpType::Tanh
                | OpType::Softsign => true,
                OpType::Identity | OpType::Flatten | OpType::Reshape | OpType::Squeeze => false,
                _ => break,
            };
            let Some(&input) = node.input.first() else {
                break;
            };
            at = input;
            if levels {
                before = Some(at);
            }
        }
        let is_value = |name: &&str| by_output.contains_key(name);
        found.extend(before.filter(is_value).map(str::to_string));
    }
    Ok(found)
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
    /// Shapes of what is computed from tensors alone.
    computed: HashMap<&'a str, Vec<usize>>,
    /// Other names of tensors under which they have another shape: as a bias, they may be added elsewhere.
    reshaped: HashSet<&'a str>,
    shapes: HashMap<&'a str, &'a ValueInfo<'a>>,
    reads: Reads<'a>,
}

impl<'a> Reader<'a> {
    fn node(&mut self, node: &'a Node<'a>) -> Result<()> {
        let Some(&output) = node.output.first() else {
            return Ok(());
        };
        if node.op_type == OpType::Constant {
            let known = attribute(node, "value").and_then(|a| a.t.as_ref());
            let known = known.and_then(|t| t.as_i64().map(|values| values.to_vec()));
            self.constants.insert(output, known.unwrap_or_default());
            return Ok(());
        }
        if let Some(&first) = node.input.first()
            && renames(node)
            && self.tensor(first).is_some()
        {
            if node.op_type != OpType::Identity || self.reshaped.contains(first) {
                self.reshaped.insert(output);
            }
            return Ok(());
        }
        let from = self.read(node);
        // what is computed from shapes and constants alone
        if node.op_type == OpType::Shape || from.is_empty() {
            self.constants.insert(output, Vec::new());
            let first = node.input.first().and_then(|x| self.tensor(x));
            let shape = match (&node.op_type, first) {
                (OpType::Transpose, Some((_, shape))) => transposed(node, shape),
                (OpType::Cast | OpType::DequantizeLinear, Some((_, shape))) => Some(shape.to_vec()),
                _ => None,
            };
            self.computed.extend(shape.map(|shape| (output, shape)));
            return Ok(());
        }
        if self.bias_of(node, output)? {
            return Ok(());
        }
        let inside = || label(node);
        if let Some((op, from)) = self.known(node)? {
            let at = self.graph.push(name_of(node), op, from, self.tensors);
            self.values.insert(output, at.with_context(inside)?);
            return Ok(());
        }
        // whatever it gives, it depends on all that it reads
        for &output in node.output.iter().filter(|name| !name.is_empty()) {
            let op = self.opaque(node, output, &from);
            let name = match output == node.output[0] {
                true => name_of(node),
                false => output,
            };
            let at = self.graph.push(name, op, from.clone(), self.tensors);
            self.values.insert(output, at.with_context(inside)?);
        }
        Ok(())
    }

    /// The values that a node depends on, its bodies included.
    fn read(&self, node: &'a Node<'a>) -> Vec<usize> {
        let inside = inside(node);
        let names = node.input.iter().chain(&inside);
        let mut from: Vec<usize> = Vec::new();
        for at in names.filter_map(|name| self.values.get(name)) {
            if !from.contains(at) {
                from.push(*at);
            }
        }
        from
    }

    /// The tensor of this name, or of which it is another name.
    fn tensor(&self, name: &'a str) -> Option<(&'a str, &[usize])> {
        let name = self.reads.root(name);
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
            if self.reshaped.contains(tensor) {
                continue;
            }
            let (Some(&at), Some((tensor, shape))) = (self.values.get(value), self.tensor(tensor))
            else {
                continue;
            };
            let shape = shape.to_vec();
            let once = self.reads.readers(value).len() == 1;
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
        // a bias that is no tensor here is not known, rather than none
        let bias = || match node.input.get(2) {
            Some(&name) if self.reshaped.contains(name) => None,
            Some(&name) if !name.is_empty() => named(2).map(Some),
            _ => Some(None),
        };
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
                let Some(bias) = bias() else {
                    return Ok(None);
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
                let (Some((weight, &[_, _, height, width])), Some(bias)) = (tensor(1), bias())
                else {
                    return Ok(None);
                };
                one(Op::Conv {
                    weight,
                    bias,
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
            // counted from the end, the batch included
            OpType::Concat
                if attribute(node, "axis").is_some_and(|a| {
                    a.i == 1 || a.i == -i64::try_from(shape.len()).unwrap_or(0)
                }) =>
            {
                let from: Option<Vec<usize>> = (0..node.input.len()).map(value).collect();
                Ok(from.map(|from| (Op::Concat {}, from)))
            }
            _ => Ok(None),
        }
    }

    fn opaque(&self, node: &Node<'a>, output: &str, from: &[usize]) -> Op {
        let said = self.shapes.get(output);
        let first = || {
            let first = from.first().map(|&at| self.graph.nodes[at].shape.clone());
            first.unwrap_or_default()
        };
        let shape = said
            .and_then(|value| without_batch(value))
            .or_else(|| self.product(node))
            // most functions keep the shape; where one does not and says nothing, what follows does not fit
            .unwrap_or_else(first);
        let kind = node.op_type.to_string();
        Op::Opaque { kind, shape }
    }

    /// The shape of a product of features with a matrix that is computed, or that is a tensor of a layer unlike those known.
    fn product(&self, node: &Node<'a>) -> Option<Vec<usize>> {
        let matrix = *node.input.get(1)?;
        let computed = self.computed.get(matrix).map(Vec::as_slice);
        match (&node.op_type, computed) {
            (OpType::MatMul, Some(&[_, features])) => Some(vec![features]),
            (OpType::Gemm, _) => {
                let &[a, b] = computed.or_else(|| Some(self.tensor(matrix)?.1))? else {
                    return None;
                };
                let transposed = attribute(node, "transB").is_some_and(|a| a.i != 0);
                Some(vec![if transposed { a } else { b }])
            }
            _ => None,
        }
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

/// The shape of a tensor whose dimensions change places.
fn transposed(node: &Node, shape: &[usize]) -> Option<Vec<usize>> {
    let Some(order) = attribute(node, "perm") else {
        return Some(shape.iter().rev().copied().collect());
    };
    let order = order.ints.iter().map(|&at| usize::try_from(at).ok());
    order.map(|at| shape.get(at?).copied()).collect()
}

/// An attribute of this many sizes, none of them negative.
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
