//! Path-SGD, for comparison.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use gsgd_core::graph::Graph;
use gsgd_core::paths::{path_sgd, path_sgd_takes};
use gsgd_core::scales::ScaleGraph;

use super::Outside;
use super::weight_space::WeightSpace;
use crate::error::{Error, Rejected};

/// Path-SGD with p = 2 (Neyshabur, Salakhutdinov and Srebro 2015): `w <- w - lr g / kappa`; see [`path_sgd`].
///
/// kappa is computed at every step from the weights alone, without a forward or backward pass of the network. Invariant to
/// rescaling, but only to first order in lr the steepest descent of the path norm's geometry.
#[derive(Debug, Clone)]
pub struct PathSgd {
    space: WeightSpace,
}

impl PathSgd {
    /// Path-SGD on the network of this graph (see [`capture`](crate::capture)).
    ///
    /// # Errors
    /// The scale graph does not fit, has a batch norm or frozen parameters, or leaves parameters out and `outside` refuses
    /// that.
    pub fn init(graph: &Graph, outside: Outside) -> Result<Self, Error> {
        let space = WeightSpace::init(graph, outside)?;
        path_sgd_takes(&space.graph)?;
        Ok(Self { space })
    }

    /// The scale graph the optimiser works on.
    pub fn scale_graph(&self) -> &ScaleGraph {
        &self.space.graph
    }

    /// One step; parameters outside the graph take a plain SGD step.
    ///
    /// # Errors
    /// A missing or non-finite gradient, a changed shape. The model comes back as it was.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        self.space.step(lr.into(), model, grads, path_sgd)
    }
}
