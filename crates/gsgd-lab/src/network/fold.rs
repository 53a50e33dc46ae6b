//! Batch norms folded into the layers before them, what inference and quantisation work with, and put back.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};

use super::entry::Added;
use super::graph::Graph;
use super::onnx_fold::{self, Folded};
use super::op::{Op, Orientation};
use super::tensors::{Format, Tensors};

/// What folding multiplies the weights of a channel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// What the batch norm does.
    Function,
    /// The same with the size of gamma, or 1 where it is 0, so that the channel keeps its weights and their signs.
    Weights,
}

/// Graph and tensors with every batch norm folded.
pub fn fold(graph: &Graph, tensors: &Tensors, factor: Factor) -> Result<(Graph, Tensors)> {
    let (mut all, mut added) = (Vec::new(), Vec::new());
    let readers = graph.readers();
    for (norm, node) in graph.nodes.iter().enumerate() {
        if let Op::BatchNorm { .. } = node.op {
            let inside = || format!("batch norm `{}`", node.name);
            let pair = Pair::new(graph, norm, &readers, tensors).with_context(inside)?;
            added.extend(pair.added(tensors));
            all.push(pair.folded(tensors, factor).with_context(inside)?);
        }
    }
    let removed: HashSet<&str> = all
        .iter()
        .flat_map(|folded| graph.nodes[folded.norm].op.tensors())
        .map(|name| tensors.full_name(name))
        .collect();
    let mut tensors = match tensors.format() {
        Format::Safetensors => tensors.edited(&removed, &added)?,
        Format::Onnx => Tensors::of_onnx(onnx_fold::folded(tensors.bytes(), graph, &all, &added)?)?,
    };
    for folded in &all {
        tensors.replace(&folded.weight, &folded.weights)?;
        tensors.replace(&folded.bias, &folded.biases)?;
    }
    Ok((without_norms(graph, &all, &tensors)?, tensors))
}

/// A batch norm and the layer before it.
struct Pair<'a> {
    layer: usize,
    norm: usize,
    weight: &'a String,
    bias: Option<&'a String>,
    /// Whether the weight has a row per channel, not a column.
    by_rows: bool,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    epsilon: f64,
}

