//! The order of the skeleton's two trees.

use super::SkeletonTree;
use crate::scales::{Kind, ScaleClass, ScaleGraph};

/// The classes' places in the two trees, by class, the ground first.
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
    pub free: Vec<ScaleClass>,
    /// Classes whose In edge is held fixed, as the Out edge of its tail or because the class is behind a batch
    /// norm, and classes that have none; ascending.
    pub held: Vec<ScaleClass>,
    /// Classes of the kind [`Kind::BehindBatchNorm`].
    pub behind_norm: Vec<usize>,
    /// Classes of the kind [`Kind::IntoBatchNorm`].
    pub into_norm: Vec<usize>,
}

impl TreeOrder {
    /// The places of a skeleton.
    pub fn new(graph: &ScaleGraph, tree: &SkeletonTree) -> Self {
        let of_kind = |kind: Kind| {
            let all = graph.hidden_classes();
            let some = all.filter(|&class| graph.kind(class) == kind);
            some.map(|class| class.index()).collect()
        };
        let ins = tree.ins.iter();
        let tails = ins.map(|edge| edge.map_or(ScaleClass::GROUND, |edge| graph.tail(edge)));
        let outs = graph.out_order().into_iter().map(|class| {
            let out = tree.out_edge(class);
            let head = out.map_or(ScaleClass::GROUND, |edge| graph.head(edge));
            [class, head]
        });
        let classes = graph.hidden_classes();
        let (held, free) = classes.partition(|&class| tree.in_is_fixed(graph, class));
        Self {
            in_tail: std::iter::once(ScaleClass::GROUND).chain(tails).collect(),
            outs: outs.collect(),
            free,
            held,
            behind_norm: of_kind(Kind::BehindBatchNorm),
            into_norm: of_kind(Kind::IntoBatchNorm),
        }
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
