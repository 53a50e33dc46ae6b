//! Paths from input to output of Burn modules: exact tools for small networks, norms for networks of any size.

use burn::module::Module;
use gsgd_core::paths;
use gsgd_core::scales::ScaleGraph;

pub use gsgd_core::paths::{Path, Paths, Power, Start};

use crate::error::Error;
use crate::params;
use crate::skeleton::SkeletonTree;

/// Every path from an input feature or a bias to an output; see [`Paths`].
///
/// # Errors
/// More than a million paths, a batch norm, a grounded function or a frozen layer inside, or a model that does not fit
/// its graph.
pub fn enumerate<M: Module>(model: &M, graph: &ScaleGraph) -> Result<Paths, Error> {
    params::with(model, graph, |network| Ok(Paths::enumerate(network)?))
}

/// The sum over all paths p of `|v_p|` or `v_p^2`; see [`gsgd_core::paths::path_norm`].
///
/// # Errors
/// Model and graph do not fit, or some parameters are frozen: make the graph on a device without gradients then
/// (`model.valid()`).
pub fn path_norm<M: Module>(model: &M, graph: &ScaleGraph, p: Power) -> Result<f64, Error> {
    params::with(model, graph, |network| Ok(paths::path_norm(network, p)?))
}

/// The sum over basis paths of `v_p^2` (Zheng et al. 2018): weight decay in path space is its gradient.
///
/// # Errors
/// Model and graph do not fit, the skeleton is not one of this graph, or a skeleton weight is zero.
pub fn basis_path_norm<M: Module>(
    model: &M,
    graph: &ScaleGraph,
    tree: &SkeletonTree,
) -> Result<f64, Error> {
    params::with(model, graph, |network| {
        Ok(paths::basis_path_norm(network, tree)?)
    })
}
