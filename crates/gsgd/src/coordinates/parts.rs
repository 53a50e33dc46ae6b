//! What the skeleton has in one parameter.

use std::sync::Arc;

use crate::kernels::{Entries, Picked};
use crate::skeleton::{Edge, Tree};
use crate::wiring::{Class, Edges, Kind, Wiring};

/// Skeleton edges of one parameter, in the order of their places in the matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Their places in the matrix.
    pub at: Arc<[usize]>,
    /// Where they stand in a list [by skeleton edge](super::places::Places::ins_and_outs).
    edge: Vec<u32>,
    /// In edges that have a coordinate: places, where these stand among all, and classes.
    pub moving_at: Vec<usize>,
    moving_among: Vec<u32>,
    pub moving: Vec<Class>,
    /// The places of the others, which stay as they are.
    pub free: Arc<[usize]>,
    /// Whether some of its edges lead to classes that are floating or sinks, which take sums by head.
    pub beyond_grounded: bool,
}

impl Part {
    /// The parts of a skeleton, by parameter.
    pub fn list(wiring: &Wiring, tree: &Tree) -> Vec<Self> {
        let classes = wiring.hidden() + 1;
        let mut lists = vec![Vec::new(); wiring.edges.len()];
        for class in wiring.hidden_classes() {
            let mut put = |edge: Option<Edge>, at: usize, moves: bool| {
                if let Some(edge) = edge {
                    lists[edge.edges].push((wiring.flat(edge), at, moves.then_some(class)));
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
    fn new(wiring: &Wiring, edges: &Edges, mut list: Vec<(usize, usize, Option<Class>)>) -> Self {
        list.sort_unstable();
        let moving = list.iter().enumerate();
        let moving = moving.filter_map(|(among, &(at, _, moving))| {
            moving.map(|class| (at, (among as u32, class)))
        });
        let (moving_at, (moving_among, moving)) = moving.unzip();
        let free = list.iter().filter(|(.., moving)| moving.is_none());
        let mut heads = edges.heads.iter();
        Self {
            at: list.iter().map(|&(at, ..)| at).collect(),
            edge: list.iter().map(|&(_, edge, _)| edge as u32).collect(),
            free: free.map(|&(at, ..)| at).collect(),
            moving_at,
            moving_among,
            moving,
            beyond_grounded: heads.any(|&class| wiring.kind(class) != Kind::Grounded),
        }
    }

    /// Where its edges' weights stand and go in a list by skeleton edge.
    pub fn picked(&self) -> Picked<'_> {
        Picked {
            at: &self.at,
            to: &self.edge,
        }
    }

    /// Its edges' values of a list by skeleton edge.
    pub fn entries(&self, values: &[f64]) -> Entries {
        let edges = self.edge.iter();
        Entries {
            at: self.at.clone(),
            values: edges.map(|&edge| values[edge as usize]).collect(),
        }
    }

    /// A value for each of its edges, from values of those that move; 0 for others.
    pub fn spread(&self, moving: &[f64]) -> Vec<f64> {
        let mut values = vec![0.0; self.at.len()];
        for (&among, value) in self.moving_among.iter().zip(moving) {
            values[among as usize] = *value;
        }
        values
    }
}
