//! Is a network the function that its scale graph says?

use burn::module::Module;
use burn::tensor::Tensor;
use gsgd_core::GraphError;
use gsgd_core::rescale::Scaling;
use gsgd_core::scales::{ScaleClass, ScaleGraph};

use crate::error::{Error, Rejected};
use crate::{params, rescale};

/// Checks a scale graph against its model: rescales hidden units by random powers of two and compares outputs.
///
/// First all units at once; where that changes the output, the units of one layer at a time, in the order of
/// the forward pass, to name the layer at which graph and model part. `forward` must be deterministic (no
/// dropout). Outputs may differ by 1e-4 of the largest; the epsilon of batch norms is within that as long as the
/// variances of their inputs are well above it.
///
/// # Errors
/// [`GraphError::Mismatch`] with the layer's name; [`GraphError::Random`] where outputs differ from one forward pass to
/// the next; or the model does not fit the graph.
pub fn verify<M: Module, const D: usize>(
    model: &M,
    graph: &ScaleGraph,
    forward: impl Fn(&M) -> Tensor<D>,
) -> Result<(), Error> {
    let model = &match graph.co_scaled().is_empty() {
        true => model.clone(),
        false => params::detached(model),
    };
    let expected = values(forward(model));
    let scale = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let agrees = |difference: f64| difference <= 1e-4 * scale.max(f64::MIN_POSITIVE);
    let difference = |outputs: Vec<f64>| {
        let differences = outputs.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        differences.fold(
            0.0,
            |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) },
        )
    };
    if !agrees(difference(values(forward(model)))) {
        return Err(GraphError::Random.into());
    }
    let all: Vec<ScaleClass> = graph.hidden_classes().collect();
    let change = |classes: &[ScaleClass]| -> Result<f64, Error> {
        let rescaled = rescale::apply(model.clone(), graph, &some(graph, classes));
        let rescaled = rescaled.map_err(|Rejected { error, .. }| error)?;
        Ok(difference(values(forward(&rescaled))))
    };
    let together = change(&all)?;
    if agrees(together) {
        return Ok(());
    }
    let mismatch = |class: ScaleClass, difference: f64| {
        let layer = graph.first_writer(class).map(|(edges, _)| edges.name());
        Error::from(GraphError::Mismatch {
            layer: layer.unwrap_or_default().into(),
            difference,
            scale,
        })
    };
    let place = |class: ScaleClass| graph.first_writer(class).map(|(_, place)| place);
    for layer in all.chunk_by(|&a, &b| place(a) == place(b)) {
        let difference = change(layer)?;
        if !agrees(difference) {
            return Err(mismatch(layer[0], difference));
        }
    }
    Err(mismatch(all[0], together))
}

/// Random powers of two for some classes, 1 for the others.
fn some(graph: &ScaleGraph, classes: &[ScaleClass]) -> Scaling {
    let random = Scaling::powers_of_two(graph, 3, 0x5eed);
    let factor = |class: ScaleClass| match random.factor(class) {
        1.0 => 2.0,
        other => other,
    };
    let mut scaling = Scaling::identity(graph);
    for &class in classes {
        scaling.set(class, factor(class));
    }
    scaling
}

fn values<const D: usize>(output: Tensor<D>) -> Vec<f64> {
    output.into_data().iter::<f64>().collect()
}
