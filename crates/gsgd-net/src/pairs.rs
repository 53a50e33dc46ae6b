//! Batch norms and the layers before them, and what folding makes of their numbers.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use gsgd_core::graph::{Graph, Op, Param, Value};
use gsgd_core::scales::ParamKey;

/// Gives the numbers of a parameter.
pub(crate) type Values<'v> = &'v dyn Fn(ParamKey) -> Result<Vec<f64>>;

/// A batch norm and the layer before it.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// The batch norm.
    pub norm: Value,
    /// The layer.
    pub layer: Value,
    /// The layer's weight.
    pub weight: ParamKey,
    /// The layer's bias once folded: its own, or a new one.
    pub bias: ParamKey,
    pub has_bias: bool,
    channels: Channels,
    /// Gamma, beta, running mean and running variance.
    pub tensors: [ParamKey; 4],
    epsilon: f64,
}

/// Which channel of the result each number of a weight belongs to.
#[derive(Debug, Clone, Copy)]
struct Channels {
    /// Numbers of neighbouring channels are this far apart.
    stride: usize,
    /// Channels along the axis.
    count: usize,
    /// Of a transposed convolution, numbers of a group's inputs: its groups have channels of their own.
    group: usize,
}

impl Channels {
    fn of(self, at: usize) -> usize {
        at / self.stride % self.count + at / self.group * self.count
    }
}

/// What folding multiplies the weights of a channel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    /// What the batch norm does.
    Function,
    /// The same with the size of gamma, or 1 where it is 0, so that the channel keeps its weights and their signs.
    Weights,
}

/// The weights and biases of a layer with its batch norm in them.
#[derive(Debug)]
pub(crate) struct Folded {
    pub weights: Vec<f64>,
    pub biases: Vec<f64>,
}

impl Pair {
    pub fn find(graph: &Graph, norm: Value, readers: &[usize]) -> Result<Self> {
        let node = graph.node(norm);
        let Op::BatchNorm { epsilon } = node.op else {
            bail!("it is none");
        };
        let layer = node.reads[0];
        let before = graph.node(layer);
        ensure!(
            readers[layer.index()] == 1,
            "the layer before it is read by others too"
        );
        let at = |value: Value| match graph.node(value).op {
            Op::Param(key) => Ok(key),
            _ => bail!("a tensor of it is computed"),
        };
        let tensors: Result<Vec<ParamKey>> =
            node.reads[1..].iter().map(|&value| at(value)).collect();
        let tensors: [ParamKey; 4] = tensors?
            .try_into()
            .map_err(|_| anyhow::anyhow!("it has not four tensors"))?;
        let unknown = || {
            let name = before.op.name();
            format!(
                "`{}` before it, a {name}, is no layer with weights",
                before.name
            )
        };
        let (weight, channels) = weight_of(graph, layer).with_context(unknown)?;
        let own = before.reads.get(2).map(|&bias| at(bias)).transpose()?;
        for key in [Some(weight), own].into_iter().flatten().chain(tensors) {
            let uses = graph.nodes().iter().flat_map(|node| &node.reads);
            let uses = uses.filter(|value| graph.node(**value).op == Op::Param(key));
            let name = graph.tensor(key).map_or("", |param| &param.name);
            ensure!(uses.count() == 1, "`{name}` is read by others too");
            if let Some(why) = graph.held().get(&key) {
                bail!("`{name}` cannot change: {why}");
            }
        }
        Ok(Self {
            norm,
            layer,
            weight,
            bias: own.unwrap_or(ParamKey(u64::MAX)),
            has_bias: own.is_some(),
            channels,
            tensors,
            epsilon,
        })
    }

