//! The network as a graph of scaling classes.
//!
//! A hidden unit is a node, every scalar weight an edge from the class it reads to the class it writes, a bias an
//! edge from the ground. A positive scaling multiplies each weight by `c[head] / c[tail]` and leaves the function
//! as it is. A residual add makes two classes one, so a residual stream is a single class per channel.

mod builder;
mod classes;
mod edges;
mod verify;

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ParamId};

pub(crate) use builder::Source;
pub use builder::{Channels, WiringBuilder};
pub use classes::{Class, Kind};
pub use edges::Edges;
pub(crate) use edges::Matrix;

use crate::error::{Error, WiringError};
use crate::params;

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
    pub edges: usize,
    pub line: usize,
}

/// The wiring of a model: its classes, its edges and the order in which they are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Wiring {
    pub(crate) edges: Vec<Edges>,
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
    unwired: Vec<(ParamId, String)>,
}

impl Wiring {
    /// Wires `model` by its [`Homogeneous::wire`].
    ///
    /// # Errors
    /// The first [`WiringError`] of the calls, with the layer's name.
    pub fn of<M: Module + Homogeneous>(model: &M) -> Result<Self, Error> {
        let named = params::names(model);
        let mut builder = WiringBuilder::new(named.iter().cloned().collect::<HashMap<_, _>>());
        let x = builder.input_of_any_width();
        let y = model.wire(&mut builder, x);
        builder.output(y);
        Ok(Self::from_builder(builder, named)?)
    }

    fn from_builder(
        mut builder: WiringBuilder,
        named: Vec<(ParamId, String)>,
    ) -> Result<Self, WiringError> {
        if let Some(error) = builder.error.take() {
            return Err(error);
        }
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
            Class(*numbers.entry(root).or_insert(next))
        };
        let mut edges = Vec::new();
        let mut at = Vec::new();
        for call in std::mem::take(&mut builder.calls) {
            let heads = call
                .heads
                .iter()
                .map(|&c| number(&mut builder, c))
                .collect();
            let tails = call
                .tails
                .iter()
                .map(|&c| number(&mut builder, c))
                .collect();
            at.push(call.node as i64);
            edges.push(Edges {
                id: call.id,
                name: call.name,
                shape: call.shape,
                tails,
                heads,
                matrix: call.matrix,
                is_bias: call.is_bias,
            });
        }

        let classes = numbers.len();
        let mut writers = vec![Vec::new(); classes];
        let mut readers = vec![Vec::new(); classes];
        let mut ord_in = vec![i64::MAX; classes];
        for (e, (edge, &position)) in edges.iter().zip(&at).enumerate() {
            for (line, head) in edge.heads.iter().enumerate() {
                writers[head.index()].push(End { edges: e, line });
                let first = &mut ord_in[head.index()];
                *first = position.min(*first);
            }
            for (line, tail) in edge.tails.iter().enumerate() {
                readers[tail.index()].push(End { edges: e, line });
            }
        }
        ord_in[0] = -1;
        let kinds = kinds(&edges, &readers);
        let ord_out = last_readers(&edges, &at, &kinds);

        let wired: HashSet<ParamId> = edges.iter().map(|e| e.id).collect();
        Ok(Self {
            widths: builder
                .nodes
                .iter()
                .map(|node| node.classes.as_ref().map_or(0, Vec::len))
                .collect(),
            nodes: builder.nodes.into_iter().map(|node| node.source).collect(),
            outputs: builder.outputs,
            edges,
            writers,
            readers,
            ord_in,
            ord_out,
            kinds,
            unwired: named
                .into_iter()
                .filter(|(id, _)| !wired.contains(id))
                .collect(),
        })
    }

    /// The wired parameters, in the order of the forward pass.
    pub fn edges(&self) -> &[Edges] {
        &self.edges
    }

    /// H, the number of hidden classes: the dimension of the group of positive scalings.
    pub fn hidden(&self) -> usize {
        self.writers.len() - 1
    }

    /// m, the number of wired weights (biases included).
    pub fn weights(&self) -> usize {
        self.edges.iter().map(Edges::count).sum()
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
        self.unwired.iter().map(|(_, name)| name.as_str())
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
        wired.chain(self.unwired.iter().map(|(id, name)| (*id, name.as_str())))
    }

    /// All classes, ground first.
    pub fn classes(&self) -> impl Iterator<Item = Class> + use<> {
        (0..self.writers.len() as u32).map(Class)
    }

    /// The hidden classes, in the order in which the network first writes them.
    pub fn hidden_classes(&self) -> impl DoubleEndedIterator<Item = Class> + use<> {
        (1..self.writers.len() as u32).map(Class)
    }

    /// How a class reaches the outputs.
    pub fn kind(&self, class: Class) -> Kind {
        self.kinds[class.index()]
    }

    /// A unit's name: the layer that first writes the class, and the unit's index there.
    pub fn unit(&self, class: Class) -> String {
        match self.writers[class.index()].first() {
            Some(end) if !class.is_ground() => {
                format!("{}[{}]", self.edges[end.edges].name, end.line)
            }
            _ => "ground".into(),
        }
    }
}

/// How each class reaches the outputs: grounded where an edge leads to a grounded one.
fn kinds(edges: &[Edges], readers: &[Vec<End>]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = readers
        .iter()
        .map(|readers| match readers.is_empty() {
            true => Kind::Sink,
            false => Kind::Floating,
        })
        .collect();
    kinds[0] = Kind::Grounded;
    loop {
        let grounded = |end: &End| {
            let edges = &edges[end.edges];
            let mut heads = edges.heads_of(end.line);
            heads.any(|head| kinds[edges.heads[head].index()] == Kind::Grounded)
        };
        let more: Vec<usize> = (1..kinds.len())
            .filter(|&b| kinds[b] == Kind::Floating && readers[b].iter().any(grounded))
            .collect();
        if more.is_empty() {
            return kinds;
        }
        more.into_iter().for_each(|b| kinds[b] = Kind::Grounded);
    }
}

/// Position of the last parameter that reads each class and leads to a grounded one.
fn last_readers(edges: &[Edges], at: &[i64], kinds: &[Kind]) -> Vec<i64> {
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
        if !live[index] {
            continue;
        }
        match &node.source {
            Source::Input => {}
            Source::Layer { from, .. }
            | Source::Repeat { from, .. }
            | Source::Activation { from, .. }
            | Source::Ground(from) => {
                live[*from] = true;
            }
            Source::Add(a, b) => {
                live[*a] = true;
                live[*b] = true;
            }
            Source::Concat(parts) => parts.iter().for_each(|&part| live[part] = true),
        }
    }
    live
}
