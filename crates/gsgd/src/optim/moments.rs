//! Momentum and Adam on path values, in one pass with the change of coordinates.
//!
//! The In edges' path values, O(H) of them, are stepped first: all that the way back to weights depends on. Then all is
//! known to be finite before one pass over each parameter reads weight, gradient and moments and writes moments and, where
//! the gradient was, the new weight.

use burn::optim::ModuleOptimizer;
use burn::tensor::Tensor;

use crate::chart::PathChart;
use crate::chart::path::PathFrame;
use crate::error::Error;
use crate::kernels::{
    Matrix, MomentStep, RowColScale, Rule, StepCoefficients, first_false, read_all,
};
use crate::network::{Network, Update};

/// A rule with its moments.
#[derive(Clone)]
pub(super) struct Moments {
    pub rule: Rule,
    /// Steps taken.
    pub time: i32,
    /// The moments of every parameter; none before the first step.
    pub of: Vec<Vec<Matrix>>,
    /// The same rule as one of Burn's optimisers: for what the wiring leaves out, and for coordinates that take sums of
    /// all moved values.
    pub burn: ModuleOptimizer,
}

impl Moments {
    pub fn new(rule: Rule, burn: ModuleOptimizer) -> Self {
        Self {
            rule,
            time: 0,
            of: Vec::new(),
            burn,
        }
    }

    /// Takes a step: the new weights, in the memory of the gradients. Moments are 0 where there are none yet.
    ///
    /// # Errors
    /// A weight, a gradient, a new weight or a new moment is not finite, the step ends in a pole, or numbers leave their
    /// range. Moments and time are as they were then.
    pub fn step(
        &mut self,
        chart: &PathChart,
        network: Network,
        gradients: Vec<Matrix>,
        lr: &[f64],
    ) -> Result<Vec<Matrix>, Error> {
        let fresh = self.of.is_empty().then(|| {
            let moments = |g: &Matrix| vec![zeros(g); self.rule.moments()];
            gradients.iter().map(moments).collect::<Vec<_>>()
        });
        let before = fresh.as_ref().unwrap_or(&self.of);
        let time = self.time.saturating_add(1);
        let coefficients: Vec<StepCoefficients> =
            lr.iter().map(|&lr| self.rule.at(time, lr)).collect();

        let frame = PathFrame::at(chart, network, &gradients)?;
        let mut change = vec![0.0; frame.classes()];
        let mut fixed = vec![vec![0.0; 2 * frame.classes()]; self.rule.moments()];
        for (param, moments) in free(chart, before).iter().enumerate() {
            for (entry, &class) in chart.entries[param].free.iter().enumerate() {
                let mut own = [0.0; 2];
                for (own, moment) in own.iter_mut().zip(moments) {
                    *own = moment[entry];
                }
                let g = frame.in_gradient(class);
                change[class.index()] = coefficients[param].change(g, &mut own);
                for (own, fixed) in own.iter().zip(&mut fixed) {
                    fixed[class.index()] = *own;
                }
            }
        }

        let inverse = frame.inverse();
        let allocation = frame.after(change, &[])?;
        let updates = allocation.updates(network)?.into_iter();
        let updates = updates.zip(coefficients).enumerate();
        let passes = updates.map(|(param, (update, coefficients))| {
            Ok(Pass {
                coefficients,
                gradient: network.by_class(param, &inverse.tail, &inverse.head)?,
                update,
                fixed_moments: &fixed,
            })
        });
        let passes = passes.collect::<Result<Vec<Pass>, Error>>()?;
        let all = passes.iter().zip(&gradients).zip(before).enumerate();
        let verdicts = all.map(|(param, ((pass, g), moments))| {
            let w = &network.weights[param];
            (param, g.advances_finitely(w, moments, &pass.by()))
        });
        if let Some(param) = first_false(verdicts) {
            return Err(network.not_finite_in_step(param, &gradients[param]));
        }

        // nothing can fail from here on
        let before = fresh.unwrap_or_else(|| std::mem::take(&mut self.of));
        let all = passes.iter().zip(gradients).zip(before).enumerate();
        let (weights, moments) = all
            .map(|(param, ((pass, g), moments))| {
                g.advance(&network.weights[param], moments, &pass.by())
            })
            .unzip();
        self.of = moments;
        self.time = time;
        Ok(weights)
    }
}

/// By parameter and moment, the moments of the In edges that are free to move.
fn free(chart: &PathChart, moments: &[Vec<Matrix>]) -> Vec<Vec<Vec<f64>>> {
    let mut free = vec![Vec::new(); moments.len()];
    let all = moments.iter().enumerate();
    let all = all.flat_map(|(param, moments)| moments.iter().map(move |moment| (param, moment)));
    let all = all.map(|(param, moment)| (param, moment.gather(&chart.entries[param].free_at)));
    for (param, list) in read_all(all) {
        free[param].push(list);
    }
    free
}

/// A step of one parameter and its moments.
struct Pass<'a> {
    coefficients: StepCoefficients,
    gradient: RowColScale<'a>,
    update: Update<'a>,
    /// By moment, the values for the entries that the update sets.
    fixed_moments: &'a [Vec<f64>],
}

impl Pass<'_> {
    fn by(&self) -> MomentStep<'_> {
        MomentStep {
            gradient: &self.gradient,
            coefficients: self.coefficients,
            of_weights: &self.update.of_weights,
            of_change: &self.update.of_other,
            fixed: &self.update.fixed,
            fixed_moments: self.fixed_moments,
        }
    }
}

fn zeros(like: &Matrix) -> Matrix {
    let execution = like.execution();
    let like = Tensor::from(like.clone());
    let zeros = Tensor::<2>::zeros(like.dims(), (&like.device(), like.dtype()));
    Matrix::of(zeros, like.dims(), execution)
}
