//! Momentum and Adam on path values, in one pass with the change of coordinates.
//!
//! The In edges' path values, O(H) of them, are stepped first: all that the way back to weights depends on. Then all is
//! known to be finite before one pass over each parameter reads weight, gradient and moments and writes moments and, where
//! the gradient was, the new weight.

use crate::chart::PathChart;
use crate::chart::path::PathFrame;
use crate::error::Error;
use crate::matrix::{
    Matrix, MomentStep, RowColScale, Rule, StepCoefficients, first_false, read_all,
};
use crate::network::Network;

/// A rule with its moments.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments<M> {
    rule: Rule,
    time: i32,
    of: Vec<Vec<M>>,
}

impl<M: Matrix> Moments<M> {
    /// A rule before its first step.
    pub fn new(rule: Rule) -> Self {
        Self::saved(rule, 0, Vec::new())
    }

    /// A rule after `time` steps, with the moments of every parameter: [`Rule::moments`] matrices each, of the shape and
    /// type of its weights; none before the first step.
    pub fn saved(rule: Rule, time: i32, of: Vec<Vec<M>>) -> Self {
        Self { rule, time, of }
    }

    /// The formula.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Steps taken.
    pub fn time(&self) -> i32 {
        self.time
    }

    /// The moments of every parameter; none before the first step.
    pub fn of_params(&self) -> &[Vec<M>] {
        &self.of
    }

    /// Takes a step: the new weights, in the memory of the gradients. Moments are 0 where there are none yet.
    ///
    /// # Errors
    /// A weight, a gradient, a new weight or a new moment is not finite, the step ends in a pole, or numbers leave their
    /// range. Moments and time are as they were then.
    pub(crate) fn step(
        &mut self,
        chart: &PathChart,
        network: Network<M>,
        gradients: Vec<M>,
        lr: &[f64],
    ) -> Result<Vec<M>, Error> {
        let fresh = self.of.is_empty().then(|| {
            let moments = |g: &M| vec![g.zeros_like(); self.rule.moments()];
            gradients.iter().map(moments).collect::<Vec<_>>()
        });
        let before = fresh.as_ref().unwrap_or(&self.of);
        let mut counts = before.iter().map(Vec::len);
        let fits = before.len() == gradients.len();
        assert!(
            fits && counts.all(|count| count == self.rule.moments()),
            "moments of another rule"
        );
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
                let g = frame.in_gradients[class.index()];
                change[class.index()] = coefficients[param].change(g, &mut own);
                for (own, fixed) in own.iter().zip(&mut fixed) {
                    fixed[class.index()] = *own;
                }
            }
        }

        let updates = frame.after(change, &[])?;
        let factors = &frame.inverse;
        let of_gradients = (0..gradients.len()).map(|param| {
            let [tail, head] = [&factors.tail, &factors.head];
            network.by_class(param, |c| tail[c.index()], |c| head[c.index()])
        });
        let of_gradients = of_gradients.collect::<Result<Vec<RowColScale>, Error>>()?;
        let steps = of_gradients.iter().zip(coefficients).enumerate();
        let steps = steps.map(|(param, (gradient, coefficients))| {
            let [of_weights, of_change] = &updates.scales[param];
            MomentStep {
                gradient,
                coefficients,
                of_weights,
                of_change,
                fixed: updates.fixed(param),
                fixed_moments: &fixed,
            }
        });
        let steps: Vec<MomentStep> = steps.collect();
        let all = steps.iter().zip(&gradients).zip(before).enumerate();
        let verdicts = all.map(|(param, ((by, g), moments))| {
            let w = &network.weights[param];
            (param, g.advances_finitely(w, moments, by))
        });
        if let Some(param) = first_false(verdicts) {
            return Err(network.not_finite_in_step(param, &gradients[param]));
        }

        // nothing can fail from here on
        let before = fresh.unwrap_or_else(|| std::mem::take(&mut self.of));
        let all = steps.iter().zip(gradients).zip(before).enumerate();
        let (weights, moments) = all
            .map(|(param, ((by, g), moments))| g.advance(&network.weights[param], moments, by))
            .unzip();
        self.of = moments;
        self.time = time;
        Ok(weights)
    }
}

/// By parameter and moment, the moments of the In edges that are free to move.
fn free<M: Matrix>(chart: &PathChart, moments: &[Vec<M>]) -> Vec<Vec<Vec<f64>>> {
    let mut free = vec![Vec::new(); moments.len()];
    let all = moments.iter().enumerate();
    let all = all.flat_map(|(param, moments)| moments.iter().map(move |moment| (param, moment)));
    let all = all.map(|(param, moment)| (param, moment.gather(&chart.entries[param].free_at)));
    for (param, list) in read_all(all) {
        free[param].push(list);
    }
    free
}
