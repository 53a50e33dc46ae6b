//! The way back from path values to weights.

use super::allocation;
use super::chart::{Network, Update};
use super::places::Factors;
use super::skeletal::{SkeletonChart, unfit};
use crate::error::Error;
use crate::kernels::{Entries, all, is_ordinary};
use crate::wiring::Class;

/// What a way back begins with.
pub(crate) struct Origin<'a> {
    pub chart: &'a SkeletonChart,
    pub network: Network<'a>,
    /// By skeleton edge.
    pub weights: Vec<f64>,
    /// Inverses of the coordinates of the In edges, by class.
    pub per_value: Vec<f64>,
}

/// The way back to weights from moved path values; lists by class, the ground first.
pub(crate) struct Way<'a> {
    chart: &'a SkeletonChart,
    network: Network<'a>,
    /// New weights by skeleton edge: In edges by their ratio, others as they are.
    skeleton: Vec<f64>,
    /// Ratio of old to new Pin.
    keep: Vec<f64>,
    /// What weights into floating classes and sinks are multiplied with after all else: rho of a floating class, and what
    /// brings a sink's row back to its length.
    back: Vec<f64>,
    /// What the other matrix is multiplied with, by parameter and by class.
    other: Vec<f64>,
    by: Factors,
    /// How much of `other` times its coordinates is taken from a sink's row.
    along: Vec<f64>,
    /// Whether all of `keep` and `by` are of ordinary size, as parts of them are then.
    ordinary: bool,
}

impl<'a> Way<'a> {
    /// The way where In edges change by `change`, and sinks' moved coordinates have the sums of squares `lengths`. The
    /// other matrix is multiplied with `other` and `by` first.
    pub fn new(
        origin: Origin<'a>,
        change: Vec<f64>,
        lengths: &[f64],
        other: Vec<f64>,
        along: Vec<f64>,
        mut by: Factors,
    ) -> Result<Self, Error> {
        let Origin {
            chart,
            network,
            weights: mut skeleton,
            per_value,
        } = origin;
        let SkeletonChart {
            places,
            floor,
            tree,
            ..
        } = chart;
        let wiring = network.wiring;
        let found = allocation::ratios(places, *floor, &per_value, change);
        let rho = found.map_err(|(b, value)| match tree.ins[b - 1] {
            Some(edge) => Error::Singular {
                name: wiring.edges[edge.edges].name.clone(),
                tail: edge.tail,
                head: edge.head,
                value,
            },
            None => unfit(wiring, None, value),
        })?;
        // in memory that is done with
        let mut keep = per_value;
        for (keep, rho) in keep.iter_mut().zip(&rho) {
            *keep = 1.0 / rho;
        }
        for classes in &places.moving {
            let ins = skeleton[classes.clone()]
                .iter_mut()
                .zip(&rho[classes.clone()]);
            for ((w, rho), tail) in ins.zip(&places.in_tail[classes.clone()]) {
                *w = *w * rho * keep[tail.index()];
            }
        }
        let (by_tail, by_head) = by.tail_and_head_mut();
        for (factor, keep) in by_tail.iter_mut().zip(&keep) {
            *factor *= keep;
        }
        let mut back = Vec::new();
        if !places.all_grounded() {
            back = vec![1.0; rho.len()];
            for &b in &places.floating {
                back[b] = rho[b];
            }
            for &b in &places.sinks {
                back[b] = chart.radius() / lengths[b].sqrt();
            }
            for (factor, back) in by_head.iter_mut().zip(&back) {
                *factor *= back;
            }
        }
        let ordinary = |list: &[f64]| all(list, is_ordinary);
        Ok(Self {
            ordinary: ordinary(&keep) && ordinary(by.list()),
            chart,
            network,
            skeleton,
            keep,
            back,
            other,
            by,
            along,
        })
    }

    /// The skeleton weights of a parameter after the step.
    fn fixed(&self, slot: usize) -> Entries<'_> {
        self.chart.parts[slot].entries(self.skeleton.as_slice())
    }

    /// New weights of every parameter.
    ///
    /// # Errors
    /// Factors leave the range of the weights' type.
    pub fn updates(&self) -> Result<Vec<Update<'_>>, Error> {
        let slots = 0..self.network.weights.len();
        slots.map(|slot| self.update(slot)).collect()
    }

    fn update(&self, slot: usize) -> Result<Update<'_>, Error> {
        let (network, other) = (self.network, self.other[slot]);
        let edges = &network.wiring.edges[slot];
        let beyond_grounded = self.chart.parts[slot].beyond_grounded;
        let left = |c: &Class| (1.0 - other * self.along[c.index()]) * self.back[c.index()];
        let left = match beyond_grounded {
            true => edges.heads.iter().map(left).collect(),
            false => edges.by_head(&self.chart.places.ones),
        };
        let (tails, heads) = (edges.by_tail(self.by.tail()), edges.by_head(self.by.head()));
        let ordinary = self.ordinary && is_ordinary(other) && !beyond_grounded;
        let fit = |lines| match ordinary {
            true => Ok(lines),
            false => network.fitted(slot, lines),
        };
        Ok(Update {
            of_weights: fit(network.arranged(slot, 1.0, edges.by_tail(&self.keep), left))?,
            of_other: fit(network.arranged(slot, other, tails, heads))?,
            fixed: self.fixed(slot),
        })
    }
}
