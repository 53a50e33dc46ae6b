//! The way back from path values to weights.

use super::allocation;
use super::chart::Update;
use super::skeletal::{SkeletonChart, unfit};
use super::survey::SkeletonSurvey;
use crate::error::Error;
use crate::kernels::Entries;
use crate::wiring::Class;

/// The way back to weights from moved path values; lists by class, the ground first.
pub(crate) struct Way<'a> {
    survey: &'a SkeletonSurvey<'a>,
    /// Ratio of new to old Pin, and its inverse.
    rho: Vec<f64>,
    keep: Vec<f64>,
    /// What weights into the class are multiplied with after all else: rho of a floating class, and what brings a
    /// sink's row back to its length.
    back: Vec<f64>,
    /// What the other matrix is multiplied with, by parameter, by tail and by head.
    other: Vec<f64>,
    other_tails: Vec<f64>,
    other_heads: Vec<f64>,
    /// How much of `other` times its coordinates is taken from a sink's row.
    along: Vec<f64>,
}

impl<'a> Way<'a> {
    /// The way where In edges change by `change`, and sinks' moved coordinates have the sums of squares `lengths`. The
    /// other matrix is multiplied with `other`, `power(T)` and `power(D)`.
    pub fn new(
        survey: &'a SkeletonSurvey<'a>,
        change: &[f64],
        lengths: &[f64],
        other: Vec<f64>,
        along: Vec<f64>,
        power: impl Fn(f64) -> f64,
    ) -> Result<Self, Error> {
        let point = &survey.point;
        let SkeletonChart {
            places,
            floor,
            tree,
            ..
        } = point.chart;
        let wiring = point.network.wiring;
        let found = allocation::ratios(places, *floor, &point.products, &survey.in_values, change);
        let rho = found.map_err(|(b, value)| match tree.ins[b - 1] {
            Some(edge) => Error::Singular {
                name: wiring.edges[edge.edges].name.clone(),
                tail: edge.tail,
                head: edge.head,
                value,
            },
            None => unfit(wiring, None, value),
        })?;
        let keep: Vec<f64> = rho.iter().map(|rho| 1.0 / rho).collect();
        let mut back = vec![1.0; rho.len()];
        for &b in &places.floating {
            back[b] = rho[b];
        }
        for &b in &places.sinks {
            back[b] = point.chart.radius() / lengths[b].sqrt();
        }
        let pairs = |factors: &[f64], way: &[f64]| -> Vec<f64> {
            let pairs = factors.iter().zip(way);
            pairs.map(|(&factor, way)| power(factor) * way).collect()
        };
        Ok(Self {
            other_tails: pairs(&point.factors.tail, &keep),
            other_heads: pairs(&point.factors.head, &back),
            survey,
            rho,
            keep,
            back,
            other,
            along,
        })
    }

    /// The skeleton weights of a parameter after the step: In edges by their ratio, free edges as they are.
    pub fn fixed(&self, slot: usize) -> Entries {
        let (chart, weights) = (self.survey.point.chart, &self.survey.point.weights);
        let (part, places) = (&chart.parts[slot], &chart.places);
        let [moving, still, outs] = part.split(&part.class);
        let moving = moving
            .iter()
            .map(|&b| weights.head[b] * self.rho[b] * self.keep[places.in_tail[b]]);
        let still = still.iter().map(|&b| weights.head[b]);
        let outs = outs.iter().map(|&b| weights.tail[b]);
        part.entries(&moving.chain(still).chain(outs).collect::<Vec<_>>())
    }

    /// New weights of a parameter.
    ///
    /// # Errors
    /// Factors leave the range of the weights' type.
    pub fn update(&self, slot: usize) -> Result<Update, Error> {
        let network = self.survey.point.network;
        let other = self.other[slot];
        let keep = |c: Class| 1.0 - other * self.along[c.index()];
        let back = |c: Class| match self.survey.point.chart.parts[slot].beyond_grounded {
            true => keep(c) * self.back[c.index()],
            false => 1.0,
        };
        let of_other = network.lines(
            slot,
            |c| other * self.other_tails[c.index()],
            |c| self.other_heads[c.index()],
        )?;
        Ok(Update {
            of_weights: network.lines(slot, |c| self.keep[c.index()], back)?,
            of_other,
            fixed: self.fixed(slot),
        })
    }
}
