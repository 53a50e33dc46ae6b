//! Skeletons of Burn modules, and the paper's initialisation of their weights.

use burn::module::Module;
use gsgd_core::matrix::{EntryList, Matrix};
use gsgd_core::scales::ScaleGraph;

pub use gsgd_core::skeleton::{Edge, Skeleton, SkeletonTree};

use crate::error::{Error, Rejected};
use crate::matrix::BurnMatrix;
use crate::params;

/// The largest skeleton of a model's weights: In by argmax |Pin(tail) w|, Out by argmax |w Pout(head)|.
///
/// # Errors
/// Model and graph do not fit.
pub fn largest<M: Module>(model: &M, graph: &ScaleGraph) -> Result<SkeletonTree, Error> {
    params::with(model, graph, |network| Ok(SkeletonTree::largest(network)))
}

/// The weights of a skeleton, of all In edges and then all Out edges. One near 0 makes steps along it large.
///
/// # Errors
/// Model, graph and skeleton do not fit.
pub fn weights<M: Module>(
    model: &M,
    graph: &ScaleGraph,
    tree: &SkeletonTree,
) -> Result<Vec<f64>, Error> {
    params::with(model, graph, |network| Ok(tree.weights(network)?))
}

/// Sets every skeleton weight to 1, as the paper's experiments do after an ordinary initialisation.
///
/// **This changes the network's function.** It is meant for a network before training, with the skeleton
/// [`SkeletonTree::paper`]; a trained network keeps its function with [`Skeleton::Largest`].
///
/// # Errors
/// Model, graph and skeleton do not fit; the model comes back unchanged.
pub fn set_to_one<M: Module>(
    model: M,
    graph: &ScaleGraph,
    tree: &SkeletonTree,
) -> Result<M, Rejected<M>> {
    set(model, graph, tree, |_| 1.0)
}

/// Sets every skeleton weight to `value(edge)`, called for In edges and then for Out edges; of an edge that is both,
/// the last counts. (Signs and magnitudes: Meng et al. 2019, section 11.3.)
///
/// **This changes the network's function.**
///
/// # Errors
/// As [`set_to_one`].
pub fn set<M: Module>(
    model: M,
    graph: &ScaleGraph,
    tree: &SkeletonTree,
    value: impl FnMut(Edge) -> f64,
) -> Result<M, Rejected<M>> {
    if let Err(error) = weights(&model, graph, tree) {
        return Err(Rejected::new(model, error));
    }
    let mut lists = vec![Vec::new(); graph.edges().len()];
    for (position, edge) in tree.edges().enumerate() {
        lists[edge.param].push((graph.flat(edge), position));
    }
    let values: Vec<f64> = tree.edges().map(value).collect();
    let lists: Vec<EntryList> = lists.into_iter().map(EntryList::new).collect();
    let put = |param: usize, w: BurnMatrix| w.scatter(lists[param].with(&values));
    Ok(params::map(model, graph, put))
}
