//! Operations that nothing is known of but, perhaps, the shapes of their results.

use std::collections::HashSet;

use gsgd_core::graph::{Op, Value};

use super::super::error::OnnxError;
use super::super::proto::GraphProto;
use super::compute::{axis_of, without};
use super::known::joint;
use super::things::Thing;
use super::{At, Reader};

/// The names that a body reads from outside.
pub(super) fn captured(body: &GraphProto) -> Vec<&str> {
    let inputs = body.input.iter().map(super::name_of);
    let tensors = body.initializer.iter();
    let tensors = tensors.map(super::super::numbers::label);
    let given = body.node.iter().flat_map(|node| &node.output);
    let own: HashSet<&str> = inputs
        .chain(tensors)
        .chain(given.map(String::as_str))
        .collect();
    let mut read: Vec<&str> = Vec::new();
    for node in &body.node {
        read.extend(node.input.iter().map(String::as_str));
        read.extend(node.bodies().flat_map(captured));
    }
    read.extend(body.output.iter().map(super::name_of));
    read.retain(|name| !name.is_empty() && !own.contains(name));
    read.sort_unstable();
    read.dedup();
    read
}

impl<'m> Reader<'m> {
    /// The results at these places of a node as something that depends on all it reads.
    pub(super) fn opaque(&mut self, node: At<'m>, left: &[usize]) -> Result<(), OnnxError> {
        let mut reads: Vec<Value> = Vec::new();
        for at in 0..node.input.len() {
            let value = match self.thing(node, at) {
                Some(&Thing::Unknown(value)) => Some(value),
                Some(Thing::Value(_)) => self.value(node, at),
                Some(Thing::Tensor(_)) if !self.is_code(node, at) => self.value(node, at),
                _ => None,
            };
            reads.extend(value);
        }
        for name in node.proto.bodies().flat_map(captured) {
            match self.things.get(name) {
                Some(&(Thing::Value(value) | Thing::Unknown(value))) => reads.push(value),
                _ => {
                    let why = format!("the body of `{}` reads it", node.label());
                    self.hold(name, &why);
                }
            }
        }
        reads.dedup();
        for &place in left {
            let name = node.proto.output[place].as_str();
            let shape = self
                .obvious(node, place)
                .or_else(|| self.stated_shape(name))
                .filter(|shape| !shape.contains(&0));
            let op = |shape: Vec<usize>| Op::Opaque {
                kind: node.op().to_string(),
                shape,
            };
            let made = shape.and_then(|shape| self.push(node, op(shape), &reads));
            let thing = match made {
                Some(value) => Thing::Value(value),
                None => {
                    let label = node.label();
                    let value = self.graph.push(label, op(vec![1]), &reads)?;
                    self.note_dependence(&reads, false);
                    self.notes.push(format!(
                        "the shape of `{name}`, which {} `{label}` gives, is not known",
                        node.op()
                    ));
                    Thing::Unknown(value)
                }
            };
            if let Thing::Value(value) | Thing::Unknown(value) = thing {
                self.origins.insert(value, node.first_output().to_string());
            }
            self.things.insert(name, thing);
        }
        Ok(())
    }

