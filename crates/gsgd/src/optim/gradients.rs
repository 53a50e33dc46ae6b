//! Learning rates and gradients of a step, checked before anything is written.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;

use crate::error::Error;
use crate::kernels::{Execution, Matrix};
use crate::params;
use crate::wiring::Wiring;

/// The lr of every wired parameter.
pub(super) fn rates(lr: &ModuleLearningRate, wiring: &Wiring) -> Result<Vec<f64>, Error> {
    let rates = wiring.edges.iter().map(|edges| {
        let lr = lr.lr_from_param(edges.id, Some(&edges.name));
        check_rate(lr).map(|()| lr)
    });
    rates.collect()
}

pub(super) fn check_rate(lr: f64) -> Result<(), Error> {
    if lr.is_finite() && lr >= 0.0 {
        Ok(())
    } else {
        Err(Error::LearningRate { lr })
    }
}

/// The wired parameters' weights and gradients as matrices, from one visit of the model.
pub(super) struct Matrices {
    pub weights: Vec<Matrix>,
    pub gradients: Vec<Matrix>,
}

impl Matrices {
    /// In the order of the wiring, from the order of a visit.
    fn sorted(self, order: &[usize], wiring: &Wiring) -> Result<Self, Error> {
        let mut weights: Vec<Option<Matrix>> = vec![None; wiring.edges.len()];
        let mut gradients = weights.clone();
        for ((&place, w), g) in order.iter().zip(self.weights).zip(self.gradients) {
            (weights[place], gradients[place]) = (Some(w), Some(g));
        }
        let missing = |name| Error::MissingParameter { name };
        Ok(Self {
            weights: params::all(weights, wiring, missing)?,
            gradients: params::all(gradients, wiring, missing)?,
        })
    }
}

/// Takes the gradients of the wired parameters out of `grads`; those of unwired ones stay, checked.
///
/// # Errors
/// A parameter is missing; a gradient is missing, has another shape than in the wiring or, for an unwired one, is not
/// finite. (Wired ones are checked by the sums that a step needs anyway.)
pub(super) fn take<M: Module>(
    model: &M,
    wiring: &Wiring,
    execution: Execution,
    grads: &mut GradientsParams,
) -> Result<Matrices, Error> {
    let count = wiring.edges.len();
    let mut taker = Taker {
        wiring,
        execution,
        grads,
        order: Vec::with_capacity(count),
        found: Matrices {
            weights: Vec::with_capacity(count),
            gradients: Vec::with_capacity(count),
        },
        error: None,
    };
    model.visit(&mut taker);
    if let Some(error) = taker.error {
        return Err(error);
    }
    let Taker { order, found, .. } = taker;
    match order.iter().copied().eq(0..count) {
        true => Ok(found),
        false => found.sorted(&order, wiring),
    }
}

struct Taker<'a> {
    wiring: &'a Wiring,
    execution: Execution,
    grads: &'a mut GradientsParams,
    /// Which parameters were found, in the order of the visit, and their matrices.
    order: Vec<usize>,
    found: Matrices,
    error: Option<Error>,
}

impl ModuleVisitor for Taker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(place) = self.wiring.param(param.id) {
            let taken = self.take(place, param);
            return taken.unwrap_or_else(|error| self.fail(error));
        }
        if let Some(name) = self.wiring.frozen_name(param.id) {
            if self.grads.get::<D>(param.id).is_some() {
                let name = name.into();
                self.fail(Error::Unfrozen { name });
            }
            return;
        }
        let mut followers = self.wiring.followers.iter();
        if followers.any(|follower| follower.id == param.id) {
            // a bias that batch norm takes away again: left alone
            self.grads.remove::<D>(param.id);
            return;
        }
        let unwired = self.wiring.unwired_parameters();
        let Some((_, name)) = unwired.iter().find(|(id, _)| *id == param.id) else {
            return;
        };
        match self.grads.get::<D>(param.id) {
            None => self.fail(Error::MissingGradient { name: name.clone() }),
            Some(gradient) => {
                if !gradient.sum().into_scalar::<f64>().is_finite() {
                    self.fail(Error::NonFiniteGradient { name: name.clone() });
                }
            }
        }
    }
}

impl Taker<'_> {
    fn take<const D: usize>(
        &mut self,
        place: usize,
        param: &Param<Tensor<D>>,
    ) -> Result<(), Error> {
        let edges = &self.wiring.edges[place];
        let Matrices { weights, gradients } = &mut self.found;
        weights.push(params::matrix(param.val(), edges, self.execution)?);
        let Some(gradient) = self.grads.remove::<D>(param.id) else {
            let name = edges.name.clone();
            return Err(Error::MissingGradient { name });
        };
        gradients.push(params::matrix(gradient, edges, self.execution)?);
        self.order.push(place);
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}
