//! The skeleton: one incoming and one outgoing edge of every hidden class (Meng et al. 2019, section 4.1).
//!
//! Following incoming edges from any class leads to the ground at the inputs, following outgoing edges to the
//! ground at the outputs. The H outgoing edges are held fixed (the paper calls them the free skeleton weights); every other
//! edge e has one basis path: in-path to its tail, e, out-path from its head. For any widths and any graph these
//! m - H paths are independent.

mod entries;
mod order;

use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub(crate) use entries::SkeletonEntries;
pub(crate) use order::TreeOrder;

use crate::error::Error;
use crate::matrix::{Matrix, read_all};
use crate::network::Network;
use crate::scales::{End, Kind, ScaleClass, ScaleGraph, Taps};

/// Which edges make the skeleton.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Skeleton {
    /// Index modulo (the paper's Algorithm 2): In(j) is the edge from tail j mod rows in the first layer that
    /// writes the class, Out(j) the edge to head j mod columns in the last that reads it. Equal widths give the
    /// diagonals. Meant for weights whose skeleton was set to 1.
    Paper,
    /// The largest paths: In by argmax |Pin(tail) w|, Out by argmax |w Pout(head)|. Both are unchanged by
    /// rescaling. Suits any weights, trained ones too.
    #[default]
    Largest,
    /// Any edges, drawn with this seed. For comparisons: some of its weights are small, and steps are divided by them.
    Random(u64),
    /// A skeleton chosen elsewhere.
    Chosen(SkeletonTree),
}

/// A single weight of a parameter in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Position of the parameter in [`ScaleGraph::edges`].
    pub param: usize,
    /// Which of [`ParamEdges::tails`](crate::scales::ParamEdges::tails) it leaves.
    pub tail: usize,
    /// Which of [`ParamEdges::heads`](crate::scales::ParamEdges::heads) it enters.
    pub head: usize,
}

/// In and Out edge of every hidden class, as far as its [`Kind`] has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkeletonTree {
    /// In edge of class 1, 2, ..., H; none of a class into batch norm.
    pub ins: Vec<Option<Edge>>,
    /// Out edge of class 1, 2, ..., H; of classes that reach an output without batch norm only.
    pub outs: Vec<Option<Edge>>,
}

impl SkeletonTree {
    /// The In edge of a hidden class.
    pub fn in_edge(&self, class: ScaleClass) -> Option<Edge> {
        self.ins[class.index() - 1]
    }

    /// The Out edge of a hidden class.
    pub fn out_edge(&self, class: ScaleClass) -> Option<Edge> {
        self.outs[class.index() - 1]
    }

    /// Whether the In edge of the class is held fixed: as the Out edge of its tail, or since the class is behind a batch norm.
    pub fn in_is_fixed(&self, graph: &ScaleGraph, class: ScaleClass) -> bool {
        let Some(into) = self.in_edge(class) else {
            return true;
        };
        let tail = graph.tail(into);
        let is_out = !tail.is_ground() && self.out_edge(tail) == Some(into);
        is_out || graph.kind(class) == Kind::BehindBatchNorm
    }

    /// Checks that the edges exist, belong to their classes and lead to the ground.
    ///
    /// # Errors
    /// One does not.
    pub fn check(&self, graph: &ScaleGraph) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Skeleton { reason });
        if self.ins.len() != graph.hidden() || self.outs.len() != graph.hidden() {
            return wrong(format!(
                "a skeleton of {} and {} edges for {} hidden classes",
                self.ins.len(),
                self.outs.len(),
                graph.hidden()
            ));
        }
        let exists = |e: Edge| {
            let edges = graph.edges.get(e.param);
            edges.is_some_and(|edges| edges.flat(e.tail, e.head).is_some() && !edges.is_bias)
        };
        for class in graph.hidden_classes() {
            let (into, out) = (self.in_edge(class), self.out_edge(class));
            let kind = graph.kind(class);
            let complete = (into.is_some(), out.is_some())
                == (kind != Kind::IntoBatchNorm, kind == Kind::ReachesOutput);
            let unit = || graph.unit(class);
            if !complete || !into.into_iter().chain(out).all(exists) {
                return wrong(format!("no such skeleton edge of {}", unit()));
            }
            if into.is_some_and(|e| graph.head(e) != class || !graph.may_be_in(e)) {
                return wrong(format!("the In edge of {} does not lead to it", unit()));
            }
            if out.is_some_and(|e| graph.tail(e) != class || !graph.may_be_out(e)) {
                return wrong(format!("the Out edge of {} does not leave it", unit()));
            }
        }
        Ok(())
    }
}

