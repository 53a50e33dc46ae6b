//! Balanced SGD, for comparison.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;

use super::Unwired;
use super::scaled::Scaled;
use crate::error::{Error, Rejected};
use crate::kernels::Entries;
use crate::network::Update;
use crate::rescale::{Balance, balancing};
use crate::wiring::{Homogeneous, Wiring};

/// SGD on the balanced representative: every step balances the network, then descends from there.
///
/// Under a scaling c the gradient of weight e becomes `g c[tail] / c[head]`, so weights and gradients are carried to
/// the balanced representative together and no second backward pass is needed (equi-normalisation at every step,
/// Stock et al. 2019). Balancing once and then using any optimiser is [`balance`](crate::balance) alone.
#[derive(Debug, Clone)]
pub struct BalancedSgd {
    network: Scaled,
    until: Balance,
}

impl BalancedSgd {
    /// Balanced SGD on `model`; `until` says how well it is balanced at every step.
    ///
    /// # Errors
    /// The wiring does not fit, or leaves parameters out and `unwired` refuses that.
    pub fn init<M: Module + Homogeneous>(
        model: &M,
        until: Balance,
        unwired: Unwired,
    ) -> Result<Self, Error> {
        Ok(Self {
            network: Scaled::init(model, unwired)?,
            until,
        })
    }

    /// The wiring the optimiser works on.
    pub fn wiring(&self) -> &Wiring {
        &self.network.wiring
    }

    /// Balancing, then a plain SGD step; parameters outside the wiring take a plain SGD step.
    ///
    /// # Errors
    /// A missing or non-finite gradient, a changed shape. The model comes back as it was.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let until = self.until;
        self.network
            .step(lr.into(), model, grads, |network, rates| {
                let c = balancing(network, until)?.scaling;
                let factors = rates.iter().enumerate().map(|(param, lr)| {
                    Ok(Update {
                        of_weights: network.lines(
                            param,
                            |tail| 1.0 / c.factor(tail),
                            |head| c.factor(head),
                        )?,
                        of_other: network.lines(
                            param,
                            |tail| -lr * c.factor(tail),
                            |head| 1.0 / c.factor(head),
                        )?,
                        fixed: Entries::default(),
                    })
                });
                factors.collect()
            })
    }
}
