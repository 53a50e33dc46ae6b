//! SGD steps in weight space with factors per row and column: what Path-SGD and balanced SGD share.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, SgdConfig};

use super::Unwired;
use super::gradients::{self, Matrices};
use crate::error::{Error, Rejected};
use crate::kernels::Execution;
use crate::network::{Network, Update};
use crate::params;
use crate::wiring::{Homogeneous, Wiring, WiringConfig};

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
        plan: impl FnOnce(Network, &[f64]) -> Result<Vec<Update<'static>>, Error>,
    ) -> Result<M, Rejected<M>> {
        let execution = Execution::Fused;
        let prepare = |grads: &mut GradientsParams| {
            let rates = gradients::rates(&lr, &self.wiring)?;
            let Matrices { weights, gradients } =
                gradients::take(&model, &self.wiring, execution, grads)?;
            let network = Network {
                wiring: &self.wiring,
                weights: &weights,
            };
            let updates = plan(network, &rates)?;
            network.updated(gradients, updates)
        };
        let moved = match prepare(&mut grads) {
            Ok(moved) => moved,
            Err(error) => return Err(Rejected { model, error }),
        };
        let model = params::replace(model, &self.wiring, moved);
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(SgdConfig::new().init().step(lr, model, grads))
    }
}
