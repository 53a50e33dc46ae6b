//! The skeleton: one incoming and one outgoing edge of every hidden class (Meng et al. 2019, section 4.1).
//!
//! Following incoming edges from any class leads to the ground at the inputs, following outgoing edges to the
//! ground at the outputs. The H outgoing edges are the free skeleton weights, which stay as they are; every other
//! edge e has one basis path: in-path to its tail, e, out-path from its head. For any widths and any wiring these
//! m - H paths are independent.

use burn::module::Module;
use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::kernels::{Execution, Matrix, read_all};
use crate::params;
use crate::wiring::{End, Kind, ScaleClass, Taps, Wiring};

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
    /// Any edges, drawn with this seed. For comparisons: some of its weights are small, and steps are divided by them.
    Random(u64),
    /// A skeleton chosen elsewhere.
    Chosen(Tree),
}

/// A single weight of a wired parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Position of the parameter in [`Wiring::edges`].
    pub param: usize,
    /// Which of [`ParamEdges::tails`](crate::ParamEdges::tails) it leaves.
    pub tail: usize,
    /// Which of [`ParamEdges::heads`](crate::ParamEdges::heads) it enters.
    pub head: usize,
}

/// In and Out edge of every hidden class, as far as its [`Kind`] has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// In edge of class 1, 2, ..., H; none of a sink.
    pub ins: Vec<Option<Edge>>,
    /// Out edge of class 1, 2, ..., H; of grounded classes only.
    pub outs: Vec<Option<Edge>>,
}

impl Tree {
    /// The In edge of a hidden class.
    pub fn in_edge(&self, class: ScaleClass) -> Option<Edge> {
        self.ins[class.index() - 1]
    }

    /// The Out edge of a hidden class.
    pub fn out_edge(&self, class: ScaleClass) -> Option<Edge> {
        self.outs[class.index() - 1]
    }

    /// Whether the In edge of the class is held fixed: as the Out edge of its tail, or since the class is floating.
    pub fn in_is_free(&self, wiring: &Wiring, class: ScaleClass) -> bool {
        let Some(into) = self.in_edge(class) else {
            return true;
        };
        let tail = wiring.tail(into);
        let is_out = !tail.is_ground() && self.out_edge(tail) == Some(into);
        is_out || wiring.kind(class) == Kind::Floating
    }

    /// Checks that the edges exist, belong to their classes and lead to the ground.
    pub(crate) fn check(&self, wiring: &Wiring) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Skeleton { reason });
        if self.ins.len() != wiring.hidden() || self.outs.len() != wiring.hidden() {
            return wrong(format!(
                "a skeleton of {} and {} edges for {} hidden classes",
                self.ins.len(),
                self.outs.len(),
                wiring.hidden()
            ));
        }
        let exists = |e: Edge| {
            let edges = wiring.edges.get(e.param);
            edges.is_some_and(|edges| edges.flat(e.tail, e.head).is_some() && !edges.is_bias)
        };
        for class in wiring.hidden_classes() {
            let (into, out) = (self.in_edge(class), self.out_edge(class));
            let kind = wiring.kind(class);
            let complete =
                (into.is_some(), out.is_some()) == (kind != Kind::Sink, kind == Kind::Grounded);
            let unit = || wiring.unit(class);
            if !complete || !into.into_iter().chain(out).all(exists) {
                return wrong(format!("no such skeleton edge of {}", unit()));
            }
            if into.is_some_and(|e| wiring.head(e) != class || !wiring.may_be_in(e)) {
                return wrong(format!("the In edge of {} does not lead to it", unit()));
            }
            if out.is_some_and(|e| wiring.tail(e) != class || !wiring.may_be_out(e)) {
                return wrong(format!("the Out edge of {} does not leave it", unit()));
            }
        }
        Ok(())
    }
}

impl Wiring {
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
    pub(crate) fn flat(&self, edge: Edge) -> usize {
        let at = self.edges[edge.param].flat(edge.tail, edge.head);
        at.expect("skeletons are made of edges that exist")
    }

