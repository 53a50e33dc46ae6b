//! Path-SGD, for comparison.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;

use super::Unwired;
use super::scaled::Scaled;
use crate::error::{Error, Rejected};
use crate::kernels::{Entries, Power};
use crate::network::{Network, Update};
use crate::paths::PathSums;
use crate::wiring::{Homogeneous, Kind, Wiring};

/// Path-SGD with p = 2 (Neyshabur, Salakhutdinov and Srebro 2015): `w <- w - lr g / kappa`.
///
/// `kappa_e` is the derivative of the squared path norm with respect to `w_e^2`: the sum over paths up to the tail,
/// times the sum over paths from the head, of squared path values without e. It is a product of a tail and a head
/// factor, computed at every step from the weights alone, without a forward or backward pass of the network. A weight
/// that no path with a non-zero value passes (kappa = 0) also has gradient 0 and stays.
///
/// Invariant to rescaling, but only to first order in lr the steepest descent of the path norm's geometry.
#[derive(Debug, Clone)]
pub struct PathSgd {
    network: Scaled,
}

impl PathSgd {
    /// Path-SGD on `model`.
    ///
    /// # Errors
    /// The wiring does not fit, has a batch norm or frozen parameters, or leaves parameters out and `unwired` refuses that.
    pub fn init<M: Module + Homogeneous>(model: &M, unwired: Unwired) -> Result<Self, Error> {
        let network = Scaled::init(model, unwired)?;
        let wiring = &network.wiring;
        wiring.refuse_frozen("Path-SGD")?;
        if wiring
            .classes()
            .any(|class| wiring.kind(class) == Kind::Sink)
        {
            return Err(Error::BatchNorm {
                tool: "Path-SGD",
                reason: "no path leads through it, so weights before it have no path norm to divide by",
            });
        }
        Ok(Self { network })
    }

    /// The wiring the optimiser works on.
    pub fn wiring(&self) -> &Wiring {
        &self.network.wiring
    }

    /// One step; parameters outside the wiring take a plain SGD step.
    ///
    /// # Errors
    /// A missing or non-finite gradient, a changed shape. The model comes back as it was.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        self.network.step(lr.into(), model, grads, factors)
    }
}

/// `w' = w - lr / kappa g`, by tail and head of every parameter.
fn factors(network: Network, rates: &[f64]) -> Result<Vec<Update<'static>>, Error> {
    let sums = PathSums::forward(network, Power::Two);
    let around = sums.around(network, Power::Two);
    let inverse = |sum: &f64| if *sum == 0.0 { 0.0 } else { 1.0 / sum };
    let parameters = around.iter().zip(rates).enumerate();
    let factors = parameters.map(|(param, ((to, from), lr))| {
        let tails: Vec<f64> = to.iter().map(|sum| -lr * inverse(sum)).collect();
        let heads: Vec<f64> = from.iter().map(inverse).collect();
        Ok(Update {
            of_weights: network.lines(param, |_| 1.0, |_| 1.0)?,
            of_other: network.fit(param, tails, heads)?,
            fixed: Entries::default(),
        })
    });
    factors.collect()
}
