//! The calls that mirror `forward()`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Param, ParamId};
use burn::nn::conv::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d};
use burn::nn::{BatchNorm, Linear};
use burn::tensor::Tensor;

use super::classes::Union;
use super::{BatchNormTreatment, Matrix, SkipTreatment, WiringConfig};
use crate::error::WiringError;
use crate::kernels::Side;
use crate::params;

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
    /// Batch norm; indices of gamma and beta in the list of edges.
    Norm {
        from: usize,
        gamma: usize,
        beta: usize,
    },
    /// A function that is not positively homogeneous.
    Ground(usize),
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
            | Self::Ground(from) => vec![*from],
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
    pub before_norm: bool,
    pub node: usize,
}

/// A tensor that follows a scaling of its channels without being a weight: multiplied by their factors to a power.
#[derive(Debug)]
pub(super) struct Follower {
    pub id: ParamId,
    pub name: String,
    pub classes: Vec<u32>,
    pub power: i32,
}

/// A weight layer's shape, channels in and out, and matrix.
struct Shape {
    weight: Vec<usize>,
    channels: [usize; 2],
    matrix: Matrix,
}

impl Shape {
    /// Of a weight `[out, in / groups, kernel ...]`.
    fn convolution(weight: &[usize], groups: usize) -> Self {
        Self {
            channels: [weight[1] * groups, weight[0]],
            matrix: Self::matrix(weight, groups, Side::Columns),
            weight: weight.to_vec(),
        }
    }

    /// Of a weight `[in, out / groups, kernel ...]`.
    fn transposed(weight: &[usize], groups: usize) -> Self {
        Self {
            channels: [weight[0], weight[1] * groups],
            matrix: Self::matrix(weight, groups, Side::Rows),
            weight: weight.to_vec(),
        }
    }

    fn matrix(weight: &[usize], groups: usize, tails: Side) -> Matrix {
        let kernel = &weight[2..];
        Matrix {
            tails,
            groups,
            taps: kernel.iter().product(),
            centre: kernel.iter().fold(0, |at, size| at * size + size / 2),
        }
    }
}

/// Records how the channels of a model are wired; handed to [`Homogeneous::wire`](crate::Homogeneous::wire).
///
/// Every call stands for the line of `forward()` of the same name. Mistakes are kept and reported by
/// [`Wiring::of`](crate::Wiring::of), so that the calls read like the forward pass.
#[derive(Debug)]
pub struct WiringBuilder {
    id: u64,
    config: WiringConfig,
    names: HashMap<ParamId, String>,
    wired: HashSet<ParamId>,
    pub(super) nodes: Vec<Node>,
    pub(super) calls: Vec<Call>,
    pub(super) followers: Vec<Follower>,
    /// Parameters that are to be stepped in weight space.
    pub(super) loose: Vec<ParamId>,
    pub(super) outputs: Vec<usize>,
    pub(super) classes: Union,
    pub(super) error: Option<WiringError>,
}

static NEXT_BUILDER: AtomicU64 = AtomicU64::new(0);

