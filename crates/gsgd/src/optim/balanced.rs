//! Balanced SGD, for comparison.

use std::collections::HashMap;

use burn::module::{Module, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, SgdConfig};

use super::{Unwired, gradients};
use crate::coordinates::Network;
use crate::error::{Error, Rejected};
use crate::kernels::Arithmetic;
use crate::params;
use crate::rescale::{Balance, balancing};
use crate::wiring::{Homogeneous, Wiring};

/// SGD on the balanced representative: every step balances the network, then descends from there.
///
/// Under a scaling c the gradient of weight e becomes `g c[tail] / c[head]`, so weights and gradients are carried to
/// the balanced representative together and no second backward pass is needed (equi-normalisation at every step,
/// Stock et al. 2019). Balancing once and then using any optimiser is [`balance`](crate::balance) alone.
#[derive(Debug, Clone)]
pub struct BalancedSgd {
    wiring: Wiring,
    slots: HashMap<ParamId, usize>,
    until: Balance,
    how: Arithmetic,
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
        let wiring = unwired.wiring(model)?;
        Ok(Self {
            slots: params::slots(&wiring),
            wiring,
            until,
            how: Arithmetic::Streamed,
        })
    }

    /// The wiring the optimiser works on.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Balancing, then a plain SGD step; parameters outside the wiring take a plain SGD step.
    ///
    /// # Errors
    /// A missing or non-finite gradient, a changed shape. The model comes back as it was.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        mut grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let lr = lr.into();
        let prepare = |grads: &mut GradientsParams| {
            let rates = gradients::rates(&lr, &self.wiring)?;
            let weights = params::read(&model, &self.wiring)?;
            let gradients = gradients::take(&model, &self.wiring, &self.slots, grads)?;
            let network = Network {
                wiring: &self.wiring,
                weights: &weights,
                how: self.how,
            };
            gradients::check_finite(network, &gradients)?;
            let c = balancing(network, self.until)?.scaling;
            let lines = rates.iter().enumerate().map(|(slot, lr)| {
                Ok((
                    network.lines(slot, |tail| 1.0 / c.factor(tail), |head| c.factor(head))?,
                    network.lines(
                        slot,
                        |tail| -lr * c.factor(tail),
                        |head| 1.0 / c.factor(head),
                    )?,
                ))
            });
            Ok((lines.collect::<Result<Vec<_>, Error>>()?, gradients))
        };
        let (lines, gradients) = match prepare(&mut grads) {
            Ok(prepared) => prepared,
            Err(error) => return Err(Rejected { model, error }),
        };
        let mut gradients: Vec<_> = gradients.into_iter().map(Some).collect();
        let model = params::map(model, &self.wiring, &self.slots, |slot, w| {
            let g = gradients[slot].take().expect("a parameter is mapped once");
            let (of_weights, of_gradient) = &lines[slot];
            self.how.combine(w, of_weights, g, of_gradient)
        });
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(SgdConfig::new().init().step(lr, model, grads))
    }
}
