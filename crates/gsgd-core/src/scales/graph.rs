//! The scale graph.

use std::collections::{HashMap, HashSet};

use super::builder::{ScaleGraphBuilder, Source};
use super::{Kind, ParamEdges, ParamKey, ScaleClass};
use crate::error::Error;

/// One end of a class: a line of heads (writer) or of tails (reader) of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub param: usize,
    pub line: usize,
}

/// The scaling classes of a model, its weights as edges between them, and the order in which they are used.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleGraph {
    pub(crate) edges: Vec<ParamEdges>,
    pub(crate) nodes: Vec<Source>,
    pub(crate) widths: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// Lines that write each class, in the order of the forward pass.
    pub(crate) writers: Vec<Vec<End>>,
    /// Lines that read each class, in the order of the forward pass.
    pub(crate) readers: Vec<Vec<End>>,
    /// Position of the first writer (the ground: -1).
    pub(crate) ord_in: Vec<i64>,
    /// Position of the last reader on a way to the ground without batch norm (the ground: `i64::MAX`).
    pub(crate) ord_out: Vec<i64>,
    kinds: Vec<Kind>,
    /// Tensors that are scaled without being weights.
    pub(crate) co_scaled: Vec<CoScaled>,
    /// Where each parameter stands in `edges`, sorted by its key.
    params: Vec<(ParamKey, usize)>,
    /// What each grounded function works on, and the function.
    grounded: Vec<(String, String)>,
    /// Parameters that stay as they are, and why.
    held: Vec<(String, String)>,
    /// An operation, if there is one, that Eq. (1) of the paper does not hold for as it stands.
    pub(crate) inexact: Option<String>,
    /// Parameters that belong to no edge.
    outside: Vec<(ParamKey, String)>,
    /// Those of them that the graph itself leaves to weight space.
    loose: HashSet<ParamKey>,
    /// Parameters that do not train, in the order of the module.
    frozen: Vec<(ParamKey, String)>,
}

/// A tensor that is scaled along with channels, each of its numbers multiplied by a factor to a power.
///
/// Running mean (1) and variance (2) of batch norm, and biases before it (1), which have no effect on outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoScaled {
    pub(crate) key: ParamKey,
    pub(crate) name: String,
    pub(crate) classes: Vec<ScaleClass>,
    pub(crate) power: i32,
    pub(crate) is_bias: bool,
}

impl CoScaled {
    /// What the framework knows the tensor by.
    pub fn key(&self) -> ParamKey {
        self.key
    }

    /// The power of the factors that its numbers are multiplied by: 2 for variances, 0 for what stays.
    pub fn power(&self) -> i32 {
        self.power
    }

    /// The class of every number.
    pub fn classes(&self) -> &[ScaleClass] {
        &self.classes
    }
}

impl ScaleGraphBuilder {
    /// The graph of these calls.
    pub fn finish(self) -> ScaleGraph {
        ScaleGraph::from_builder(self)
    }
}

