//! Batch norms folded into the layers before them: what inference, and quantisation, work with.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};

use super::graph::{Graph, Op, Orientation};
use super::onnx;
use super::tensors::{Format, Tensors};

/// A layer with the batch norm behind it folded in.
pub struct Folded {
    /// The layer's node.
    pub layer: usize,
    /// The batch norm's.
    pub norm: usize,
    /// Its weight's name and values.
    pub weight: (String, Vec<f32>),
    /// Its bias's name and values.
    pub bias: (String, Vec<f32>),
}

/// Graph and tensors with every batch norm folded, and how many there were.
pub fn fold(graph: &Graph, tensors: &Tensors) -> Result<(Graph, Tensors, usize)> {
    let mut all = Vec::new();
    for (norm, node) in graph.nodes.iter().enumerate() {
        if let Op::BatchNorm { .. } = node.op {
            let folded = folded(graph, norm, tensors);
            all.push(folded.with_context(|| format!("batch norm `{}`", node.name))?);
        }
    }
    let removed: HashSet<&str> = all
        .iter()
        .flat_map(|folded| graph.nodes[folded.norm].op.tensors())
        .collect();
    let tensors = match tensors.format() {
        Format::Safetensors => tensors.edited(&removed, &all)?,
        Format::Onnx => Tensors::of_onnx(onnx::folded(tensors.bytes(), graph, &removed, &all)?)?,
    };
    let folded = without_norms(graph, &all, &tensors)?;
    Ok((folded, tensors, all.len()))
}

fn folded(graph: &Graph, norm: usize, tensors: &Tensors) -> Result<Folded> {
    let node = &graph.nodes[norm];
    let Op::BatchNorm {
        weight: gamma,
        bias: beta,
        mean,
        variance,
        epsilon,
    } = &node.op
    else {
        bail!("it is none");
    };
    let layer = node.from[0];
    let readers = graph.nodes.iter().flat_map(|node| &node.from);
    let once = readers.filter(|&&at| at == layer).count() == 1 && !graph.outputs.contains(&layer);
    ensure!(once, "the layer before it is read by others too");
    let (weight, bias, by_rows) = match &graph.nodes[layer].op {
        Op::Linear {
            weight,
            bias,
            orientation,
        } => (weight, bias, *orientation == Orientation::OutputsFirst),
        Op::Conv { weight, bias, .. } => (weight, bias, true),
        _ => bail!(
            "`{}` before it is neither a convolution nor a dense layer",
            graph.nodes[layer].name
        ),
    };
    let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(|n| tensors.values(n));
    let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
    let factors: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt())
        .collect();
    let mut values = tensors.values(weight)?;
    let channels = factors.len();
    let row = values.len() / channels;
    for (at, value) in values.iter_mut().enumerate() {
        let channel = if by_rows { at / row } else { at % channels };
        *value = (f64::from(*value) * factors[channel]) as f32;
    }
    let before = match bias {
        Some(bias) => tensors.values(bias)?,
        None => vec![0.0; channels],
    };
    let shifted = (0..channels).map(|c| {
        let centred = f64::from(before[c]) - f64::from(mean[c]);
        (f64::from(beta[c]) + centred * factors[c]) as f32
    });
    let name = bias
        .clone()
        .unwrap_or_else(|| match weight.strip_suffix("weight") {
            Some(stem) => format!("{stem}bias"),
            None => format!("{weight}.bias"),
        });
    Ok(Folded {
        layer,
        norm,
        bias: (name, shifted.collect()),
        weight: (weight.clone(), values),
    })
}

fn without_norms(graph: &Graph, all: &[Folded], tensors: &Tensors) -> Result<Graph> {
    let mut new = Graph::default();
    let mut places = Vec::with_capacity(graph.nodes.len());
    for (at, node) in graph.nodes.iter().enumerate() {
        if let Some(folded) = all.iter().find(|folded| folded.norm == at) {
            places.push(places[folded.layer]);
            continue;
        }
        let mut op = node.op.clone();
        if let Some(folded) = all.iter().find(|folded| folded.layer == at)
            && let Op::Linear { bias, .. } | Op::Conv { bias, .. } = &mut op
        {
            *bias = Some(folded.bias.0.clone());
        }
        let from = node.from.iter().map(|&at| places[at]).collect();
        places.push(new.push(&node.name, op, from, tensors)?);
    }
    new.outputs = graph.outputs.iter().map(|&at| places[at]).collect();
    Ok(new)
}
