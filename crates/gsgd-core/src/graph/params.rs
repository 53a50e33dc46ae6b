//! What the parameters of a graph are: weights, biases, statistics, or tensors that stay as they are.

use std::collections::HashMap;

use super::op::Op;
use super::operations::{Graph, Param};
use crate::scales::{ParamKey, WeightForm};

/// What a parameter is to the only operation that reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Role {
    /// The weight of a layer.
    Weight(WeightForm),
    /// The bias of a layer; gamma, beta or a running statistic of a batch norm.
    OfLayer,
    /// A value whose edges leave the ground.
    Value {
        /// Whether it is added to others.
        is_bias: bool,
    },
    /// Slopes below zero: no weights.
    Slopes,
    /// It stays as it is, and why.
    Held(String),
}

/// A parameter seen by an operation, perhaps in another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Which parameter.
    pub key: ParamKey,
    /// For each axis the parameter's, but for axes of size 1.
    pub axes: Vec<Option<usize>>,
}

/// The nodes that are parameters or views of parameters, by their place.
pub(super) fn views(graph: &Graph) -> Vec<Option<View>> {
    let mut views: Vec<Option<View>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let from = node.reads.first().and_then(|value| views[value.0].clone());
        views.push(match (&node.op, from) {
            (Op::Param(key), _) => Some(View {
                key: *key,
                axes: longer_than_one(&node.shape).collect(),
            }),
            (Op::Identity, Some(view)) => Some(view),
            (Op::Transpose { order }, Some(view)) => Some(View {
                key: view.key,
                axes: order.iter().map(|&axis| view.axes[axis]).collect(),
            }),
            (Op::Reshape { shape }, Some(view)) => {
                // axes of size 1 come and go
                let mut kept = view.axes.iter().flatten();
                let before = &graph.nodes[node.reads[0].0].shape;
                let sizes = |shape: &[usize]| -> Vec<usize> {
                    shape.iter().copied().filter(|&size| size > 1).collect()
                };
                let axes = shape.iter().map(|&size| match size {
                    1 => None,
                    _ => kept.next().copied(),
                });
                (sizes(shape) == sizes(before)).then(|| View {
                    key: view.key,
                    axes: axes.collect(),
                })
            }
            _ => None,
        });
    }
    views
}

fn longer_than_one(shape: &[usize]) -> impl Iterator<Item = Option<usize>> {
    let axes = shape.iter().enumerate();
    axes.map(|(axis, &size)| (size > 1).then_some(axis))
}

/// The role of every parameter that a live operation reads.
pub(super) fn roles(
    graph: &Graph,
    views: &[Option<View>],
    live: &[bool],
) -> HashMap<ParamKey, Role> {
    let mut uses: HashMap<ParamKey, Vec<Role>> = HashMap::new();
    let mut readers: HashMap<ParamKey, Vec<&str>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if !live[at] || views[at].is_some() {
            continue;
        }
        for (place, value) in node.reads.iter().enumerate() {
            let Some(view) = &views[value.0] else {
                continue;
            };
            uses.entry(view.key)
                .or_default()
                .push(role(graph, views, at, place, view));
            readers
                .entry(view.key)
                .or_default()
                .push(match node.name.as_str() {
                    "" => node.op.name(),
                    name => name,
                });
        }
    }
    for value in &graph.outputs {
        if let Some(view) = &views[value.0] {
            let why = "it is an output itself".to_string();
            uses.entry(view.key).or_default().push(Role::Held(why));
            readers.entry(view.key).or_default().push("an output");
        }
    }
    let roles = uses.into_iter().map(|(key, mut roles)| {
        let role = match (graph.held.get(&key), roles.len()) {
            (Some(why), _) => Role::Held(why.clone()),
            (None, 1) => roles.remove(0),
            (None, _) if roles.iter().all(|role| *role == Role::Slopes) => Role::Slopes,
            (None, _) => Role::Held(format!("it is read by {}", readers[&key].join(" and "))),
        };
        (key, role)
    });
    roles.collect()
}

