//! Batch norms folded into the layers before them, what inference and quantisation work with, and put back.

use std::collections::{HashMap, HashSet};

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

/// Graph and tensors with every batch norm folded.
pub fn fold(graph: &Graph, tensors: &Tensors) -> Result<(Graph, Tensors)> {
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
    Ok((without_norms(graph, &all, &tensors)?, tensors))
}

/// A batch norm and the layer before it.
struct Pair<'a> {
    layer: usize,
    weight: &'a String,
    bias: Option<&'a String>,
    /// Whether the weight has a row per channel, not a column.
    by_rows: bool,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f64,
}

impl<'a> Pair<'a> {
    /// That of the batch norm at `norm`.
    fn of(graph: &'a Graph, norm: usize, tensors: &Tensors) -> Result<Self> {
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
        let once =
            readers.filter(|&&at| at == layer).count() == 1 && !graph.outputs.contains(&layer);
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
        Ok(Self {
            layer,
            weight,
            bias: bias.as_ref(),
            by_rows,
            gamma: tensors.values(gamma)?,
            beta: tensors.values(beta)?,
            mean: tensors.values(mean)?,
            variance: tensors.values(variance)?,
            epsilon: *epsilon,
        })
    }

    /// What folding multiplies the weights of every channel by.
    fn factors(&self) -> Vec<f64> {
        let pairs = self.gamma.iter().zip(&self.variance);
        let factor = |(&g, &v): (&f32, &f32)| f64::from(g) / (f64::from(v) + self.epsilon).sqrt();
        pairs.map(factor).collect()
    }

    /// The layer's own bias.
    fn own_bias(&self, tensors: &Tensors) -> Result<Vec<f32>> {
        match self.bias {
            Some(bias) => tensors.values(bias),
            None => Ok(vec![0.0; self.gamma.len()]),
        }
    }

    /// The name of the layer's bias once folded.
    fn folded_bias(&self) -> String {
        let made = || match self.weight.strip_suffix("weight") {
            Some(stem) => format!("{stem}bias"),
            None => format!("{}.bias", self.weight),
        };
        self.bias.cloned().unwrap_or_else(made)
    }
}

fn folded(graph: &Graph, norm: usize, tensors: &Tensors) -> Result<Folded> {
    let pair = Pair::of(graph, norm, tensors)?;
    let factors = pair.factors();
    let mut values = tensors.values(pair.weight)?;
    let channels = factors.len();
    let row = values.len() / channels;
    for (at, value) in values.iter_mut().enumerate() {
        let channel = if pair.by_rows {
            at / row
        } else {
            at % channels
        };
        *value = (f64::from(*value) * factors[channel]) as f32;
    }
    let before = pair.own_bias(tensors)?;
    let shifted = (0..channels).map(|c| {
        let centred = f64::from(before[c]) - f64::from(pair.mean[c]);
        (f64::from(pair.beta[c]) + centred * factors[c]) as f32
    });
    Ok(Folded {
        layer: pair.layer,
        norm,
        bias: (pair.folded_bias(), shifted.collect()),
        weight: (pair.weight.clone(), values),
    })
}

/// Gives `tensors`, those of `graph` with batch norms, the weights of `folded`, which are the same network's folded and
/// then rescaled with a factor per channel: `scaled` has them by the name of a folded layer's bias.
///
/// Batch norms change nothing but the mean then. With k a channel's factor of folding and c that of the rescaling, what
/// the layer gives is c k times what it was, so are its bias and the running mean, and the running variance is
/// (c k)^2 (variance + epsilon) - epsilon, which would be negative of a channel smaller than epsilon and is 0 there; gamma
/// is the root of it with epsilon, beta is c beta.
///
/// # Errors
/// A number does not fit into its tensor.
pub fn unfold(
    graph: &Graph,
    tensors: &mut Tensors,
    folded: &Tensors,
    scaled: &HashMap<String, Vec<f64>>,
) -> Result<()> {
    let mut changed = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let Op::BatchNorm {
            weight,
            bias,
            mean,
            variance,
            ..
        } = &node.op
        else {
            continue;
        };
        let pair = Pair::of(graph, at, tensors)?;
        let by = scaled
            .get(&pair.folded_bias())
            .with_context(|| format!("`{}` was not folded", node.name))?;
        let (own, factors) = (pair.own_bias(tensors)?, pair.factors());
        let channels = 0..factors.len();
        let whole = |c: usize| by[c] * factors[c];
        let spread = |c: usize| {
            let squared = whole(c).powi(2) * (f64::from(pair.variance[c]) + pair.epsilon);
            (squared - pair.epsilon).max(0.0) as f32
        };
        let times = |values: &[f32], factor: &dyn Fn(usize) -> f64| -> Vec<f32> {
            let channels = values.iter().enumerate();
            channels
                .map(|(c, &value)| (f64::from(value) * factor(c)) as f32)
                .collect()
        };
        let gamma = |c: usize| (f64::from(spread(c)) + pair.epsilon).sqrt() as f32;
        changed.push((weight, channels.clone().map(gamma).collect()));
        changed.push((bias, times(&pair.beta, &|c| by[c])));
        changed.push((mean, times(&pair.mean, &whole)));
        changed.push((variance, channels.map(spread).collect()));
        if let Some(name) = pair.bias {
            changed.push((name, times(&own, &whole)));
        }
    }
    let others: HashSet<&str> = changed.iter().map(|(name, _)| name.as_str()).collect();
    for name in graph.nodes.iter().flat_map(|node| node.op.tensors()) {
        if !others.contains(name) {
            tensors.replace(name, &folded.values(name)?)?;
        }
    }
    for (name, values) in &changed {
        tensors.replace(name, values)?;
    }
    Ok(())
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
