//! The skeleton: one incoming and one outgoing edge of every hidden class (Meng et al. 2019, section 4.1).
//!
//! Following incoming edges from any class leads to the ground at the inputs, following outgoing edges to the
//! ground at the outputs. The H outgoing edges are the free skeleton weights, which stay as they are; every other
//! edge e has one basis path: in-path to its tail, e, out-path from its head. For any widths and any wiring these
//! m - H paths are independent.

use burn::tensor::Tensor;

use crate::error::Error;
use crate::wiring::{Class, End, Wiring};

/// Which edges make the skeleton.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Skeleton {
    /// Index modulo (the paper's Algorithm 2): In(j) is the edge from tail j mod rows in the first layer that
    /// writes the class, Out(j) the edge to head j mod columns in the last that reads it. Equal widths give the
    /// diagonals. Meant for weights whose skeleton was set to 1 ([`skeleton_to_one`](crate::skeleton_to_one)).
    Paper,
    /// The largest paths: In by argmax |Pin(tail) w|, Out by argmax |w Pout(head)|. Both are unchanged by
    /// rescaling. Suits any weights, trained ones too.
    #[default]
    Largest,
    /// A skeleton chosen elsewhere.
    Chosen(Tree),
}

/// A single weight of a wired parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Position of the parameter in [`Wiring::edges`].
    pub edges: usize,
    /// Which of [`Edges::tails`](crate::Edges::tails) it leaves.
    pub tail: usize,
    /// Which of [`Edges::heads`](crate::Edges::heads) it enters.
    pub head: usize,
}

/// In and Out edge of every hidden class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// In edge of class 1, 2, ..., H.
    pub ins: Vec<Edge>,
    /// Out edge of class 1, 2, ..., H.
    pub outs: Vec<Edge>,
}

impl Tree {
    /// The In edge of a hidden class.
    pub fn in_edge(&self, class: Class) -> Edge {
        self.ins[class.index() - 1]
    }

    /// The Out edge of a hidden class.
    pub fn out_edge(&self, class: Class) -> Edge {
        self.outs[class.index() - 1]
    }

    /// Whether the In edge of the class is also a free (Out) edge, of its tail.
    pub fn in_is_free(&self, wiring: &Wiring, class: Class) -> bool {
        let into = self.in_edge(class);
        let tail = wiring.tail(into);
        !tail.is_ground() && self.out_edge(tail) == into
    }

    /// Checks that the edges exist, belong to their classes and lead to the ground.
    pub(crate) fn check(&self, wiring: &Wiring) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::State { reason });
        if self.ins.len() != wiring.hidden() || self.outs.len() != wiring.hidden() {
            return wrong(format!(
                "a skeleton of {} and {} edges for {} hidden classes",
                self.ins.len(),
                self.outs.len(),
                wiring.hidden()
            ));
        }
        let exists = |e: Edge| {
            let edges = wiring.edges.get(e.edges);
            edges.is_some_and(|edges| edges.flat(e.tail, e.head).is_some() && !edges.is_bias)
        };
        for class in wiring.hidden_classes() {
            let (into, out) = (self.in_edge(class), self.out_edge(class));
            if !exists(into) || !exists(out) {
                return wrong(format!("no such skeleton edge of {}", wiring.unit(class)));
            }
            if wiring.head(into) != class || !wiring.may_be_in(into) {
                return wrong(format!(
                    "the In edge of {} does not lead to it",
                    wiring.unit(class)
                ));
            }
            if wiring.tail(out) != class || !wiring.may_be_out(out) {
                return wrong(format!(
                    "the Out edge of {} does not leave it",
                    wiring.unit(class)
                ));
            }
        }
        Ok(())
    }
}

/// The skeleton as two trees of classes, by class; entry 0, the ground's, is not read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branches {
    /// The class that the In edge comes from; it has a smaller index.
    pub in_tail: Vec<usize>,
    /// Whether the In edge is also the Out edge of its tail, and so free.
    pub in_is_free: Vec<bool>,
    /// The class that the Out edge leads to.
    pub out_head: Vec<usize>,
    /// Hidden classes in an order in which every Out edge leads to an earlier one or the ground.
    pub out_order: Vec<usize>,
}

impl Branches {
    pub fn of(wiring: &Wiring, tree: &Tree) -> Self {
        let by_class = |of: &dyn Fn(Class) -> Class| {
            let hidden = wiring.hidden_classes().map(|class| of(class).index());
            std::iter::once(0).chain(hidden).collect()
        };
        Self {
            in_tail: by_class(&|class| wiring.tail(tree.in_edge(class))),
            out_head: by_class(&|class| wiring.head(tree.out_edge(class))),
            in_is_free: wiring
                .classes()
                .map(|class| !class.is_ground() && tree.in_is_free(wiring, class))
                .collect(),
            out_order: wiring
                .out_order()
                .iter()
                .map(|class| class.index())
                .collect(),
        }
    }
}

impl Wiring {
    /// The class an edge leaves.
    pub fn tail(&self, edge: Edge) -> Class {
        self.edges[edge.edges].tails[edge.tail]
    }

    /// The class an edge enters.
    pub fn head(&self, edge: Edge) -> Class {
        self.edges[edge.edges].heads[edge.head]
    }

