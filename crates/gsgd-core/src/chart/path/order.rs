//! The order of the skeleton's two trees, and what else is known of every class from the start.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::scales::{Kind, ScaleClass, ScaleGraph};
use crate::skeleton::SkeletonTree;

/// The classes' places in the skeleton and their reference sizes; lists by class, the ground first.
///
/// In edges come from earlier classes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TreeOrder {
    /// The class that the In edge comes from.
    pub in_tail: Vec<ScaleClass>,
    /// Classes that reach an output without batch norm and those that their Out edges lead to, in such an order that these
    /// are earlier ones or the ground.
    pub outs: Vec<[ScaleClass; 2]>,
    /// Classes whose In edge is free to move.
    pub free: Vec<Range<usize>>,
    /// Classes whose In edge is held fixed, as the Out edge of its tail or because the class is behind a batch
    /// norm, and classes that have none; ascending.
    pub held: Vec<ScaleClass>,
    /// Classes of the kind [`Kind::BehindBatchNorm`].
    pub behind_norm: Vec<usize>,
    /// Classes of the kind [`Kind::IntoBatchNorm`].
    pub into_norm: Vec<usize>,
    /// |Pin| and |Pout| at the start in the balanced network; 1 in plain coordinates.
    size: Factors,
    /// The size of Pin of the In edge's tail over that of the class itself.
    pub of_tail: Vec<f64>,
    /// |path value| of the skeleton path at the start, for the ratio floor.
    at_start: Vec<f64>,
    /// The same of the coordinate of the In edge.
    pub in_value_at_start: Vec<f64>,
}

/// By class, the ground first, a number for edges out of it and one for edges into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factors {
    /// Out of it.
    pub tail: Vec<f64>,
    /// Into it.
    pub head: Vec<f64>,
}

impl Factors {
    pub(super) fn ones(classes: usize) -> Self {
        Self {
            tail: vec![1.0; classes],
            head: vec![1.0; classes],
        }
    }
}

impl TreeOrder {
    /// The places of a skeleton.
    pub fn new(graph: &ScaleGraph, tree: &SkeletonTree) -> Self {
        let classes = graph.hidden() + 1;
        let of_kind = |kind: Kind| {
            let all = graph.hidden_classes();
            let some = all.filter(|&class| graph.kind(class) == kind);
            some.map(|class| class.index()).collect()
        };
        let ins = tree.ins.iter();
        let tails = ins.map(|edge| edge.map_or(ScaleClass::GROUND, |edge| graph.tail(edge)));
        let outs = graph.out_order().into_iter();
        let outs = outs.map(|class| {
            let out = tree.out_edge(class);
            [
                class,
                out.map_or(ScaleClass::GROUND, |edge| graph.head(edge)),
            ]
        });
        let (held, free): (Vec<ScaleClass>, Vec<ScaleClass>) = graph
            .hidden_classes()
            .partition(|&class| tree.in_is_fixed(graph, class));
        Self {
            in_tail: std::iter::once(ScaleClass::GROUND).chain(tails).collect(),
            outs: outs.collect(),
            free: ranges(free.into_iter().map(ScaleClass::index)),
            held,
            behind_norm: of_kind(Kind::BehindBatchNorm),
            into_norm: of_kind(Kind::IntoBatchNorm),
            size: Factors::ones(classes),
            of_tail: vec![1.0; classes],
            at_start: vec![1.0; classes],
            in_value_at_start: vec![1.0; classes],
        }
    }

    /// |Pin| and |Pout| at the start in the balanced network, for normalised coordinates.
    pub fn take_sizes(&mut self, size: Factors) {
        let pairs = self.in_tail.iter().zip(&size.tail);
        let of_tail = pairs.map(|(tail, own)| size.tail[tail.index()] / own);
        self.of_tail = of_tail.collect();
        self.size = size;
        self.measure_in_values();
    }

    /// The reference sizes; 1 in plain coordinates.
    pub fn size(&self) -> &Factors {
        &self.size
    }

    /// |path value| of every skeleton path at the start, for the ratio floor.
    pub fn take_values(&mut self, at_start: Vec<f64>) {
        self.at_start = at_start;
        self.measure_in_values();
    }

    /// What the ratio floor knows of the start; 1 without it.
    pub fn at_start(&self) -> &[f64] {
        &self.at_start
    }

    /// The coordinate of an In edge is its path value by the sizes of Pin of its tail and of Pout.
    fn measure_in_values(&mut self) {
        let Factors { tail, head } = &self.size;
        let pins = self.in_tail.iter().map(|class| tail[class.index()]);
        let values = self.at_start.iter().zip(pins).zip(head);
        let values = values.map(|((value, pin), pout)| value / (pin * pout));
        self.in_value_at_start = values.collect();
    }

    /// A list by skeleton edge, cut into In edges by head and Out edges by tail; both begin with the ground's, which has
    /// none.
    pub fn ins_and_outs(list: &[f64]) -> (&[f64], &[f64]) {
        list.split_at(list.len() / 2)
    }

    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.in_tail.len()
    }

    /// Whether every class reaches an output without batch norm.
    pub fn all_reach_output(&self) -> bool {
        self.behind_norm.is_empty() && self.into_norm.is_empty()
    }
}

/// Ascending numbers, those that follow one another together.
pub(super) fn ranges(numbers: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if range.end == number => range.end += 1,
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn numbers_that_follow_one_another_are_one_range() {
        assert_eq!(ranges([1, 2, 3, 5, 8, 9]), [1..4, 5..6, 8..10]);
        assert!(ranges([]).is_empty());
    }
}
