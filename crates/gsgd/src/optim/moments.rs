//! Momentum and Adam on path values, in one pass with the change of coordinates.
//!
//! The In edges' path values, O(H) of them, are stepped first: all that the way back to weights depends on. Then one pass
//! over each parameter reads weight, gradient and moments and writes moments and, where the gradient was, the new weight.

use burn::optim::ModuleOptimizer;
use burn::tensor::Tensor;

use crate::coordinates::{Network, Passing, Point, SkeletonChart, Update};
use crate::error::Error;
use crate::kernels::{Advance, Entries, Lines, Matrix, Motion, Passed, Rule, Side, read};

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
    /// A weight, a gradient or a new weight is not finite, the step ends in a pole, or numbers leave their range.
    pub fn step(
        &mut self,
        chart: &SkeletonChart,
        network: Network,
        gradients: Vec<Matrix>,
        lr: &[f64],
    ) -> Result<Vec<Matrix>, Error> {
        if self.of.is_empty() {
            let moments = |g: &Matrix| vec![zeros(g); self.rule.moments()];
            self.of = gradients.iter().map(moments).collect();
        }
        let time = self.time.saturating_add(1);
        let motions: Vec<Motion> = lr.iter().map(|&lr| self.rule.at(time, lr)).collect();
        let mut moving = vec![Vec::with_capacity(self.rule.moments()); self.of.len()];
        let all = self.of.iter().enumerate();
        let all = all.flat_map(|(slot, moments)| moments.iter().map(move |moment| (slot, moment)));
        let all = all.map(|(slot, moment)| (slot, moment.gather(chart.moving(slot).0)));
        for (slot, list) in read(all) {
            moving[slot].push(list);
        }

        let point = Point::of(chart, network, &gradients)?;
        let Passing {
            matrices,
            sums,
            unjudged,
        } = point.pass(gradients, |slot, g| {
            let pass = Pass {
                weights: &network.weights[slot],
                motion: motions[slot],
                gradient: network.by_class(slot, &point.inverse)?,
                update: point.passing_update(slot, 1.0, &point.inverse)?,
                fixed_moments: &vec![Vec::new(); self.rule.moments()],
                dots: Some(network.heads(slot)),
            };
            self.time = time;
            Ok(pass.over(g, &mut self.of[slot]))
        })?;

        let survey = point.survey(&matrices, sums)?;
        let mut change = vec![0.0; survey.classes()];
        let mut fixed = vec![vec![0.0; 2 * survey.classes()]; self.rule.moments()];
        for (slot, moments) in moving.iter().enumerate() {
            let (_, classes) = chart.moving(slot);
            for (entry, &class) in classes.iter().enumerate() {
                let mut own = [0.0; 2];
                for (own, moment) in own.iter_mut().zip(moments) {
                    *own = moment[entry];
                }
                let g = survey.in_gradient(class);
                change[class.index()] = motions[slot].change(g, &mut own);
                for (own, fixed) in own.iter().zip(&mut fixed) {
                    fixed[class.index()] = *own;
                }
            }
        }

        let inverse = survey.inverse().clone();
        let way = survey.after(change, &[])?;
        self.time = time;
        unjudged.all(network, matrices, |slot, matrix| {
            if chart.passes(slot) {
                let skeleton = way.fixed(slot);
                self.of[slot] = put(std::mem::take(&mut self.of[slot]), &skeleton, &fixed);
                return Ok(matrix.put(&skeleton).into());
            }
            let pass = Pass {
                weights: &network.weights[slot],
                motion: motions[slot],
                gradient: network.by_class(slot, &inverse)?,
                update: way.update(slot)?,
                fixed_moments: &fixed,
                dots: None,
            };
            Ok(pass.over(matrix, &mut self.of[slot]))
        })
    }
}

/// A step of one parameter and its moments.
struct Pass<'a> {
    weights: &'a Matrix,
    motion: Motion,
    gradient: Lines<'a>,
    update: Update<'a>,
    /// By moment, the values for the entries that the update sets.
    fixed_moments: &'a [Vec<f64>],
    dots: Option<Side>,
}

impl Pass<'_> {
    fn over(&self, g: Matrix, moments: &mut Vec<Matrix>) -> Passed {
        let by = Advance {
            gradient: &self.gradient,
            motion: self.motion,
            of_weights: &self.update.of_weights,
            of_change: &self.update.of_other,
            fixed: &self.update.fixed,
            fixed_moments: self.fixed_moments,
            dots: self.dots,
        };
        let (passed, stepped) = g.advance(self.weights, std::mem::take(moments), &by);
        *moments = stepped;
        passed
    }
}

/// Moments with those of single entries set.
fn put(moments: Vec<Matrix>, entries: &Entries, values: &[Vec<f64>]) -> Vec<Matrix> {
    let set = |(moment, values): (Matrix, &Vec<f64>)| {
        let values = values.into();
        moment.put(&Entries {
            values,
            ..entries.clone()
        })
    };
    moments.into_iter().zip(values).map(set).collect()
}

fn zeros(like: &Matrix) -> Matrix {
    let how = like.arithmetic();
    let like = Tensor::from(like.clone());
    let zeros = Tensor::<2>::zeros(like.dims(), (&like.device(), like.dtype()));
    Matrix::of(zeros, like.dims(), how)
}
