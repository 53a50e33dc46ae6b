//! The calls of [`ScaleGraphBuilder`] that stand for layers with weights.

use super::builder::{Call, Channels, CoScaled, ScaleGraphBuilder, Source};
use super::edges::Layout;
use super::{BatchNormTreatment, ParamKey};
use crate::error::GraphError;
use crate::matrix::Side;

/// What the dimensions of a layer's weight mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightForm {
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
    /// Input and output channels, and the matrix.
    fn read(self, weight: &[usize]) -> ([usize; 2], Layout) {
        let (tails, groups) = match self {
            Self::Dense => (Side::Rows, 1),
            Self::Convolution { groups } => (Side::Columns, groups),
            Self::Transposed { groups } => (Side::Rows, groups),
        };
        let channels = match tails {
            Side::Rows => [weight[0], weight[1] * groups],
            Side::Columns => [weight[1] * groups, weight[0]],
        };
        let kernel = &weight[2..];
        let layout = Layout {
            tails,
            groups,
            taps: kernel.iter().product(),
            centre: kernel.iter().fold(0, |at, size| at * size + size / 2),
        };
        (channels, layout)
    }
}

/// The tensors of a batch norm, each `[features]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchNormParams {
    /// What normalised values are multiplied with.
    pub gamma: ParamKey,
    /// What is added then.
    pub beta: ParamKey,
    /// The running mean.
    pub mean: ParamKey,
    /// The running variance.
    pub variance: ParamKey,
    /// Channels.
    pub features: usize,
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
        let is_form = match form {
            WeightForm::Dense => shape.len() == 2,
            _ => shape.len() >= 2,
        };
        if !is_form {
            let shape = shape.to_vec();
            self.fail(GraphError::Form { layer: name, shape });
            return self.input(0);
        }
        if shape.contains(&0) {
            self.fail(GraphError::Empty { layer: name });
            return self.input(0);
        }
        let ([inputs, outputs], layout) = form.read(shape);
        let Some(from) = self.own(x, "layer") else {
            return self.input(outputs);
        };
        let groups = layout.groups;
        if groups == 0 || !shape[0].is_multiple_of(groups) {
            self.fail(GraphError::Groups {
                layer: name.clone(),
                channels: shape[0],
                groups,
            });
        }
        let channels = self.channels(from, &name, inputs);
        let new: Vec<u32> = (0..outputs).map(|_| self.classes.fresh()).collect();
        let repeated = |classes: &[u32]| -> Vec<u32> {
            let repeat = |&class| std::iter::repeat_n(class, layout.taps);
            classes.iter().flat_map(repeat).collect()
        };
        let (tails, heads) = match layout.tails {
            Side::Rows => (channels, repeated(&new)),
            Side::Columns => (repeated(&channels), new.clone()),
        };
        let node = self.nodes.len();
        let weight = self.call(Call {
            key: weight,
            name,
            shape: shape.to_vec(),
            tails,
            heads,
            layout,
            is_bias: false,
            before_norm: false,
            node,
        });
        let bias = bias.and_then(|bias| self.ground_edges(bias, &new, true));
        let source = match weight {
            Some(weight) => Source::Layer { from, weight, bias },
            None => Source::Frozen(from),
        };
        self.node(source, Some(new))
    }

    /// A parameter `[channels]` of edges from the ground.
    fn ground_edges(&mut self, param: ParamKey, heads: &[u32], is_bias: bool) -> Option<usize> {
        let name = self.name(param);
        self.call(Call {
            key: param,
            name,
            shape: vec![heads.len()],
            tails: vec![0],
            heads: heads.to_vec(),
            layout: Layout::DENSE,
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
                self.fail(GraphError::Width {
                    layer: layer.into(),
                    expected,
                    found,
                });
            }
            None => self.widen(node, expected),
        }
        vec![0; expected]
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
            features,
        } = params;
        let Some(from) = self.own(x, "batch_norm") else {
            return self.input(features);
        };
        let name = self.name(gamma);
        let inputs = self.channels(from, &name, features);
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
            if let Source::Layer { weight, .. } = self.nodes[from].source {
                self.calls[weight].before_norm = true;
            }
            return x;
        }
        let new: Vec<u32> = (0..features).map(|_| self.classes.fresh()).collect();
        let gamma = self.ground_edges(gamma, &new, false);
        let beta = self.ground_edges(beta, &new, true);
        let source = match (gamma, beta) {
            (Some(gamma), Some(beta)) => Source::Norm { from, gamma, beta },
            _ => Source::Frozen(from),
        };
        self.node(source, Some(new))
    }
}
