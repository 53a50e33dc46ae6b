//! Balanced SGD, for comparison.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, SgdConfig};

use super::gradients;
use crate::error::{Error, Rejected};
use crate::rescale::{Balance, balance};
use crate::wiring::{Homogeneous, Wiring};

/// SGD that brings the network back to its balanced representative after every step (Stock et al. 2019).
///
/// Balance first with [`balance`](crate::balance) to make the first gradient that of a balanced network too;
/// balancing once and then using any optimiser is that call alone.
#[derive(Debug, Clone)]
pub struct BalancedSgd {
    wiring: Wiring,
    until: Balance,
}

impl BalancedSgd {
    /// Balanced SGD on `model`; `until` says how well it is balanced at every step.
    ///
    /// # Errors
    /// The wiring does not fit.
    pub fn init<M: Module + Homogeneous>(model: &M, until: Balance) -> Result<Self, Error> {
        Ok(Self {
            wiring: Wiring::of(model)?,
            until,
        })
    }

    /// The wiring the optimiser works on.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// A plain SGD step on all parameters, then balancing.
    ///
    /// # Errors
    /// lr or model do not fit, and the model comes back as it was; or the stepped weights cannot be balanced (they
    /// are not finite), and the stepped model comes back.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let lr = lr.into();
        if let Err(error) = gradients::rates(&lr, &self.wiring) {
            return Err(Rejected { model, error });
        }
        let model = SgdConfig::new().init().step(lr, model, grads);
        Ok(balance(model, &self.wiring, self.until)?.0)
    }
}
