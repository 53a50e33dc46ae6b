//! Balanced SGD, for comparison.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use gsgd_core::graph::Graph;
use gsgd_core::rescale::{Balance, balanced_sgd};
use gsgd_core::scales::ScaleGraph;

use super::Outside;
use super::weight_space::WeightSpace;
use crate::error::{Error, Rejected};

/// SGD on the balanced representative: every step balances the network, then descends from there; see
/// [`balanced_sgd`]. Balancing once and then using any optimiser is [`balance`](crate::rescale::balance) alone.
#[derive(Debug, Clone)]
pub struct BalancedSgd {
    space: WeightSpace,
    until: Balance,
}

impl BalancedSgd {
    /// Balanced SGD on the network of this graph (see [`capture`](crate::capture)); `until` says how well it is balanced at every step.
    ///
    /// # Errors
    /// The scale graph does not fit, or leaves parameters out and `outside` refuses that.
    pub fn init(graph: &Graph, until: Balance, outside: Outside) -> Result<Self, Error> {
        let space = WeightSpace::init(graph, outside)?;
        Ok(Self { space, until })
    }

    /// The scale graph the optimiser works on.
    pub fn scale_graph(&self) -> &ScaleGraph {
        &self.space.graph
    }

    /// Balancing, then a plain SGD step; parameters outside the graph take a plain SGD step.
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
        self.space
            .step(lr.into(), model, grads, |network, gradients, lr| {
                balanced_sgd(network, gradients, lr, until)
            })
    }
}
