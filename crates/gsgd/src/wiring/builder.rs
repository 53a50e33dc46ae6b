//! The calls that mirror `forward()`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::ParamId;
use burn::nn::Linear;

use super::Matrix;
use super::classes::Union;
use crate::error::WiringError;

/// A value inside the network, as the wiring sees it: a list of channels, each in a scaling class.
///
/// Made and used up by the calls of [`WiringBuilder`]; copying it means using the value twice, as a skip
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
    /// A weight layer; indices into the list of edges.
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
    /// A function that is not positively homogeneous.
    Ground(usize),
}

#[derive(Debug)]
pub(super) struct Node {
    pub source: Source,
    /// One provisional class per channel; `None` for an input whose width is not known yet.
    pub classes: Option<Vec<u32>>,
}

/// One wired parameter as the builder sees it.
#[derive(Debug)]
pub(super) struct Call {
    pub id: ParamId,
    pub name: String,
    pub shape: Vec<usize>,
    pub tails: Vec<u32>,
    pub heads: Vec<u32>,
    pub matrix: Matrix,
    pub is_bias: bool,
    pub node: usize,
}

/// Records how the channels of a model are wired; handed to [`Homogeneous::wire`](crate::Homogeneous::wire).
///
/// Every call stands for the line of `forward()` of the same name. Mistakes are kept and reported by
/// [`Wiring::of`](crate::Wiring::of), so that the calls read like the forward pass.
#[derive(Debug)]
pub struct WiringBuilder {
    id: u64,
    names: HashMap<ParamId, String>,
    wired: HashSet<ParamId>,
    pub(super) nodes: Vec<Node>,
    pub(super) calls: Vec<Call>,
    pub(super) outputs: Vec<usize>,
    pub(super) classes: Union,
    pub(super) error: Option<WiringError>,
}

static NEXT_BUILDER: AtomicU64 = AtomicU64::new(0);

impl WiringBuilder {
    pub(super) fn new(names: HashMap<ParamId, String>) -> Self {
        Self {
            id: NEXT_BUILDER.fetch_add(1, Ordering::Relaxed),
            names,
            wired: HashSet::new(),
            nodes: Vec::new(),
            calls: Vec::new(),
            outputs: Vec::new(),
            classes: Union::with_ground(),
            error: None,
        }
    }

    pub(super) fn input_of_any_width(&mut self) -> Channels {
        self.node(Source::Input, None)
    }

    /// A further input of the network, of `width` features; inputs are ground.
    pub fn input(&mut self, width: usize) -> Channels {
        self.node(Source::Input, Some(vec![0; width]))
    }

    /// A [`Linear`] layer, weight `[d_input, d_output]`, with or without bias.
    ///
    /// Opens one new class per output feature. Weight (i, o) is an edge from the class of input i to class o; bias
    /// o is an edge from the ground to class o.
    pub fn linear(&mut self, x: Channels, layer: &Linear) -> Channels {
        let [d_input, d_output] = layer.weight.val().dims();
        let Some(x) = self.own(x, "linear") else {
            return self.input(d_output);
        };
        let name = self.name(layer.weight.id);
        if d_input == 0 || d_output == 0 {
            self.fail(WiringError::Empty {
                layer: name.clone(),
            });
        }
        let tails = match &self.nodes[x].classes {
            Some(classes) if classes.len() != d_input => {
                let found = classes.len();
                self.fail(WiringError::Width {
                    layer: name.clone(),
                    expected: d_input,
                    found,
                });
                vec![0; d_input]
            }
            Some(classes) => classes.clone(),
            None => {
                self.nodes[x].classes = Some(vec![0; d_input]);
                vec![0; d_input]
            }
        };
        let heads: Vec<u32> = (0..d_output).map(|_| self.classes.fresh()).collect();
        let node = self.nodes.len();
        let weight = self.call(Call {
            id: layer.weight.id,
            name,
            shape: vec![d_input, d_output],
            tails,
            heads: heads.clone(),
            matrix: Matrix::DENSE,
            is_bias: false,
            node,
        });
        let bias = layer.bias.as_ref().map(|bias| {
            let name = self.name(bias.id);
            self.call(Call {
                id: bias.id,
                name,
                shape: vec![d_output],
                tails: vec![0],
                heads: heads.clone(),
                matrix: Matrix::DENSE,
                is_bias: true,
                node,
            })
        });
        let source = Source::Layer {
            from: x,
            weight,
            bias,
        };
        self.node(source, Some(heads))
    }

