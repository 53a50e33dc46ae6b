//! Steps in weight space that are computed on the scale graph: what Path-SGD and balanced SGD share.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, SgdConfig};
use gsgd_core::Network;
use gsgd_core::graph::Graph;
use gsgd_core::scales::{ScaleGraph, ScaleGraphConfig};

use super::Outside;
use super::gradients::{self, Matrices};
use crate::error::{Error, Rejected};
use crate::matrix::{BurnMatrix, Execution};
use crate::params;

/// A model's scale graph with what a step in weight space needs.
#[derive(Debug, Clone)]
pub(super) struct WeightSpace {
    pub graph: ScaleGraph,
}

impl WeightSpace {
    pub fn init(graph: &Graph, outside: Outside) -> Result<Self, Error> {
        let graph = outside.scales(ScaleGraphConfig::default(), graph)?;
        Ok(Self { graph })
    }

    /// The new weights that `step(network, gradients, lr by parameter)` gives; parameters outside the graph take a plain SGD
    /// step.
    pub fn step<M: Module>(
        &self,
        lr: ModuleLearningRate,
        model: M,
        mut grads: GradientsParams,
        step: impl FnOnce(
            Network<BurnMatrix>,
            Vec<BurnMatrix>,
            &[f64],
        ) -> Result<Vec<BurnMatrix>, gsgd_core::Error>,
    ) -> Result<M, Rejected<M>> {
        let graph = &self.graph;
        let prepare = |grads: &mut GradientsParams| {
            let rates = gradients::rates(&lr, graph)?;
            let Matrices { weights, gradients } =
                gradients::take(&model, graph, Execution::Fused, grads)?;
            let weights = &weights;
            Ok::<_, Error>(step(Network { graph, weights }, gradients, &rates)?)
        };
        let moved = match prepare(&mut grads) {
            Ok(moved) => moved,
            Err(error) => return Err(Rejected::new(model, error)),
        };
        let model = params::replace(model, graph, moved);
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(SgdConfig::new().init().step(lr, model, grads))
    }
}
