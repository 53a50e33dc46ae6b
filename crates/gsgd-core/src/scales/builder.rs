//! Values as lists of channels, each in a provisional class; what a graph of operations is walked with.

use std::collections::{HashMap, HashSet};

use super::classes::Union;
use super::edges::Layout;
use super::{ParamKey, ScaleGraphConfig, SkipTreatment};

/// A value inside the network, as the scale graph sees it: a list of channels, each in a scaling class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Channels(pub(super) usize);

/// For every channel of a value, the channels of other values that it is the sum of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parts {
    /// Where the channels of each sum end in the list.
    ends: Vec<u32>,
    /// Node and channel.
    of: Vec<(u32, u32)>,
}

impl Parts {
    /// The summands of every channel, as node and channel.
    pub fn iter(&self) -> impl Iterator<Item = &[(u32, u32)]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends);
        ranges.map(|(&start, &end)| &self.of[start as usize..end as usize])
    }
}

/// Where a value comes from. Sources of a node stand before it, so a list of nodes is in topological order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A network input.
    Input,
    /// A weight layer; places in the list of parameters.
    Layer {
        from: usize,
        weight: usize,
        bias: Option<usize>,
    },
    /// The parameter itself, whose edges leave the ground: a bias behind a sum, an embedding, the gain of a layer norm.
    Param(usize),
    /// Sums of channels: a residual connection, channels side by side, in another order, or mixed.
    Sum(Parts),
    /// ReLU (slope 0) or leaky ReLU, with the slope below zero as its bits.
    Activation { from: usize, slope: u64 },
    /// Batch norm; places of gamma and beta in the list of parameters.
    Norm {
        from: usize,
        gamma: usize,
        beta: usize,
    },
    /// Functions that are not positively homogeneous, and what they read.
    Ground(Vec<usize>),
    /// A layer whose weights, or a batch norm of which some, are frozen.
    Frozen(usize),
}

