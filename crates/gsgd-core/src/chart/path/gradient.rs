//! The inverse chain rule (Meng et al. 2019, section 4.2), for any widths and graph.
//!
//! With `u_e = g_e w_e`:
//!
//! ```text
//! S(b)     = sum of u_f over edges f out of b, f not held fixed
//!            - sum of u_e over edges e into b, e not held fixed, if b is behind batch norm
//!            + S(b') for every class b' whose In edge is held fixed and leaves b
//! dL/dv_e  = g_e / (T(tail) D(head))          e not an In edge that moves
//!          = (u_e - S(head)) / v_e            e an In edge that moves
//! ```
//!
//! and, for edges into a class that goes into batch norm, whose coordinates lie on a sphere of that radius, less the part along v:
//! `- v_e (sum of u over the edges into the class) / radius^2`. Nothing is divided by an ordinary weight.

use crate::error::Error;
use crate::matrix::{Matrix, all, read_all};
use crate::network::Network;
use crate::skeleton::TreeOrder;

/// The sum of u over the edges out of every class.
///
/// It equals the sum over the edges into the class where the gradient is that of a loss of the network's outputs (the
/// conservation law). Of other gradients, such as that of a penalty on some weights, it does not; this side is right for
/// any.
///
/// # Errors
/// A weight or gradient that is read is not finite.
pub(crate) fn outgoing<M: Matrix>(network: Network<M>, gradients: &[M]) -> Result<Vec<f64>, Error> {
    let graph = network.graph;
    let mut sums = vec![0.0; graph.hidden() + 1];
    let hidden = graph.edges.iter().zip(gradients).enumerate();
    let hidden = hidden.filter(|(_, (edges, _))| !edges.leaves_ground());
    let dots = hidden.map(|(param, (_, g))| (param, network.dots_by_tail(param, g)));
    for (param, dots) in read_all(dots) {
        if !all(&dots, f64::is_finite) {
            return Err(network.not_finite(param));
        }
        for (tail, dot) in graph.edges[param].tails.iter().zip(dots) {
            sums[tail.index()] += dot;
        }
    }
    Ok(sums)
}

/// dL/dv of the In edges that move, from the inverses of their coordinates, u by skeleton edge, and by class the sums of u
/// over all edges [out of it](outgoing) and, for classes behind or into batch norm, into it.
pub(crate) fn in_edges(
    order: &TreeOrder,
    u: &[f64],
    outgoing: Vec<f64>,
    incoming: &[f64],
    per_value: &[f64],
) -> Vec<f64> {
    let (ins, outs) = TreeOrder::ins_and_outs(u);
    let mut sums = outgoing;
    for (sum, out) in sums.iter_mut().zip(outs) {
        *sum -= out;
    }
    // less the In edge, which is held fixed and stands in both sums: in that into b, and in that out of its tail
    for &b in &order.behind_norm {
        sums[b] -= incoming[b];
    }
    for &b in &order.into_norm {
        sums[b] = 0.0;
    }
    for class in order.held.iter().rev() {
        let b = class.index();
        sums[order.in_tail[b].index()] += sums[b];
    }
    let edges = ins.iter().zip(per_value);
    for (sum, (u, per_value)) in sums.iter_mut().zip(edges) {
        *sum = (u - *sum) * per_value;
    }
    sums
}
