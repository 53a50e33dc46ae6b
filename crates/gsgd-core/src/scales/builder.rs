//! The calls that mirror a forward pass.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::classes::Union;
use super::edges::Layout;
use super::{ParamKey, ScaleGraphConfig, SkipTreatment};
use crate::error::GraphError;

/// A value inside the network, as the graph sees it: a list of channels, each in a scaling class.
///
/// Made and used up by the calls of [`ScaleGraphBuilder`]; copying it means using the value twice, as a skip
/// connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    pub(super) node: usize,
    builder: u64,
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
    /// Sum of two values, channel by channel.
    Add(usize, usize),
    /// Channels side by side.
    Concat(Vec<usize>),
    /// Every channel repeated, as flattening a map does.
    Repeat { from: usize, times: usize },
    /// ReLU (slope 0) or leaky ReLU, with the slope below zero as its bits.
    Activation { from: usize, slope: u64 },
    /// Batch norm; places of gamma and beta in the list of parameters.
    Norm {
        from: usize,
        gamma: usize,
        beta: usize,
    },
    /// A function that is not positively homogeneous.
    Ground(usize),
    /// A layer whose weights, or a batch norm of which some, are frozen.
    Frozen(usize),
}

impl Source {
    /// The nodes this one reads.
    pub fn reads(&self) -> Vec<usize> {
        match self {
            Self::Input => Vec::new(),
            Self::Layer { from, .. }
            | Self::Repeat { from, .. }
            | Self::Activation { from, .. }
            | Self::Norm { from, .. }
            | Self::Ground(from)
            | Self::Frozen(from) => vec![*from],
            Self::Add(a, b) => vec![*a, *b],
            Self::Concat(parts) => parts.clone(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub source: Source,
    /// One provisional class per channel; `None` for an input whose width is not known yet.
    pub classes: Option<Vec<u32>>,
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

/// Builds a [`ScaleGraph`](super::ScaleGraph) by calls that mirror a forward pass, one for every line of it.
///
/// Mistakes are kept and reported by `finish`, so that the calls read like the forward pass.
#[derive(Debug)]
pub struct ScaleGraphBuilder {
    id: u64,
    pub(super) config: ScaleGraphConfig,
    /// All parameters of the model with their names, in its order.
    pub(super) named: Vec<(ParamKey, String)>,
    names: HashMap<ParamKey, String>,
    /// Parameters that do not train.
    pub(super) frozen: HashSet<ParamKey>,
    /// Parameters of layers that were called.
    pub(super) used: HashSet<ParamKey>,
    pub(super) nodes: Vec<Node>,
    pub(super) calls: Vec<Call>,
    pub(super) co_scaled: Vec<CoScaled>,
    /// Parameters that are to be stepped in weight space.
    pub(super) loose: Vec<ParamKey>,
    pub(super) outputs: Vec<usize>,
    pub(super) classes: Union,
    pub(super) error: Option<GraphError>,
}

static NEXT_BUILDER: AtomicU64 = AtomicU64::new(0);

impl ScaleGraphBuilder {
    /// For a model with these parameters: what they are called, and which of them do not train.
    pub fn new(
        config: ScaleGraphConfig,
        names: impl IntoIterator<Item = (ParamKey, String)>,
        frozen: impl IntoIterator<Item = ParamKey>,
    ) -> Self {
        let named: Vec<(ParamKey, String)> = names.into_iter().collect();
        Self {
            id: NEXT_BUILDER.fetch_add(1, Ordering::Relaxed),
            config,
            names: named.iter().cloned().collect(),
            named,
            frozen: frozen.into_iter().collect(),
            used: HashSet::new(),
            nodes: Vec::new(),
            calls: Vec::new(),
            co_scaled: Vec::new(),
            loose: Vec::new(),
            outputs: Vec::new(),
            classes: Union::with_ground(),
            error: None,
        }
    }

    /// An input whose width is that of the first layer that reads it.
    pub fn input_of_any_width(&mut self) -> Channels {
        self.node(Source::Input, None)
    }

    /// An input of the network, of `width` features; inputs are ground.
    pub fn input(&mut self, width: usize) -> Channels {
        self.node(Source::Input, Some(vec![0; width]))
    }

    /// ReLU: positively homogeneous, so the classes go through it.
    pub fn relu(&mut self, x: Channels) -> Channels {
        self.leaky_relu(x, 0.0)
    }

    /// Leaky ReLU, with its slope below zero: positively homogeneous, so the classes go through it.
    pub fn leaky_relu(&mut self, x: Channels, negative_slope: f64) -> Channels {
        let Some(from) = self.own(x, "relu") else {
            return x;
        };
        let classes = self.nodes[from].classes.clone();
        let source = Source::Activation {
            from,
            slope: negative_slope.to_bits(),
        };
        self.node(source, classes)
    }

    /// Dropout scales by 0 or a constant: the classes go through it.
    pub fn dropout(&mut self, x: Channels) -> Channels {
        x
    }

    /// Max pooling, adaptive or not: the classes go through it.
    pub fn max_pool(&mut self, x: Channels) -> Channels {
        x
    }

    /// Average pooling, adaptive, global or not: the classes go through it.
    pub fn avg_pool(&mut self, x: Channels) -> Channels {
        x
    }

    /// Padding with zeros: the classes go through it.
    pub fn pad(&mut self, x: Channels) -> Channels {
        x
    }

    /// A residual connection: channel by channel, the classes of `a` and `b` become one, so that a whole residual
    /// stream is one class per channel. (In the paper's treatment of skips both are grounded instead.)
    pub fn add(&mut self, a: Channels, b: Channels) -> Channels {
        let (Some(a), Some(b)) = (self.own(a, "add"), self.own(b, "add")) else {
            return self.input(0);
        };
        let widths = [a, b].map(|node| self.nodes[node].classes.as_ref().map(Vec::len));
        match widths {
            [Some(width), None] => self.widen(b, width),
            [None, Some(width)] => self.widen(a, width),
            _ => {}
        }
        let (Some(left), Some(right)) =
            (self.nodes[a].classes.clone(), self.nodes[b].classes.clone())
        else {
            self.fail(GraphError::UnknownWidth { call: "add" });
            return self.input(0);
        };
        if left.len() != right.len() {
            let error = GraphError::Add {
                left: left.len(),
                left_from: self.origin(a),
                right: right.len(),
                right_from: self.origin(b),
            };
            self.fail(error);
        }
        for (&l, &r) in left.iter().zip(&right) {
            self.classes.unite(l, r);
            if self.config.skips == SkipTreatment::PerBlock {
                self.classes.unite(l, 0);
            }
        }
        self.node(Source::Add(a, b), Some(left))
    }

    /// Channels side by side, in the order given.
    pub fn concat(&mut self, parts: impl IntoIterator<Item = Channels>) -> Channels {
        let mut classes = Vec::new();
        let mut nodes = Vec::new();
        for part in parts {
            let Some(part) = self.own(part, "concat") else {
                continue;
            };
            match &self.nodes[part].classes {
                Some(known) => classes.extend(known),
                None => self.fail(GraphError::UnknownWidth { call: "concat" }),
            }
            nodes.push(part);
        }
        self.node(Source::Concat(nodes), Some(classes))
    }

    /// Flattening `[C, ...]` to features, `per_channel` of them for every channel, each in its channel's class.
    pub fn flatten(&mut self, x: Channels, per_channel: usize) -> Channels {
        let Some(from) = self.own(x, "flatten") else {
            return x;
        };
        let Some(classes) = self.nodes[from].classes.clone() else {
            return x; // an input of any width stays one
        };
        let repeated = classes
            .iter()
            .flat_map(|&class| std::iter::repeat_n(class, per_channel))
            .collect();
        let source = Source::Repeat {
            from,
            times: per_channel,
        };
        self.node(source, Some(repeated))
    }

    /// A function that is not positively homogeneous (tanh, GELU, layer norm, softmax inside the network):
    /// neither its input nor its result can be rescaled.
    pub fn ground(&mut self, x: Channels) -> Channels {
        let Some(from) = self.own(x, "ground") else {
            return x;
        };
        let Some(classes) = self.nodes[from].classes.clone() else {
            return x;
        };
        for &class in &classes {
            self.classes.unite(class, 0);
        }
        self.node(Source::Ground(from), Some(vec![0; classes.len()]))
    }

    /// Keeps the classes of a value from being rescaled, while it stays what it is: what a weight that something else reads
    /// too, or that must stay as it is, asks of the values before and behind it.
    pub fn hold(&mut self, x: Channels) {
        let Some(node) = self.own(x, "hold") else {
            return;
        };
        for class in self.nodes[node].classes.clone().unwrap_or_default() {
            self.classes.unite(class, 0);
        }
    }

    /// An output of the network; outputs are ground.
    pub fn output(&mut self, x: Channels) {
        let Some(node) = self.own(x, "output") else {
            return;
        };
        for class in self.nodes[node].classes.clone().unwrap_or_default() {
            self.classes.unite(class, 0);
        }
        self.outputs.push(node);
    }

    pub(super) fn node(&mut self, source: Source, classes: Option<Vec<u32>>) -> Channels {
        self.nodes.push(Node { source, classes });
        Channels {
            node: self.nodes.len() - 1,
            builder: self.id,
        }
    }

    /// Gives an input whose width was not known its width, and what activations made of it.
    pub(super) fn widen(&mut self, mut node: usize, width: usize) {
        loop {
            self.nodes[node].classes = Some(vec![0; width]);
            match self.nodes[node].source {
                Source::Activation { from, .. } => node = from,
                _ => return,
            }
        }
    }

    /// Takes in the edges of a parameter; its place among them. A frozen weight must not be rescaled, so that the classes
    /// of its two ends are one, and it has none.
    pub(super) fn call(&mut self, call: Call) -> Option<usize> {
        if !self.names.contains_key(&call.key) {
            let number = self.calls.len() + 1;
            self.fail(GraphError::Foreign { call: number });
        }
        if !self.used.insert(call.key) {
            self.fail(GraphError::Twice {
                layer: call.name.clone(),
            });
        }
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

    pub(super) fn own(&mut self, x: Channels, call: &'static str) -> Option<usize> {
        if x.builder != self.id {
            self.fail(GraphError::WrongBuilder { call });
            return None;
        }
        Some(x.node)
    }

    pub(super) fn name(&self, key: ParamKey) -> String {
        self.names.get(&key).cloned().unwrap_or_default()
    }

    /// The layer or input whose result a node is, for messages.
    pub(super) fn origin(&self, node: usize) -> String {
        match &self.nodes[node].source {
            Source::Input => "the input".into(),
            Source::Layer { weight, .. } => format!("`{}`", self.calls[*weight].name),
            Source::Add(a, _) => format!("a sum with {}", self.origin(*a)),
            Source::Concat(_) => "a concatenation".into(),
            Source::Repeat { from, .. } | Source::Activation { from, .. } => self.origin(*from),
            Source::Norm { gamma, .. } => format!("`{}`", self.calls[*gamma].name),
            Source::Ground(from) => format!("a grounded {}", self.origin(*from)),
            Source::Frozen(from) => format!("a frozen layer behind {}", self.origin(*from)),
        }
    }

    pub(super) fn fail(&mut self, error: GraphError) {
        self.error.get_or_insert(error);
    }
}