    /// The shape of a result where the operation says it.
    fn obvious(&self, node: At<'m>, place: usize) -> Option<Vec<usize>> {
        if !self.is_known(node) {
            return None;
        }
        let x = || self.read_shape(node, 0);
        let count = |name: &str| usize::try_from(node.int(name)?).ok();
        match (node.op(), place) {
            (
                "Celu"
                | "Elu"
                | "Selu"
                | "Mish"
                | "Softplus"
                | "Softsign"
                | "Erf"
                | "Sqrt"
                | "Exp"
                | "Log"
                | "Reciprocal"
                | "Floor"
                | "Ceil"
                | "Round"
                | "Sign"
                | "Not"
                | "IsNaN"
                | "IsInf"
                | "Sin"
                | "Cos"
                | "Tan"
                | "Asin"
                | "Acos"
                | "Atan"
                | "Sinh"
                | "Cosh"
                | "Asinh"
                | "Acosh"
                | "Atanh"
                | "ThresholdedRelu"
                | "Shrink"
                | "Swish"
                | "Gelu"
                | "HardSigmoid"
                | "HardSwish"
                | "Sigmoid"
                | "Tanh"
                | "Relu"
                | "LeakyRelu"
                | "PRelu"
                | "Abs"
                | "Neg"
                | "Clip"
                | "LRN"
                | "LpNormalization"
                | "MeanVarianceNormalization"
                | "CumSum"
                | "Trilu"
                | "Hardmax"
                | "LogSoftmax"
                | "Softmax"
                | "Bernoulli"
                | "Cast"
                | "CastLike"
                | "Identity"
                | "BitwiseNot"
                | "QuantizeLinear"
                | "DequantizeLinear"
                | "DynamicQuantizeLinear"
                | "BatchNormalization"
                | "InstanceNormalization"
                | "GroupNormalization"
                | "LayerNormalization"
                | "RMSNormalization"
                | "SimplifiedLayerNormalization"
                | "RotaryEmbedding"
                | "Scatter"
                | "ScatterElements"
                | "ScatterND"
                | "RandomNormalLike"
                | "RandomUniformLike"
                | "EyeLike",
                0,
            )
            | ("Dropout", 0 | 1) => x(),
            (
                "Add" | "Sub" | "Mul" | "Div" | "Sum" | "Mean" | "Max" | "Min" | "Pow" | "Mod"
                | "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or"
                | "Xor" | "Where" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor",
                0,
            ) if self.opset >= 7 => {
                let shapes = (0..node.input.len()).map(|at| self.read_shape(node, at));
                let shapes = shapes.collect::<Option<Vec<Vec<usize>>>>()?;
                let shapes: Vec<&[usize]> = shapes.iter().map(|shape| &shape[..]).collect();
                joint(&shapes)
            }
            ("GatherElements", 0) => self.read_shape(node, 1),
            ("GlobalLpPool", 0) => {
                let mut shape = x()?;
                shape.iter_mut().skip(2).for_each(|size| *size = 1);
                Some(shape)
            }
            ("LpPool", 0) | ("MaxPool", 1) => {
                let shape = x()?;
                let kernel = node.sizes("kernel_shape")?;
                let space = shape.get(2..)?;
                if kernel.len() != space.len() {
                    return None;
                }
                let window = self.window(node, space, &kernel)?;
                Some([&shape[..2], &window.places(space).ok()?[..]].concat())
            }
            (
                "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceProd"
                | "ReduceSumSquare",
                0,
            ) => {
                let shape = x()?;
                let (axes, keep) = self.reduced_axes(node, shape.len())?;
                Some(reduced(&shape, &axes, keep))
            }
            ("ArgMax" | "ArgMin", 0) => {
                let shape = x()?;
                let axis = axis_of(node.int("axis").unwrap_or(0), shape.len())?;
                let keep = node.int("keepdims").unwrap_or(1) != 0;
                Some(reduced(&shape, &[axis], keep))
            }
            ("TopK", 0 | 1) => {
                let mut shape = x()?;
                let axis = axis_of(node.int("axis").unwrap_or(-1), shape.len())?;
                let k = match node.proto.read(1) {
                    Some(_) => self.whole(node, 1)?.first().copied(),
                    None => node.int("k"),
                };
                shape[axis] = usize::try_from(k?).ok()?;
                Some(shape)
            }
            ("LSTM" | "GRU" | "RNN", 0..3) if node.int("layout").unwrap_or(0) == 0 => {
                let &[steps, batch, _] = &x()?[..] else {
                    return None;
                };
                let ways = match node.text("direction") {
                    Some("bidirectional") => 2,
                    _ => 1,
                };
                let hidden = count("hidden_size")?;
                Some(match place {
                    0 => vec![steps, ways, batch, hidden],
                    _ => vec![ways, batch, hidden],
                })
            }
            ("Pad", 0) => {
                let shape = x()?;
                let pads = match self.opset {
                    ..11 => node.ints("pads")?.to_vec(),
                    _ => self.whole(node, 1)?,
                };
                if node.proto.read(3).is_some() || pads.len() != 2 * shape.len() {
                    return None;
                }
                let long = shape.iter().enumerate().map(|(axis, &size)| {
                    let pads = pads[axis].checked_add(pads[shape.len() + axis])?;
                    usize::try_from(i64::try_from(size).ok()?.checked_add(pads)?).ok()
                });
                long.collect()
            }
            ("Resize", 0) if node.attribute("coordinate_transformation_mode").is_some() => {
                match node.text("coordinate_transformation_mode") {
                    Some("tf_crop_and_resize") => None,
                    _ => self.resized(node),
                }
            }
            ("Conv", 0) => {
                let (shape, weight) = (x()?, self.read_shape(node, 1)?);
                let (space, kernel) = (shape.get(2..)?, weight.get(2..)?);
                let window =
                    (space.len() == kernel.len()).then(|| self.window(node, space, kernel))??;
                let places = window.places(space).ok()?;
                Some([&[shape[0], weight[0]], &places[..]].concat())
            }
            ("MatMul" | "Gemm", 0) => None,
            _ => None,
        }
    }
}

fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    match keep {
        false => without(shape, axes),
        true => {
            let sizes = shape.iter().enumerate();
            let sizes = sizes.map(|(axis, &size)| if axes.contains(&axis) { 1 } else { size });
            sizes.collect()
        }
    }
}