    /// ReLU: positively homogeneous, so the classes pass.
    pub fn relu(&mut self, x: Channels) -> Channels {
        self.leaky_relu(x, 0.0)
    }

    /// Leaky ReLU, with its slope below zero: positively homogeneous, so the classes pass.
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

    /// Dropout scales by 0 or a constant: the classes pass.
    pub fn dropout(&mut self, x: Channels) -> Channels {
        x
    }

    /// A residual connection: channel by channel, the classes of `a` and `b` become one.
    pub fn add(&mut self, a: Channels, b: Channels) -> Channels {
        let (Some(a), Some(b)) = (self.own(a, "add"), self.own(b, "add")) else {
            return self.input(0);
        };
        let (left, right) = match (&self.nodes[a].classes, &self.nodes[b].classes) {
            (Some(left), Some(right)) => (left.clone(), right.clone()),
            (Some(known), None) | (None, Some(known)) => (known.clone(), vec![0; known.len()]),
            (None, None) => {
                self.fail(WiringError::UnknownWidth { call: "add" });
                return self.input(0);
            }
        };
        if left.len() != right.len() {
            let error = WiringError::Add {
                left: left.len(),
                left_from: self.origin(a),
                right: right.len(),
                right_from: self.origin(b),
            };
            self.fail(error);
        }
        for (&l, &r) in left.iter().zip(&right) {
            self.classes.unite(l, r);
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
                None => self.fail(WiringError::UnknownWidth { call: "concat" }),
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

    /// A further output of the network; outputs are ground.
    ///
    /// The channels that [`Homogeneous::wire`](crate::Homogeneous::wire) returns are an output without this call.
    pub fn output(&mut self, x: Channels) {
        let Some(node) = self.own(x, "output") else {
            return;
        };
        for class in self.nodes[node].classes.clone().unwrap_or_default() {
            self.classes.unite(class, 0);
        }
        self.outputs.push(node);
    }

    fn node(&mut self, source: Source, classes: Option<Vec<u32>>) -> Channels {
        self.nodes.push(Node { source, classes });
        Channels {
            node: self.nodes.len() - 1,
            builder: self.id,
        }
    }

    fn call(&mut self, call: Call) -> usize {
        if !self.names.contains_key(&call.id) {
            let number = self.calls.len() + 1;
            self.fail(WiringError::Foreign { call: number });
        }
        if !self.wired.insert(call.id) {
            self.fail(WiringError::Twice {
                layer: call.name.clone(),
            });
        }
        self.calls.push(call);
        self.calls.len() - 1
    }

    fn own(&mut self, x: Channels, call: &'static str) -> Option<usize> {
        if x.builder != self.id {
            self.fail(WiringError::WrongBuilder { call });
            return None;
        }
        Some(x.node)
    }

    fn name(&self, id: ParamId) -> String {
        self.names.get(&id).cloned().unwrap_or_default()
    }

    /// The layer or input whose result a node is, for messages.
    fn origin(&self, node: usize) -> String {
        match &self.nodes[node].source {
            Source::Input => "the input".into(),
            Source::Layer { weight, .. } => format!("`{}`", self.calls[*weight].name),
            Source::Add(a, _) => format!("a sum with {}", self.origin(*a)),
            Source::Concat(_) => "a concatenation".into(),
            Source::Repeat { from, .. } | Source::Activation { from, .. } => self.origin(*from),
            Source::Ground(from) => format!("a grounded {}", self.origin(*from)),
        }
    }

    fn fail(&mut self, error: WiringError) {
        self.error.get_or_insert(error);
    }
}