    /// Grounded classes such that every Out edge leads to an earlier one or the ground.
    pub(crate) fn out_order(&self) -> Vec<ScaleClass> {
        let grounded = self
            .hidden_classes()
            .filter(|&class| self.kind(class) == Kind::Grounded);
        let mut order: Vec<ScaleClass> = grounded.collect();
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
    fn grounded_readers(&self, class: ScaleClass) -> impl Iterator<Item = End> {
        let ends = self.readers[class.index()].iter().copied();
        ends.filter(|&end| {
            let grounded = |edge: Edge| self.kind(self.head(edge)) == Kind::Grounded;
            self.edges_from(end).any(grounded)
        })
    }

    fn weight_writers(&self, class: ScaleClass) -> impl Iterator<Item = End> {
        let ends = self.writers[class.index()].iter().copied();
        ends.filter(|end| !self.edges[end.param].is_bias)
    }
}

/// The paper's skeleton: index modulo, through the centre tap of a convolution and the middle one of a channel's
/// flattened features.
pub fn paper(wiring: &Wiring) -> Tree {
    let into = |class: ScaleClass| {
        let first = wiring.weight_writers(class).next()?;
        let edges = &wiring.edges[first.param];
        let (line, index) = central(wiring.weight_writers(class), first, edges.head_taps());
        Some(Edge {
            param: first.param,
            tail: edges.tail_taps().modulo(index, edges.tails_of(line)),
            head: line,
        })
    };
    let out = |class: ScaleClass| {
        let last = wiring.grounded_readers(class).last()?;
        let edges = &wiring.edges[last.param];
        let (line, index) = central(wiring.grounded_readers(class), last, edges.tail_taps());
        Some(Edge {
            param: last.param,
            tail: line,
            head: edges.head_taps().modulo(index, edges.heads_of(line)),
        })
    };
    let kind = |class: ScaleClass| wiring.kind(class);
    Tree {
        ins: wiring
            .hidden_classes()
            .map(|class| into(class).filter(|_| kind(class) != Kind::Sink))
            .collect(),
        outs: wiring
            .hidden_classes()
            .map(|class| out(class).filter(|_| kind(class) == Kind::Grounded))
            .collect(),
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

/// The largest skeleton of a model's weights: In by argmax |Pin(tail) w|, Out by argmax |w Pout(head)|.
///
/// # Errors
/// Model and wiring do not fit.
pub fn largest<M: Module>(model: &M, wiring: &Wiring) -> Result<Tree, Error> {
    let weights = params::read(model, wiring, Execution::Fused)?;
    Ok(largest_of(wiring, &weights))
}

/// The largest skeleton of these weights, the matrices of [`Wiring::edges`].
pub(crate) fn largest_of(wiring: &Wiring, weights: &[Matrix]) -> Tree {
    let mut pin = vec![1.0; wiring.hidden() + 1];
    let mut ins = Vec::with_capacity(wiring.hidden());
    for class in wiring.hidden_classes() {
        let edges = in_choices(wiring, class);
        let pin_of = |edge: Edge| pin[wiring.tail(edge).index()];
        let best = first_largest(wiring, weights, edges, pin_of);
        pin[class.index()] = best.map_or(1.0, |(value, _)| value);
        ins.push(best.map(|(_, edge)| edge));
    }

    let mut pout = vec![1.0; wiring.hidden() + 1];
    let mut outs = vec![None; wiring.hidden()];
    for class in wiring.out_order() {
        let b = class.index();
        let edges = out_choices(wiring, b);
        let pout_of = |edge: Edge| pout[wiring.head(edge).index()];
        let best = first_largest(wiring, weights, edges, pout_of);
        pout[b] = best.map_or(1.0, |(value, _)| value);
        outs[b - 1] = best.map(|(_, edge)| edge);
    }
    Tree { ins, outs }
}

/// A random skeleton: each In and Out edge is any that it can be.
pub(crate) fn random(wiring: &Wiring, seed: u64) -> Tree {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut any = |edges: &mut dyn Iterator<Item = Edge>| edges.choose(&mut rng);
    let classes = || wiring.hidden_classes();
    Tree {
        ins: classes()
            .map(|class| any(&mut in_choices(wiring, class)))
            .collect(),
        outs: classes()
            .map(|class| any(&mut out_choices(wiring, class.index())))
            .collect(),
    }
}

/// The edges that can be a class's In edge.
fn in_choices(wiring: &Wiring, class: ScaleClass) -> impl Iterator<Item = Edge> {
    wiring
        .weight_writers(class)
        .filter(move |_| wiring.kind(class) != Kind::Sink)
        .flat_map(|end| wiring.edges_into(end))
        .filter(|&edge| wiring.may_be_in(edge))
}

/// The edges that can be a class's Out edge.
fn out_choices(wiring: &Wiring, class: usize) -> impl Iterator<Item = Edge> {
    wiring.readers[class]
        .iter()
        .flat_map(|&end| wiring.edges_from(end))
        .filter(|&edge| wiring.may_be_out(edge))
}

/// The first edge with the largest |weight times factor|, and that product.
fn first_largest(
    wiring: &Wiring,
    weights: &[Matrix],
    edges: impl Iterator<Item = Edge>,
    factor: impl Fn(Edge) -> f64,
) -> Option<(f64, Edge)> {
    let edges: Vec<Edge> = edges.collect();
    let values = values(wiring, weights, &edges);
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
fn values(wiring: &Wiring, weights: &[Matrix], edges: &[Edge]) -> Vec<f64> {
    let runs = edges.chunk_by(|a, b| a.param == b.param);
    let of_run = |run: &[Edge]| {
        let at: Vec<usize> = run.iter().map(|&edge| wiring.flat(edge)).collect();
        ((), weights[run[0].param].gather(&at))
    };
    let lists = read_all(runs.map(of_run));
    lists.flat_map(|(_, weights)| weights).collect()
}

/// The weights of a skeleton, of all In edges and then all Out edges. One near 0 makes steps along it large.
///
/// # Errors
/// Model, wiring and skeleton do not fit.
pub fn skeleton_weights<M: Module>(
    model: &M,
    wiring: &Wiring,
    tree: &Tree,
) -> Result<Vec<f64>, Error> {
    tree.check(wiring)?;
    let weights = params::read(model, wiring, Execution::Fused)?;
    let edges: Vec<Edge> = tree
        .ins
        .iter()
        .chain(&tree.outs)
        .flatten()
        .copied()
        .collect();
    Ok(values(wiring, &weights, &edges))
}
