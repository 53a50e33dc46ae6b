//! What the skeleton has in one parameter.

use std::borrow::Cow;
use std::ops::Range;

use super::order::ranges;
use crate::kernels::{Entries, Gathered};
use crate::skeleton::{Edge, Tree};
use crate::wiring::{Kind, ParamEdges, ScaleClass, Wiring};

/// Skeleton edges of one parameter, in the order of their places in the matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkeletonEntries {
    /// Their places in the matrix.
    at: Vec<usize>,
    /// Where they stand in a list [by skeleton edge](super::order::TreeOrder::ins_and_outs).
    edge: Vec<u32>,
    /// The classes whose In edges it has.
    pub ins: Vec<Range<usize>>,
    /// In edges that are free to move: places and classes.
    pub free_at: Vec<usize>,
    pub free: Vec<ScaleClass>,
    /// The places of the others, which are held fixed.
    pub held: Vec<usize>,
    /// Whether some of its edges lead to classes that are floating or sinks, which take sums by head.
    pub beyond_grounded: bool,
}

impl SkeletonEntries {
    /// The entries of a skeleton, by parameter.
    pub fn list(wiring: &Wiring, tree: &Tree) -> Vec<Self> {
        let classes = wiring.hidden() + 1;
        let mut lists = vec![Vec::new(); wiring.edges.len()];
        for class in wiring.hidden_classes() {
            let mut put = |edge: Option<Edge>, at: usize, moves: bool| {
                if let Some(edge) = edge {
                    lists[edge.param].push((wiring.flat(edge), at, moves.then_some(class)));
                }
            };
            let moves = !tree.in_is_free(wiring, class);
            put(tree.in_edge(class), class.index(), moves);
            put(tree.out_edge(class), classes + class.index(), false);
        }
        let pairs = wiring.edges.iter().zip(lists);
        pairs
            .map(|(edges, list)| Self::new(wiring, edges, list))
            .collect()
    }

    /// From places, positions in a list by skeleton edge, and the classes of In edges that move.
    fn new(
        wiring: &Wiring,
        edges: &ParamEdges,
        mut list: Vec<(usize, usize, Option<ScaleClass>)>,
    ) -> Self {
        list.sort_unstable();
        let free = list.iter();
        let free = free.filter_map(|&(at, _, free)| free.map(|class| (at, class)));
        let (free_at, free) = free.unzip();
        let held = list.iter().filter(|(.., free)| free.is_none());
        let mut ins: Vec<usize> = list.iter().map(|&(_, edge, _)| edge).collect();
        ins.retain(|&edge| edge <= wiring.hidden());
        ins.sort_unstable();
        let mut heads = edges.heads.iter();
        Self {
            ins: ranges(ins),
            at: list.iter().map(|&(at, ..)| at).collect(),
            edge: list.iter().map(|&(_, edge, _)| edge as u32).collect(),
            held: held.map(|&(at, ..)| at).collect(),
            free_at,
            free,
            beyond_grounded: heads.any(|&class| wiring.kind(class) != Kind::Grounded),
        }
    }

    /// Where its edges' weights stand and go in a list by skeleton edge.
    pub fn gathered(&self) -> Gathered<'_> {
        Gathered {
            at: &self.at,
            to: &self.edge,
        }
    }

    /// Its edges' values of a list by skeleton edge.
    pub fn entries<'a>(&'a self, values: impl Into<Cow<'a, [f64]>>) -> Entries<'a> {
        Entries {
            at: self.at.as_slice().into(),
            of: self.edge.as_slice().into(),
            values: values.into(),
        }
    }
}