impl WiringBuilder {
    pub(super) fn new(config: WiringConfig, names: HashMap<ParamId, String>) -> Self {
        Self {
            id: NEXT_BUILDER.fetch_add(1, Ordering::Relaxed),
            config,
            names,
            wired: HashSet::new(),
            nodes: Vec::new(),
            calls: Vec::new(),
            followers: Vec::new(),
            loose: Vec::new(),
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
        let shape = Shape {
            weight: vec![d_input, d_output],
            channels: [d_input, d_output],
            matrix: Matrix::DENSE,
        };
        self.layer(x, "linear", layer.weight.id, layer.bias.as_ref(), shape)
    }

    /// A [`Conv1d`] layer, weight `[channels_out, channels_in / groups, kernel]`, of any stride, padding, dilation and
    /// number of groups.
    ///
    /// Opens one new class per output channel; every tap (o, i, k) is an edge from the class of channel i to class o.
    pub fn conv1d(&mut self, x: Channels, layer: &Conv1d) -> Channels {
        let shape = Shape::convolution(&layer.weight.val().dims(), layer.groups);
        self.layer(x, "conv1d", layer.weight.id, layer.bias.as_ref(), shape)
    }

    /// A [`Conv2d`] layer, weight `[channels_out, channels_in / groups, height, width]`; see [`conv1d`](Self::conv1d).
    pub fn conv2d(&mut self, x: Channels, layer: &Conv2d) -> Channels {
        let shape = Shape::convolution(&layer.weight.val().dims(), layer.groups);
        self.layer(x, "conv2d", layer.weight.id, layer.bias.as_ref(), shape)
    }

    /// A [`ConvTranspose1d`] layer, weight `[channels_in, channels_out / groups, kernel]`.
    pub fn conv_transpose1d(&mut self, x: Channels, layer: &ConvTranspose1d) -> Channels {
        let shape = Shape::transposed(&layer.weight.val().dims(), layer.groups);
        self.layer(
            x,
            "conv_transpose1d",
            layer.weight.id,
            layer.bias.as_ref(),
            shape,
        )
    }

    /// A [`ConvTranspose2d`] layer, weight `[channels_in, channels_out / groups, height, width]`.
    pub fn conv_transpose2d(&mut self, x: Channels, layer: &ConvTranspose2d) -> Channels {
        let shape = Shape::transposed(&layer.weight.val().dims(), layer.groups);
        self.layer(
            x,
            "conv_transpose2d",
            layer.weight.id,
            layer.bias.as_ref(),
            shape,
        )
    }

    fn layer(
        &mut self,
        x: Channels,
        call: &'static str,
        weight: ParamId,
        bias: Option<&Param<Tensor<1>>>,
        shape: Shape,
    ) -> Channels {
        let [inputs, outputs] = shape.channels;
        let Some(from) = self.own(x, call) else {
            return self.input(outputs);
        };
        let name = self.name(weight);
        if shape.weight.contains(&0) {
            self.fail(WiringError::Empty {
                layer: name.clone(),
            });
        }
        let groups = shape.matrix.groups;
        if groups == 0 || !shape.weight[0].is_multiple_of(groups) {
            self.fail(WiringError::Groups {
                layer: name.clone(),
                channels: shape.weight[0],
                groups,
            });
        }
        let channels = self.channels(from, &name, inputs);
        let new: Vec<u32> = (0..outputs).map(|_| self.classes.fresh()).collect();
        let repeated = |classes: &[u32]| -> Vec<u32> {
            let repeat = |&class| std::iter::repeat_n(class, shape.matrix.taps);
            classes.iter().flat_map(repeat).collect()
        };
        let (tails, heads) = match shape.matrix.tails {
            Side::Rows => (channels, repeated(&new)),
            Side::Columns => (repeated(&channels), new.clone()),
        };
        let node = self.nodes.len();
        let weight = self.call(Call {
            id: weight,
            name,
            shape: shape.weight,
            tails,
            heads,
            matrix: shape.matrix,
            is_bias: false,
            before_norm: false,
            node,
        });
        let bias = bias.map(|bias| self.ground_edges(bias, &new, true));
        let source = Source::Layer { from, weight, bias };
        self.node(source, Some(new))
    }

    /// A parameter `[channels]` of edges from the ground.
    fn ground_edges(&mut self, param: &Param<Tensor<1>>, heads: &[u32], is_bias: bool) -> usize {
        let name = self.name(param.id);
        self.call(Call {
            id: param.id,
            name,
            shape: vec![heads.len()],
            tails: vec![0],
            heads: heads.to_vec(),
            matrix: Matrix::DENSE,
            is_bias,
            before_norm: false,
            node: self.nodes.len(),
        })
    }

    /// The classes of a node that `layer` takes as `expected` channels.
    fn channels(&mut self, node: usize, layer: &str, expected: usize) -> Vec<u32> {
        match &self.nodes[node].classes {
            Some(classes) if classes.len() == expected => return classes.clone(),
            Some(classes) => {
                let found = classes.len();
                self.fail(WiringError::Width {
                    layer: layer.into(),
                    expected,
                    found,
                });
            }
            None => self.nodes[node].classes = Some(vec![0; expected]),
        }
        vec![0; expected]
    }

    /// A [`BatchNorm`] layer, treated as the [`WiringConfig`](crate::WiringConfig) says.
    ///
    /// Exact: its input's scale has no effect, gamma and beta are edges from the ground to new classes, and the running
    /// statistics follow the scaling of its input: mean by the factor, variance by its square. The layer's epsilon is
    /// not part of this: with an epsilon of 1e-5 rescaling changes outputs by about 1e-5 of them.
    pub fn batch_norm(&mut self, x: Channels, layer: &BatchNorm) -> Channels {
        let features = layer.gamma.val().dims()[0];
        let Some(from) = self.own(x, "batch_norm") else {
            return self.input(features);
        };
        let name = self.name(layer.gamma.id);
        let inputs = self.channels(from, &name, features);
        let is_paper = self.config.batch_norm == BatchNormTreatment::Paper;
        for (id, name) in params::names(layer) {
            let power = match name.as_str() {
                "running_mean" => 1,
                "running_var" => 2,
                _ => continue,
            };
            self.followers.push(Follower {
                id,
                name: self.name(id),
                classes: inputs.clone(),
                power: if is_paper { 0 } else { power },
            });
        }
        if is_paper {
            self.loose.extend([layer.gamma.id, layer.beta.id]);
            if let Source::Layer { weight, .. } = self.nodes[from].source {
                self.calls[weight].before_norm = true;
            }
            return x;
        }
        let new: Vec<u32> = (0..features).map(|_| self.classes.fresh()).collect();
        let gamma = self.ground_edges(&layer.gamma, &new, false);
        let beta = self.ground_edges(&layer.beta, &new, true);
        self.node(Source::Norm { from, gamma, beta }, Some(new))
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

    /// Max pooling, adaptive or not: the classes pass.
    pub fn max_pool(&mut self, x: Channels) -> Channels {
        x
    }

    /// Average pooling, adaptive, global or not: the classes pass.
    pub fn avg_pool(&mut self, x: Channels) -> Channels {
        x
    }

    /// Padding with zeros: the classes pass.
    pub fn pad(&mut self, x: Channels) -> Channels {
        x
    }

    /// A residual connection: channel by channel, the classes of `a` and `b` become one, so that a whole residual
    /// stream is one class per channel. (In the paper's treatment of skips both are grounded instead.)
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
    pub(super) fn origin(&self, node: usize) -> String {
        match &self.nodes[node].source {
            Source::Input => "the input".into(),
            Source::Layer { weight, .. } => format!("`{}`", self.calls[*weight].name),
            Source::Add(a, _) => format!("a sum with {}", self.origin(*a)),
            Source::Concat(_) => "a concatenation".into(),
            Source::Repeat { from, .. } | Source::Activation { from, .. } => self.origin(*from),
            Source::Norm { gamma, .. } => format!("`{}`", self.calls[*gamma].name),
            Source::Ground(from) => format!("a grounded {}", self.origin(*from)),
        }
    }

    fn fail(&mut self, error: WiringError) {
        self.error.get_or_insert(error);
    }
}
