//! What a skeleton's own edges tell at one network and gradient, before any sum is taken.

use super::chart::Network;
use super::gradient;
use super::parts::Part;
use super::places::Factors;
use super::skeletal::SkeletonChart;
use super::survey::SkeletonSurvey;
use super::values;
use super::way::Origin;
use crate::error::Error;
use crate::kernels::{HeadSums, Matrix, all, pick, read};

/// Weights, gradients and path values of a skeleton; lists by class, the ground first.
#[derive(Clone)]
pub(crate) struct Point<'a> {
    pub(super) chart: &'a SkeletonChart,
    pub(super) network: Network<'a>,
    /// Weights and u by skeleton edge.
    weights: Vec<f64>,
    u: Vec<f64>,
    /// 1 / T and 1 / D: the coordinate of an edge is T(tail) w D(head).
    pub inverse: Factors,
}

impl<'a> Point<'a> {
    /// The skeleton of a chart at this network and gradient.
    ///
    /// # Errors
    /// A skeleton weight or its gradient is not finite, a weight is zero, or a product leaves the range of f64.
    pub fn of(
        chart: &'a SkeletonChart,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<Self, Error> {
        let classes = chart.places.classes();
        let (mut weights, mut u) = (vec![1.0; 2 * classes], vec![0.0; 2 * classes]);
        let matrices = network.weights.iter().zip(gradients).zip(&chart.parts);
        let picked = matrices.map(|((w, g), part)| (w, g, part.picked()));
        pick(picked, &mut weights, &mut u);
        if !all(&u, f64::is_finite) {
            let finite = |part: &Part| {
                part.picked()
                    .to
                    .iter()
                    .all(|&at| u[at as usize].is_finite())
            };
            let slot = chart.parts.iter().position(|part| !finite(part));
            return Err(network.not_finite(slot.expect("it was picked from one")));
        }
        let products = chart.fit_products(network.wiring, &weights)?;
        Ok(Self {
            inverse: values::inverse_factors(&chart.places, products),
            chart,
            network,
            weights,
            u,
        })
    }

    /// What a way back begins with, and the [inverse factors](Self::inverse).
    pub fn origin(self, per_value: Vec<f64>) -> (Origin<'a>, Factors) {
        let origin = Origin {
            chart: self.chart,
            network: self.network,
            weights: self.weights,
            per_value,
        };
        (origin, self.inverse)
    }

    /// All sums that the inverse chain rule takes.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite.
    pub fn survey(mut self, gradients: &[Matrix]) -> Result<SkeletonSurvey<'a>, Error> {
        let chart = self.chart;
        let outgoing = gradient::outgoing(self.network, gradients)?;
        let (mut head_sums, mut incoming) = (vec![None; gradients.len()], Vec::new());
        if !chart.places.all_grounded() {
            (head_sums, incoming) = self.head_sums(gradients)?;
        }
        let places = &chart.places;
        let per_value = values::per_in_value(places, &self.inverse);
        Ok(SkeletonSurvey {
            in_gradients: gradient::in_edges(places, &self.u, outgoing, &incoming, &per_value),
            point: self,
            incoming,
            per_value,
            head_sums,
        })
    }

    /// Sums by head line of the parameters that lead to floating classes or sinks, and by class u over all edges into it;
    /// they complete D of the sinks.
    fn head_sums(
        &mut self,
        gradients: &[Matrix],
    ) -> Result<(Vec<Option<HeadSums>>, Vec<f64>), Error> {
        let (chart, network) = (self.chart, self.network);
        let mut incoming = vec![0.0; chart.places.classes()];
        let mut squares = incoming.clone();
        let mut all = vec![None; gradients.len()];
        let parts = gradients.iter().enumerate().zip(&chart.parts);
        let parts = parts.filter(|(_, part)| part.beyond_grounded);
        let sums = parts.map(|((slot, g), _)| {
            let tails = network.wiring.edges[slot].tails.iter();
            let tails = tails.map(|c| 1.0 / self.inverse.tail()[c.index()]);
            (slot, network.head_sums(slot, g, &tails.collect::<Vec<_>>()))
        });
        for (slot, sums) in read(sums) {
            if !sums.dots.iter().all(|dot| dot.is_finite()) {
                return Err(network.not_finite(slot));
            }
            for (line, head) in network.wiring.edges[slot].heads.iter().enumerate() {
                squares[head.index()] += sums.squares[line];
                incoming[head.index()] += sums.dots[line];
            }
            all[slot] = Some(sums);
        }
        let (_, head) = self.inverse.tail_and_head_mut();
        for &b in &chart.places.sinks {
            head[b] = squares[b].sqrt() / chart.radius();
        }
        Ok((all, incoming))
    }
}
