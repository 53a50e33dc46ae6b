//! The group of positive scalings on Burn modules: draw, apply, balance, compare.
//!
//! A scaling has one positive factor per hidden class and multiplies every weight by `c[head] / c[tail]`, with 1 for
//! the ground. The function stays as it is.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use gsgd_core::matrix::Matrix;
use gsgd_core::rescale;
use gsgd_core::scales::ScaleGraph;

pub use gsgd_core::rescale::{Balance, Balanced, Equivalence, Norm, Scaling};

use crate::error::{Error, Rejected};
use crate::matrix::BurnMatrix;
use crate::params;

/// The model with every weight multiplied by `c[head] / c[tail]`, and running statistics of batch norms accordingly.
///
/// A model with batch norm shares its running statistics with its clones; the result has its own.
///
/// # Errors
/// Model and graph do not fit, or the factors leave the range of the weights' type. The model comes back unchanged.
pub fn apply<M: Module>(model: M, graph: &ScaleGraph, scaling: &Scaling) -> Result<M, Rejected<M>> {
    let scales = params::with(&model, graph, |network| Ok(scaling.of_weights(network)?));
    let scales = match scales {
        Ok(scales) => scales,
        Err(error) => return Err(Rejected::new(model, error)),
    };
    let model = match graph.co_scaled().is_empty() {
        true => model,
        false => params::detached(&model),
    };
    let scale = |param: usize, w: BurnMatrix| w.scale(&scales[param]);
    let model = params::map(model, graph, scale);
    Ok(params::map_co_scaled(model, graph, |tensor, x| {
        let factors = scaling.of_co_scaled(tensor);
        let shape = [factors.len()];
        x.clone() * Tensor::from_data(TensorData::new(factors, shape), (&x.device(), x.dtype()))
    }))
}

/// The model at its balanced representative, and how it was reached; see [`gsgd_core::rescale::balance`].
///
/// # Errors
/// Model and graph do not fit, or the factors leave the range of the weights' type; the model comes back unchanged.
pub fn balance<M: Module>(
    model: M,
    graph: &ScaleGraph,
    until: Balance,
) -> Result<(M, Balanced), Rejected<M>> {
    let found = params::with(&model, graph, |network| {
        Ok(rescale::balance(network, until)?)
    });
    match found {
        Err(error) => Err(Rejected::new(model, error)),
        Ok(balanced) => Ok((apply(model, graph, &balanced.scaling)?, balanced)),
    }
}

/// Incoming over outgoing l2 norm of every hidden class, in the order of [`ScaleGraph::hidden_classes`]; `None` where one
/// side has no weights or only zeros. 1 is balanced.
///
/// # Errors
/// Model and graph do not fit.
pub fn imbalances<M: Module>(model: &M, graph: &ScaleGraph) -> Result<Vec<Option<f64>>, Error> {
    params::with(model, graph, |network| Ok(rescale::imbalances(network)))
}

/// The scaling to the canonical representative; see [`gsgd_core::rescale::to_canonical`].
///
/// # Errors
/// Model and graph do not fit.
pub fn to_canonical<M: Module>(model: &M, graph: &ScaleGraph) -> Result<Scaling, Error> {
    params::with(model, graph, |network| Ok(rescale::to_canonical(network)?))
}

/// Compares two models of the same scale graph up to positive scaling; see [`gsgd_core::rescale::equivalent`].
///
/// # Errors
/// The graphs differ, or a model does not fit its graph.
pub fn equivalent<A: Module, B: Module>(
    (a, of_a): (&A, &ScaleGraph),
    (b, of_b): (&B, &ScaleGraph),
    tolerance: f64,
) -> Result<Equivalence, Error> {
    let co_scaled = [
        params::read_co_scaled(a, of_a),
        params::read_co_scaled(b, of_b),
    ];
    params::with(a, of_a, |a| {
        params::with(b, of_b, |b| {
            Ok(rescale::equivalent([a, b], co_scaled, tolerance)?)
        })
    })
}
