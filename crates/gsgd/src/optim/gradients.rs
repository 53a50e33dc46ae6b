//! Learning rates and gradients of a step, checked before anything is written.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;
use gsgd_core::scales::ScaleGraph;

use crate::error::Error;
use crate::matrix::{BurnMatrix, Execution};
use crate::params::{self, key};

/// The lr of every parameter of the graph.
pub(super) fn rates(lr: &ModuleLearningRate, graph: &ScaleGraph) -> Result<Vec<f64>, Error> {
    let rates = graph.edges().iter().map(|edges| {
        let lr = lr.lr_from_param(params::id(edges), Some(edges.name()));
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

/// Weights and gradients of the graph's parameters as matrices, from one visit of the model.
pub(super) struct Matrices {
    pub weights: Vec<BurnMatrix>,
    pub gradients: Vec<BurnMatrix>,
}

impl Matrices {
    /// In the order of the graph, from the order of a visit.
    fn sorted(self, order: &[usize], graph: &ScaleGraph) -> Result<Self, Error> {
        let mut weights: Vec<Option<BurnMatrix>> = vec![None; graph.edges().len()];
        let mut gradients = weights.clone();
        for ((&place, w), g) in order.iter().zip(self.weights).zip(self.gradients) {
            (weights[place], gradients[place]) = (Some(w), Some(g));
        }
        let missing = |name| Error::MissingParameter { name };
        Ok(Self {
            weights: params::all(weights, graph, missing)?,
            gradients: params::all(gradients, graph, missing)?,
        })
    }
}

/// Takes the gradients of the graph's parameters out of `grads`; those of others stay, checked.
///
/// # Errors
/// A parameter is missing; a gradient is missing, has another shape than in the graph or, for one outside, is not
/// finite. (Those of the graph are checked by the sums that a step needs anyway.)
pub(super) fn take<M: Module>(
    model: &M,
    graph: &ScaleGraph,
    execution: Execution,
    grads: &mut GradientsParams,
) -> Result<Matrices, Error> {
    let count = graph.edges().len();
    let mut taker = Taker {
        graph,
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
        false => found.sorted(&order, graph),
    }
}

struct Taker<'a> {
    graph: &'a ScaleGraph,
    execution: Execution,
    grads: &'a mut GradientsParams,
    /// Which parameters were found, in the order of the visit, and their matrices.
    order: Vec<usize>,
    found: Matrices,
    error: Option<Error>,
}

impl ModuleVisitor for Taker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(place) = self.graph.param(key(param.id)) {
            let taken = self.take(place, param);
            return taken.unwrap_or_else(|error| self.fail(error));
        }
        if let Some(name) = self.graph.frozen_name(key(param.id)) {
            if self.grads.get::<D>(param.id).is_some() {
                let name = name.into();
                self.fail(Error::Unfrozen { name });
            }
            return;
        }
        let mut co_scaled = self.graph.co_scaled().iter();
        if co_scaled.any(|tensor| tensor.key() == key(param.id)) {
            // a bias that batch norm takes away again: left alone
            self.grads.remove::<D>(param.id);
            return;
        }
        let mut outside = self.graph.outside().iter();
        let Some((_, name)) = outside.find(|(other, _)| *other == key(param.id)) else {
            return;
        };
        match self.grads.get::<D>(param.id) {
            None => self.fail(Error::MissingGradient { name: name.clone() }),
            Some(gradient) => {
                if !gradient.sum().into_scalar::<f64>().is_finite() {
                    let name = name.clone();
                    self.fail(gsgd_core::Error::NonFiniteGradient { name }.into());
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
        let edges = &self.graph.edges()[place];
        let Matrices { weights, gradients } = &mut self.found;
        let weight = param.val();
        let dtype = weight.dtype();
        weights.push(params::matrix(weight, edges, self.execution)?);
        let Some(gradient) = self.grads.remove::<D>(param.id) else {
            let name = edges.name().to_string();
            return Err(Error::MissingGradient { name });
        };
        if gradient.dtype() != dtype {
            return Err(Error::GradientType {
                name: edges.name().to_string(),
                expected: format!("{dtype:?}"),
                found: format!("{:?}", gradient.dtype()),
            });
        }
        gradients.push(params::matrix(gradient, edges, self.execution)?);
        self.order.push(place);
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}
