//! The calls of [`ScaleGraphBuilder`] that stand for layers with weights.

use super::builder::{Call, Channels, CoScaled, ScaleGraphBuilder, Source};
use super::edges::Layout;
use super::{BatchNormTreatment, ParamKey};
use crate::matrix::Side;

/// What the dimensions of a layer's weight mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightForm {
    /// `[inputs, outputs]`.
    Dense,
    /// `[outputs, inputs / groups, kernel ...]`, without kernel a dense layer with outputs first.
    Convolution {
        /// Groups of channels.
        groups: usize,
    },
    /// `[inputs, outputs / groups, kernel ...]`.
    Transposed {
        /// Groups of channels.
        groups: usize,
    },
}

impl WeightForm {
    /// Output channels, and the matrix.
    fn read(self, weight: &[usize]) -> (usize, Layout) {
        let (tails, groups) = match self {
            Self::Dense => (Side::Rows, 1),
            Self::Convolution { groups } => (Side::Columns, groups),
            Self::Transposed { groups } => (Side::Rows, groups),
        };
        let outputs = match tails {
            Side::Rows => weight[1] * groups,
            Side::Columns => weight[0],
        };
        let kernel = &weight[2..];
        let layout = Layout {
            tails,
            groups,
            taps: kernel.iter().product(),
            centre: kernel.iter().fold(0, |at, size| at * size + size / 2),
        };
        (outputs, layout)
    }
}

/// The tensors of a batch norm, each `[features]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchNormParams {
    /// What normalised values are multiplied with.
    pub gamma: ParamKey,
    /// What is added then.
    pub beta: ParamKey,
    /// The running mean.
    pub mean: ParamKey,
    /// The running variance.
    pub variance: ParamKey,
}

impl ScaleGraphBuilder {
    /// A layer whose weight, of two dimensions or more, takes inputs to outputs, with or without bias `[outputs]`: dense, or
    /// a convolution of any stride, padding and dilation.
    ///
    /// Opens one new class per output. Every scalar weight, each tap of a kernel, is an edge from its input's class to its
    /// output's; a bias is an edge from the ground.
    pub fn layer(
        &mut self,
        x: Channels,
        weight: ParamKey,
        shape: &[usize],
        form: WeightForm,
        bias: Option<ParamKey>,
    ) -> Channels {
        let name = self.name(weight);
        let (outputs, layout) = form.read(shape);
        let channels = self.nodes[x.0].classes.clone();
        let new: Vec<u32> = (0..outputs).map(|_| self.classes.fresh()).collect();
        let repeated = |classes: &[u32]| -> Vec<u32> {
            let repeat = |&class| std::iter::repeat_n(class, layout.taps);
            classes.iter().flat_map(repeat).collect()
        };
        let (tails, heads) = match layout.tails {
            Side::Rows => (channels, repeated(&new)),
            Side::Columns => (repeated(&channels), new.clone()),
        };
        let weight = self.call(Call {
            key: weight,
            name,
            shape: shape.to_vec(),
            tails,
            heads,
            layout,
            is_bias: false,
            before_norm: false,
            node: self.nodes.len(),
        });
        let bias = bias.and_then(|bias| self.ground_edges(bias, &new, true));
        let from = x.0;
        let source = match weight {
            Some(weight) => Source::Layer { from, weight, bias },
            None => Source::Frozen(from),
        };
        self.node(source, new)
    }

    /// A parameter as a value: edges from the ground to new classes along one of its axes, the first or the last of those
    /// longer than 1. Its channels are those along that axis.
    pub fn param(
        &mut self,
        key: ParamKey,
        shape: &[usize],
        axis: usize,
        is_bias: bool,
    ) -> Channels {
        let new: Vec<u32> = (0..shape[axis]).map(|_| self.classes.fresh()).collect();
        let others = shape.iter().product::<usize>() / shape[axis];
        let is_last = shape[axis + 1..].iter().all(|&size| size == 1);
        let name = self.name(key);
        let param = self.call(Call {
            key,
            name,
            shape: shape.to_vec(),
            tails: vec![0; others],
            heads: new.clone(),
            layout: Layout {
                tails: if is_last { Side::Rows } else { Side::Columns },
                ..Layout::DENSE
            },
            is_bias,
            before_norm: false,
            node: self.nodes.len(),
        });
        let source = match param {
            Some(param) => Source::Param(param),
            None => Source::Ground(Vec::new()),
        };
        self.node(source, new)
    }

    /// A parameter `[channels]` of edges from the ground.
    fn ground_edges(&mut self, param: ParamKey, heads: &[u32], is_bias: bool) -> Option<usize> {
        let name = self.name(param);
        self.call(Call {
            key: param,
            name,
            shape: self.shapes[&param].clone(),
            tails: vec![0],
            heads: heads.to_vec(),
            layout: Layout::DENSE,
            is_bias,
            before_norm: false,
            node: self.nodes.len(),
        })
    }

    /// The weight of the layer whose result a node is, with or without a bias that is added behind it.
    fn layer_of(&self, node: usize) -> Option<usize> {
        match &self.nodes[node].source {
            Source::Layer { weight, .. } => Some(*weight),
            source @ Source::Sum(_) => {
                let is_param = |&node: &usize| matches!(self.nodes[node].source, Source::Param(_));
                let (params, others): (Vec<usize>, Vec<usize>) =
                    source.reads().into_iter().partition(is_param);
                match (&params[..], &others[..]) {
                    (_, &[layer]) => self.layer_of(layer),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A batch norm, treated as the [`ScaleGraphConfig`](super::ScaleGraphConfig) says.
    ///
    /// Exact: its input's scale has no effect, gamma and beta are edges from the ground to new classes, and the running
    /// statistics are scaled with its input: the mean by the factor, the variance by its square. The layer's epsilon is
    /// not part of this: with an epsilon of 1e-5 rescaling changes outputs by about 1e-5 of them.
    pub fn batch_norm(&mut self, x: Channels, params: BatchNormParams) -> Channels {
        let BatchNormParams {
            gamma,
            beta,
            mean,
            variance,
        } = params;
        let from = x.0;
        let inputs = self.nodes[from].classes.clone();
        let is_paper = self.config.batch_norm == BatchNormTreatment::Paper;
        for (key, power) in [(mean, 1), (variance, 2)] {
            let name = self.name(key);
            self.co_scaled.push(CoScaled {
                key,
                name,
                classes: inputs.clone(),
                power: if is_paper { 0 } else { power },
            });
        }
        if is_paper {
            self.loose.extend([gamma, beta]);
            if let Some(weight) = self.layer_of(from) {
                self.calls[weight].before_norm = true;
            }
            return x;
        }
        let new: Vec<u32> = inputs.iter().map(|_| self.classes.fresh()).collect();
        let gamma = self.ground_edges(gamma, &new, false);
        let beta = self.ground_edges(beta, &new, true);
        let source = match (gamma, beta) {
            (Some(gamma), Some(beta)) => Source::Norm { from, gamma, beta },
            _ => Source::Frozen(from),
        };
        self.node(source, new)
    }
}