impl ScaleGraph {
    /// The class an edge leaves.
    pub fn tail(&self, edge: Edge) -> ScaleClass {
        self.edges[edge.param].tails[edge.tail]
    }

    /// The class an edge enters.
    pub fn head(&self, edge: Edge) -> ScaleClass {
        self.edges[edge.param].heads[edge.head]
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
    ///
    /// # Panics
    /// If there is no such edge.
    pub fn flat(&self, edge: Edge) -> usize {
        let at = self.edges[edge.param].flat(edge.tail, edge.head);
        at.expect("an edge that exists")
    }

    /// Classes that reach an output without batch norm, such that every Out edge leads to an earlier one or the ground.
    pub(crate) fn out_order(&self) -> Vec<ScaleClass> {
        let reaching = self
            .hidden_classes()
            .filter(|&class| self.kind(class) == Kind::ReachesOutput);
        let mut order: Vec<ScaleClass> = reaching.collect();
        order.sort_by_key(|class| std::cmp::Reverse(self.ord_out[class.index()]));
        order
    }

    fn edges_into(&self, end: End) -> impl Iterator<Item = Edge> {
        let tails = self.edges[end.param].tails_of(end.line);
        tails.map(move |tail| Edge {
            param: end.param,
            tail,
            head: end.line,
        })
    }

    fn edges_from(&self, end: End) -> impl Iterator<Item = Edge> {
        let heads = self.edges[end.param].heads_of(end.line);
        heads.map(move |head| Edge {
            param: end.param,
            tail: end.line,
            head,
        })
    }

    /// The lines that read a class on a way to the ground without batch norm.
    fn readers_to_output(&self, class: ScaleClass) -> impl Iterator<Item = End> {
        let ends = self.readers[class.index()].iter().copied();
        ends.filter(|&end| {
            let reaches = |edge: Edge| self.kind(self.head(edge)) == Kind::ReachesOutput;
            self.edges_from(end).any(reaches)
        })
    }

    fn weight_writers(&self, class: ScaleClass) -> impl Iterator<Item = End> {
        let ends = self.writers[class.index()].iter().copied();
        ends.filter(|end| !self.edges[end.param].is_bias)
    }
}

impl SkeletonTree {
    /// The paper's skeleton: index modulo, through the centre tap of a convolution and the middle one of a channel's
    /// flattened features.
    pub fn paper(graph: &ScaleGraph) -> Self {
        let into = |class: ScaleClass| {
            let first = graph.weight_writers(class).next()?;
            let edges = &graph.edges[first.param];
            let (line, index) = central(graph.weight_writers(class), first, edges.head_taps());
            Some(Edge {
                param: first.param,
                tail: edges.tail_taps().modulo(index, edges.tails_of(line)),
                head: line,
            })
        };
        let out = |class: ScaleClass| {
            let last = graph.readers_to_output(class).last()?;
            let edges = &graph.edges[last.param];
            let (line, index) = central(graph.readers_to_output(class), last, edges.tail_taps());
            Some(Edge {
                param: last.param,
                tail: line,
                head: edges.head_taps().modulo(index, edges.heads_of(line)),
            })
        };
        let kind = |class: ScaleClass| graph.kind(class);
        Self {
            ins: graph
                .hidden_classes()
                .map(|class| into(class).filter(|_| kind(class) != Kind::IntoBatchNorm))
                .collect(),
            outs: graph
                .hidden_classes()
                .map(|class| out(class).filter(|_| kind(class) == Kind::ReachesOutput))
                .collect(),
        }
    }

