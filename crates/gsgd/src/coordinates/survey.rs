//! Basis path values around one network and gradient, and the way back to weights.

use std::sync::Arc;

use super::allocation;
use super::chart::{Network, Survey, Update};
use super::places::Factors;
use super::reading::Reading;
use super::skeletal::{SkeletonChart, unfit};
use crate::error::Error;
use crate::kernels::{Entries, HeadSums, Lines, Matrix, Power};
use crate::wiring::{Class, Edges};

/// Basis path values around one network and gradient; lists by class, the ground first.
pub(crate) struct SkeletonSurvey<'a> {
    pub(super) chart: &'a SkeletonChart,
    pub(super) network: Network<'a>,
    /// Weights of the Out edges by tail and of the In edges by head.
    pub(super) weights: Factors,
    /// Pin and Pout.
    pub(super) products: Factors,
    /// T and D: the coordinate of an edge is T(tail) w D(head).
    pub(super) factors: Factors,
    /// Sum of u over all edges into the class, of floating classes and sinks.
    pub(super) incoming: Vec<f64>,
    /// Coordinates of the In edges and, of those that move, dL/dv.
    pub(super) in_values: Vec<f64>,
    pub(super) in_gradients: Vec<f64>,
    /// Sums by head line of the parameters that lead to floating classes or sinks.
    pub(super) head_sums: Vec<Option<HeadSums>>,
    pub(super) reading: &'a Reading,
}

/// The way back to weights, by class.
struct Way {
    /// What weights into the class are multiplied with after all else: rho of a floating class, and what brings a
    /// sink's row back to its length.
    back: Vec<f64>,
    /// Ratio of new to old Pin, and its inverse.
    rho: Vec<f64>,
    keep: Vec<f64>,
}

impl SkeletonSurvey<'_> {
    /// How far the gradient of coordinates on a sink's sphere is taken back along them; 0 elsewhere.
    fn along(&self) -> Vec<f64> {
        let mut along = vec![0.0; self.incoming.len()];
        for &b in &self.chart.places.sinks {
            along[b] = self.incoming[b] / self.chart.radius().powi(2);
        }
        along
    }

    /// The way where In edges change by `change`, and sinks' moved coordinates have the sums of squares `lengths`.
    fn way(&self, change: &[f64], lengths: &[f64]) -> Result<Way, Error> {
        let SkeletonChart {
            places,
            floor,
            tree,
            ..
        } = self.chart;
        let found = allocation::ratios(places, *floor, &self.products, &self.in_values, change);
        let rho = found.map_err(|(b, value)| match tree.ins[b - 1] {
            Some(edge) => Error::Singular {
                name: self.network.wiring.edges[edge.edges].name.clone(),
                tail: edge.tail,
                head: edge.head,
                value,
            },
            None => unfit(self.network.wiring, None, value),
        })?;
        let mut back = vec![1.0; rho.len()];
        for &b in &places.floating {
            back[b] = rho[b];
        }
        for &b in &places.sinks {
            back[b] = self.chart.radius() / lengths[b].sqrt();
        }
        Ok(Way {
            keep: rho.iter().map(|rho| 1.0 / rho).collect(),
            back,
            rho,
        })
    }

    /// The skeleton weights after the step: In edges by their ratio, free edges as they are.
    fn skeleton_entries(&self, slot: usize, way: &Way) -> Entries {
        let (part, places) = (&self.chart.parts[slot], &self.chart.places);
        let [moving, still, outs] = part.split(&part.class);
        let moving = moving
            .iter()
            .map(|&b| self.weights.head[b] * way.rho[b] * way.keep[places.in_tail[b]]);
        let still = still.iter().map(|&b| self.weights.head[b]);
        let outs = outs.iter().map(|&b| self.weights.tail[b]);
        part.entries(&moving.chain(still).chain(outs).collect::<Vec<_>>())
    }

    /// |v - lr dL/dv|^2 of every sink, from its sums of squares and products.
    fn lengths(&self, lr: &[f64], along: &[f64]) -> Vec<f64> {
        let mut lengths = vec![0.0; along.len()];
        for ((slot, sums), lr) in self.head_sums.iter().enumerate().zip(lr) {
            let Some(sums) = sums else { continue };
            for (line, head) in self.network.wiring.edges[slot].heads.iter().enumerate() {
                let b = head.index();
                let (along, d) = (along[b], self.factors.head[b]);
                let v_v = sums.squares[line] * d * d;
                let v_g = sums.dots[line];
                let g_g = sums.gradient_squares[line] / (d * d);
                let slope = v_g - along * v_v;
                let size = g_g - 2.0 * along * v_g + along * along * v_v;
                lengths[b] += v_v - 2.0 * lr * slope + lr * lr * size;
            }
        }
        lengths
    }

    /// The update along a way, of the other matrix times `other(slot)`, `power(T)` and `power(D)`; weights into sinks are
    /// multiplied with `keep(slot, class)` besides.
    fn updates(
        &self,
        way: &Way,
        other: impl Fn(usize) -> f64,
        power: impl Fn(f64) -> f64,
        keep: impl Fn(usize, Class) -> f64,
    ) -> Result<Vec<Update>, Error> {
        let pairs = |factors: &[f64], way: &[f64]| -> Vec<f64> {
            let pairs = factors.iter().zip(way);
            pairs.map(|(&factor, way)| power(factor) * way).collect()
        };
        let other_tails = pairs(&self.factors.tail, &way.keep);
        let other_heads = pairs(&self.factors.head, &way.back);
        let update = |(slot, edges): (usize, &Edges)| {
            let heads = match self.chart.parts[slot].beyond_grounded {
                true => edges
                    .heads
                    .iter()
                    .map(|&c| keep(slot, c) * way.back[c.index()])
                    .collect(),
                false => vec![1.0; edges.heads.len()],
            };
            let tails = edges.tails.iter().map(|c| way.keep[c.index()]).collect();
            let other = other(slot);
            let of_other = self.network.lines(
                slot,
                |c| other * other_tails[c.index()],
                |c| other_heads[c.index()],
            )?;
            Ok(Update {
                of_weights: self.network.fit(slot, tails, heads)?,
                of_other,
                fixed: self.skeleton_entries(slot, way),
            })
        };
        let edges = self.network.wiring.edges.iter();
        edges.enumerate().map(update).collect()
    }

    fn after_lengths(&self, change: &[f64], lengths: &[f64]) -> Result<Vec<Update>, Error> {
        let way = self.way(change, lengths)?;
        self.updates(&way, |_| 1.0, |factor| 1.0 / factor, |_, _| 1.0)
    }
}

