//! The paper's initialisation of skeleton weights.

use burn::module::Module;

use crate::error::{Error, Rejected};
use crate::kernels::{Entries, Execution, Matrix};
use crate::params;
use crate::skeleton::{Edge, Tree};
use crate::wiring::Wiring;

/// Sets every skeleton weight to 1, as the paper's experiments do after an ordinary initialisation.
///
/// **This changes the network's function.** It is meant for a network before training, with the skeleton of
/// [`paper`](crate::paper); a trained network keeps its function with [`Skeleton::Largest`](crate::Skeleton).
///
/// # Errors
/// Model, wiring and skeleton do not fit; the model comes back unchanged.
pub fn skeleton_to_one<M: Module>(
    model: M,
    wiring: &Wiring,
    tree: &Tree,
) -> Result<M, Rejected<M>> {
    set_skeleton(model, wiring, tree, |_| 1.0)
}

/// Sets every skeleton weight to `value(edge)`, called for In edges and then for Out edges; of an edge that is both,
/// the last counts. (Signs and magnitudes: Meng et al. 2019, section 11.3.)
///
/// **This changes the network's function.**
///
/// # Errors
/// As [`skeleton_to_one`].
pub fn set_skeleton<M: Module>(
    model: M,
    wiring: &Wiring,
    tree: &Tree,
    mut value: impl FnMut(Edge) -> f64,
) -> Result<M, Rejected<M>> {
    if let Err(error) = check(&model, wiring, tree) {
        return Err(Rejected { model, error });
    }
    let mut set = vec![Vec::new(); wiring.edges.len()];
    for &edge in tree.ins.iter().chain(&tree.outs).flatten() {
        set[edge.param].push((wiring.flat(edge), value(edge)));
    }
    let put = |param: usize, w: Matrix| w.scatter(&Entries::new(std::mem::take(&mut set[param])));
    Ok(params::map(model, wiring, Execution::Fused, put))
}

fn check<M: Module>(model: &M, wiring: &Wiring, tree: &Tree) -> Result<(), Error> {
    tree.check(wiring)?;
    params::read(model, wiring, Execution::Fused).map(|_| ())
}