    /// The largest paths of these weights: In by argmax |Pin(tail) w|, Out by argmax |w Pout(head)|.
    pub fn largest<M: Matrix>(network: Network<M>) -> Self {
        let Network { graph, weights } = network;
        let mut pin = vec![1.0; graph.hidden() + 1];
        let mut ins = Vec::with_capacity(graph.hidden());
        for class in graph.hidden_classes() {
            let edges = in_choices(graph, class);
            let pin_of = |edge: Edge| pin[graph.tail(edge).index()];
            let best = first_largest(graph, weights, edges, pin_of);
            pin[class.index()] = best.map_or(1.0, |(value, _)| value);
            ins.push(best.map(|(_, edge)| edge));
        }

        let mut pout = vec![1.0; graph.hidden() + 1];
        let mut outs = vec![None; graph.hidden()];
        for class in graph.out_order() {
            let b = class.index();
            let edges = out_choices(graph, b);
            let pout_of = |edge: Edge| pout[graph.head(edge).index()];
            let best = first_largest(graph, weights, edges, pout_of);
            pout[b] = best.map_or(1.0, |(value, _)| value);
            outs[b - 1] = best.map(|(_, edge)| edge);
        }
        Self { ins, outs }
    }

    /// A random skeleton: each In and Out edge is any that it can be.
    pub fn random(graph: &ScaleGraph, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut any = |edges: &mut dyn Iterator<Item = Edge>| edges.choose(&mut rng);
        let classes = || graph.hidden_classes();
        Self {
            ins: classes()
                .map(|class| any(&mut in_choices(graph, class)))
                .collect(),
            outs: classes()
                .map(|class| any(&mut out_choices(graph, class.index())))
                .collect(),
        }
    }

    /// The weights of all In edges and then all Out edges. One near 0 makes steps along it large.
    ///
    /// # Errors
    /// The tree is not one of this graph.
    pub fn weights<M: Matrix>(&self, network: Network<M>) -> Result<Vec<f64>, Error> {
        self.check(network.graph)?;
        let edges: Vec<Edge> = self.edges().collect();
        Ok(values(network.graph, network.weights, &edges))
    }

    /// All In edges and then all Out edges.
    pub fn edges(&self) -> impl Iterator<Item = Edge> {
        self.ins.iter().chain(&self.outs).flatten().copied()
    }
}

/// The central line of a class in the parameter of `end`, and the index of the class's channel there.
fn central(ends: impl Iterator<Item = End>, end: End, taps: Taps) -> (usize, usize) {
    let lines = ends
        .filter(|other| other.param == end.param)
        .map(|end| end.line);
    let lines: Vec<usize> = lines.collect();
    let line = match taps.count {
        1 => lines[lines.len() / 2],
        _ => lines
            .iter()
            .copied()
            .find(|&line| taps.is_centre(line))
            .unwrap_or(end.line),
    };
    (line, line / lines.len())
}

/// The edges that can be a class's In edge.
fn in_choices(graph: &ScaleGraph, class: ScaleClass) -> impl Iterator<Item = Edge> {
    graph
        .weight_writers(class)
        .filter(move |_| graph.kind(class) != Kind::IntoBatchNorm)
        .flat_map(|end| graph.edges_into(end))
        .filter(|&edge| graph.may_be_in(edge))
}

/// The edges that can be a class's Out edge.
fn out_choices(graph: &ScaleGraph, class: usize) -> impl Iterator<Item = Edge> {
    graph.readers[class]
        .iter()
        .flat_map(|&end| graph.edges_from(end))
        .filter(|&edge| graph.may_be_out(edge))
}

/// The first edge with the largest |weight times factor|, and that product.
fn first_largest<M: Matrix>(
    graph: &ScaleGraph,
    weights: &[M],
    edges: impl Iterator<Item = Edge>,
    factor: impl Fn(Edge) -> f64,
) -> Option<(f64, Edge)> {
    let edges: Vec<Edge> = edges.collect();
    let values = values(graph, weights, &edges);
    let products = values.iter().zip(&edges).map(|(w, &e)| (w * factor(e), e));
    products.reduce(|best, next| {
        if next.0.abs() > best.0.abs() {
            next
        } else {
            best
        }
    })
}

/// The weights of edges.
fn values<M: Matrix>(graph: &ScaleGraph, weights: &[M], edges: &[Edge]) -> Vec<f64> {
    let runs = edges.chunk_by(|a, b| a.param == b.param);
    let of_run = |run: &[Edge]| {
        let at: Vec<usize> = run.iter().map(|&edge| graph.flat(edge)).collect();
        ((), weights[run[0].param].gather(&at))
    };
    let lists = read_all(runs.map(of_run));
    lists.flat_map(|(_, weights)| weights).collect()
}
