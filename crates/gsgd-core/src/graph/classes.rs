//! From a graph of operations to its scaling classes.
//!
//! Every value carries the number of a channel for each of its elements ([`Ids`]). Views of a value are the same views of
//! its numbers; only operations that mix elements look at them.

use std::collections::HashMap;

use super::ids::Ids;
use super::op::{Activation, Op, Pooling, Reduction};
use super::operations::{Graph, Node, Value};
use super::params::{Role, roles, views};
use super::walk::{Elements, Walk};
use crate::error::GraphError;
use crate::scales::{ScaleGraph, ScaleGraphBuilder, ScaleGraphConfig};

/// Channels of all values together at most: what a class for each takes is a few times as many bytes.
const CHANNELS: usize = 1 << 27;

impl Graph {
    /// The scaling classes. Operations that lead to no output have none.
    ///
    /// # Errors
    /// There is no output, or there are too many channels in all values together.
    pub fn scales(&self, config: ScaleGraphConfig) -> Result<ScaleGraph, GraphError> {
        scales(self, config)
    }
}

fn scales(graph: &Graph, config: ScaleGraphConfig) -> Result<ScaleGraph, GraphError> {
    if graph.outputs.is_empty() {
        return Err(GraphError::NoOutput);
    }
    let live = live(graph);
    let views = views(graph);
    let roles = roles(graph, &views, &live);
    let named = graph.params.iter();
    let named = named.map(|param| (param.key, param.name.clone()));
    let shapes = graph.params.iter();
    let shapes = shapes.map(|param| (param.key, param.shape.clone()));
    let frozen = graph.params.iter().filter(|param| !param.trains);
    let frozen = frozen.map(|param| param.key);
    let mut walk = Walk {
        graph,
        builder: ScaleGraphBuilder::new(
            config,
            named.collect(),
            shapes.collect(),
            frozen.collect(),
        ),
        views,
        roles,
        values: vec![None; graph.nodes.len()],
    };
    for (at, node) in graph.nodes.iter().enumerate() {
        if live[at] && walk.views[at].is_none() {
            let value = walk.node(node);
            debug_assert_eq!(value.ids.shape(), node.shape, "{node:?}");
            walk.values[at] = Some(value);
            if walk.builder.channels() > CHANNELS {
                return Err(GraphError::Channels {
                    value: node.name.clone(),
                    most: CHANNELS,
                });
            }
        }
    }
    for param in &graph.params {
        match walk.roles.get(&param.key) {
            Some(Role::Held(why)) => walk.builder.leave(param.key, why.clone()),
            Some(Role::Slopes) => walk.builder.loose(param.key),
            _ => {}
        }
    }
    for &value in &graph.outputs {
        let value = walk.value(value, None);
        let whole = walk.whole(&value);
        walk.builder.output(whole);
    }
    Ok(walk.builder.finish())
}

/// Which values lead to an output.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    for value in &graph.outputs {
        live[value.0] = true;
    }
    for (at, node) in graph.nodes.iter().enumerate().rev() {
        if live[at] {
            node.reads.iter().for_each(|value| live[value.0] = true);
        }
    }
    live
}

