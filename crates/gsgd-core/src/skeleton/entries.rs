//! What the skeleton has in one parameter.

use super::{Edge, SkeletonTree};
use crate::matrix::EntryList;
use crate::scales::{Kind, ParamEdges, ScaleClass, ScaleGraph};

/// Skeleton edges of one parameter, in the order of their places in the matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkeletonEntries {
    /// All of them, with their positions in a list [by skeleton edge](super::TreeOrder::ins_and_outs).
    pub all: EntryList,
    /// The classes whose In edges it has.
    pub ins: Vec<usize>,
    /// In edges that are free to move: places and classes.
    pub free_at: Vec<usize>,
    /// The classes of these.
    pub free: Vec<ScaleClass>,
    /// The others, which are held fixed; all at position 0.
    pub held: EntryList,
    /// Whether some of its edges lead to classes behind or into a batch norm, which take sums by head.
    pub has_normed_heads: bool,
}

impl SkeletonEntries {
    /// The entries of a skeleton, by parameter.
    pub fn list(graph: &ScaleGraph, tree: &SkeletonTree) -> Vec<Self> {
        let classes = graph.hidden() + 1;
        let mut lists = vec![Vec::new(); graph.edges.len()];
        for class in graph.hidden_classes() {
            let mut put = |edge: Option<Edge>, of: usize, moves: bool| {
                if let Some(edge) = edge {
                    lists[edge.param].push((graph.flat(edge), of, moves.then_some(class)));
                }
            };
            let moves = !tree.in_is_fixed(graph, class);
            put(tree.in_edge(class), class.index(), moves);
            put(tree.out_edge(class), classes + class.index(), false);
        }
        let pairs = graph.edges.iter().zip(lists);
        pairs
            .map(|(edges, list)| Self::new(graph, edges, list))
            .collect()
    }

    /// From places, positions in a list by skeleton edge, and the classes of In edges that move.
    fn new(
        graph: &ScaleGraph,
        edges: &ParamEdges,
        mut list: Vec<(usize, usize, Option<ScaleClass>)>,
    ) -> Self {
        list.sort_unstable();
        let free = list.iter();
        let free = free.filter_map(|&(at, _, free)| free.map(|class| (at, class)));
        let (free_at, free) = free.unzip();
        let held = list.iter().filter(|(.., free)| free.is_none());
        let mut ins: Vec<usize> = list.iter().map(|&(_, of, _)| of).collect();
        ins.retain(|&of| of <= graph.hidden());
        ins.sort_unstable();
        let mut heads = edges.heads.iter();
        Self {
            ins,
            all: EntryList::new(list.iter().map(|&(at, of, _)| (at, of)).collect()),
            held: EntryList::new(held.map(|&(at, ..)| (at, 0)).collect()),
            free_at,
            free,
            has_normed_heads: heads.any(|&class| graph.kind(class) != Kind::ReachesOutput),
        }
    }
}
