//! Path-SGD, for comparison.

use super::PathSums;
use crate::error::Error;
use crate::matrix::{Matrix, Power, RowColScale};
use crate::network::{Network, Updates};
use crate::scales::{Kind, ScaleGraph};

/// Refuses what has no path norm to divide by: networks with batch norm or frozen parameters.
///
/// # Errors
/// This is one.
pub fn path_sgd_takes(graph: &ScaleGraph) -> Result<(), Error> {
    graph.refuse_frozen("Path-SGD")?;
    let mut classes = graph.classes();
    match classes.any(|class| graph.kind(class) == Kind::IntoBatchNorm) {
        true => Err(Error::BatchNorm {
            tool: "Path-SGD",
            reason: "no path leads through it, so weights before it have no path norm to divide by",
        }),
        false => Ok(()),
    }
}

/// A step of Path-SGD with p = 2 (Neyshabur, Salakhutdinov and Srebro 2015): `w <- w - lr g / kappa`, with an lr per
/// parameter; the new weights, in the memory of the gradients.
///
/// `kappa_e` is the derivative of the squared path norm with respect to `w_e^2`: the sum over paths up to the tail,
/// times the sum over paths from the head, of squared path values without e. It is a product of a tail and a head
/// factor. A weight that no path with a non-zero value passes (kappa = 0) stays.
///
/// # Errors
/// As [`path_sgd_takes`]; a weight or gradient is not finite, or factors leave the range of the weights' type.
pub fn path_sgd<M: Matrix>(
    network: Network<M>,
    gradients: Vec<M>,
    lr: &[f64],
) -> Result<Vec<M>, Error> {
    path_sgd_takes(network.graph)?;
    let sums = PathSums::forward(network, Power::Two);
    let around = sums.around(network, Power::Two);
    let inverse = |sum: &f64| if *sum == 0.0 { 0.0 } else { 1.0 / sum };
    let params = around.iter().zip(lr).enumerate();
    let scales = params.map(|(param, ((to, from), lr))| {
        let tails: Vec<f64> = to.iter().map(|sum| -lr * inverse(sum)).collect();
        let heads: Vec<f64> = from.iter().map(inverse).collect();
        Ok([
            network.by_class(param, |_| 1.0, |_| 1.0)?,
            network.by_line(param, tails, heads)?,
        ])
    });
    let scales: Vec<[RowColScale; 2]> = scales.collect::<Result<_, Error>>()?;
    network.updated(gradients, &Updates::plain(scales))
}
