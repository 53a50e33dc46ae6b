//! What the inverse chain rule's sums are read from.
//!
//! The sum of u = g w over the edges out of a class is that over the edges into it, where g is the gradient of a loss of
//! the network's outputs (the conservation law: such a loss does not change along a class's scaling). So each class's sum
//! is taken on the side with fewer weights, and a wide layer between narrow ones is not read for sums at all. A few
//! classes are read on both sides. Where these disagree, as with a penalty on weights in the loss, every sum is taken over
//! outgoing edges, which is right for any gradient.
//!
//! A step on edges from the ground depends on no sum, so its pass over them can take theirs on the way: these cost nothing.

use std::ops::Range;

use super::chart::Network;
use crate::error::Error;
use crate::kernels::{Matrix, Pending, Side, all, read};
use crate::wiring::{Class, Edges, End, Kind, Layout, Wiring};

/// Outgoing weights of a class from which on its incoming ones are looked at.
const WIDE: usize = 1 << 16;
/// Classes that are read on both sides.
const PROBES: usize = 4;
/// How far their sums may differ, relative to the sum of absolute values.
const DIFFER: f64 = 1e-4;

/// Which sums are read of which parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    of: Vec<Lines>,
    /// By parameter, whether its sums can be taken by a step's own pass over it.
    passing: Vec<bool>,
    classes: usize,
    probes: Vec<Probe>,
}

/// The lines on one side of a parameter that are read for the sums of their classes.
#[derive(Debug, Clone, PartialEq)]
struct Lines {
    slot: usize,
    side: Side,
    runs: Vec<Run>,
}

/// Lines of a parameter that are next to each other, and so are their classes, of which this is the first.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    lines: Range<usize>,
    class: usize,
}

/// The edges out of a class.
#[derive(Debug, Clone, PartialEq)]
struct Probe {
    class: usize,
    /// The tail lines that read it.
    outgoing: Vec<End>,
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
                let [mut into, out] = [&wiring.writers[b], &wiring.readers[b]].map(|e| slots(e));
                into.retain(|&slot| !leaves_ground(&wiring.edges[slot]));
                let [into, out] = [into, out].map(|slots| weights(wiring, &slots));
                from_incoming[b] = out >= WIDE && 2 * into < out;
            }
        }
        Self::of(wiring, from_incoming)
    }

    fn of(wiring: &Wiring, from_incoming: Vec<bool>) -> Self {
        let runs = |classes: &[Class], incoming: bool| {
            let lines = classes.iter().map(|class| class.index()).enumerate();
            runs(lines.filter(|&(_, b)| b > 0 && from_incoming[b] == incoming))
        };
        let mut of = Vec::new();
        let mut passing = vec![false; wiring.edges.len()];
        for (slot, edges) in wiring.edges.iter().enumerate() {
            let tails = edges.layout.tails;
            let sides = [
                (tails, runs(&edges.tails, false)),
                (tails.other(), runs(&edges.heads, true)),
            ];
            passing[slot] = leaves_ground(edges) && !sides[1].1.is_empty();
            let sides = sides.into_iter().filter(|(_, runs)| !runs.is_empty());
            of.extend(sides.map(|(side, runs)| Lines { slot, side, runs }));
        }
        let classes: Vec<usize> = (1..from_incoming.len())
            .filter(|&b| from_incoming[b])
            .collect();
        let every = classes.len().div_ceil(PROBES).max(1);
        let probes = classes.iter().step_by(every);
        Self {
            of,
            passing,
            probes: probes
                .map(|&class| Probe {
                    class,
                    outgoing: wiring.readers[class].clone(),
                })
                .collect(),
            classes: from_incoming.len(),
        }
    }

    /// Whether nothing is read of a parameter but single entries.
    pub fn leaves_out(&self, slot: usize) -> bool {
        self.of.iter().all(|lines| lines.slot != slot)
    }

    /// Whether a step's own pass over a parameter can take the sums that are read of it: what the step does to edges from
    /// the ground depends on no sum, In edges aside.
    pub fn in_passing(&self, slot: usize) -> bool {
        self.passing[slot]
    }

    /// Whether there is such a parameter.
    pub fn passes(&self) -> bool {
        self.passing.contains(&true)
    }

    /// The sum of u of every class, from gradients and from sums by head line that were taken before.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite.
    pub fn sums(
        &self,
        network: Network,
        gradients: &[Matrix],
        mut taken: Vec<Option<Pending<Vec<f64>>>>,
    ) -> Result<Vec<f64>, Error> {
        let mut sums = vec![0.0; self.classes];
        let dots = self.of.iter().map(|lines| {
            let &Lines { slot, side, .. } = lines;
            let taken = taken[slot].take();
            let dots = taken.unwrap_or_else(|| network.dots(slot, &gradients[slot], side));
            (lines, dots)
        });
        for (of, dots) in read(dots) {
            for Run { lines, class } in &of.runs {
                let of_lines = &dots[lines.clone()];
                for (sum, dot) in sums[*class..].iter_mut().zip(of_lines) {
                    *sum += dot;
                }
            }
            if !all(&dots, f64::is_finite) {
                return Err(network.not_finite(of.slot));
            }
        }
        Ok(sums)
    }

    /// Whether the classes that are read on both sides have one sum.
    pub fn holds(&self, network: Network, gradients: &[Matrix], sums: &[f64]) -> bool {
        let mut found = vec![[0.0; 2]; self.probes.len()];
        let ends = self.probes.iter().enumerate();
        let ends = ends.flat_map(|(at, probe)| probe.outgoing.iter().map(move |end| (at, end)));
        let of_lines = ends.map(|(at, end)| {
            let Layout { tails, groups, .. } = network.wiring.edges[end.edges].layout;
            let (w, g) = (&network.weights[end.edges], &gradients[end.edges]);
            (at, w.line_sums(g, tails, groups, end.line))
        });
        for (at, [sum, size]) in read(of_lines) {
            found[at][0] += sum;
            found[at][1] += size;
        }
        let mut pairs = self.probes.iter().zip(found);
        pairs.all(|(probe, [sum, size])| (sum - sums[probe.class]).abs() <= DIFFER * size)
    }
}

/// Runs of lines, given with their classes.
fn runs(lines: impl Iterator<Item = (usize, usize)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (line, class) in lines {
        match runs.last_mut() {
            Some(run) if run.lines.end == line && run.class + run.lines.len() == class => {
                run.lines.end += 1;
            }
            _ => runs.push(Run {
                lines: line..line + 1,
                class,
            }),
        }
    }
    runs
}

/// Whether all edges of a parameter leave the ground.
fn leaves_ground(edges: &Edges) -> bool {
    edges.tails.iter().all(|tail| tail.is_ground())
}

/// The parameters that have these ends.
fn slots(ends: &[End]) -> Vec<usize> {
    let mut slots: Vec<usize> = ends.iter().map(|end| end.edges).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// The weights of all these parameters.
fn weights(wiring: &Wiring, slots: &[usize]) -> usize {
    slots.iter().map(|&slot| wiring.edges[slot].count()).sum()
}
