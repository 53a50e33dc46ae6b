//! Is a network the function that its scale graph says?

use burn::module::Module;
use gsgd_core::GraphError;
use gsgd_core::rescale::Scaling;
use gsgd_core::scales::{ScaleClass, ScaleGraph};

use crate::capture::{Example, Outputs, numbers};
use crate::error::{Error, Rejected};
use crate::{names, params, rescale};

/// Checks a scale graph against its model: rescales hidden units by random powers of two and compares outputs.
///
/// First all units at once; where that changes the output, the units of one layer at a time, in the order of
/// the forward pass, to name the layer at which graph and model part. `forward` must be deterministic (no
/// dropout). Outputs may differ by 1e-4 of the largest; the epsilon of batch norms is within that, since running variances
/// below 1 are taken as 1, in both networks that are compared.
///
/// # Errors
/// [`GraphError::Mismatch`] with the layer's name; [`GraphError::Random`] where outputs differ from one forward pass to
/// the next; or the model does not fit the graph.
pub fn verify<M: Module, O: Outputs>(
    model: &M,
    graph: &ScaleGraph,
    forward: impl Fn(&M) -> O,
) -> Result<(), Error> {
    let model = &match graph.co_scaled().is_empty() {
        true => model.clone(),
        false => params::with_variances_from_one(params::detached(model), graph),
    };
    let values = numbers;
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

/// As [`verify`], in evaluation, at inputs that the example makes.
pub(crate) fn check<M: Module, O: Outputs>(
    model: &M,
    graph: &ScaleGraph,
    forward: impl Fn(&M, &mut Example) -> O,
) -> Result<(), Error> {
    let model = model.valid();
    let (device, dtype) = (names::device(&model), names::dtype(&model));
    verify(&model, graph, |model| {
        forward(model, &mut Example::on(device.clone(), dtype))
    })
}

/// 2, 4 or 8 for some classes, 1 for the others. Variances grow, so that epsilon weighs less.
fn some(graph: &ScaleGraph, classes: &[ScaleClass]) -> Scaling {
    let random = Scaling::powers_of_two(graph, 1, 0x5eed);
    let mut scaling = Scaling::identity(graph);
    for &class in classes {
        scaling.set(class, 4.0 * random.factor(class));
    }
    scaling
}
