//! Momentum and Adam on path values, in one pass with the change of coordinates.
//!
//! The In edges' path values, O(H) of them, are stepped first: all that the way back to weights depends on. Then one pass
//! over each parameter reads weight, gradient and moments and writes moments and, where the gradient was, the new weight.

use burn::optim::ModuleOptimizer;
use burn::tensor::Tensor;

use crate::coordinates::{Network, SkeletonSurvey, Update};
use crate::error::Error;
use crate::kernels::{Advance, Lines, Matrix, Motion, Rule};

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

/// A step of all moments that is ready to be written.
pub(super) struct Prepared {
    motions: Vec<Motion>,
    updates: Vec<Update>,
    gradients: Vec<Lines>,
    /// By parameter, the moments at the places that its update sets.
    fixed: Vec<Vec<Vec<f64>>>,
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

    /// Computes all that is per class.
    ///
    /// # Errors
    /// A step into a pole.
    pub fn prepare(&self, survey: &SkeletonSurvey, lr: &[f64]) -> Result<Prepared, Error> {
        let time = self.time.saturating_add(1);
        let motions: Vec<Motion> = lr.iter().map(|&lr| self.rule.at(time, lr)).collect();
        let mut change = vec![0.0; survey.classes()];
        let mut moved = Vec::with_capacity(lr.len());
        for (slot, motion) in motions.iter().enumerate() {
            let (at, classes) = survey.moving(slot);
            let mut old: Vec<Vec<f64>> = match self.of.get(slot) {
                Some(moments) => moments.iter().map(|m| m.gather(at)).collect(),
                None => vec![vec![0.0; at.len()]; self.rule.moments()],
            };
            for (entry, &class) in classes.iter().enumerate() {
                let mut moments = [0.0; 2];
                for (moment, old) in moments.iter_mut().zip(&old) {
                    *moment = old[entry];
                }
                change[class] = motion.change(survey.in_gradient(class), &mut moments);
                for (moment, old) in moments.iter().zip(&mut old) {
                    old[entry] = *moment;
                }
            }
            let fixed = old.into_iter().map(|moment| survey.at_fixed(slot, moment));
            moved.push(fixed.collect());
        }
        let updates = survey.after(&change)?;
        let gradients = (0..lr.len()).map(|slot| survey.gradient_lines(slot));
        Ok(Prepared {
            gradients: gradients.collect::<Result<_, _>>()?,
            motions,
            updates,
            fixed: moved,
        })
    }

    /// Takes the step, with moments of 0 where there are none yet: the new weights, in the memory of the gradients.
    ///
    /// # Errors
    /// A gradient or a new weight is not finite.
    pub fn advance(
        &mut self,
        network: Network,
        gradients: Vec<Matrix>,
        prepared: &Prepared,
    ) -> Result<Vec<Matrix>, Error> {
        if self.of.is_empty() {
            let moments = |g: &Matrix| vec![zeros(g); self.rule.moments()];
            self.of = gradients.iter().map(moments).collect();
        }
        let advance = |(slot, g): (usize, Matrix)| {
            let update = &prepared.updates[slot];
            let by = Advance {
                gradient: &prepared.gradients[slot],
                motion: prepared.motions[slot],
                of_weights: &update.of_weights,
                of_change: &update.of_other,
                fixed: &update.fixed,
                fixed_moments: &prepared.fixed[slot],
            };
            let moments = std::mem::take(&mut self.of[slot]);
            let (moved, moments, finite) = g.advance(&network.weights[slot], moments, &by);
            self.of[slot] = moments;
            match finite {
                true => Ok(moved),
                false => Err(network.not_finite(slot)),
            }
        };
        let moved = gradients.into_iter().enumerate().map(advance).collect();
        self.time = self.time.saturating_add(1);
        moved
    }
}

fn zeros(like: &Matrix) -> Matrix {
    let how = like.arithmetic();
    let like = Tensor::from(like.clone());
    Matrix::of(
        Tensor::zeros(like.dims(), (&like.device(), like.dtype())),
        how,
    )
}
