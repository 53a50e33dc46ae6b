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
use crate::chart::state::Factors;
use crate::error::Error;
use crate::matrix::{Matrix, all};
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

/// New weights of every parameter, from the weights by skeleton edge and the inverses of the coordinates of the In edges.
///
/// # Errors
/// The step ends in a pole, or factors leave the range of the weights' type.
pub(super) fn allocate<'a, M: Matrix>(
    chart: &'a PathChart,
    network: Network<M>,
    mut skeleton: Vec<f64>,
    per_value: &[f64],
    moved: Moved,
) -> Result<Updates<'a>, Error> {
    let order = &chart.order;
    let Moved {
        change,
        lengths,
        other,
        mut by,
        along,
    } = moved;
    let rho = ratios(chart, network.graph, per_value, change)?;
    // what is left of a weight by its tail, and by its head if that is behind or into batch norm
    let keep: Vec<f64> = rho.iter().map(|rho| 1.0 / rho).collect();
    let mut back = vec![1.0; rho.len()];
    for &b in &order.behind_norm {
        back[b] = rho[b];
    }
    for &b in &order.into_norm {
        back[b] = chart.radius() / lengths[b].sqrt();
    }
    for (b, (keep, back)) in keep.iter().zip(&back).enumerate() {
        by.tail[b] *= keep;
        by.head[b] *= back;
    }
    for class in &order.free {
        let b = class.index();
        skeleton[b] = skeleton[b] * rho[b] * keep[order.in_tail[b].index()];
    }
    let scales = chart.entries.iter().enumerate().map(|(param, entries)| {
        let other = other[param];
        let left = |b: usize| match entries.has_normed_heads {
            true => (1.0 - other * along[b]) * back[b],
            false => 1.0,
        };
        let of_weights = network.by_class(param, |c| keep[c.index()], |c| left(c.index()))?;
        let (tails, heads) = (&by.tail, &by.head);
        let of_other = network.by_class(param, |c| tails[c.index()] * other, |c| heads[c.index()]);
        Ok([of_weights, of_other?])
    });
    Ok(Updates {
        scales: scales.collect::<Result<_, Error>>()?,
        fixed: chart.entries.iter().map(|list| &list.all).collect(),
        values: skeleton,
    })
}

/// rho of every class where its In edge, of a value with this inverse, changes by this much.
fn ratios(
    chart: &PathChart,
    graph: &ScaleGraph,
    per_value: &[f64],
    change: Vec<f64>,
) -> Result<Vec<f64>, Error> {
    let (start, order) = (&chart.start, &chart.order);
    let mut rho = change;
    for (rho, per_value) in rho.iter_mut().zip(per_value) {
        *rho = 1.0 + *rho * per_value;
    }
    if let Some(tau) = start.floor {
        // the coordinate of an In edge is its path value by the sizes of Pin of its tail and of Pout
        let Factors { tail, head } = &start.sizes;
        for (b, rho) in rho.iter_mut().enumerate() {
            let size = tail[order.in_tail[b].index()] * head[b];
            *rho = floored(*rho, per_value[b] * (start.values[b] / size), tau);
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
    Err(match start.tree.ins[b - 1] {
        Some(edge) => Error::Singular {
            name: graph.edges[edge.param].name.clone(),
            tail: edge.tail,
            head: edge.head,
            value: rho[b],
        },
        None => unfit(graph, None, rho[b]),
    })
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
