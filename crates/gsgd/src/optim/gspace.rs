//! The optimiser that works on path values.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::Tensor;
use gsgd_core::chart::Chart;
use gsgd_core::scales::ScaleGraph;
use gsgd_core::{Moments, PathSpace};

use super::gradients::{self, Matrices};
use crate::error::{Error, Rejected};
use crate::matrix::{BurnMatrix, Execution};
use crate::params;
use crate::skeleton::SkeletonTree;

/// What steps the path values.
#[derive(Clone)]
pub(super) enum Inner {
    /// `v <- v - lr dL/dv`, fused with the change of coordinates.
    Descent,
    /// Momentum or Adam, fused too; and the same rule as one of Burn's optimisers, for what is outside the graph and for
    /// coordinates that take sums of all moved values.
    Moments(Moments<BurnMatrix>, ModuleOptimizer),
    /// A Burn optimiser, handed path values for weights.
    Lifted(ModuleOptimizer),
}

/// An optimiser in the positively scale-invariant space; made by [`GSpaceConfig`](crate::GSpaceConfig).
///
/// Each step reads sums, O(H) of them, from the weights and gradients of all layers but the first, changes coordinates from
/// (w, dL/dw) to (v, dL/dv), lets the inner optimiser step v, and allocates the new path values back to the weights. For
/// G-SGD the last three are one pass. G-momentum and G-Adam read all once more before theirs, to know that every number
/// will be finite. (With batch norm these two take a pass for each.) Between steps it keeps O(H) numbers besides the inner
/// optimiser's state.
///
/// dL/dv is right for any gradient, also for one that is not that of a loss of the network's outputs: with a penalty on
/// some weights, masked, or clipped. (A penalty on path values belongs into the inner optimiser: it is scale-invariant.)
///
/// The function's trajectory does not depend on how the network is scaled.
#[derive(Clone)]
pub struct GSpace {
    pub(super) space: PathSpace,
    pub(super) inner: Inner,
    execution: Execution,
}

impl GSpace {
    pub(super) fn new(space: PathSpace, inner: Inner, execution: Execution) -> Self {
        Self {
            space,
            inner,
            execution,
        }
    }

    /// The scale graph the optimiser works on.
    pub fn scale_graph(&self) -> &ScaleGraph {
        self.space.graph()
    }

    /// The skeleton, where the coordinates have one.
    pub fn skeleton(&self) -> Option<&SkeletonTree> {
        match self.space.chart() {
            Chart::Path(chart) => Some(chart.tree()),
            Chart::Norm(_) => None,
        }
    }

    /// One step on `model` with gradients of its weights.
    ///
    /// `lr` is a number or Burn's [`ModuleLearningRate`] with one per parameter group. Parameters outside the scale graph
    /// are stepped in weight space (see [`Outside`](crate::Outside)). An lr of 0 holds path values, not weights: they follow
    /// those of other layers. To hold the weights of a layer, freeze it (`set_require_grad(false)`) before the optimiser is
    /// made.
    ///
    /// # Errors
    /// A missing or non-finite gradient, a changed shape, a zero skeleton weight, a step into a pole or out of the weights'
    /// range. The model comes back as it was, and moments and the number of steps are as they were.
    ///
    /// # Panics
    /// As Burn's optimisers do, if `lr` has no group that matches a parameter.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        mut grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let lr = lr.into();
        if let Inner::Lifted(_) = self.inner {
            return self.lift(lr, model, grads);
        }
        let moved = match self.fused(&lr, &model, &mut grads) {
            Ok(moved) => moved,
            Err(error) => return Err(Rejected::new(model, error)),
        };
        let model = params::replace(model, self.space.graph(), moved);
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(match &mut self.inner {
            Inner::Moments(_, burn) => burn.step(lr, model, grads),
            _ => SgdConfig::new().init().step(lr, model, grads),
        })
    }

    /// The new weights of the graph's parameters, whose gradients are taken out of `grads`.
    fn fused<M: Module>(
        &mut self,
        lr: &ModuleLearningRate,
        model: &M,
        grads: &mut GradientsParams,
    ) -> Result<Vec<BurnMatrix>, Error> {
        let graph = self.space.graph();
        let rates = gradients::rates(lr, graph)?;
        let Matrices { weights, gradients } = gradients::take(model, graph, self.execution, grads)?;
        Ok(match &mut self.inner {
            Inner::Moments(moments, _) => {
                self.space.advance(moments, &weights, gradients, &rates)?
            }
            _ => self.space.descend(&weights, gradients, &rates)?,
        })
    }

    /// A step of one of Burn's optimisers on a model with path values in place of its weights.
    fn lift<M: Module>(
        &mut self,
        lr: ModuleLearningRate,
        model: M,
        mut grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let Inner::Lifted(optim) = &self.inner else {
            unreachable!("others are fused");
        };
        let (graph, execution) = (self.space.graph(), self.execution);
        let mut optim = optim.clone();
        let step = |grads: &mut GradientsParams| {
            gradients::rates(&lr, graph)?;
            let Matrices { weights, gradients } = gradients::take(&model, graph, execution, grads)?;
            let (mut pairs, lifted) = self.space.lift(&weights, gradients)?;
            self.space.clip(&mut pairs);
            let (values, gradients): (Vec<BurnMatrix>, Vec<BurnMatrix>) = pairs.into_iter().unzip();
            for (edges, gradient) in graph.edges().iter().zip(gradients) {
                params::register(grads, edges, gradient);
            }
            let in_path_space = params::replace(model.clone(), graph, values);
            let moved = optim.step(lr, in_path_space, std::mem::take(grads));
            let (rest, values) = params::take_out(moved, graph, execution);
            Ok::<M, Error>(params::replace(rest, graph, lifted.lower(values)?))
        };
        match step(&mut grads) {
            Ok(model) => {
                self.inner = Inner::Lifted(optim);
                Ok(model)
            }
            Err(error) => Err(Rejected::new(model, error)),
        }
    }

    /// Path values and their gradients, one matrix `[rows, columns]` per entry of [`ScaleGraph::edges`].
    ///
    /// Entries of skeleton weights that are held fixed are 0 in both: they have no basis path. Gradients are not
    /// clipped.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn path_space<M: Module>(
        &self,
        model: &M,
        mut grads: GradientsParams,
    ) -> Result<Vec<(Tensor<2>, Tensor<2>)>, Error> {
        let Matrices { weights, gradients } =
            gradients::take(model, self.space.graph(), self.execution, &mut grads)?;
        let (pairs, _) = self.space.lift(&weights, gradients)?;
        let tensors = pairs.into_iter().map(|(v, g)| (v.into(), g.into()));
        Ok(tensors.collect())
    }
}