impl Walk<'_> {
    fn node(&mut self, node: &Node) -> Elements {
        let shape = &node.shape;
        match &node.op {
            Op::Input { .. } => {
                let axis = shape.len().min(2).saturating_sub(1);
                let width = shape.get(axis).copied().unwrap_or(1);
                let ids = match shape.is_empty() {
                    true => Ids::constant(shape, 0),
                    false => Ids::along(shape, axis),
                };
                let of = self.builder.input(width);
                Elements { of, ids }
            }
            Op::Param(_) | Op::Constant { .. } => self.constant(shape),
            Op::MatMul { .. } | Op::Conv { .. } | Op::ConvTranspose { .. } => self.layer(node),
            Op::BatchNorm { .. } => self.batch_norm(node),
            Op::Activation(Activation::Relu) => self.activation(node, 0.0),
            Op::Activation(Activation::LeakyRelu(slope)) => self.activation(node, *slope),
            Op::Activation(Activation::Abs) => self.activation(node, -1.0),
            Op::Activation(Activation::Neg) => {
                self.builder.inexact("neg");
                self.value(node.reads[0], None)
            }
            Op::Prelu => self.prelu(node),
            Op::Pool { pooling, .. } => {
                let name = match pooling {
                    Pooling::Max => "max pooling",
                    Pooling::Mean { .. } => "mean pooling",
                };
                self.resized(node, name)
            }
            Op::Resample { kind, .. } => self.resized(node, kind),
            Op::Reduce {
                reduction, axes, ..
            } => {
                self.builder.inexact(match reduction {
                    Reduction::Max => "max",
                    Reduction::Min => "min",
                    Reduction::Mean => "mean",
                    Reduction::Sum => "sum",
                });
                let x = self.value(node.reads[0], None);
                let x = self.mixed(x, axes);
                let ones: Vec<usize> = (0..x.ids.shape().len())
                    .map(|axis| match axes.contains(&axis) {
                        true => 1,
                        false => x.ids.shape()[axis],
                    })
                    .collect();
                let ids = x.ids.resized(&ones).reshape(shape);
                Elements { ids, ..x }
            }
            Op::Add => self.add(node),
            Op::Sub => {
                self.builder.inexact("sub");
                self.add(node)
            }
            Op::Mul => self.product(node),
            Op::Div => {
                let x = self.value(node.reads[0], None);
                let by = self.value(node.reads[1], None);
                self.grounded(&[by], "division");
                self.builder.inexact("div");
                Elements {
                    ids: x.ids.expand(shape),
                    ..x
                }
            }
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Slice {
                axis,
                start,
                step,
                count,
            } => self.view(node, |ids| ids.slice(*axis, *start, *step, *count)),
            Op::Select { axis, places } => self.view(node, |ids| ids.select(*axis, places)),
            Op::Reshape { .. } => self.view(node, |ids| ids.reshape(shape)),
            Op::Transpose { order } => self.view(node, |ids| ids.permute(order)),
            Op::Expand { .. } => self.view(node, |ids| ids.expand(shape)),
            Op::Identity => self.view(node, Ids::clone),
            Op::Gather { axis, .. } => {
                let x = self.value(node.reads[0], None);
                if let Some(&places) = node.reads.get(1) {
                    let places = self.value(places, None);
                    self.grounded(&[places], "gather");
                }
                let x = self.mixed(x, &[*axis]);
                let read = x.ids.shape().to_vec();
                let behind = read.len() - axis - 1;
                let mut ones = read[..*axis].to_vec();
                ones.extend(std::iter::repeat_n(1, shape.len() - axis - behind));
                ones.extend(&read[axis + 1..]);
                let ids = x.ids.slice(*axis, 0, 1, 1).reshape(&ones).expand(shape);
                Elements { ids, ..x }
            }
            Op::Function(_) | Op::Softmax { .. } | Op::Normalise { .. } | Op::Opaque { .. } => {
                let reads: Vec<Elements> = node
                    .reads
                    .iter()
                    .map(|&value| self.value(value, None))
                    .collect();
                self.grounded(&reads, node.op.name());
                self.behind_ground(&reads, shape)
            }
        }
    }

    fn view(&mut self, node: &Node, view: impl Fn(&Ids) -> Ids) -> Elements {
        let x = self.value(node.reads[0], None);
        Elements {
            ids: view(&x.ids),
            ..x
        }
    }

    fn activation(&mut self, node: &Node, slope: f64) -> Elements {
        let x = self.value(node.reads[0], None);
        Elements {
            of: self.builder.activation(x.of, slope),
            ..x
        }
    }

    fn prelu(&mut self, node: &Node) -> Elements {
        let x = self.value(node.reads[0], None);
        let slopes = node.reads[1];
        match self.role(slopes) {
            Some((_, Role::Slopes | Role::Held(_))) => {}
            // slopes that are computed
            _ => {
                let slopes = self.value(slopes, None);
                self.grounded(&[slopes], "prelu");
            }
        }
        self.builder.inexact("prelu");
        x
    }

    /// Other sizes along some axes, along which the channels must not change.
    fn resized(&mut self, node: &Node, name: &str) -> Elements {
        let x = self.value(node.reads[0], None);
        let sizes = x.ids.shape().iter().zip(&node.shape).enumerate();
        let mut axes: Vec<usize> = sizes
            .filter(|(_, (before, after))| before != after)
            .map(|(axis, _)| axis)
            .collect();
        if let Op::Pool { .. } = node.op {
            axes = (2..node.shape.len()).collect();
        }
        let x = self.mixed(x, &axes);
        self.builder.inexact(name);
        Elements {
            ids: x.ids.resized(&node.shape),
            ..x
        }
    }

    fn add(&mut self, node: &Node) -> Elements {
        let is_param = |value: &&Value| self.views[value.0].is_some();
        let (params, others): (Vec<&Value>, Vec<&Value>) =
            node.reads.iter().partition(|value| is_param(value));
        let [params, others] =
            [params, others].map(|values| -> Vec<Value> { values.into_iter().copied().collect() });
        let mut values: Vec<Elements> = others
            .iter()
            .map(|&value| self.value(value, None))
            .collect();
        let per_block = self.builder.grounds_skips();
        let beside = values.first().map(|value| {
            let ids = value.ids.clone();
            ids.expand(&node.shape)
        });
        for value in params {
            values.push(self.value(value, beside.as_ref()));
        }
        let y = self.sums(&values, &node.shape);
        if per_block && others.len() > 1 {
            self.builder.hold(y.of);
        }
        y
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Elements {
        let values: Vec<Elements> = node
            .reads
            .iter()
            .map(|&value| self.value(value, None))
            .collect();
        if values.iter().all(|value| value.of == values[0].of) {
            let ids: Vec<Ids> = values.iter().map(|value| value.ids.clone()).collect();
            return Elements {
                of: values[0].of,
                ids: Ids::concat(&ids, axis),
            };
        }
        let mut places = Vec::new();
        let mut ids = Vec::new();
        for value in &values {
            let used = value.ids.distinct();
            let first = places.len() as u32;
            let number: HashMap<u32, u32> = used
                .iter()
                .enumerate()
                .map(|(at, &channel)| (channel, first + at as u32))
                .collect();
            places.extend(used.iter().map(|&channel| vec![(value.of, channel)]));
            ids.push(
                value
                    .ids
                    .map(|channel| number.get(&channel).copied().unwrap_or(0)),
            );
        }
        Elements {
            of: self.builder.sum(places),
            ids: Ids::concat(&ids, axis),
        }
    }
}
