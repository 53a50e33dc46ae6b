//! What a few numbers in an ONNX file ask for: operations that make values of any size are looked at before they run.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use onnx_rs::ast::{Graph, Node, OpType};

use super::reads::{bodies, label};

/// Bytes of a value at most.
const LARGEST: f64 = (2u64 << 30) as f64;
/// Of a number.
const NUMBER: f64 = 4.0;

/// Whole and other numbers of the tensors that operations take their sizes from.
#[derive(Default)]
struct Sizes<'a> {
    numbers: HashMap<&'a str, Vec<f64>>,
}

/// Refuses a graph in which an operation gives a value of more than [`LARGEST`] by the sizes that the file names.
///
/// # Errors
/// The operation.
pub fn check<'a>(graph: &'a Graph<'a>) -> Result<()> {
    let mut sizes = Sizes::default();
    let mut left = vec![graph];
    let mut nodes: Vec<&Node<'a>> = Vec::new();
    while let Some(graph) = left.pop() {
        for tensor in &graph.initializer {
            sizes.note(tensor.name(), tensor);
        }
        for node in &graph.node {
            let value = node.attribute.iter().find(|a| a.name == "value");
            if let (OpType::Constant, Some(tensor), Some(&output)) = (
                &node.op_type,
                value.and_then(|a| a.t.as_ref()),
                node.output.first(),
            ) {
                sizes.note(output, tensor);
            }
            left.extend(bodies(node));
        }
        nodes.extend(&graph.node);
    }
    for node in nodes {
        let values = sizes.least(node);
        ensure!(
            values * NUMBER <= LARGEST,
            "{} gives {values:.1e} values, {:.1e} are allowed",
            label(node),
            LARGEST / NUMBER
        );
    }
    Ok(())
}

impl<'a> Sizes<'a> {
    fn note(&mut self, name: &'a str, tensor: &onnx_rs::ast::TensorProto) {
        // lists of sizes are short
        const LONGEST: usize = 64;
        let count = tensor
            .dims()
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        if count.is_none_or(|count| count > LONGEST) {
            return;
        }
        let whole = tensor
            .as_i64()
            .map(|all| all.iter().map(|&n| n as f64).collect());
        let other = || {
            tensor
                .as_f32()
                .map(|all| all.iter().map(|&n| f64::from(n)).collect())
        };
        if let Some(numbers) = whole.or_else(other) {
            self.numbers.insert(name, numbers);
        }
    }

    fn numbers_of(&self, node: &Node<'a>, input: usize) -> &[f64] {
        let numbers = node
            .input
            .get(input)
            .and_then(|name| self.numbers.get(name));
        numbers.map_or(&[], Vec::as_slice)
    }

    /// How many values the node gives at least.
    fn least(&self, node: &Node<'a>) -> f64 {
        let product = |sizes: &[f64]| sizes.iter().map(|size| size.max(1.0)).product::<f64>();
        let largest = |sizes: &[f64]| sizes.iter().fold(1.0, |most: f64, &size| most.max(size));
        let listed = |name: &str| {
            let found = node.attribute.iter().find(|a| a.name == name);
            let whole = found.map(|a| a.ints.iter().map(|&n| n as f64));
            whole.into_iter().flatten().collect::<Vec<f64>>()
        };
        match node.op_type {
            OpType::ConstantOfShape => product(self.numbers_of(node, 0)),
            OpType::Expand | OpType::Tile | OpType::CenterCropPad => {
                product(self.numbers_of(node, 1))
            }
            OpType::Reshape => product(self.numbers_of(node, 1)),
            OpType::Pad => largest(&[self.numbers_of(node, 1), &listed("pads")].concat()),
            OpType::Resize => {
                product(self.numbers_of(node, 2)).max(product(self.numbers_of(node, 3)))
            }
            OpType::Upsample => product(self.numbers_of(node, 1)),
            OpType::OneHot => product(self.numbers_of(node, 1)),
            OpType::Range => match [0, 1, 2].map(|at| self.numbers_of(node, at)) {
                [&[start], &[end], &[step]] if step != 0.0 => (end - start) / step,
                _ => 1.0,
            },
            OpType::RandomNormal | OpType::RandomUniform => product(&listed("shape")),
            OpType::ConvTranspose => product(&listed("output_shape"))
                .max(product(&listed("strides")))
                .max(largest(&listed("output_padding"))),
            OpType::Conv | OpType::MaxPool | OpType::AveragePool | OpType::LpPool => {
                largest(&listed("pads"))
            }
            _ => 1.0,
        }
    }
}
