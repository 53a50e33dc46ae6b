//! The optimiser that works on path values.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::Tensor;

use super::gradients::{self, Matrices};
use super::moments::Moments;
use crate::chart::{Chart, Frame};
use crate::error::{Error, Rejected};
use crate::kernels::{Execution, Matrix, first_false, read_all};
use crate::network::{Network, Update};
use crate::params;
use crate::skeleton::Tree;
use crate::wiring::Wiring;

/// What steps the path values.
#[derive(Clone)]
pub(super) enum Inner {
    /// `v <- v - lr dL/dv`, fused with the change of coordinates.
    Descent,
    /// Momentum or Adam, fused likewise.
    Moments(Moments),
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
    space: Space,
    pub(super) inner: Inner,
}

/// The change of coordinates, without what steps them.
#[derive(Clone)]
struct Space {
    wiring: Wiring,
    chart: Chart,
    clip_norm: Option<f64>,
    execution: Execution,
}

impl GSpace {
    pub(super) fn new(
        wiring: Wiring,
        chart: Chart,
        inner: Inner,
        clip_norm: Option<f64>,
        execution: Execution,
    ) -> Self {
        let space = Space {
            wiring,
            chart,
            clip_norm,
            execution,
        };
        Self { space, inner }
    }

    pub(super) fn chart(&self) -> &Chart {
        &self.space.chart
    }

    /// The wiring the optimiser works on.
    pub fn wiring(&self) -> &Wiring {
        &self.space.wiring
    }

    /// The skeleton, where the coordinates have one.
    pub fn skeleton(&self) -> Option<&Tree> {
        match &self.space.chart {
            Chart::Path(chart) => Some(&chart.tree),
            Chart::Norm(_) => None,
        }
    }

    /// One step on `model` with gradients of its weights.
    ///
    /// `lr` is a number or Burn's [`ModuleLearningRate`] with one per parameter group. Parameters outside the wiring
    /// are stepped in weight space (see [`Unwired`](crate::Unwired)). An lr of 0 holds path values, not weights: they follow
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
        grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let lr = lr.into();
        match &mut self.inner {
            Inner::Descent => self.space.descend(lr, model, grads),
            Inner::Moments(moments) => self.space.advance(moments, lr, model, grads),
            Inner::Lifted(optim) => {
                let mut stepped = optim.clone();
                let model = self.space.lift(&mut stepped, lr, model, grads)?;
                *optim = stepped;
                Ok(model)
            }
        }
    }

    /// Path values and their gradients, one matrix `[rows, columns]` per entry of [`Wiring::edges`].
    ///
    /// Entries of skeleton weights that are held fixed are 0 in both: they have no basis path.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn path_space<M: Module>(
        &self,
        model: &M,
        grads: GradientsParams,
    ) -> Result<Vec<(Tensor<2>, Tensor<2>)>, Error> {
        let pairs = self.space.path_space(model, grads)?;
        let tensors = pairs.into_iter().map(|(v, g)| (v.into(), g.into()));
        Ok(tensors.collect())
    }
}

impl Space {
    fn path_space<M: Module>(
        &self,
        model: &M,
        mut grads: GradientsParams,
    ) -> Result<Vec<(Matrix, Matrix)>, Error> {
        let Matrices { weights, gradients } =
            gradients::take(model, &self.wiring, self.execution, &mut grads)?;
        let gradients = self.of_normed_layers(&weights, gradients)?;
        let frame = self.frame(&weights, &gradients)?;
        self.to_path_space(&*frame, &weights, gradients)
    }

    /// Gradients as the inverse chain rule takes them: multiplied by the norm of each unit's incoming weights where a
    /// batch norm in the paper's treatment follows (Meng et al. 2019, section 5.1).
    fn of_normed_layers(
        &self,
        weights: &[Matrix],
        gradients: Vec<Matrix>,
    ) -> Result<Vec<Matrix>, Error> {
        if !self.wiring.edges.iter().any(|edges| edges.before_norm) {
            return Ok(gradients);
        }
        let network = self.network(weights);
        let normed = (0..weights.len()).filter(|&param| self.wiring.edges[param].before_norm);
        let mut gradients: Vec<Option<Matrix>> = gradients.into_iter().map(Some).collect();
        for (param, squares) in
            read_all(normed.map(|param| (param, network.squares_by_head(param))))
        {
            let norms: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
            let by = network.fit(param, network.ones(param), norms)?;
            gradients[param] = gradients[param].take().map(|g| g.scale(&by));
        }
        Ok(gradients.into_iter().flatten().collect())
    }

