//! From a graph of operations to its scaling classes.
//!
//! Every value carries the number of a channel for each of its elements ([`Ids`]). Views of a value are the same views of
//! its numbers; only operations that mix elements look at them.

use std::collections::HashMap;

use super::ids::Ids;
use super::params::{Role, View, roles, views};
use super::{Activation, Graph, Node, Op, Pooling, Reduction, Value};
use crate::error::GraphError;
use crate::scales::{
    BatchNormParams, Channels, ParamKey, ScaleGraph, ScaleGraphBuilder, ScaleGraphConfig,
};

/// A value: channels, and which of them each element belongs to.
#[derive(Debug, Clone)]
struct Elements {
    of: Channels,
    ids: Ids,
}

struct Walk<'g> {
    graph: &'g Graph,
    views: Vec<Option<View>>,
    roles: HashMap<ParamKey, Role>,
    builder: ScaleGraphBuilder,
    values: Vec<Option<Elements>>,
}

/// The scaling classes of a graph. Operations that lead to no output have none.
pub(super) fn scales(graph: &Graph, config: ScaleGraphConfig) -> Result<ScaleGraph, GraphError> {
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
    /// A value that is there, or a parameter as one; the axes along which `beside` changes say which of the parameter's are
    /// channels.
    fn value(&mut self, value: Value, beside: Option<&Ids>) -> Elements {
        if let Some(elements) = &self.values[value.0] {
            return elements.clone();
        }
        let shape = &self.graph.nodes[value.0].shape;
        let elements = match self.views[value.0].clone() {
            Some(view) => self.param(&view, shape, beside),
            None => self.constant(shape),
        };
        self.values[value.0] = Some(elements.clone());
        elements
    }

    fn param(&mut self, view: &View, shape: &[usize], beside: Option<&Ids>) -> Elements {
        let is_bias = match self.roles.get(&view.key) {
            Some(Role::Value { is_bias }) => *is_bias,
            _ => return self.constant(shape),
        };
        let Some(param) = self.graph.tensor(view.key) else {
            return self.constant(shape);
        };
        // a single number is one channel
        let own = match &param.shape[..] {
            [] => &[1],
            own => own,
        };
        let longer = |axis: &usize| own[*axis] > 1;
        let mut longer = (0..own.len()).filter(longer);
        let first = longer.next();
        let last = longer.next_back().or(first).unwrap_or(0);
        let first = first.unwrap_or(0);
        // as the value beside it has its channels, and on the last axis where that does not say
        let changes = |axis: usize| {
            let beside = beside.map(|ids| (ids.varying(), ids.shape().len()));
            beside.is_some_and(|(varying, rank)| {
                let mut axes = view.axes.iter().enumerate();
                axes.any(|(at, &of)| {
                    of == Some(axis) && varying.contains(&(at + rank - shape.len().min(rank)))
                })
            })
        };
        let axis = match changes(first) && !changes(last) {
            true => first,
            false => last,
        };
        let of = self.builder.param(view.key, own, axis, is_bias);
        let seen = view.axes.iter().position(|&of| of == Some(axis));
        let ids = match seen {
            Some(at) => Ids::along(shape, at),
            None => Ids::constant(shape, 0),
        };
        Elements { of, ids }
    }

    /// Numbers that no scaling changes.
    fn constant(&mut self, shape: &[usize]) -> Elements {
        Elements {
            of: self.builder.behind(&[], 1),
            ids: Ids::constant(shape, 0),
        }
    }

    fn role(&self, value: Value) -> Option<(ParamKey, &Role)> {
        let key = self.views[value.0].as_ref()?.key;
        Some((key, self.roles.get(&key)?))
    }

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

    /// Grounds values: a function that is not positively homogeneous reads them.
    fn grounded(&mut self, reads: &[Elements], why: &str) {
        for value in reads {
            let used = value.ids.distinct();
            if !self.builder.is_ground(value.of, used) {
                let whole = self.whole(value);
                self.builder.ground(whole, why);
            }
        }
    }

    /// What such a function makes of them.
    fn behind_ground(&mut self, reads: &[Elements], shape: &[usize]) -> Elements {
        let reads: Vec<Channels> = reads.iter().map(|value| self.whole(value)).collect();
        let axis = shape.len().min(2).saturating_sub(1);
        let (width, ids) = match shape.is_empty() {
            true => (1, Ids::constant(shape, 0)),
            false => (shape[axis], Ids::along(shape, axis)),
        };
        let of = self.builder.behind(&reads, width);
        Elements { of, ids }
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

    /// The value with the channels along these axes made one.
    fn mixed(&mut self, x: Elements, axes: &[usize]) -> Elements {
        let varying = x.ids.varying();
        if !axes.iter().any(|axis| varying.contains(axis)) {
            return x;
        }
        let shape = x.ids.shape();
        let kept: Vec<usize> = varying
            .into_iter()
            .filter(|axis| !axes.contains(axis))
            .collect();
        // the kept axes in front, as one
        let mut order = kept.clone();
        order.extend((0..shape.len()).filter(|axis| !kept.contains(axis)));
        let front: usize = kept.iter().map(|&axis| shape[axis]).product();
        let behind = shape.iter().product::<usize>() / front;
        let lines = x.ids.permute(&order).reshape(&[front, behind]).lines(0);
        let mut numbers: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut sums: Vec<Vec<u32>> = Vec::new();
        let list: Vec<usize> = lines
            .into_iter()
            .map(|line| {
                *numbers.entry(line).or_insert_with_key(|line| {
                    sums.push(line.clone());
                    sums.len() as u32 - 1
                }) as usize
            })
            .collect();
        let of = self.sum(x.of, sums);
        let sizes: Vec<usize> = kept.iter().map(|&axis| shape[axis]).collect();
        // [kept ..], then axes of size 1 where the others are
        let ids = Ids::along(&[numbers.len()], 0).select(0, &list);
        let ids = ids.reshape(&sizes);
        let mut ones = vec![1; shape.len()];
        kept.iter().for_each(|&axis| ones[axis] = shape[axis]);
        let ids = ids.reshape(&ones).expand(shape);
        Elements { of, ids }
    }

    /// Sums of channels of one value; the value itself where there is nothing to add.
    fn sum(&mut self, of: Channels, sums: Vec<Vec<u32>>) -> Channels {
        let whole = sums.len() == self.builder.width(of);
        let same = sums.iter().enumerate().all(|(at, sum)| *sum == [at as u32]);
        if whole && same {
            return of;
        }
        if sums.iter().any(|sum| sum.len() > 1) {
            self.builder.inexact("a mean over channels");
        }
        let sums = sums.into_iter();
        let sums = sums.map(|sum| sum.into_iter().map(|channel| (of, channel)).collect());
        self.builder.sum(sums)
    }

    /// The channels along an axis, those at one place made one.
    fn line(&mut self, x: &Elements, axis: usize) -> Channels {
        let lines = x.ids.lines(axis);
        self.sum(x.of, lines)
    }

    /// The channels of all elements, in their order, each once.
    fn whole(&mut self, x: &Elements) -> Channels {
        let mut seen = std::collections::HashSet::new();
        let all = x.ids.listed(&x.ids.varying());
        let channels = all.into_iter().filter(|&channel| seen.insert(channel));
        let channels = channels.map(|channel| vec![channel]).collect();
        self.sum(x.of, channels)
    }

    fn layer(&mut self, node: &Node) -> Elements {
        let (x, w) = (node.reads[0], node.reads[1]);
        let weight = |walk: &Self, value| match walk.role(value) {
            Some((key, Role::Weight(form))) => Some((key, *form)),
            _ => None,
        };
        let shape = &node.shape;
        let (found, input, axis_of) = match (weight(self, w), weight(self, x)) {
            (Some(found), _) => (Some(found), x, [1, 1]),
            (None, Some(found)) => (Some(found), w, [2, 2]),
            (None, None) => (None, x, [1, 1]),
        };
        let Some((key, form)) = found else {
            return self.held_layer(node);
        };
        let rank = |value: Value| self.graph.nodes[value.0].shape.len();
        // of matrices, channels are on the last axis, or, behind a weight, on the one before
        let [from, to] = match node.op {
            Op::MatMul { transposed } => {
                let from = match (axis_of, transposed) {
                    ([2, _], true) => 1,
                    ([1, _], _) => 1,
                    _ => 2,
                };
                let to = if axis_of[1] == 2 { 2 } else { 1 };
                [rank(input).saturating_sub(from), shape.len() - to]
            }
            _ => [1, 1],
        };
        let input = self.value(input, None);
        let channels = self.line(&input, from);
        let bias = node.reads.get(2).copied();
        let own = bias.and_then(|bias| match self.role(bias) {
            Some((key, Role::OfLayer)) if axis_of == [1, 1] => Some(key),
            _ => None,
        });
        let weight = self.graph.tensor(key).map(|param| param.shape.clone());
        let weight = weight.unwrap_or_default();
        let of = self.builder.layer(channels, key, &weight, form, own);
        let y = Elements {
            of,
            ids: Ids::along(shape, to),
        };
        match bias {
            Some(bias) if own.is_none() => {
                let bias = self.value_of_layer(bias, node);
                self.sums(&[y, bias], shape)
            }
            _ => y,
        }
    }

    /// A product in which no weight can change: what it sums over is one class, which goes through where the other side is
    /// ground.
    fn held_layer(&mut self, node: &Node) -> Elements {
        let shape = &node.shape;
        let (a, b) = (
            self.value(node.reads[0], None),
            self.value(node.reads[1], None),
        );
        self.builder.inexact("a product without weights");
        let [a, b] = self.one_ground([a, b], node.op.name());
        let from_a = !self.builder.is_ground(a.of, a.ids.distinct());
        let y = match &node.op {
            Op::MatMul { transposed } => {
                let rank = |x: &Elements| x.ids.shape().len();
                let (x, inner, outer, to) = match (from_a, transposed) {
                    (true, _) => (&a, rank(&a) - 1, rank(&a).checked_sub(2), 2),
                    (false, false) => (&b, rank(&b) - 2, Some(rank(&b) - 1), 1),
                    (false, true) => (&b, rank(&b) - 1, Some(rank(&b) - 2), 1),
                };
                let mixed = self.mixed(x.clone(), &[inner]);
                // [.., outer] to its place, repeated along the other
                let mut ids = mixed.ids.slice(inner, 0, 1, 1);
                if to == 1 && *transposed {
                    let mut order: Vec<usize> = (0..ids.shape().len()).collect();
                    order.swap(inner, outer.unwrap_or(inner));
                    ids = ids.permute(&order);
                }
                if outer.is_none() {
                    // a vector before a matrix
                    ids = ids.reshape(&vec![1; shape.len()]);
                }
                let rank = ids.shape().len();
                if rank > shape.len() {
                    ids =
                        ids.reshape(&[&ids.shape()[..rank - 2], &[ids.shape()[rank - 1]]].concat());
                }
                Elements {
                    ids: ids.expand(shape),
                    ..mixed
                }
            }
            Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } => {
                let x = if from_a { &a } else { &b };
                if !from_a && !self.builder.is_ground(x.of, x.ids.distinct()) {
                    // a kernel that is computed
                    self.grounded(std::slice::from_ref(&b), node.op.name());
                    self.behind_ground(&[a, b], shape)
                } else {
                    let lines = a.ids.lines(1);
                    let of_group = lines.len() / groups;
                    let groups = lines.chunks(of_group).map(|lines| {
                        let mut all = lines.concat();
                        all.sort_unstable();
                        all.dedup();
                        all
                    });
                    let groups: Vec<Vec<u32>> = groups.collect();
                    let count = groups.len();
                    let of = self.sum(a.of, groups);
                    let places: Vec<usize> = (0..shape[1])
                        .map(|channel| channel / (shape[1] / count))
                        .collect();
                    let line = Ids::along(&[1, count], 1).select(1, &places);
                    let mut ones = vec![1; shape.len()];
                    ones[1] = shape[1];
                    Elements {
                        of,
                        ids: line.reshape(&ones).expand(shape),
                    }
                }
            }
            _ => self.behind_ground(&[a, b], shape),
        };
        match node.reads.get(2) {
            Some(&bias) => {
                let bias = self.value_of_layer(bias, node);
                self.sums(&[y, bias], shape)
            }
            None => y,
        }
    }

    /// The bias of a layer as a value of its own, along the layer's channels: the last axis of a product of matrices, the
    /// second behind a convolution.
    fn value_of_layer(&mut self, bias: Value, node: &Node) -> Elements {
        let shape = &self.graph.nodes[bias.0].shape;
        let channels = shape.iter().product();
        let bias = match self.role(bias) {
            Some((key, Role::OfLayer)) => {
                let whole = self.graph.tensor(key).map(|param| param.shape.clone());
                let whole = whole.unwrap_or_default();
                let axis = whole.iter().rposition(|&size| size > 1).unwrap_or(0);
                Elements {
                    of: self.builder.param(key, &whole, axis, true),
                    ids: Ids::along(&[channels], 0),
                }
            }
            _ => self.value(bias, None),
        };
        let rank = node.shape.len();
        let mut ones = vec![1; rank];
        ones[match node.op {
            Op::MatMul { .. } => rank - 1,
            _ => 1,
        }] = channels;
        Elements {
            ids: bias.ids.reshape(&ones),
            ..bias
        }
    }

    fn batch_norm(&mut self, node: &Node) -> Elements {
        let x = self.value(node.reads[0], None);
        let shape = &node.shape;
        let axis = shape.len().min(2).saturating_sub(1);
        let mut keys = [ParamKey(0); 4];
        for (key, &value) in keys.iter_mut().zip(&node.reads[1..]) {
            match self.role(value) {
                Some((found, Role::OfLayer)) => *key = found,
                _ => {
                    let why = "batch norm with a tensor that stays";
                    self.grounded(std::slice::from_ref(&x), why);
                    for &other in &node.reads[1..] {
                        if let Some((key, Role::OfLayer)) = self.role(other) {
                            let why = "its batch norm has a tensor that stays".into();
                            self.builder.leave(key, why);
                        }
                    }
                    return self.behind_ground(&[x], shape);
                }
            }
        }
        let [gamma, beta, mean, variance] = keys;
        let channels = self.line(&x, axis);
        let of = self.builder.batch_norm(
            channels,
            BatchNormParams {
                gamma,
                beta,
                mean,
                variance,
            },
        );
        Elements {
            of,
            ids: Ids::along(shape, axis),
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

    /// The sum of values, repeated to one shape.
    fn sums(&mut self, values: &[Elements], shape: &[usize]) -> Elements {
        let parts: Vec<Ids> = values.iter().map(|value| value.ids.expand(shape)).collect();
        let (ids, combinations) = Ids::combined(&parts);
        let sums = combinations.into_iter().map(|channels| {
            let summands = values.iter().zip(channels);
            summands
                .map(|(value, channel)| (value.of, channel))
                .collect()
        });
        let of = self.builder.sum(sums);
        Elements { of, ids }
    }

    fn product(&mut self, node: &Node) -> Elements {
        let shape = &node.shape;
        let is_param = |value: Value| self.views[value.0].is_some();
        let [a, b] = [node.reads[0], node.reads[1]];
        let (x, factor) = match (is_param(a), is_param(b)) {
            (true, false) => (b, a),
            _ => (a, b),
        };
        let x = self.value(x, None);
        let gain = match self.role(factor) {
            Some((key, Role::Value { .. })) => Some(key),
            _ => None,
        };
        if let Some(key) = gain {
            // a gain behind a value of the ground is a row of edges; elsewhere it stays, and the value's classes go through
            if self.builder.is_ground(x.of, x.ids.distinct()) {
                let beside = x.ids.expand(shape);
                let gain = self.value(factor, Some(&beside));
                return Elements {
                    ids: gain.ids.expand(shape),
                    ..gain
                };
            }
            let why = "values are multiplied by it without being summed".to_string();
            self.roles.insert(key, Role::Held(why));
        }
        let factor = self.value(factor, None);
        if x.of == factor.of {
            self.grounded(std::slice::from_ref(&x), "a product with itself");
        }
        self.builder.inexact("mul");
        let [x, factor] = self.one_ground([x, factor], "mul");
        let x = match self.builder.is_ground(x.of, x.ids.distinct()) {
            true => factor,
            false => x,
        };
        Elements {
            ids: x.ids.expand(shape),
            ..x
        }
    }

    /// Grounds the one of two factors with fewer classes, unless one is ground.
    fn one_ground(&mut self, factors: [Elements; 2], why: &str) -> [Elements; 2] {
        let mut cost = [0; 2];
        for (cost, x) in cost.iter_mut().zip(&factors) {
            let mut classes: Vec<u32> = x
                .ids
                .distinct()
                .into_iter()
                .map(|channel| self.builder.class(x.of, channel))
                .filter(|&class| class != 0)
                .collect();
            classes.sort_unstable();
            classes.dedup();
            *cost = classes.len();
        }
        if cost[0] > 0 && cost[1] > 0 {
            let cheaper = usize::from(cost[1] <= cost[0]);
            self.grounded(std::slice::from_ref(&factors[cheaper]), why);
        }
        factors
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
