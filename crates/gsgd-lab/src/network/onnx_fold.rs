//! Batch norms taken out of an ONNX file, with room for the biases of the layers before them.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use onnx_rs::ast::{DataType, OpType, TensorProto};

use super::entry::Added;
use super::graph::Graph;
use super::onnx_tensors::{parse, stored};
use super::reads::{inside, name_of};
use super::unpack::unpacked;

/// A layer with the batch norm behind it folded in.
pub struct Folded {
    /// The layer's node.
    pub layer: usize,
    /// The batch norm's.
    pub norm: usize,
    /// The name of its weight in the file.
    pub weight: String,
    /// The name of its bias in the file.
    pub bias: String,
    /// The values of its weight.
    pub weights: Vec<f64>,
    /// The values of its bias.
    pub biases: Vec<f64>,
}

/// The file with layers that stand for themselves and the batch norms behind them, with room for biases.
pub fn folded(bytes: &[u8], graph: &Graph, all: &[Folded], added: &[Added]) -> Result<Vec<u8>> {
    let mut model = parse(bytes)?;
    let file = model.graph.as_mut().context("there is no graph")?;
    let zeros = added.iter().map(|bias| {
        let mut all = stored(file);
        let like = all.find(|(name, _)| *name == bias.like);
        let number = like.context("the layer's weight is gone")?.1.data_type();
        let size = match number {
            DataType::Double => 8,
            DataType::Float => 4,
            _ => 2,
        };
        Ok((number, vec![0u8; size * bias.length]))
    });
    let zeros = zeros.collect::<Result<Vec<_>>>()?;
    let mut removed: HashSet<&str> = HashSet::new();
    for folded in all {
        let norm = place_of(file, &graph.nodes[folded.norm].name)?;
        let norm = file.node.remove(norm);
        ensure!(
            norm.output.len() == 1,
            "the batch norm `{}` gives statistics",
            norm.name
        );
        let layer = place_of(file, &graph.nodes[folded.layer].name)?;
        let layer = &mut file.node[layer];
        ensure!(
            matches!(layer.op_type, OpType::Conv | OpType::Gemm),
            "the batch norm `{}` follows a {}",
            norm.name,
            layer.op_type
        );
        layer.output[0] = norm.output[0];
        if layer.input.get(2).is_none_or(|bias| bias.is_empty()) {
            layer.input.truncate(2);
            layer.input.push(&folded.bias);
        }
        removed.extend(norm.input.iter().skip(1));
    }
    for (bias, (number, zeros)) in added.iter().zip(&zeros) {
        let dims = vec![i64::try_from(bias.length)?];
        let bias = TensorProto::from_raw(&bias.name, dims, *number, zeros);
        file.initializer.push(bias);
    }
    for node in &file.node {
        let read = node.input.iter().copied().chain(inside(node));
        removed = &removed - &read.collect();
    }
    for output in &file.output {
        removed.remove(output.name);
    }
    file.initializer.retain(|t| !removed.contains(t.name()));
    file.input.retain(|input| !removed.contains(input.name));
    Ok(unpacked(&onnx_rs::encode(&model)))
}

/// The place of the node of this name.
fn place_of(file: &onnx_rs::ast::Graph, name: &str) -> Result<usize> {
    let mut places = (0..file.node.len()).filter(|&at| name_of(&file.node[at]) == name);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => bail!("the node `{name}` is gone"),
        _ => bail!("several nodes have the name `{name}`: give them different names"),
    }
}
