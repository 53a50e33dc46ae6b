//! SGD steps in weight space with factors per row and column: what Path-SGD and balanced SGD share.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, SgdConfig};

use super::Unwired;
use super::gradients::{self, Matrices};
use crate::coordinates::Network;
use crate::error::{Error, Rejected};
use crate::kernels::{Arithmetic, Entries, Lines, Matrix};
use crate::params;
use crate::wiring::{Homogeneous, Wiring, WiringConfig};

/// Factors of weights and gradient in `w' = a w + b g`, for one parameter.
pub(super) struct Factors {
    pub of_weights: Lines,
    pub of_gradient: Lines,
}

/// A model's wiring with what a step in weight space needs.
#[derive(Debug, Clone)]
pub(super) struct Scaled {
    pub wiring: Wiring,
}

impl Scaled {
    pub fn init<M: Module + Homogeneous>(model: &M, unwired: Unwired) -> Result<Self, Error> {
        let wiring = unwired.wiring(WiringConfig::default(), model)?;
        Ok(Self { wiring })
    }

    /// `w' = a w + b g` with the factors of `plan(network, lr by parameter)`; parameters outside the wiring take a
    /// plain SGD step.
    pub fn step<M: Module>(
        &self,
        lr: ModuleLearningRate,
        model: M,
        mut grads: GradientsParams,
        plan: impl FnOnce(Network, &[f64]) -> Result<Vec<Factors>, Error>,
    ) -> Result<M, Rejected<M>> {
        let how = Arithmetic::Streamed;
        let prepare = |grads: &mut GradientsParams| {
            let rates = gradients::rates(&lr, &self.wiring)?;
            let Matrices { weights, gradients } =
                gradients::take(&model, &self.wiring, how, grads)?;
            let network = Network {
                wiring: &self.wiring,
                weights: &weights,
            };
            gradients::check_finite(network, &gradients)?;
            Ok((plan(network, &rates)?, gradients))
        };
        let (factors, gradients) = match prepare(&mut grads) {
            Ok(prepared) => prepared,
            Err(error) => return Err(Rejected { model, error }),
        };
        let mut gradients: Vec<_> = gradients.into_iter().map(Some).collect();
        let model = params::map(model, &self.wiring, how, |slot, w: Matrix| {
            let g = gradients[slot].take().expect("a parameter is mapped once");
            let Factors {
                of_weights,
                of_gradient,
            } = &factors[slot];
            w.combine(of_weights, &g, of_gradient, &Entries::default())
        });
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(SgdConfig::new().init().step(lr, model, grads))
    }
}