    /// What folding multiplies the weights of every channel by, from gamma and variance.
    pub fn factors(&self, gamma: &[f64], variance: &[f64], factor: Factor) -> Vec<f64> {
        let one = |(&gamma, &variance): (&f64, &f64)| {
            let gamma: f64 = match (factor, gamma) {
                (Factor::Weights, 0.0) => 1.0,
                (Factor::Weights, _) => gamma.abs(),
                (Factor::Function, _) => gamma,
            };
            gamma / (variance + self.epsilon).sqrt()
        };
        gamma.iter().zip(variance).map(one).collect()
    }

    /// The layer's own bias, zeros where it has none.
    fn own_bias(&self, values: Values, channels: usize) -> Result<Vec<f64>> {
        match self.has_bias {
            true => values(self.bias),
            false => Ok(vec![0.0; channels]),
        }
    }

    pub fn folded(&self, values: Values, factor: Factor) -> Result<Folded> {
        let [gamma, beta, mean, variance] = self.tensors.map(values);
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let factors = self.factors(&gamma, &variance, factor);
        let mut weights = values(self.weight)?;
        self.scale(&mut weights, &factors);
        let before = self.own_bias(values, factors.len())?;
        let shifted = (0..factors.len()).map(|c| beta[c] + (before[c] - mean[c]) * factors[c]);
        Ok(Folded {
            biases: shifted.collect(),
            weights,
        })
    }

    /// Multiplies the weights of every channel.
    pub fn scale(&self, weights: &mut [f64], factors: &[f64]) {
        for (at, value) in weights.iter_mut().enumerate() {
            *value *= factors[self.channels.of(at)];
        }
    }
}

/// The weight of a layer, and which channel of the result each of its numbers belongs to.
fn weight_of(graph: &Graph, layer: Value) -> Option<(ParamKey, Channels)> {
    let node = graph.node(layer);
    let weight = *node.reads.get(1)?;
    // the axis of channels, and how many groups have channels of their own
    let rank = graph.node(weight).shape.len();
    let (axis, groups) = match &node.op {
        Op::MatMul { transposed } => (rank.checked_sub(if *transposed { 2 } else { 1 })?, 1),
        Op::Conv { .. } => (0, 1),
        Op::ConvTranspose { groups, .. } => (1, *groups),
        _ => return None,
    };
    let (key, axis) = param_axis(graph, weight, axis)?;
    let shape = &graph.tensor(key)?.shape;
    let stride: usize = shape[axis + 1..].iter().product();
    let channels = Channels {
        stride,
        count: shape[axis],
        group: match axis {
            1 => (shape[0] / groups.max(1)).max(1) * shape[1] * stride,
            _ => usize::MAX,
        },
    };
    let outputs = shape[axis] * groups;
    let fits = shape.len() >= 2 && (matches!(node.op, Op::ConvTranspose { .. }) || groups == 1);
    let given = match node.op {
        Op::MatMul { .. } => *node.shape.last()?,
        _ => *node.shape.get(1)?,
    };
    (fits && outputs == given).then_some((key, channels))
}

/// The parameter that a value is, with axes in another order or not, and which axis of it one of the value is.
fn param_axis(graph: &Graph, value: Value, axis: usize) -> Option<(ParamKey, usize)> {
    let node = graph.node(value);
    match &node.op {
        Op::Param(key) => Some((*key, axis)),
        Op::Identity => param_axis(graph, node.reads[0], axis),
        Op::Transpose { order } => param_axis(graph, node.reads[0], *order.get(axis)?),
        _ => None,
    }
}

