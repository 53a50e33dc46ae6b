//! What the skeleton has in one parameter.

use std::sync::Arc;

use crate::kernels::Entries;
use crate::skeleton::{Edge, Tree};
use crate::wiring::{Edges, Kind, Wiring};

/// Skeleton edges of one parameter: first In edges that move, then In edges that are free, then Out edges, each
/// in the order of their places in the matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Their places in the matrix, and their classes.
    pub at: Vec<usize>,
    pub class: Vec<usize>,
    moving: usize,
    ins: usize,
    /// Which of them comes first, second, ... in the matrix.
    order: Vec<usize>,
    /// Their places in that order.
    pub ascending: Arc<[usize]>,
    /// The places of free edges, which stay as they are.
    pub free: Arc<[usize]>,
    /// Whether some of its edges lead to classes that are floating or sinks, which take sums by head.
    pub beyond_grounded: bool,
}

impl Part {
    /// The parts of a skeleton, by parameter.
    pub fn list(wiring: &Wiring, tree: &Tree) -> Vec<Self> {
        let mut lists = vec![[const { Vec::new() }; 3]; wiring.edges.len()];
        for class in wiring.hidden_classes() {
            let mut put = |edge: Option<Edge>, list: usize| {
                if let Some(edge) = edge {
                    lists[edge.edges][list].push((wiring.flat(edge), class.index()));
                }
            };
            put(tree.in_edge(class), tree.in_is_free(wiring, class).into());
            put(tree.out_edge(class), 2);
        }
        let pairs = wiring.edges.iter().zip(lists);
        pairs
            .map(|(edges, lists)| Self::new(wiring, edges, lists))
            .collect()
    }

    fn new(wiring: &Wiring, edges: &Edges, mut lists: [Vec<(usize, usize)>; 3]) -> Self {
        lists.iter_mut().for_each(|list| list.sort_unstable());
        let [moving, still, _] = lists.each_ref().map(Vec::len);
        let (at, class): (Vec<usize>, Vec<usize>) = lists.concat().into_iter().unzip();
        let mut order: Vec<usize> = (0..at.len()).collect();
        order.sort_by_key(|&entry| at[entry]);
        let free = order.iter().filter(|&&entry| entry >= moving);
        let mut heads = edges.heads.iter();
        Self {
            ascending: order.iter().map(|&entry| at[entry]).collect(),
            free: free.map(|&entry| at[entry]).collect(),
            beyond_grounded: heads.any(|&class| wiring.kind(class) != Kind::Grounded),
            moving,
            ins: moving + still,
            order,
            at,
            class,
        }
    }

    /// In edges that have a coordinate: places and classes.
    pub fn moving(&self) -> (&[usize], &[usize]) {
        (&self.at[..self.moving], &self.class[..self.moving])
    }

    /// A list with an item per edge, cut into In edges that move, In edges that are free, and Out edges.
    pub fn split<'a, T>(&self, all: &'a [T]) -> [&'a [T]; 3] {
        let (ins, outs) = all.split_at(self.ins);
        let (moving, still) = ins.split_at(self.moving);
        [moving, still, outs]
    }

    /// The classes of its In edges and of its Out edges with their items of a list.
    pub fn edges<'a, T>(
        &'a self,
        all: &'a [T],
    ) -> impl Iterator<Item = impl Iterator<Item = (usize, &'a T)>> {
        let (ins, outs) = (0..self.ins, self.ins..self.at.len());
        [ins, outs].into_iter().map(|range| {
            let classes = self.class[range.clone()].iter().copied();
            classes.zip(&all[range])
        })
    }

    /// Values of all its edges in the order of their places.
    pub fn in_order(&self, values: &[f64]) -> Vec<f64> {
        self.order.iter().map(|&entry| values[entry]).collect()
    }

    /// The same as entries.
    pub fn entries(&self, values: &[f64]) -> Entries {
        Entries {
            at: self.ascending.clone(),
            values: self.in_order(values),
        }
    }
}