fn role(graph: &Graph, views: &[Option<View>], at: usize, place: usize, view: &View) -> Role {
    let node = &graph.nodes[at];
    let param = graph.tensor(view.key);
    let shape = &graph.nodes[node.reads[place].0].shape;
    let reads_params_only = || {
        let mut reads = node.reads.iter();
        reads.all(|value| views[value.0].is_some())
    };
    let weight = |form: Option<WeightForm>| match form {
        Some(form) if !reads_params_only() => Role::Weight(form),
        Some(_) => Role::Held("it is multiplied with another parameter".into()),
        None => Role::Held(format!(
            "`{}` reads it as {shape:?}, which is not its shape as a weight",
            node.op.name()
        )),
    };
    match (&node.op, place) {
        (Op::MatMul { transposed }, 1) => weight(matrix(param, view, shape, *transposed)),
        (Op::MatMul { .. }, 0) => weight(matrix(param, view, shape, true)),
        (Op::Conv { groups, .. }, 1) => {
            let groups = *groups;
            weight(kernel(param, view, shape).map(|()| WeightForm::Convolution { groups }))
        }
        (Op::ConvTranspose { groups, .. }, 1) => {
            let groups = *groups;
            weight(kernel(param, view, shape).map(|()| WeightForm::Transposed { groups }))
        }
        (Op::MatMul { .. } | Op::Conv { .. } | Op::ConvTranspose { .. }, 2) => Role::OfLayer,
        (Op::BatchNorm { .. }, 1..) => Role::OfLayer,
        (Op::Prelu, 1) => Role::Slopes,
        (
            Op::Add
            | Op::Sub
            | Op::Concat { .. }
            | Op::Expand { .. }
            | Op::Slice { .. }
            | Op::Select { .. }
            | Op::Gather { .. }
            | Op::Activation(_),
            _,
        ) => match first_or_last(param, view) {
            true => Role::Value { is_bias: true },
            false => Role::Held(format!("`{}` reads it", node.op.name())),
        },
        (Op::Mul, _) if !reads_params_only() && first_or_last(param, view) => {
            Role::Value { is_bias: false }
        }
        (Op::Div, 1) => Role::Held("something is divided by it".into()),
        _ => Role::Held(format!("`{}` reads it", node.op.name())),
    }
}

/// Whether a parameter has an axis that can be its channels: of those longer than 1, the first and the last can.
fn first_or_last(param: Option<&Param>, view: &View) -> bool {
    param.is_some() && view.axes.len() <= 8
}

/// How a parameter of two axes is the second factor of a product.
fn matrix(
    param: Option<&Param>,
    view: &View,
    shape: &[usize],
    transposed: bool,
) -> Option<WeightForm> {
    let param = param?;
    let (&[rows, columns], &[.., k, m]) = (&param.shape[..], shape) else {
        return None;
    };
    let &[.., first, second] = &view.axes[..] else {
        return None;
    };
    let is = |axis: Option<usize>, expected: usize| axis.is_none_or(|axis| axis == expected);
    let straight = [k, m] == [rows, columns] && is(first, 0) && is(second, 1);
    let turned = [m, k] == [rows, columns] && is(first, 1) && is(second, 0);
    match (straight, turned, transposed) {
        (true, _, false) | (_, true, true) => Some(WeightForm::Dense),
        (true, _, true) | (_, true, false) => Some(WeightForm::Convolution { groups: 1 }),
        _ => None,
    }
}

/// Whether a parameter is a convolution's weight as it lies in memory.
fn kernel(param: Option<&Param>, view: &View, shape: &[usize]) -> Option<()> {
    let param = param?;
    let in_order = view.axes.iter().flatten().is_sorted();
    let fits = param.shape.len() >= 2 && param.shape[..2] == shape[..2];
    (in_order && fits).then_some(())
}