/// The graph without these norms, and the names of new biases by their keys.
pub(crate) fn without_norms(
    graph: &Graph,
    pairs: &[Pair],
) -> Result<(Graph, BTreeMap<ParamKey, String>)> {
    let by_norm: HashMap<Value, &Pair> = pairs.iter().map(|pair| (pair.norm, pair)).collect();
    let by_layer: HashMap<Value, &Pair> = pairs.iter().map(|pair| (pair.layer, pair)).collect();
    let removed: HashSet<ParamKey> = pairs.iter().flat_map(|pair| pair.tensors).collect();
    let mut new = Graph::new();
    let mut taken: HashSet<String> = HashSet::new();
    for param in graph.params() {
        taken.insert(param.name.clone());
        if !removed.contains(&param.key) {
            new.declare(param.clone())?;
        }
    }
    let mut names = BTreeMap::new();
    for pair in pairs.iter().filter(|pair| !pair.has_bias) {
        let weight = graph.tensor(pair.weight).map_or("", |param| &param.name);
        let mut name = match weight.strip_suffix("weight") {
            Some(stem) => format!("{stem}bias"),
            None => format!("{weight}.bias"),
        };
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        let channels = &graph
            .tensor(pair.tensors[0])
            .map(|param| param.shape.clone());
        new.declare(Param {
            key: pair.bias,
            name: name.clone(),
            shape: channels.clone().unwrap_or_default(),
            trains: true,
        })?;
        names.insert(pair.bias, name);
    }
    for (key, why) in graph.held() {
        if !removed.contains(key) {
            new.hold(*key, why);
        }
    }
    let mut places: Vec<Option<Value>> = Vec::with_capacity(graph.nodes().len());
    for value in graph.values() {
        let node = graph.node(value);
        if let Some(pair) = by_norm.get(&value) {
            places.push(places[pair.layer.index()]);
            continue;
        }
        if matches!(node.op, Op::Param(key) if removed.contains(&key)) {
            places.push(None);
            continue;
        }
        let reads = node.reads.iter().map(|read| places[read.index()]);
        let reads: Option<Vec<Value>> = reads.collect();
        let mut reads = reads.context("something reads a tensor of a batch norm")?;
        if let Some(pair) = by_layer.get(&value)
            && !pair.has_bias
        {
            reads.push(new.push(&names[&pair.bias], Op::Param(pair.bias), &[])?);
        }
        places.push(Some(new.push(&node.name, node.op.clone(), &reads)?));
    }
    for output in graph.outputs() {
        new.output(places[output.index()].context("an output is gone")?);
    }
    Ok((new, names))
}

impl Pair {
    /// The batch norm's tensors and the layer's bias where each channel was multiplied; `store` puts numbers into a tensor and
    /// gives what it holds then.
    pub fn put_back(
        &self,
        values: Values,
        store: impl FnOnce(ParamKey, &[f64]) -> Result<Vec<f64>>,
        by: &Option<Vec<f64>>,
        changed: &mut Vec<(ParamKey, Vec<f64>)>,
    ) -> Result<()> {
        let [gamma_key, beta_key, mean_key, variance_key] = self.tensors;
        let (gamma, beta) = (values(gamma_key)?, values(beta_key)?);
        let (mean, variance) = (values(mean_key)?, values(variance_key)?);
        let factors = self.factors(&gamma, &variance, Factor::Weights);
        let ones = vec![1.0; factors.len()];
        let by = by.as_ref().unwrap_or(&ones);
        let whole: Vec<f64> = by.iter().zip(&factors).map(|(c, k)| c * k).collect();
        let times = |values: &[f64], by: &[f64]| -> Vec<f64> {
            values.iter().zip(by).map(|(value, c)| value * c).collect()
        };
        let spread = |(&whole, &variance): (&f64, &f64)| {
            (whole.powi(2) * (variance + self.epsilon) - self.epsilon).max(0.0)
        };
        let spreads: Vec<f64> = whole.iter().zip(&variance).map(spread).collect();
        // gamma goes with what the file holds, whatever its numbers
        let held = store(variance_key, &spreads)?;
        let root = |(&held, &gamma): (&f64, &f64)| match gamma {
            0.0 => 0.0,
            gamma => (held + self.epsilon).sqrt().copysign(gamma),
        };
        changed.push((gamma_key, held.iter().zip(&gamma).map(root).collect()));
        changed.push((beta_key, times(&beta, by)));
        changed.push((mean_key, times(&mean, &whole)));
        if self.has_bias {
            changed.push((self.bias, times(&values(self.bias)?, &whole)));
        }
        Ok(())
    }
}