/// What a step of moments needs of the coordinates; for networks whose classes are all grounded.
impl SkeletonSurvey<'_> {
    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.in_values.len()
    }

    /// The places of the In edges that have a coordinate in a parameter, and their classes.
    pub fn moving(&self, slot: usize) -> (&[usize], &[usize]) {
        self.chart.parts[slot].moving()
    }

    /// Values for the places that an update of a parameter sets, from values of its moving edges; 0 for others.
    pub fn at_fixed(&self, slot: usize, mut values: Vec<f64>) -> Vec<f64> {
        let part = &self.chart.parts[slot];
        values.resize(part.at.len(), 0.0);
        part.in_order(&values)
    }

    /// dL/dv of the In edge of a class.
    pub fn in_gradient(&self, class: usize) -> f64 {
        self.in_gradients[class]
    }

    /// The factors that make dL/dv of dL/dw, but for In edges.
    pub fn gradient_lines(&self, slot: usize) -> Result<Lines, Error> {
        let Factors { tail, head } = &self.factors;
        self.network
            .lines(slot, |c| 1.0 / tail[c.index()], |c| 1.0 / head[c.index()])
    }

    /// The weights where the In edge of every class changes by `change`, from weights and the change of path values.
    pub fn after(&self, change: &[f64]) -> Result<Vec<Update>, Error> {
        self.after_lengths(change, &[])
    }
}

impl Survey for SkeletonSurvey<'_> {
    fn unread(&self) -> Vec<usize> {
        let unread =
            |&slot: &usize| self.reading.leaves_out(slot) && self.head_sums[slot].is_none();
        (0..self.head_sums.len()).filter(unread).collect()
    }

    fn lines(&self, slot: usize) -> Result<Lines, Error> {
        let Factors { tail, head } = &self.factors;
        self.network
            .lines(slot, |c| tail[c.index()], |c| head[c.index()])
    }

    fn fixed(&self, slot: usize) -> Arc<[usize]> {
        self.chart.parts[slot].free.clone()
    }

    fn gradient(&self, slot: usize, g: Matrix) -> Result<Matrix, Error> {
        let by = self.gradient_lines(slot)?;
        let part = &self.chart.parts[slot];
        let moving = part.moving().1.iter();
        let mut values: Vec<f64> = moving.map(|&b| self.in_gradients[b]).collect();
        values.resize(part.at.len(), 0.0);
        let entries = part.entries(&values);
        if !part.beyond_grounded {
            return Ok(g.scale(&by).put(&entries));
        }
        let (Factors { tail, head }, along) = (&self.factors, self.along());
        let along = self.network.lines(
            slot,
            |c| tail[c.index()],
            |c| -head[c.index()] * along[c.index()],
        )?;
        let w = &self.network.weights[slot];
        Ok(g.combine(&by, w, &along, &entries).0)
    }

    fn descend(&self, lr: &[f64]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.classes()];
        for (part, lr) in self.chart.parts.iter().zip(lr) {
            let (_, classes) = part.moving();
            classes
                .iter()
                .for_each(|&b| change[b] = -lr * self.in_gradients[b]);
        }
        let along = self.along();
        let way = self.way(&change, &self.lengths(lr, &along))?;
        self.updates(
            &way,
            |slot| -lr[slot],
            |factor| 1.0 / (factor * factor),
            |slot, class| 1.0 + lr[slot] * along[class.index()],
        )
    }

    fn allocate(&self, values: &[Matrix]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.classes()];
        let mut lengths = change.clone();
        let network = self.network.at(values);
        for (slot, part) in self.chart.parts.iter().enumerate() {
            let (at, classes) = part.moving();
            for (&b, value) in classes.iter().zip(values[slot].gather(at)) {
                change[b] = value - self.in_values[b];
            }
            if part.beyond_grounded {
                let squares = network.powers_by_head(slot, &network.ones(slot), Power::Two);
                for (head, square) in network.wiring.edges[slot].heads.iter().zip(squares) {
                    lengths[head.index()] += square;
                }
            }
        }
        self.after_lengths(&change, &lengths)
    }
}