impl Source {
    /// The nodes this one reads.
    pub fn reads(&self) -> Vec<usize> {
        match self {
            Self::Input | Self::Param(_) => Vec::new(),
            Self::Layer { from, .. }
            | Self::Activation { from, .. }
            | Self::Norm { from, .. }
            | Self::Frozen(from) => vec![*from],
            Self::Ground(from) => from.clone(),
            Self::Sum(parts) => {
                let mut nodes: Vec<usize> =
                    parts.of.iter().map(|&(node, _)| node as usize).collect();
                nodes.sort_unstable();
                nodes.dedup();
                nodes
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub source: Source,
    /// One provisional class per channel.
    pub classes: Vec<u32>,
}

/// One parameter as the builder sees it.
#[derive(Debug)]
pub(super) struct Call {
    pub key: ParamKey,
    pub name: String,
    pub shape: Vec<usize>,
    pub tails: Vec<u32>,
    pub heads: Vec<u32>,
    pub layout: Layout,
    pub is_bias: bool,
    pub before_norm: bool,
    pub node: usize,
}

/// A tensor that is scaled along with its channels without being a weight: multiplied by their factors to a power.
#[derive(Debug)]
pub(super) struct CoScaled {
    pub key: ParamKey,
    pub name: String,
    pub classes: Vec<u32>,
    pub power: i32,
}

/// Builds a [`ScaleGraph`](super::ScaleGraph), one call for every operation. Widths fit: the graph of operations has seen to
/// that, and to every parameter being used once.
#[derive(Debug)]
pub(crate) struct ScaleGraphBuilder {
    pub(super) config: ScaleGraphConfig,
    /// All parameters of the model with their names, in its order.
    pub(super) named: Vec<(ParamKey, String)>,
    names: HashMap<ParamKey, String>,
    /// Their shapes.
    pub(super) shapes: HashMap<ParamKey, Vec<usize>>,
    /// Parameters that do not train.
    pub(super) frozen: HashSet<ParamKey>,
    /// Parameters of layers that were called.
    pub(super) used: HashSet<ParamKey>,
    pub(super) nodes: Vec<Node>,
    pub(super) calls: Vec<Call>,
    pub(super) co_scaled: Vec<CoScaled>,
    /// Parameters that are to be stepped in weight space.
    pub(super) loose: Vec<ParamKey>,
    /// Parameters that stay as they are, and why.
    pub(super) held: Vec<(ParamKey, String)>,
    /// What functions that are not positively homogeneous work on: the layer it comes from, and the function.
    pub(super) grounded: Vec<(String, String)>,
    /// An operation, if there is one, that Eq. (1) of the paper does not hold for as it stands.
    pub(super) inexact: Option<String>,
    pub(super) outputs: Vec<usize>,
    pub(super) classes: Union,
    /// Channels of all values together.
    channels: usize,
}

impl ScaleGraphBuilder {
    /// For a model with these parameters: what they are called, their shapes, and which of them do not train.
    pub fn new(
        config: ScaleGraphConfig,
        named: Vec<(ParamKey, String)>,
        shapes: HashMap<ParamKey, Vec<usize>>,
        frozen: HashSet<ParamKey>,
    ) -> Self {
        Self {
            config,
            shapes,
            names: named.iter().cloned().collect(),
            named,
            frozen,
            used: HashSet::new(),
            nodes: Vec::new(),
            calls: Vec::new(),
            co_scaled: Vec::new(),
            loose: Vec::new(),
            held: Vec::new(),
            grounded: Vec::new(),
            inexact: None,
            outputs: Vec::new(),
            classes: Union::with_ground(),
            channels: 0,
        }
    }

    /// Channels of all values together.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Whether residual connections ground what they add.
    pub fn grounds_skips(&self) -> bool {
        self.config.skips == SkipTreatment::PerBlock
    }

    /// An input of the network, of `width` features; inputs are ground.
    pub fn input(&mut self, width: usize) -> Channels {
        self.node(Source::Input, vec![0; width])
    }

    /// ReLU or leaky ReLU, with its slope below zero: positively homogeneous, so the classes go through it.
    pub fn activation(&mut self, x: Channels, negative_slope: f64) -> Channels {
        let source = Source::Activation {
            from: x.0,
            slope: negative_slope.to_bits(),
        };
        self.node(source, self.nodes[x.0].classes.clone())
    }

    /// Sums of channels; the classes of the summands become one.
    pub fn sum(&mut self, sums: impl IntoIterator<Item = Vec<(Channels, u32)>>) -> Channels {
        let mut parts = Parts::default();
        let mut classes = Vec::new();
        for summands in sums {
            let class = |&(x, channel): &(Channels, u32)| self.nodes[x.0].classes[channel as usize];
            let all: Vec<u32> = summands.iter().map(class).collect();
            let first = all.first().copied().unwrap_or(0);
            all.iter()
                .for_each(|&class| self.classes.unite(first, class));
            classes.push(first);
            let of = summands.into_iter();
            parts
                .of
                .extend(of.map(|(x, channel)| (x.0 as u32, channel)));
            parts.ends.push(parts.of.len() as u32);
        }
        self.node(Source::Sum(parts), classes)
    }

    /// Grounds what a function reads that is not positively homogeneous (tanh, GELU, softmax), which cannot be rescaled,
    /// and says why.
    pub fn ground(&mut self, x: Channels, why: &str) {
        let grounded = (self.origin(x.0), why.to_string());
        if !self.grounded.contains(&grounded) {
            self.grounded.push(grounded);
        }
        self.hold(x);
    }

    /// What such a function makes of these values: `width` channels that cannot be rescaled.
    pub fn behind(&mut self, reads: &[Channels], width: usize) -> Channels {
        let from = reads.iter().map(|x| x.0).collect();
        self.node(Source::Ground(from), vec![0; width])
    }

    /// Keeps the classes of a value from being rescaled, while it stays what it is.
    pub fn hold(&mut self, x: Channels) {
        for channel in 0..self.width(x) {
            self.classes.unite(self.nodes[x.0].classes[channel], 0);
        }
    }

    /// Whether none of these channels can be rescaled.
    pub fn is_ground(&mut self, x: Channels, channels: impl IntoIterator<Item = u32>) -> bool {
        let mut channels = channels.into_iter();
        channels.all(|channel| self.class(x, channel) == 0)
    }

    /// The present class of a channel.
    pub fn class(&mut self, x: Channels, channel: u32) -> u32 {
        self.classes.find(self.nodes[x.0].classes[channel as usize])
    }

    /// Leaves a parameter as it is.
    pub fn leave(&mut self, key: ParamKey, why: String) {
        self.loose.push(key);
        self.held.push((key, why));
    }

    /// Leaves a parameter to weight space.
    pub fn loose(&mut self, key: ParamKey) {
        self.loose.push(key);
    }

    /// Says that an operation is there which Eq. (1) of the paper does not hold for as it stands.
    pub fn inexact(&mut self, operation: &str) {
        self.inexact.get_or_insert_with(|| operation.to_string());
    }

    /// An output of the network; outputs are ground.
    pub fn output(&mut self, x: Channels) {
        self.hold(x);
        self.outputs.push(x.0);
    }

    /// Channels of a value.
    pub fn width(&self, x: Channels) -> usize {
        self.nodes[x.0].classes.len()
    }

    pub(super) fn node(&mut self, source: Source, classes: Vec<u32>) -> Channels {
        self.channels = self.channels.saturating_add(classes.len());
        self.nodes.push(Node { source, classes });
        Channels(self.nodes.len() - 1)
    }

    /// Takes in the edges of a parameter; its place among them. A frozen weight must not be rescaled, so that the classes
    /// of its two ends are one, and it has none.
    pub(super) fn call(&mut self, call: Call) -> Option<usize> {
        self.used.insert(call.key);
        if self.frozen.contains(&call.key) {
            let groups = call.layout.groups.max(1);
            let [tails, heads] = [&call.tails, &call.heads].map(|ends| {
                let of_group = (ends.len() / groups).max(1);
                ends.chunks(of_group)
            });
            for (tails, heads) in tails.zip(heads) {
                let first = tails[0];
                for &class in tails.iter().chain(heads) {
                    self.classes.unite(first, class);
                }
            }
            return None;
        }
        self.calls.push(call);
        Some(self.calls.len() - 1)
    }

    pub(super) fn name(&self, key: ParamKey) -> String {
        self.names.get(&key).cloned().unwrap_or_default()
    }

    /// The layer or input whose result a node is, for messages.
    fn origin(&self, node: usize) -> String {
        match &self.nodes[node].source {
            Source::Input => "the input".into(),
            Source::Layer { weight: param, .. }
            | Source::Param(param)
            | Source::Norm { gamma: param, .. } => format!("`{}`", self.calls[*param].name),
            Source::Sum(parts) => match parts.of[..] {
                [(first, _), ..] => match Source::reads(&self.nodes[node].source).len() {
                    1 => self.origin(first as usize),
                    _ => format!("a sum with {}", self.origin(first as usize)),
                },
                [] => "nothing".into(),
            },
            Source::Activation { from, .. } => self.origin(*from),
            Source::Ground(from) => match from[..] {
                [first, ..] => format!("what is behind {}", self.origin(first)),
                [] => "a constant".into(),
            },
            Source::Frozen(from) => format!("a frozen layer behind {}", self.origin(*from)),
        }
    }
}
