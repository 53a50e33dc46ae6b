//! Does the model do what its wiring says?

use burn::module::Module;
use burn::tensor::Tensor;

use super::{ScaleClass, Wiring};
use crate::error::{Error, Rejected, WiringError};
use crate::params;
use crate::rescale::Scaling;

impl Wiring {
    /// Checks the wiring against the model: rescales hidden units by random powers of two and compares outputs.
    ///
    /// First all units at once; where that changes the output, the units of one layer at a time, in the order of
    /// the forward pass, to name the layer at which wiring and model part. `forward` must be deterministic (no
    /// dropout). Outputs may differ by 1e-4 of the largest; the epsilon of batch norms is within that as long as the
    /// variances of their inputs are well above it.
    ///
    /// # Errors
    /// [`WiringError::Mismatch`] with the layer's name; [`WiringError::Random`] where outputs differ from one forward pass to
    /// the next; or the model does not fit the wiring.
    pub fn verify<M: Module, const D: usize>(
        &self,
        model: &M,
        forward: impl Fn(&M) -> Tensor<D>,
    ) -> Result<(), Error> {
        let model = &match self.followers.is_empty() {
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
            return Err(WiringError::Random.into());
        }
        let all: Vec<ScaleClass> = self.hidden_classes().collect();
        let change = |classes: &[ScaleClass]| -> Result<f64, Error> {
            let rescaled = self
                .some(classes)
                .apply(model.clone(), self)
                .map_err(|Rejected { error, .. }| error)?;
            Ok(difference(values(forward(&rescaled))))
        };
        let together = change(&all)?;
        if agrees(together) {
            return Ok(());
        }
        let mismatch = |class: ScaleClass, difference: f64| {
            let end = self.writers[class.index()][0];
            Error::from(WiringError::Mismatch {
                layer: self.edges[end.param].name.clone(),
                difference,
                scale,
            })
        };
        let same_layer =
            |a: &ScaleClass, b: &ScaleClass| self.ord_in[a.index()] == self.ord_in[b.index()];
        for layer in all.chunk_by(same_layer) {
            let difference = change(layer)?;
            if !agrees(difference) {
                return Err(mismatch(layer[0], difference));
            }
        }
        Err(mismatch(all[0], together))
    }

    /// Random powers of two for some classes, 1 for the others.
    fn some(&self, classes: &[ScaleClass]) -> Scaling {
        let random = Scaling::powers_of_two(self, 3, 0x5eed);
        let factor = |class: ScaleClass| match random.factor(class) {
            1.0 => 2.0,
            other => other,
        };
        let mut scaling = Scaling::identity(self);
        for &class in classes {
            scaling.set(class, factor(class));
        }
        scaling
    }
}

fn values<const D: usize>(output: Tensor<D>) -> Vec<f64> {
    output.into_data().iter::<f64>().collect()
}
