//! Weight allocation (Meng et al. 2019, section 4.3), for any widths and graph, and the ratio floor.
//!
//! With R(b) the ratio of new to old path value of the In edge of b:
//!
//! ```text
//! rho(ground) = 1
//! rho(b)      = rho(tail In(b)) if In(b) is held fixed, R(b) otherwise
//! w'_e        = (w_e + dv_e / (T(tail) D(head))) / rho(tail)    e not held
//!               times rho(head) if the head is behind batch norm
//!               times radius / |v + dv| if the head goes into batch norm
//!             = w_e                                             e held
//! ```

use super::chart::{PathChart, unfit};
use super::order::{Factors, TreeOrder};
use crate::error::Error;
use crate::matrix::{Matrix, RowColScale, all};
use crate::network::{Network, Updates};
use crate::scales::ScaleGraph;

/// How path values have moved, and what the new weights are made from: the weights and the other matrix, which is the
/// gradient or the change of the path values.
pub(super) struct Moved<'a> {
    /// By class, how its In edge changes.
    pub change: Vec<f64>,
    /// By class into batch norm, the sum of squares of its moved coordinates.
    pub lengths: &'a [f64],
    /// What the other matrix is multiplied with: by parameter, and by class.
    pub other: Vec<f64>,
    pub by: Factors,
    /// By class into batch norm, how much of `other` times its coordinates is taken from its row.
    pub along: Vec<f64>,
}

/// The way back to weights from moved path values; lists by class, the ground first.
pub(super) struct Allocation<'a> {
    chart: &'a PathChart,
    /// New weights by skeleton edge: In edges by their ratio, others as they are.
    skeleton: Vec<f64>,
    /// Ratio of old to new Pin.
    keep: Vec<f64>,
    /// What weights into classes behind and into batch norm are multiplied with after all else: rho of a class behind it,
    /// and what brings the row of one into it back to its length. Nothing where no class is either.
    back: Vec<f64>,
    other: Vec<f64>,
    by: Factors,
    along: Vec<f64>,
}

impl<'a> Allocation<'a> {
    /// From weights by skeleton edge and the inverses of the coordinates of the In edges.
    ///
    /// # Errors
    /// The step ends in a pole.
    pub fn new(
        chart: &'a PathChart,
        graph: &ScaleGraph,
        mut skeleton: Vec<f64>,
        per_value: &[f64],
        moved: Moved,
    ) -> Result<Self, Error> {
        let order = &chart.order;
        let Moved {
            change,
            lengths,
            other,
            mut by,
            along,
        } = moved;
        let found = ratios(order, chart.floor, per_value, change);
        let rho = found.map_err(|(b, value)| match chart.tree.ins[b - 1] {
            Some(edge) => Error::Singular {
                name: graph.edges[edge.param].name.clone(),
                tail: edge.tail,
                head: edge.head,
                value,
            },
            None => unfit(graph, None, value),
        })?;
        let keep: Vec<f64> = rho.iter().map(|rho| 1.0 / rho).collect();
        for classes in &order.free {
            for b in classes.clone() {
                skeleton[b] = skeleton[b] * rho[b] * keep[order.in_tail[b].index()];
            }
        }
        for (factor, keep) in by.tail.iter_mut().zip(&keep) {
            *factor *= keep;
        }
        let mut back = Vec::new();
        if !order.all_reach_output() {
            back = vec![1.0; rho.len()];
            for &b in &order.behind_norm {
                back[b] = rho[b];
            }
            for &b in &order.into_norm {
                back[b] = chart.radius() / lengths[b].sqrt();
            }
            for (factor, back) in by.head.iter_mut().zip(&back) {
                *factor *= back;
            }
        }
        Ok(Self {
            chart,
            skeleton,
            keep,
            back,
            other,
            by,
            along,
        })
    }

    /// New weights of every parameter of the network.
    ///
    /// # Errors
    /// Factors leave the range of the weights' type.
    pub fn updates<M: Matrix>(self, network: Network<M>) -> Result<Updates<'a>, Error> {
        let params = 0..network.weights.len();
        let scales = params.map(|param| self.scales(network, param));
        Ok(Updates {
            scales: scales.collect::<Result<_, Error>>()?,
            fixed: self.chart.entries.iter().map(|list| &list.all).collect(),
            values: self.skeleton,
        })
    }

    /// Factors of a parameter's weights and of the other matrix.
    fn scales<M: Matrix>(
        &self,
        network: Network<M>,
        param: usize,
    ) -> Result<[RowColScale; 2], Error> {
        let other = self.other[param];
        let left = |b: usize| (1.0 - other * self.along[b]) * self.back[b];
        let normed = self.chart.entries[param].has_normed_heads;
        let left = |b: usize| if normed { left(b) } else { 1.0 };
        let Factors { tail, head } = &self.by;
        let of_weights = network.by_class(param, |c| self.keep[c.index()], |c| left(c.index()))?;
        let of_other = network.by_class(param, |c| tail[c.index()] * other, |c| head[c.index()])?;
        Ok([of_weights, of_other])
    }
}

/// rho of every class where its In edge, of a value with this inverse, changes by so much; on failure the class, and the
/// ratio that is no number to divide by.
fn ratios(
    order: &TreeOrder,
    tau: Option<f64>,
    per_value: &[f64],
    change: Vec<f64>,
) -> Result<Vec<f64>, (usize, f64)> {
    let mut rho = change;
    for (rho, per_value) in rho.iter_mut().zip(per_value) {
        *rho = 1.0 + *rho * per_value;
    }
    if let Some(tau) = tau {
        let values = per_value.iter().zip(&order.in_value_at_start);
        for (rho, (per_value, at_start)) in rho.iter_mut().zip(values) {
            *rho = floored(*rho, per_value * at_start, tau);
        }
    }
    rho[0] = 1.0;
    for class in &order.held {
        rho[class.index()] = rho[order.in_tail[class.index()].index()];
    }
    let usable = |r: f64| (r.abs() > 0.0) & (r.abs() <= f64::MAX);
    if all(&rho, usable) {
        return Ok(rho);
    }
    let first = rho.iter().position(|&r| !usable(r));
    let b = first.expect("one of them is not usable");
    Err((b, rho[b]))
}

/// The ratio floor: keeps the sign of a skeleton path's value, and its size at `tau` of what it was at the start, which is
/// `started` times what it is; no step multiplies it by more than `1 / tau`.
///
/// `R <- min(max(R, min(tau |v0| / |v|, 1)), 1 / tau)`. Unchanged by rescaling; bounds by 1 / tau^2 how much the
/// coordinates can amplify the lr.
fn floored(r: f64, started: f64, tau: f64) -> f64 {
    r.max((tau * started.abs()).min(1.0)).min(1.0 / tau)
}

#[cfg(test)]
mod tests {
    use super::floored;

    #[test]
    fn the_floor_keeps_sign_and_size() {
        assert_eq!(floored(0.9, 1.0, 0.5), 0.9);
        assert_eq!(floored(-3.0, 1.0, 0.5), 0.5);
        assert_eq!(floored(0.1, -2.0, 0.5), 1.0);
        assert_eq!(floored(f64::NEG_INFINITY, 1.0, 0.25), 0.25);
        assert_eq!(floored(1e9, 1.0, 0.25), 4.0);
        assert_eq!(floored(1e9, 1.0, 0.0), 1e9);
    }
}