impl<'a> Pair<'a> {
    /// That of the batch norm at `norm`, in a graph whose values have this many readers.
    fn new(graph: &'a Graph, norm: usize, readers: &[usize], tensors: &Tensors) -> Result<Self> {
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
        ensure!(
            readers[layer] == 1,
            "the layer before it is read by others too"
        );
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
        let own = graph.nodes[layer].op.tensors();
        for name in own.iter().map(|name| tensors.full_name(name)) {
            if let Some(why) = graph.held.get(name) {
                bail!("`{name}` before it cannot change: {why}");
            }
        }
        Ok(Self {
            layer,
            norm,
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
    fn factors(&self, factor: Factor) -> Vec<f64> {
        let pairs = self.gamma.iter().zip(&self.variance);
        let one = |(&gamma, &variance): (&f64, &f64)| {
            let gamma = match (factor, gamma) {
                (Factor::Weights, 0.0) => 1.0,
                (Factor::Weights, _) => gamma.abs(),
                (Factor::Function, _) => gamma,
            };
            gamma / (variance + self.epsilon).sqrt()
        };
        pairs.map(one).collect()
    }

    /// The layer's own bias.
    fn own_bias(&self, tensors: &Tensors) -> Result<Vec<f64>> {
        match self.bias {
            Some(bias) => tensors.values(bias),
            None => Ok(vec![0.0; self.gamma.len()]),
        }
    }

    /// The name in the file of the layer's bias once folded.
    fn folded_bias(&self, tensors: &Tensors) -> String {
        if let Some(bias) = self.bias {
            return tensors.full_name(bias).to_string();
        }
        let weight = tensors.full_name(self.weight);
        let mut name = match weight.strip_suffix("weight") {
            Some(stem) => format!("{stem}bias"),
            None => format!("{weight}.bias"),
        };
        while tensors.shape(&name).is_some() {
            name.push('_');
        }
        name
    }

    /// The bias that the layer does not have yet.
    fn added(&self, tensors: &Tensors) -> Option<Added> {
        self.bias.is_none().then(|| Added {
            name: self.folded_bias(tensors),
            length: self.gamma.len(),
            like: tensors.full_name(self.weight).to_string(),
        })
    }

    fn folded(&self, tensors: &Tensors, factor: Factor) -> Result<Folded> {
        let factors = self.factors(factor);
        let mut weights: Vec<f64> = tensors.values(self.weight)?;
        let channels = factors.len();
        let row = weights.len() / channels;
        for (at, value) in weights.iter_mut().enumerate() {
            let channel = if self.by_rows {
                at / row
            } else {
                at % channels
            };
            *value *= factors[channel];
        }
        let before = self.own_bias(tensors)?;
        let shifted = (0..channels).map(|c| self.beta[c] + (before[c] - self.mean[c]) * factors[c]);
        Ok(Folded {
            layer: self.layer,
            norm: self.norm,
            bias: self.folded_bias(tensors),
            biases: shifted.collect(),
            weight: tensors.full_name(self.weight).to_string(),
            weights,
        })
    }
}

/// Gives `tensors`, those of `graph` with batch norms, the weights of `folded`, which are the same network's folded by
/// [`Factor::Weights`] and then rescaled with a factor per channel: `scaled` has them by the name of a folded layer's bias.
///
/// Batch norms change nothing but the mean then. With k a channel's factor of folding and c that of the rescaling, what
/// the layer gives is c k times what it was, so are its bias and the running mean, and the running variance is
/// (c k)^2 (variance + epsilon) - epsilon, which would be negative of a channel smaller than epsilon and is 0 there; gamma
/// is the root of it with epsilon and the sign that it had, or 0 where it was, beta is c beta.
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
    let readers = graph.readers();
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
        for name in node
            .op
            .tensors()
            .into_iter()
            .map(|name| tensors.full_name(name))
        {
            if let Some(why) = graph.held.get(name) {
                bail!("batch norm `{}`: `{name}` cannot change: {why}", node.name);
            }
        }
        let pair = Pair::new(graph, at, &readers, tensors)?;
        let by = scaled
            .get(&pair.folded_bias(tensors))
            .with_context(|| format!("`{}` was not folded", node.name))?;
        let (own, factors) = (pair.own_bias(tensors)?, pair.factors(Factor::Weights));
        let channels = 0..factors.len();
        let whole = |c: usize| by[c] * factors[c];
        let spread = |c: usize| {
            let squared = whole(c).powi(2) * (pair.variance[c] + pair.epsilon);
            (squared - pair.epsilon).max(0.0)
        };
        let times = |values: &[f64], factor: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let channels = values.iter().enumerate();
            channels.map(|(c, &value)| value * factor(c)).collect()
        };
        let spreads: Vec<f64> = channels.clone().map(spread).collect();
        tensors.replace(variance, &spreads)?;
        // gamma goes with what the file holds, whatever its numbers
        let held: Vec<f64> = tensors.values(variance)?;
        let gamma = |c: usize| match pair.gamma[c] {
            0.0 => 0.0,
            gamma => (held[c] + pair.epsilon).sqrt().copysign(gamma),
        };
        changed.push((weight, channels.map(gamma).collect()));
        changed.push((bias, times(&pair.beta, &|c| by[c])));
        changed.push((mean, times(&pair.mean, &whole)));
        changed.push((variance, spreads));
        if let Some(name) = pair.bias {
            changed.push((name, times(&own, &whole)));
        }
    }
    let others: HashSet<&str> = changed.iter().map(|(name, _)| name.as_str()).collect();
    for name in graph.nodes.iter().flat_map(|node| node.op.tensors()) {
        if !others.contains(name) {
            tensors.replace::<f64>(name, &folded.values(name)?)?;
        }
    }
    for (name, values) in &changed {
        tensors.replace(name, values)?;
    }
    Ok(())
}

fn without_norms(graph: &Graph, all: &[Folded], tensors: &Tensors) -> Result<Graph> {
    let mut new = Graph::holding(graph.held.clone());
    let by_norm: HashMap<usize, &Folded> = all.iter().map(|f| (f.norm, f)).collect();
    let by_layer: HashMap<usize, &Folded> = all.iter().map(|f| (f.layer, f)).collect();
    let mut places = Vec::with_capacity(graph.nodes.len());
    for (at, node) in graph.nodes.iter().enumerate() {
        if let Some(folded) = by_norm.get(&at) {
            places.push(places[folded.layer]);
            continue;
        }
        let mut op = node.op.clone();
        if let Some(folded) = by_layer.get(&at)
            && let Op::Linear { bias, .. } | Op::Conv { bias, .. } = &mut op
        {
            *bias = Some(folded.bias.clone());
        }
        let from = node.from.iter().map(|&at| places[at]).collect();
        places.push(new.push(&node.name, op, from, tensors)?);
    }
    new.outputs = graph.outputs.iter().map(|&at| places[at]).collect();
    let left = new.nodes.iter().flat_map(|node| node.op.tensors());
    let left: HashSet<&str> = left.map(|name| tensors.full_name(name)).collect();
    new.held.retain(|name, _| left.contains(name.as_str()));
    Ok(new)
}
