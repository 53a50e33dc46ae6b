//! The network as a graph of scaling classes.
//!
//! A hidden unit is a node, every scalar weight an edge from the class it reads to the class it writes, a bias an
//! edge from the ground. A positive scaling multiplies each weight by `c[head] / c[tail]` and leaves the function
//! as it is. A residual add makes two classes one, so a residual stream is a single class per channel.

mod builder;
mod classes;
mod config;
mod edges;
mod layers;
mod verify;

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ParamId};

pub(crate) use builder::Source;
pub use builder::{Channels, WiringBuilder};
pub use classes::{Kind, ScaleClass};
pub use config::{BatchNormTreatment, SkipTreatment, WiringConfig};
pub use edges::ParamEdges;
pub(crate) use edges::{Layout, Taps};

use crate::error::{Error, WiringError};

/// A model that says how its channels are wired, line by line as its `forward` does.
///
/// ```
/// # use burn::{module::Module, nn::Linear};
/// # use gsgd::{Channels, Homogeneous, WiringBuilder};
/// #[derive(Module, Debug)]
/// struct Block {
///     inner: Linear,
///     outer: Linear,
/// }
///
/// impl Homogeneous for Block {
///     fn wire(&self, w: &mut WiringBuilder, x: Channels) -> Channels {
///         let y = w.linear(x, &self.inner);
///         let y = w.relu(y);
///         let y = w.linear(y, &self.outer);
///         w.add(y, x)
///     }
/// }
/// ```
pub trait Homogeneous {
    /// Mirrors `forward`: takes the channels of the input, returns those of the output.
    fn wire(&self, w: &mut WiringBuilder, x: Channels) -> Channels;
}

/// One end of a class: a line of heads (writer) or of tails (reader) of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub param: usize,
    pub line: usize,
}

/// The wiring of a model: its classes, its edges and the order in which they are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Wiring {
    pub(crate) edges: Vec<ParamEdges>,
    pub(crate) nodes: Vec<Source>,
    pub(crate) widths: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// RowColScale that write each class, in the order of the forward pass.
    pub(crate) writers: Vec<Vec<End>>,
    /// RowColScale that read each class, in the order of the forward pass.
    pub(crate) readers: Vec<Vec<End>>,
    /// Position of the first writer (the ground: -1).
    pub(crate) ord_in: Vec<i64>,
    /// Position of the last reader on a way to the ground without batch norm (the ground: `i64::MAX`).
    pub(crate) ord_out: Vec<i64>,
    kinds: Vec<Kind>,
    /// Tensors that follow a scaling without being weights.
    pub(crate) followers: Vec<Follower>,
    /// Where each wired parameter stands in `edges`, sorted by its id.
    params: Vec<(ParamId, usize)>,
    /// What each grounded function works on.
    grounded: Vec<String>,
    unwired: Vec<(ParamId, String)>,
    /// Unwired parameters that the wiring itself leaves to weight space.
    loose: HashSet<ParamId>,
    /// Parameters that do not train, in the order of the module.
    frozen: Vec<(ParamId, String)>,
    /// Parameters that train and whose gradients Burn computes wrongly.
    pub(crate) miscomputed: Vec<String>,
}

/// A tensor `[channels]` that follows a scaling of its channels: multiplied by their factors to a power.
///
/// Running mean (1) and variance (2) of batch norm, and biases before it (1), which have no effect on outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follower {
    pub id: ParamId,
    pub name: String,
    pub classes: Vec<ScaleClass>,
    pub power: i32,
    pub is_bias: bool,
}

impl Wiring {
    /// Wires `model` by its [`Homogeneous::wire`], with exact batch norm and whole-network skips; other choices are in
    /// [`WiringConfig`].
    ///
    /// # Errors
    /// The first [`WiringError`] of the calls, with the layer's name.
    pub fn of<M: Module + Homogeneous>(model: &M) -> Result<Self, Error> {
        WiringConfig::new().wire(model)
    }

