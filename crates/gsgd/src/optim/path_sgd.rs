//! Path-SGD, for comparison.

use std::collections::HashMap;

use burn::module::{Module, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, SgdConfig};

use super::{Unwired, gradients};
use crate::coordinates::Network;
use crate::error::{Error, Rejected};
use crate::kernels::{Arithmetic, Lines, Power};
use crate::params;
use crate::paths::PathSums;
use crate::wiring::{Homogeneous, Wiring};

/// Path-SGD with p = 2 (Neyshabur, Salakhutdinov and Srebro 2015): `w <- w - lr g / kappa`.
///
/// `kappa_e` is the derivative of the squared path norm with respect to `w_e^2`: the sum over paths up to the tail,
/// times the sum over paths from the head, of squared path values without e. It is a product of a row and a column
/// factor, computed at every step from the weights alone, without a forward or backward pass of the network. A weight
/// that no path with a non-zero value passes (kappa = 0) also has gradient 0 and stays.
///
/// Invariant to rescaling, but only to first order in lr the steepest descent of the path norm's geometry.
#[derive(Debug, Clone)]
pub struct PathSgd {
    wiring: Wiring,
    slots: HashMap<ParamId, usize>,
    how: Arithmetic,
}

impl PathSgd {
    /// Path-SGD on `model`.
    ///
    /// # Errors
    /// The wiring does not fit, or leaves parameters out and `unwired` refuses that.
    pub fn init<M: Module + Homogeneous>(model: &M, unwired: Unwired) -> Result<Self, Error> {
        let wiring = unwired.wiring(model)?;
        Ok(Self {
            slots: params::slots(&wiring),
            wiring,
            how: Arithmetic::Streamed,
        })
    }

    /// The wiring the optimiser works on.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// One step; parameters outside the wiring take a plain SGD step.
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
            Ok((lines(network, &rates)?, gradients))
        };
        let (lines, gradients) = match prepare(&mut grads) {
            Ok(prepared) => prepared,
            Err(error) => return Err(Rejected { model, error }),
        };
        let mut gradients: Vec<_> = gradients.into_iter().map(Some).collect();
        let model = params::map(model, &self.wiring, &self.slots, |slot, w| {
            let [rows, columns] = w.dims();
            let keep = Lines {
                rows: vec![1.0; rows],
                columns: vec![1.0; columns],
            };
            let g = gradients[slot].take().expect("a parameter is mapped once");
            self.how.combine(w, &keep, g, &lines[slot])
        });
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(SgdConfig::new().init().step(lr, model, grads))
    }
}

/// `-lr / kappa`, by row and column of every parameter.
fn lines(network: Network, rates: &[f64]) -> Result<Vec<Lines>, Error> {
    let sums = PathSums::forward(network, Power::Two);
    let around = sums.around(network, Power::Two);
    let inverse = |sum: &f64| if *sum == 0.0 { 0.0 } else { 1.0 / sum };
    let all = around
        .iter()
        .zip(rates)
        .enumerate()
        .map(|(slot, ((to, from), lr))| {
            let rows = to.iter().map(|sum| -lr * inverse(sum)).collect();
            let columns = from.iter().map(inverse).collect();
            Lines::fit(rows, columns, network.weights[slot].dtype()).ok_or_else(|| {
                Error::OutOfRange {
                    name: network.wiring.edges[slot].name.clone(),
                }
            })
        });
    all.collect()
}