    /// An In edge must come from a class that is written earlier.
    fn may_be_in(&self, edge: Edge) -> bool {
        self.ord_in[self.tail(edge).index()] < self.ord_in[self.head(edge).index()]
    }

    /// An Out edge must lead to a class that is read later.
    fn may_be_out(&self, edge: Edge) -> bool {
        self.ord_out[self.tail(edge).index()] < self.ord_out[self.head(edge).index()]
    }

    /// The edge's index in its parameter's row-major matrix.
    pub(crate) fn flat(&self, edge: Edge) -> usize {
        let at = self.edges[edge.edges].flat(edge.tail, edge.head);
        at.expect("skeletons are made of edges that exist")
    }

    /// Hidden classes such that every Out edge leads to an earlier one or the ground.
    pub(crate) fn out_order(&self) -> Vec<Class> {
        let mut order: Vec<Class> = self.hidden_classes().collect();
        order.sort_by_key(|class| std::cmp::Reverse(self.ord_out[class.index()]));
        order
    }

    fn edges_into(&self, end: End) -> impl Iterator<Item = Edge> {
        let tails = self.edges[end.edges].tails_of(end.line);
        tails.map(move |tail| Edge {
            edges: end.edges,
            tail,
            head: end.line,
        })
    }

    fn edges_from(&self, end: End) -> impl Iterator<Item = Edge> {
        let heads = self.edges[end.edges].heads_of(end.line);
        heads.map(move |head| Edge {
            edges: end.edges,
            tail: end.line,
            head,
        })
    }

    fn weight_writers(&self, class: Class) -> impl Iterator<Item = End> {
        let ends = self.writers[class.index()].iter().copied();
        ends.filter(|end| !self.edges[end.edges].is_bias)
    }
}

/// The paper's skeleton: index modulo, through the centre tap of a convolution.
pub fn paper(wiring: &Wiring) -> Tree {
    let into = |class: Class| {
        let first = wiring.weight_writers(class).next();
        let first = first.expect("a hidden class has a weight layer that writes it");
        let edges = &wiring.edges[first.edges];
        let (tails, heads) = (edges.tail_taps(), edges.head_taps());
        let central = wiring
            .weight_writers(class)
            .find(|end| end.edges == first.edges && heads.is_centre(end.line));
        let End { edges: at, line } = central.unwrap_or(first);
        Edge {
            edges: at,
            tail: tails.modulo(line / heads.count, edges.tails_of(line)),
            head: line,
        }
    };
    let out = |class: Class| {
        let readers = &wiring.readers[class.index()];
        let last = *readers
            .last()
            .expect("a hidden class is read on its way to the output");
        let edges = &wiring.edges[last.edges];
        let (tails, heads) = (edges.tail_taps(), edges.head_taps());
        let central = readers
            .iter()
            .find(|end| end.edges == last.edges && tails.is_centre(end.line));
        let End { edges: at, line } = *central.unwrap_or(&last);
        Edge {
            edges: at,
            tail: line,
            head: heads.modulo(line / tails.count, edges.heads_of(line)),
        }
    };
    Tree {
        ins: wiring.hidden_classes().map(into).collect(),
        outs: wiring.hidden_classes().map(out).collect(),
    }
}

/// The largest skeleton of these weights: In by argmax |Pin(tail) w|, Out by argmax |w Pout(head)|.
///
/// `weights` are the matrices of [`Wiring::edges`].
pub(crate) fn largest(wiring: &Wiring, weights: &[Tensor<2>]) -> Tree {
    let host: Vec<Vec<f64>> = weights
        .iter()
        .map(|w| w.to_data().iter::<f64>().collect())
        .collect();
    let weight = |edge: Edge| host[edge.edges][wiring.flat(edge)];

    let mut pin = vec![1.0; wiring.hidden() + 1];
    let mut ins = Vec::with_capacity(wiring.hidden());
    for class in wiring.hidden_classes() {
        let edges = wiring
            .weight_writers(class)
            .flat_map(|end| wiring.edges_into(end))
            .filter(|&edge| wiring.may_be_in(edge));
        let value = |edge: Edge| pin[wiring.tail(edge).index()] * weight(edge);
        let best = first_largest(edges, |edge| value(edge).abs());
        pin[class.index()] = value(best);
        ins.push(best);
    }

    let mut pout = vec![1.0; wiring.hidden() + 1];
    let mut outs = ins.clone();
    for class in wiring.out_order() {
        let edges = wiring.readers[class.index()]
            .iter()
            .flat_map(|&end| wiring.edges_from(end))
            .filter(|&edge| wiring.may_be_out(edge));
        let value = |edge: Edge| weight(edge) * pout[wiring.head(edge).index()];
        let best = first_largest(edges, |edge| value(edge).abs());
        pout[class.index()] = value(best);
        outs[class.index() - 1] = best;
    }
    Tree { ins, outs }
}

fn first_largest(edges: impl Iterator<Item = Edge>, size: impl Fn(Edge) -> f64) -> Edge {
    edges
        .map(|edge| (size(edge), edge))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .expect("a hidden class has edges on both sides")
        .1
}