    fn from_builder(
        mut builder: WiringBuilder,
        named: Vec<(ParamId, String)>,
    ) -> Result<Self, WiringError> {
        if let Some(error) = builder.error.take() {
            return Err(error);
        }
        let grounded = builder.nodes.iter().filter_map(|node| match node.source {
            Source::Ground(from) => Some(builder.origin(from)),
            _ => None,
        });
        let grounded = grounded.collect();
        let live = live_nodes(&builder);
        if let Some(dead) = builder.calls.iter().find(|call| !live[call.node]) {
            return Err(WiringError::DeadEnd {
                layer: dead.name.clone(),
            });
        }

        let mut numbers = HashMap::from([(0, 0)]);
        let mut number = |builder: &mut WiringBuilder, class: u32| {
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
                id: call.id,
                name: call.name,
                shape: call.shape,
                tails_follow: edges::follow(&tails),
                heads_follow: edges::follow(&heads),
                tails,
                heads,
                layout: call.layout,
                is_bias: call.is_bias,
                before_norm: call.before_norm,
            });
        }

        let mut followers: Vec<Follower> = std::mem::take(&mut builder.followers)
            .into_iter()
            .map(|follower| Follower {
                classes: follower
                    .classes
                    .iter()
                    .map(|&c| number(&mut builder, c))
                    .collect(),
                id: follower.id,
                name: follower.name,
                power: follower.power,
                is_bias: false,
            })
            .collect();
        let mut nodes: Vec<Source> = Vec::with_capacity(builder.nodes.len());
        let mut widths = Vec::with_capacity(builder.nodes.len());
        for node in builder.nodes {
            widths.push(node.classes.as_ref().map_or(0, Vec::len));
            nodes.push(node.source);
        }
        let classes = numbers.len();
        let kinds = kinds(&edges, classes);
        set_null_biases_aside(&mut edges, &mut at, &mut nodes, &mut followers, &kinds);

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

        let followed = followers.iter().map(|follower| follower.id);
        let params = edges.iter().enumerate().map(|(param, e)| (e.id, param));
        let mut params: Vec<_> = params.collect();
        params.sort_unstable();
        let followed: HashSet<ParamId> = followed.collect();
        let frozen = named.iter().filter(|(id, _)| {
            // running statistics have no gradient either
            builder.frozen.contains(id) && !followed.contains(id)
        });
        let frozen: Vec<(ParamId, String)> = frozen.cloned().collect();
        let wired = &builder.wired | &followed;
        let wrong = edges
            .iter()
            .filter(|edges| builder.miscomputed.contains(&edges.id));
        let miscomputed = wrong.map(|edges| edges.name.clone()).collect();
        Ok(Self {
            widths,
            nodes,
            followers,
            params,
            grounded,
            loose: builder.loose.into_iter().collect(),
            outputs: builder.outputs,
            edges,
            writers,
            readers,
            ord_in,
            ord_out,
            kinds,
            frozen,
            miscomputed,
            unwired: named
                .into_iter()
                .filter(|(id, _)| !wired.contains(id))
                .collect(),
        })
    }

    /// The wired parameters, in the order of the forward pass.
    pub fn edges(&self) -> &[ParamEdges] {
        &self.edges
    }

    /// Where a parameter stands in [`edges`](Self::edges), if it is wired.
    pub(crate) fn param(&self, id: ParamId) -> Option<usize> {
        let found = self.params.binary_search_by_key(&id, |&(id, _)| id);
        found.ok().map(|at| self.params[at].1)
    }

    /// H, the number of hidden classes: the dimension of the group of positive scalings.
    pub fn hidden(&self) -> usize {
        self.writers.len() - 1
    }

    /// m, the number of wired weights (biases included).
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

    /// The float parameters that no layer of the wiring uses.
    pub fn unwired(&self) -> impl Iterator<Item = &str> {
        let unwired = self.unwired.iter();
        let forgotten = unwired.filter(|(id, _)| !self.loose.contains(id));
        forgotten.map(|(_, name)| name.as_str())
    }

    /// The biases that a batch norm takes away again: they have no effect on outputs, and no optimiser here moves them.
    pub fn null_biases(&self) -> impl Iterator<Item = &str> {
        let biases = self.followers.iter().filter(|f| f.is_bias);
        biases.map(|follower| follower.name.as_str())
    }

    /// The parameters that do not train: their weights are not rescaled, which makes the classes of their two ends one, or,
    /// of a bias and of batch norm's gamma and beta, the ground. Those without a gradient when the wiring was made, on a
    /// device that makes gradients.
    pub fn frozen(&self) -> impl Iterator<Item = &str> {
        self.frozen.iter().map(|(_, name)| name.as_str())
    }

    /// The name of a parameter that does not train.
    pub(crate) fn frozen_name(&self, id: ParamId) -> Option<&str> {
        let mut frozen = self.frozen.iter();
        frozen.find_map(|(frozen, name)| (*frozen == id).then_some(name.as_str()))
    }

    /// Refuses a network with parameters that do not train.
    ///
    /// # Errors
    /// There are some.
    pub(crate) fn refuse_frozen(&self, tool: &'static str) -> Result<(), Error> {
        match self.frozen.first() {
            Some((_, name)) => Err(Error::Frozen {
                tool,
                name: name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The values that a function which is not positively homogeneous works on, by the layer they come from: no scaling
    /// reaches through there.
    pub fn grounded(&self) -> impl Iterator<Item = &str> {
        self.grounded.iter().map(String::as_str)
    }

    pub(crate) fn unwired_parameters(&self) -> &[(ParamId, String)] {
        &self.unwired
    }

    /// Every parameter the optimiser steps, wired or not, with its path.
    pub(crate) fn all_parameters(&self) -> impl Iterator<Item = (ParamId, &str)> {
        let wired = self
            .edges
            .iter()
            .map(|edges| (edges.id, edges.name.as_str()));
        let unwired = self.unwired.iter().map(|(id, name)| (*id, name.as_str()));
        let trains = |(id, _): &(ParamId, &str)| self.frozen_name(*id).is_none();
        wired.chain(unwired).filter(trains)
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

/// How each class reaches the outputs: grounded where an edge leads to a grounded one, a sink where none leads on.
fn kinds(edges: &[ParamEdges], classes: usize) -> Vec<Kind> {
    let mut kinds = vec![Kind::Sink; classes];
    for tail in edges.iter().flat_map(|edges| &edges.tails) {
        kinds[tail.index()] = Kind::Floating;
    }
    kinds[0] = Kind::Grounded;
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for edges in edges.iter().rev() {
            for (line, tail) in edges.tails.iter().enumerate() {
                let mut heads = edges.heads_of(line);
                let leads_on = kinds[tail.index()] == Kind::Floating
                    && heads.any(|head| kinds[edges.heads[head].index()] == Kind::Grounded);
                if leads_on {
                    kinds[tail.index()] = Kind::Grounded;
                    changed = true;
                }
            }
        }
    }
    kinds
}

/// Takes the biases that a batch norm takes away again out of the edges: they follow scalings, and that is all.
fn set_null_biases_aside(
    edges: &mut Vec<ParamEdges>,
    at: &mut Vec<i64>,
    nodes: &mut [Source],
    followers: &mut Vec<Follower>,
    kinds: &[Kind],
) {
    let is_null = |edges: &ParamEdges| {
        let mut heads = edges.heads.iter();
        edges.is_bias && heads.all(|head| kinds[head.index()] == Kind::Sink)
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
    followers.extend(null.into_iter().map(|edges| Follower {
        id: edges.id,
        name: edges.name,
        classes: edges.heads,
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
            _ => {}
        }
    }
}

/// Position of the last parameter that reads each class and leads to a grounded one.
fn last_readers(edges: &[ParamEdges], at: &[i64], kinds: &[Kind]) -> Vec<i64> {
    let mut last = vec![-1; kinds.len()];
    for (edges, &position) in edges.iter().zip(at) {
        for (line, tail) in edges.tails.iter().enumerate() {
            let mut heads = edges.heads_of(line);
            if heads.any(|head| kinds[edges.heads[head].index()] == Kind::Grounded) {
                let last = &mut last[tail.index()];
                *last = position.max(*last);
            }
        }
    }
    last[0] = i64::MAX;
    last
}

/// Which nodes lead to an output.
fn live_nodes(builder: &WiringBuilder) -> Vec<bool> {
    let mut live = vec![false; builder.nodes.len()];
    for &output in &builder.outputs {
        live[output] = true;
    }
    for (index, node) in builder.nodes.iter().enumerate().rev() {
        if live[index] {
            node.source
                .reads()
                .into_iter()
                .for_each(|from| live[from] = true);
        }
    }
    live
}
