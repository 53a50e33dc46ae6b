//! What the inverse chain rule's sums are read from.
//!
//! The sum of u = g w over the edges out of a class is that over the edges into it, where g is the gradient of a loss of
//! the network's outputs (the conservation law: such a loss does not change along a class's scaling). So each class's sum
//! is taken on the side with fewer weights, and a wide layer between narrow ones is not read for sums at all. A few
//! classes are read on both sides. Where these disagree, as with a penalty on weights in the loss, every sum is taken over
//! outgoing edges, which is right for any gradient.

use super::chart::Network;
use crate::error::Error;
use crate::kernels::Matrix;
use crate::wiring::{Edges, End, Kind, Wiring};

/// Outgoing weights of a class from which on its incoming ones are looked at.
const WIDE: usize = 1 << 16;
/// Classes that are read on both sides.
const PROBES: usize = 4;
/// How far their sums may differ, relative to the sum of absolute values.
const DIFFER: f64 = 1e-4;

/// Which sums are read of which parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    by_tail: Vec<bool>,
    by_head: Vec<bool>,
    /// By class, whether its sum is read from the edges into it.
    from_incoming: Vec<bool>,
    probes: Vec<Probe>,
}

/// The edges out of a class.
#[derive(Debug, Clone, PartialEq)]
struct Probe {
    class: usize,
    /// Their places, by parameter.
    outgoing: Vec<(usize, Vec<usize>)>,
}

/// What was read of a parameter: sums of u by tail and by head line, where these are read, and `[w, g]` of single
/// entries.
pub(crate) struct Read {
    by_tail: Vec<f64>,
    by_head: Vec<f64>,
    pub entries: Vec<[f64; 2]>,
}

impl Reading {
    /// Every sum over outgoing edges.
    pub fn outgoing(wiring: &Wiring) -> Self {
        Self::of(wiring, vec![false; wiring.hidden() + 1])
    }

    /// Every sum on the side with fewer weights.
    pub fn least(wiring: &Wiring) -> Self {
        let mut from_incoming = vec![false; wiring.hidden() + 1];
        // batch norm's epsilon has a scale of its own
        if wiring.classes().all(|c| wiring.kind(c) == Kind::Grounded) {
            for class in wiring.hidden_classes() {
                let b = class.index();
                let [into, out] = [&wiring.writers[b], &wiring.readers[b]];
                let (into, out) = (weights(wiring, into), weights(wiring, out));
                from_incoming[b] = out >= WIDE && 2 * into < out;
            }
        }
        Self::of(wiring, from_incoming)
    }

    fn of(wiring: &Wiring, from_incoming: Vec<bool>) -> Self {
        let takes = |b: usize, incoming: bool| b > 0 && from_incoming[b] == incoming;
        let by_tail = wiring.edges.iter();
        let by_tail = by_tail.map(|edges| edges.tails.iter().any(|c| takes(c.index(), false)));
        let by_head = wiring.edges.iter();
        let by_head = by_head.map(|edges| edges.heads.iter().any(|c| takes(c.index(), true)));
        let (by_tail, by_head) = (by_tail.collect(), by_head.collect());
        let classes: Vec<usize> = (1..from_incoming.len())
            .filter(|&b| from_incoming[b])
            .collect();
        let every = classes.len().div_ceil(PROBES).max(1);
        let probes = classes.iter().step_by(every);
        Self {
            by_tail,
            by_head,
            probes: probes.map(|&b| Probe::of(wiring, b)).collect(),
            from_incoming,
        }
    }

    /// Whether nothing is read of a parameter but single entries.
    pub fn leaves_out(&self, slot: usize) -> bool {
        !self.by_tail[slot] && !self.by_head[slot]
    }

    /// What is read of a parameter, with single entries at these places.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite.
    pub fn of_parameter(
        &self,
        network: Network,
        slot: usize,
        g: &Matrix,
        at: &[usize],
    ) -> Result<Read, Error> {
        let (by_tail, by_head) = (self.by_tail[slot], self.by_head[slot]);
        let by_tail = by_tail.then(|| network.tail_dots(slot, g));
        let by_head = by_head.then(|| network.head_dots(slot, g));
        let read = Read {
            by_tail: by_tail.unwrap_or_default(),
            by_head: by_head.unwrap_or_default(),
            entries: network.weights[slot].pairs(g, at),
        };
        let entries = read.entries.iter().map(|[w, g]| w * g);
        let sums = read.by_tail.iter().chain(&read.by_head).copied();
        match entries.chain(sums).sum::<f64>().is_finite() {
            true => Ok(read),
            false => Err(network.not_finite(slot)),
        }
    }

    /// Adds what was read of a parameter to the sum of u of every class.
    pub fn add(&self, edges: &Edges, read: &Read, sums: &mut [f64]) {
        let by_tail = (&edges.tails, &read.by_tail, false);
        let by_head = (&edges.heads, &read.by_head, true);
        for (lines, dots, incoming) in [by_tail, by_head] {
            for (class, dot) in lines.iter().zip(dots) {
                if self.from_incoming[class.index()] == incoming {
                    sums[class.index()] += dot;
                }
            }
        }
    }

    /// Whether the classes that are read on both sides have one sum.
    pub fn holds(&self, network: Network, gradients: &[Matrix], sums: &[f64]) -> bool {
        self.probes.iter().all(|probe| {
            let (mut sum, mut size) = (0.0, 0.0);
            for (slot, at) in &probe.outgoing {
                for [w, g] in network.weights[*slot].pairs(&gradients[*slot], at) {
                    sum += w * g;
                    size += (w * g).abs();
                }
            }
            (sum - sums[probe.class]).abs() <= DIFFER * size
        })
    }
}

impl Probe {
    fn of(wiring: &Wiring, class: usize) -> Self {
        let mut outgoing: Vec<(usize, Vec<usize>)> = Vec::new();
        for end in &wiring.readers[class] {
            let edges = &wiring.edges[end.edges];
            let heads = edges.heads_of(end.line);
            let at = heads.filter_map(|head| edges.flat(end.line, head));
            outgoing.push((end.edges, at.collect()));
        }
        Self { class, outgoing }
    }
}

/// The weights of all parameters that have these ends.
fn weights(wiring: &Wiring, ends: &[End]) -> usize {
    let mut slots: Vec<usize> = ends.iter().map(|end| end.edges).collect();
    slots.sort_unstable();
    slots.dedup();
    slots.iter().map(|&slot| wiring.edges[slot].count()).sum()
}