    /// The chart at gradients that are known to be finite altogether.
    fn frame<'a>(
        &'a self,
        weights: &'a [Matrix],
        gradients: &[Matrix],
    ) -> Result<Box<dyn Frame + 'a>, Error> {
        let network = self.network(weights);
        network.check(gradients)?;
        self.chart.at(network, gradients)
    }

    fn network<'a>(&'a self, weights: &'a [Matrix]) -> Network<'a> {
        Network {
            wiring: &self.wiring,
            weights,
        }
    }

    fn to_path_space(
        &self,
        frame: &dyn Frame,
        weights: &[Matrix],
        gradients: Vec<Matrix>,
    ) -> Result<Vec<(Matrix, Matrix)>, Error> {
        let mut moved = Vec::with_capacity(weights.len());
        for (param, (w, g)) in weights.iter().zip(gradients).enumerate() {
            let v = w.clone().scale(&frame.values(param)?);
            moved.push((v.scatter(&frame.held(param)), frame.pull_back(param, g)?));
        }
        Ok(moved)
    }

    fn descend<M: Module>(
        &self,
        lr: ModuleLearningRate,
        model: M,
        mut grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let prepare = |grads: &mut GradientsParams| {
            let rates = gradients::rates(&lr, &self.wiring)?;
            let Matrices { weights, gradients } =
                gradients::take(&model, &self.wiring, self.execution, grads)?;
            let gradients = self.of_normed_layers(&weights, gradients)?;
            let network = self.network(&weights);
            self.chart.descend(network, gradients, &rates)
        };
        let moved = match prepare(&mut grads) {
            Ok(moved) => moved,
            Err(error) => return Err(Rejected { model, error }),
        };
        let model = params::replace(model, &self.wiring, moved);
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(SgdConfig::new().init().step(lr, model, grads))
    }

    /// A step of moments on basis path values, where every class is grounded.
    fn advance<M: Module>(
        &self,
        moments: &mut Moments,
        lr: ModuleLearningRate,
        model: M,
        mut grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let mut advance = |grads: &mut GradientsParams| {
            let Chart::Path(chart) = &self.chart else {
                unreachable!("other charts lift Burn's optimisers");
            };
            let rates = gradients::rates(&lr, &self.wiring)?;
            let Matrices { weights, gradients } =
                gradients::take(&model, &self.wiring, self.execution, grads)?;
            let network = self.network(&weights);
            moments.step(chart, network, gradients, &rates)
        };
        let moved = match advance(&mut grads) {
            Ok(moved) => moved,
            Err(error) => return Err(Rejected { model, error }),
        };
        let model = params::replace(model, &self.wiring, moved);
        if grads.is_empty() {
            return Ok(model);
        }
        Ok(moments.burn.step(lr, model, grads))
    }

    fn lift<M: Module>(
        &self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        model: M,
        mut grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        let step = |grads: &mut GradientsParams| {
            gradients::rates(&lr, &self.wiring)?;
            let Matrices { weights, gradients } =
                gradients::take(&model, &self.wiring, self.execution, grads)?;
            let gradients = self.of_normed_layers(&weights, gradients)?;
            let frame = self.frame(&weights, &gradients)?;
            let mut path_space = self.to_path_space(&*frame, &weights, gradients)?;
            self.clip(&mut path_space);
            let moved = self.step_values(optim, lr, &model, std::mem::take(grads), path_space);
            let lines = (0..weights.len()).map(|param| Ok(frame.values(param)?.into_owned()));
            let lines = lines.collect::<Result<Vec<_>, Error>>()?;
            let updates =
                frame.push_forward(&params::read(&moved, &self.wiring, self.execution)?)?;
            let mut verdicts = Vec::with_capacity(weights.len());
            let allocate = |param: usize, moved: Matrix| {
                let Update {
                    of_weights,
                    of_other,
                    fixed,
                } = &updates[param];
                let passed =
                    moved.allocate(&weights[param], &lines[param], of_weights, of_other, fixed);
                verdicts.push((param, passed.finite));
                passed.matrix
            };
            let allocated = params::map(moved, &self.wiring, self.execution, allocate);
            let network = self.network(&weights);
            match first_false(verdicts) {
                // gradients are known to be finite here
                Some(param) if weights[param].is_finite().read() => {
                    Err(network.out_of_range(param))
                }
                Some(param) => Err(network.not_finite(param)),
                None => Ok(allocated),
            }
        };
        step(&mut grads).map_err(|error| Rejected { model, error })
    }

    /// The model with stepped path values in place of its weights.
    fn step_values<M: Module>(
        &self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        model: &M,
        mut grads: GradientsParams,
        path_space: Vec<(Matrix, Matrix)>,
    ) -> M {
        let (values, gradients): (Vec<Matrix>, Vec<Matrix>) = path_space.into_iter().unzip();
        for (edges, gradient) in self.wiring.edges.iter().zip(gradients) {
            params::register(&mut grads, edges, gradient);
        }
        let in_path_space = params::replace(model.clone(), &self.wiring, values);
        optim.step(lr, in_path_space, grads)
    }

    /// Scales dL/dv down to the clip norm.
    fn clip(&self, path_space: &mut [(Matrix, Matrix)]) {
        let Some(largest) = self.clip_norm else {
            return;
        };
        let gradients: Vec<Matrix> = path_space.iter().map(|(_, g)| g.clone()).collect();
        let network = self.network(&gradients);
        let squares = (0..gradients.len()).map(|param| (param, network.squares_by_head(param)));
        let squares = read_all(squares).flat_map(|(_, squares)| squares);
        let norm = squares.sum::<f64>().sqrt();
        if norm > largest {
            for (_, gradient) in path_space {
                let scaled = Tensor::<2>::from(gradient.clone()).mul_scalar(largest / norm);
                let shape = scaled.dims();
                *gradient = Matrix::of(scaled, shape, self.execution);
            }
        }
    }
}
