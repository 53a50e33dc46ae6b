//! The calls of [`WiringBuilder`] that stand for layers with weights.

use burn::module::{Param, ParamId};
use burn::nn::conv::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d};
use burn::nn::{BatchNorm, Linear};
use burn::tensor::Tensor;

use super::builder::{Call, Channels, Follower, Source, WiringBuilder};
use super::{BatchNormTreatment, Layout};
use crate::error::WiringError;
use crate::kernels::Side;
use crate::names;

/// A weight layer's shape, channels in and out, and matrix.
struct Shape {
    weight: Vec<usize>,
    channels: [usize; 2],
    layout: Layout,
}

impl Shape {
    /// Of a weight `[out, in / groups, kernel ...]`.
    fn convolution(weight: &[usize], groups: usize) -> Self {
        Self {
            channels: [weight[1] * groups, weight[0]],
            layout: Self::layout(weight, groups, Side::Columns),
            weight: weight.to_vec(),
        }
    }

    /// Of a weight `[in, out / groups, kernel ...]`.
    fn transposed(weight: &[usize], groups: usize) -> Self {
        Self {
            channels: [weight[0], weight[1] * groups],
            layout: Self::layout(weight, groups, Side::Rows),
            weight: weight.to_vec(),
        }
    }

    fn layout(weight: &[usize], groups: usize, tails: Side) -> Layout {
        let kernel = &weight[2..];
        Layout {
            tails,
            groups,
            taps: kernel.iter().product(),
            centre: kernel.iter().fold(0, |at, size| at * size + size / 2),
        }
    }
}

impl WiringBuilder {
    /// A [`Linear`] layer, weight `[d_input, d_output]`, with or without bias.
    ///
    /// Opens one new class per output feature. Weight (i, o) is an edge from the class of input i to class o; bias
    /// o is an edge from the ground to class o.
    pub fn linear(&mut self, x: Channels, layer: &Linear) -> Channels {
        let [d_input, d_output] = layer.weight.val().dims();
        let shape = Shape {
            weight: vec![d_input, d_output],
            channels: [d_input, d_output],
            layout: Layout::DENSE,
        };
        self.layer(x, "linear", layer.weight.id, layer.bias.as_ref(), shape)
    }

    /// A [`Conv1d`] layer, weight `[channels_out, channels_in / groups, kernel]`, of any stride, padding, dilation and
    /// number of groups.
    ///
    /// Opens one new class per output channel; every tap (o, i, k) is an edge from the class of channel i to class o.
    ///
    /// Burn 0.22 computes a wrong gradient for its weights with groups and a stride above 1; an optimiser refuses those.
    pub fn conv1d(&mut self, x: Channels, layer: &Conv1d) -> Channels {
        if layer.groups > 1 && layer.stride > 1 {
            self.miscomputed.push(layer.weight.id);
        }
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
        let groups = shape.layout.groups;
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
            let repeat = |&class| std::iter::repeat_n(class, shape.layout.taps);
            classes.iter().flat_map(repeat).collect()
        };
        let (tails, heads) = match shape.layout.tails {
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
            layout: shape.layout,
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
    fn ground_edges(
        &mut self,
        param: &Param<Tensor<1>>,
        heads: &[u32],
        is_bias: bool,
    ) -> Option<usize> {
        let name = self.name(param.id);
        self.call(Call {
            id: param.id,
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
                self.fail(WiringError::Width {
                    layer: layer.into(),
                    expected,
                    found,
                });
            }
            None => self.widen(node, expected),
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
        for (id, name) in names::names(layer) {
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
        let source = match (gamma, beta) {
            (Some(gamma), Some(beta)) => Source::Norm { from, gamma, beta },
            _ => Source::Frozen(from),
        };
        self.node(source, Some(new))
    }
}
