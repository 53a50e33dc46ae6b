//! The way back from path values to weights.

use super::allocation;
use super::chart::Update;
use super::places::Factors;
use super::skeletal::{SkeletonChart, unfit};
use super::survey::SkeletonSurvey;
use crate::error::Error;
use crate::kernels::Entries;
use crate::wiring::Class;

/// The way back to weights from moved path values; lists by class, the ground first.
pub(crate) struct Way<'a> {
    survey: &'a SkeletonSurvey<'a>,
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
}

impl<'a> Way<'a> {
    /// The way where In edges change by `change`, and sinks' moved coordinates have the sums of squares `lengths`. The
    /// other matrix is multiplied with `other` and `by` first.
    pub fn new(
        survey: &'a SkeletonSurvey<'a>,
        change: Vec<f64>,
        lengths: &[f64],
        other: Vec<f64>,
        along: Vec<f64>,
        mut by: Factors,
    ) -> Result<Self, Error> {
        let point = &survey.point;
        let SkeletonChart {
            places,
            floor,
            tree,
            ..
        } = point.chart;
        let wiring = point.network.wiring;
        let found = allocation::ratios(places, *floor, &survey.per_value, change);
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
        let mut skeleton = point.weights.clone();
        for ((w, rho), tail) in skeleton.iter_mut().zip(&rho).zip(&places.in_tail) {
            *w = *w * rho * keep[tail.index()];
        }
        for class in &places.still {
            skeleton[class.index()] = point.weights[class.index()];
        }
        for (factor, keep) in by.tail.iter_mut().zip(&keep) {
            *factor *= keep;
        }
        let mut back = Vec::new();
        if !places.all_grounded() {
            back = vec![1.0; rho.len()];
            for &b in &places.floating {
                back[b] = rho[b];
            }
            for &b in &places.sinks {
                back[b] = point.chart.radius() / lengths[b].sqrt();
            }
            for (factor, back) in by.head.iter_mut().zip(&back) {
                *factor *= back;
            }
        }
        Ok(Self {
            survey,
            skeleton,
            keep,
            back,
            other,
            by,
            along,
        })
    }

    /// The skeleton weights of a parameter after the step.
    pub fn fixed(&self, slot: usize) -> Entries<'_> {
        self.survey.point.chart.parts[slot].entries(self.skeleton.as_slice())
    }

    /// New weights of a parameter.
    ///
    /// # Errors
    /// Factors leave the range of the weights' type.
    pub fn update(&self, slot: usize) -> Result<Update<'_>, Error> {
        let point = &self.survey.point;
        let (network, other) = (point.network, self.other[slot]);
        let edges = &network.wiring.edges[slot];
        let left = |c: &Class| (1.0 - other * self.along[c.index()]) * self.back[c.index()];
        let heads = match point.chart.parts[slot].beyond_grounded {
            true => edges.heads.iter().map(left).collect(),
            false => edges.by_head(&point.chart.places.ones),
        };
        let (tails, by_head) = (edges.by_tail(&self.by.tail), edges.by_head(&self.by.head));
        Ok(Update {
            of_weights: network.fit(slot, edges.by_tail(&self.keep), heads)?,
            of_other: network.fit_times(slot, other, tails, by_head)?,
            fixed: self.fixed(slot),
        })
    }
}
