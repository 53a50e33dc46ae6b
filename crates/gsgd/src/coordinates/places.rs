//! What the skeleton chart knows of every class from the start.

use crate::skeleton::Tree;
use crate::wiring::{Kind, Wiring};

/// The classes' places in the skeleton and their reference sizes; lists by class, the ground first.
///
/// In edges come from earlier classes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Places {
    /// The class that the In edge comes from.
    pub in_tail: Vec<usize>,
    /// The class that the Out edge leads to.
    pub out_head: Vec<usize>,
    /// Grounded classes such that every Out edge leads to an earlier one or the ground.
    pub out_order: Vec<usize>,
    /// Classes whose In edge is held fixed, as the Out edge of its tail or because the class is floating, and classes
    /// that have none; ascending.
    pub still: Vec<usize>,
    pub floating: Vec<usize>,
    pub sinks: Vec<usize>,
    /// |Pin| and |Pout| at the start in the balanced network; 1 in plain coordinates.
    pub size: Factors,
    /// |path value| of the In edge at the start, for the floor guard.
    pub at_start: Vec<f64>,
}

/// By class, a number for edges out of it and one for edges into it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Factors {
    pub tail: Vec<f64>,
    pub head: Vec<f64>,
}

impl Factors {
    pub fn all(value: f64, classes: usize) -> Self {
        Self {
            tail: vec![value; classes],
            head: vec![value; classes],
        }
    }
}

impl Places {
    /// The places of a skeleton.
    pub fn new(wiring: &Wiring, tree: &Tree) -> Self {
        let classes = wiring.hidden() + 1;
        let of_kind = |kind: Kind| {
            let all = wiring.hidden_classes();
            let some = all.filter(|&class| wiring.kind(class) == kind);
            some.map(|class| class.index()).collect()
        };
        let ins = tree.ins.iter();
        let tails = ins.map(|edge| edge.map_or(0, |edge| wiring.tail(edge).index()));
        let outs = tree.outs.iter();
        let heads = outs.map(|edge| edge.map_or(0, |edge| wiring.head(edge).index()));
        let still = wiring.hidden_classes();
        let still = still.filter(|&class| tree.in_is_free(wiring, class));
        Self {
            in_tail: std::iter::once(0).chain(tails).collect(),
            out_head: std::iter::once(0).chain(heads).collect(),
            out_order: wiring.out_order(),
            still: still.map(|class| class.index()).collect(),
            floating: of_kind(Kind::Floating),
            sinks: of_kind(Kind::Sink),
            size: Factors::all(1.0, classes),
            at_start: vec![1.0; classes],
        }
    }

    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.in_tail.len()
    }

    /// Whether every class is grounded.
    pub fn all_grounded(&self) -> bool {
        self.floating.is_empty() && self.sinks.is_empty()
    }
}
