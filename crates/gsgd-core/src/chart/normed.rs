//! What path values take besides where classes are behind or into batch norm: sums by head.

use super::path::PathChart;
use super::state::Factors;
use crate::error::Error;
use crate::matrix::{HeadSums, Matrix, read_all};
use crate::network::Network;

/// Sums over edges into classes behind or into batch norm; empty where there are none.
#[derive(Default)]
pub(super) struct NormedSums {
    /// Sum of u over all edges into the class.
    pub incoming: Vec<f64>,
    /// Sums by head line, by parameter; none of those that lead to no such class.
    pub head_sums: Vec<Option<HeadSums>>,
}

impl NormedSums {
    /// The sums of the parameters that lead to such classes; they complete D of those into batch norm.
    pub fn sums<M: Matrix>(
        chart: &PathChart,
        network: Network<M>,
        gradients: &[M],
        inverse: &mut Factors,
    ) -> Result<Self, Error> {
        let mut incoming = vec![0.0; chart.order.classes()];
        let mut squares = incoming.clone();
        let mut head_sums = vec![None; gradients.len()];
        let leading = gradients.iter().enumerate().zip(&chart.entries);
        let leading = leading.filter(|(_, entries)| entries.has_normed_heads);
        let sums = leading.map(|((param, g), _)| {
            let tails = network.graph.edges[param].tails.iter();
            let tails = tails.map(|c| 1.0 / inverse.tail[c.index()]);
            (
                param,
                network.head_sums(param, g, &tails.collect::<Vec<_>>()),
            )
        });
        for (param, sums) in read_all(sums) {
            if !sums.dots.iter().all(|dot| dot.is_finite()) {
                return Err(network.not_finite(param));
            }
            for (line, head) in network.graph.edges[param].heads.iter().enumerate() {
                squares[head.index()] += sums.squares[line];
                incoming[head.index()] += sums.dots[line];
            }
            head_sums[param] = Some(sums);
        }
        for &b in &chart.order.into_norm {
            inverse.head[b] = squares[b].sqrt() / chart.radius();
        }
        Ok(Self {
            incoming,
            head_sums,
        })
    }
}
