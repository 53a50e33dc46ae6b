//! Scaling classes of operations that multiply: layers with their weights, batch norms, gates.

use super::ids::Ids;
use super::op::Op;
use super::operations::{Node, Value};
use super::params::Role;
use super::walk::{Elements, Walk};
use crate::scales::{BatchNormParams, ParamKey};

impl Walk<'_> {
    pub fn layer(&mut self, node: &Node) -> Elements {
        let weight = |value| match self.role(value) {
            Some((key, Role::Weight(form))) => Some((key, *form)),
            _ => None,
        };
        let (x, w) = (node.reads[0], node.reads[1]);
        let (found, input, is_first) = match (weight(w), weight(x)) {
            (Some(found), _) => (found, x, false),
            (None, Some(found)) => (found, w, true),
            (None, None) => return self.held_layer(node),
        };
        let (key, form) = found;
        // of matrices, channels are on the last axis, or, behind a weight, on the one before
        let shape = &node.shape;
        let [from, to] = match node.op {
            Op::MatMul { transposed } => {
                let rank = self.graph.nodes[input.0].shape.len();
                let before = usize::from(is_first && !transposed);
                let to = shape.len() - 1 - usize::from(is_first);
                [rank.saturating_sub(1 + before), to]
            }
            _ => [1, 1],
        };
        let input = self.value(input, None);
        let channels = self.line(&input, from);
        let bias = node.reads.get(2).copied();
        let own = bias.and_then(|bias| match self.role(bias) {
            Some((key, Role::OfLayer)) if !is_first => Some(key),
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
                let bias = self.value_of_layer(bias, &y);
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
                let bias = self.value_of_layer(bias, &y);
                self.sums(&[y, bias], shape)
            }
            None => y,
        }
    }

    /// The bias of a layer as a value of its own, along the layer's channels.
    fn value_of_layer(&mut self, bias: Value, y: &Elements) -> Elements {
        let key = match self.role(bias) {
            Some((key, Role::OfLayer)) => key,
            _ => return self.value(bias, None),
        };
        let shape = self.graph.nodes[bias.0].shape.clone();
        let whole = self.graph.tensor(key).map(|param| param.shape.clone());
        let whole = whole.unwrap_or_default();
        let axis = whole.iter().rposition(|&size| size > 1).unwrap_or(0);
        let of = self.builder.param(key, &whole, axis, true);
        let channels = shape.iter().product();
        let ids = Ids::along(&[channels], 0);
        let rank = y.ids.shape().len();
        let is_matrix = y.ids.shape().last() == Some(&channels) && shape.len() == rank;
        let mut ones = vec![1; rank];
        let axis = if is_matrix || rank < 3 { rank - 1 } else { 1 };
        // behind a product of matrices the last axis, behind a convolution the channels
        let axis = match y.ids.shape()[axis] == channels {
            true => axis,
            false => rank - 1,
        };
        ones[axis] = channels;
        Elements {
            of,
            ids: ids.reshape(&ones),
        }
    }

    pub fn batch_norm(&mut self, node: &Node) -> Elements {
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

    pub fn product(&mut self, node: &Node) -> Elements {
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
}