impl ScaleGraph {
    fn from_builder(mut builder: ScaleGraphBuilder) -> Self {
        let mut numbers = HashMap::from([(0, 0)]);
        let mut number = |builder: &mut ScaleGraphBuilder, class: u32| {
            let root = builder.classes.find(class);
            let next = numbers.len() as u32;
            ScaleClass(*numbers.entry(root).or_insert(next))
        };
        let mut edges = Vec::new();
        let mut at = Vec::new();
        for call in std::mem::take(&mut builder.calls) {
            let heads: Vec<ScaleClass> = call
                .heads
                .iter()
                .map(|&c| number(&mut builder, c))
                .collect();
            let tails: Vec<ScaleClass> = call
                .tails
                .iter()
                .map(|&c| number(&mut builder, c))
                .collect();
            at.push(call.node as i64);
            edges.push(ParamEdges {
                key: call.key,
                name: call.name,
                shape: call.shape,
                tails,
                heads,
                layout: call.layout,
                is_bias: call.is_bias,
                before_norm: call.before_norm,
            });
        }

        let mut co_scaled: Vec<CoScaled> = std::mem::take(&mut builder.co_scaled)
            .into_iter()
            .map(|tensor| CoScaled {
                classes: tensor
                    .classes
                    .iter()
                    .map(|&c| number(&mut builder, c))
                    .collect(),
                key: tensor.key,
                name: tensor.name,
                power: tensor.power,
                is_bias: false,
            })
            .collect();
        let mut nodes: Vec<Source> = Vec::with_capacity(builder.nodes.len());
        let mut widths = Vec::with_capacity(builder.nodes.len());
        for node in builder.nodes {
            widths.push(node.classes.len());
            nodes.push(node.source);
        }
        let classes = numbers.len();
        let kinds = kinds(&edges, classes);
        set_null_biases_aside(&mut edges, &mut at, &mut nodes, &mut co_scaled, &kinds);

        let mut writers = vec![Vec::new(); classes];
        let mut readers = vec![Vec::new(); classes];
        let mut ord_in = vec![i64::MAX; classes];
        for (e, (edge, &position)) in edges.iter().zip(&at).enumerate() {
            for (line, head) in edge.heads.iter().enumerate() {
                writers[head.index()].push(End { param: e, line });
                let first = &mut ord_in[head.index()];
                *first = position.min(*first);
            }
            for (line, tail) in edge.tails.iter().enumerate() {
                readers[tail.index()].push(End { param: e, line });
            }
        }
        ord_in[0] = -1;
        let ord_out = last_readers(&edges, &at, &kinds);

        let followed = co_scaled.iter().map(|tensor| tensor.key);
        let params = edges.iter().enumerate().map(|(param, e)| (e.key, param));
        let mut params: Vec<_> = params.collect();
        params.sort_unstable();
        let followed: HashSet<ParamKey> = followed.collect();
        let frozen = builder.named.iter().filter(|(id, _)| {
            // running statistics have no gradient either
            builder.frozen.contains(id) && !followed.contains(id)
        });
        let frozen: Vec<(ParamKey, String)> = frozen.cloned().collect();
        let used = &builder.used | &followed;
        let names: HashMap<ParamKey, &String> = builder
            .named
            .iter()
            .map(|(key, name)| (*key, name))
            .collect();
        let held = builder.held.iter();
        let held = held.map(|(key, why)| (names[key].clone(), why.clone()));
        Self {
            widths,
            held: held.collect(),
            inexact: builder.inexact,
            nodes,
            co_scaled,
            params,
            grounded: builder.grounded,
            loose: builder.loose.into_iter().collect(),
            outputs: builder.outputs,
            edges,
            writers,
            readers,
            ord_in,
            ord_out,
            kinds,
            frozen,
            outside: builder
                .named
                .into_iter()
                .filter(|(key, _)| !used.contains(key))
                .collect(),
        }
    }

    /// The parameters that are edges, in the order of the forward pass.
    pub fn edges(&self) -> &[ParamEdges] {
        &self.edges
    }

    /// Where a parameter stands in [`edges`](Self::edges), if it is there.
    pub fn param(&self, key: ParamKey) -> Option<usize> {
        let found = self.params.binary_search_by_key(&key, |&(key, _)| key);
        found.ok().map(|at| self.params[at].1)
    }

    /// H, the number of hidden classes: the dimension of the group of positive scalings.
    pub fn hidden(&self) -> usize {
        self.writers.len() - 1
    }

    /// m, the number of weights (biases included).
    pub fn weights(&self) -> usize {
        self.edges.iter().map(ParamEdges::count).sum()
    }

    /// m - H, the number of basis paths: the dimension of the positively scale-invariant space.
    pub fn basis_paths(&self) -> usize {
        self.weights() - self.hidden()
    }

    /// H / m, the invariant ratio (Meng et al. 2019, section 5.2). Their Table 5 prints half of it for networks
    /// of two hidden layers.
    pub fn invariant_ratio(&self) -> f64 {
        self.hidden() as f64 / self.weights() as f64
    }

    /// The parameters that no layer of the graph uses.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let outside = self.outside.iter();
        let forgotten = outside.filter(|(id, _)| !self.loose.contains(id));
        forgotten.map(|(_, name)| name.as_str())
    }

    /// The biases that a batch norm takes away again: they have no effect on outputs, and no optimiser here moves them.
    pub fn null_biases(&self) -> impl Iterator<Item = &str> {
        let biases = self.co_scaled.iter().filter(|f| f.is_bias);
        biases.map(|tensor| tensor.name.as_str())
    }

    /// The parameters that do not train: their weights are not rescaled, which makes the classes of their two ends one, or,
    /// of a bias and of batch norm's gamma and beta, the ground.
    pub fn frozen(&self) -> impl Iterator<Item = &str> {
        self.frozen.iter().map(|(_, name)| name.as_str())
    }

    /// The name of a parameter that does not train.
    pub fn frozen_name(&self, id: ParamKey) -> Option<&str> {
        let mut frozen = self.frozen.iter();
        frozen.find_map(|(frozen, name)| (*frozen == id).then_some(name.as_str()))
    }

    /// Refuses a network with weights that are no edges: those that do not train, and those that stay as they are.
    ///
    /// # Errors
    /// There are some.
    pub fn refuse_frozen(&self, tool: &'static str) -> Result<(), Error> {
        let frozen = self.frozen.iter().map(|(_, name)| name);
        match frozen.chain(self.held.iter().map(|(name, _)| name)).next() {
            Some(name) => Err(Error::Frozen {
                tool,
                name: name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Tensors that are scaled along with channels without being weights, in the order of the forward pass.
    pub fn co_scaled(&self) -> &[CoScaled] {
        &self.co_scaled
    }

    /// The values that something grounds which is not positively homogeneous: the layer they come from, and what grounds
    /// them. No scaling reaches through there.
    pub fn grounded(&self) -> impl Iterator<Item = (&str, &str)> {
        let grounded = self.grounded.iter();
        grounded.map(|(value, why)| (value.as_str(), why.as_str()))
    }

    /// The parameters whose factor is 1 by what reads them, and why.
    pub fn held(&self) -> impl Iterator<Item = (&str, &str)> {
        let held = self.held.iter();
        held.map(|(name, why)| (name.as_str(), why.as_str()))
    }

    /// The parameters that are no edges: unused ones, and those that the graph leaves to weight space.
    pub fn outside(&self) -> &[(ParamKey, String)] {
        &self.outside
    }

    /// Every parameter that an optimiser steps, edges or not, with its path.
    pub fn all_parameters(&self) -> impl Iterator<Item = (ParamKey, &str)> {
        let edges = self
            .edges
            .iter()
            .map(|edges| (edges.key, edges.name.as_str()));
        let outside = self.outside.iter().map(|(id, name)| (*id, name.as_str()));
        let trains = |(id, _): &(ParamKey, &str)| self.frozen_name(*id).is_none();
        edges.chain(outside).filter(trains)
    }

    /// The parameters of the layer that first writes a class, and where it stands in the forward pass; classes of one layer
    /// have one place.
    pub fn first_writer(&self, class: ScaleClass) -> Option<(&ParamEdges, i64)> {
        let end = self.writers[class.index()].first()?;
        Some((&self.edges[end.param], self.ord_in[class.index()]))
    }

    /// All classes, ground first.
    pub fn classes(&self) -> impl Iterator<Item = ScaleClass> + use<> {
        (0..self.writers.len() as u32).map(ScaleClass)
    }

    /// The hidden classes, in the order in which the network first writes them.
    pub fn hidden_classes(&self) -> impl DoubleEndedIterator<Item = ScaleClass> + use<> {
        (1..self.writers.len() as u32).map(ScaleClass)
    }

    /// How a class reaches the outputs.
    pub fn kind(&self, class: ScaleClass) -> Kind {
        self.kinds[class.index()]
    }

    /// A unit's name: the layer that first writes the class, and the unit's index there.
    pub fn unit(&self, class: ScaleClass) -> String {
        match self.writers[class.index()].first() {
            Some(end) if !class.is_ground() => {
                format!("{}[{}]", self.edges[end.param].name, end.line)
            }
            _ => "ground".into(),
        }
    }
}

/// How each class reaches the outputs: without batch norm where an edge leads to one that does, into batch norm where no
/// edge leads on.
fn kinds(edges: &[ParamEdges], classes: usize) -> Vec<Kind> {
    let mut kinds = vec![Kind::IntoBatchNorm; classes];
    for tail in edges.iter().flat_map(|edges| &edges.tails) {
        kinds[tail.index()] = Kind::BehindBatchNorm;
    }
    kinds[0] = Kind::ReachesOutput;
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for edges in edges.iter().rev() {
            for (line, tail) in edges.tails.iter().enumerate() {
                let mut heads = edges.heads_of(line);
                let leads_on = kinds[tail.index()] == Kind::BehindBatchNorm
                    && heads.any(|head| kinds[edges.heads[head].index()] == Kind::ReachesOutput);
                if leads_on {
                    kinds[tail.index()] = Kind::ReachesOutput;
                    changed = true;
                }
            }
        }
    }
    kinds
}

/// Takes the biases that a batch norm takes away again out of the edges: they are scaled along, and that is all.
fn set_null_biases_aside(
    edges: &mut Vec<ParamEdges>,
    at: &mut Vec<i64>,
    nodes: &mut [Source],
    co_scaled: &mut Vec<CoScaled>,
    kinds: &[Kind],
) {
    let is_null = |edges: &ParamEdges| {
        let mut heads = edges.heads.iter();
        edges.is_bias && heads.all(|head| kinds[head.index()] == Kind::IntoBatchNorm)
    };
    let mut place = Vec::with_capacity(edges.len());
    let mut kept = 0;
    for edges in edges.iter() {
        place.push((!is_null(edges)).then_some(kept));
        kept += usize::from(!is_null(edges));
    }
    let mut flags = place.iter().map(Option::is_some);
    at.retain(|_| flags.next().unwrap_or(true));
    let (stay, null): (Vec<ParamEdges>, Vec<ParamEdges>) =
        std::mem::take(edges).into_iter().partition(|e| !is_null(e));
    *edges = stay;
    co_scaled.extend(null.into_iter().map(|edges| CoScaled {
        classes: edges.head_of_each(),
        key: edges.key,
        name: edges.name,
        power: 1,
        is_bias: true,
    }));
    let moved = |param: &mut usize| *param = place[*param].unwrap_or(*param);
    for node in nodes {
        match node {
            Source::Layer { weight, bias, .. } => {
                moved(weight);
                *bias = bias.and_then(|bias| place[bias]);
            }
            Source::Norm { gamma, beta, .. } => {
                moved(gamma);
                moved(beta);
            }
            Source::Param(param) => match place[*param] {
                Some(kept) => *param = kept,
                None => *node = Source::Ground(Vec::new()),
            },
            _ => {}
        }
    }
}

/// Position of the last parameter that reads each class and leads to one that reaches an output without batch norm.
fn last_readers(edges: &[ParamEdges], at: &[i64], kinds: &[Kind]) -> Vec<i64> {
    let mut last = vec![-1; kinds.len()];
    for (edges, &position) in edges.iter().zip(at) {
        for (line, tail) in edges.tails.iter().enumerate() {
            let mut heads = edges.heads_of(line);
            if heads.any(|head| kinds[edges.heads[head].index()] == Kind::ReachesOutput) {
                let last = &mut last[tail.index()];
                *last = position.max(*last);
            }
        }
    }
    last[0] = i64::MAX;
    last
}
