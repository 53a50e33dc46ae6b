//! The balanced representative: every unit's incoming and outgoing norms agree.

use super::{Scaling, to_canonical};
use crate::error::Error;
use crate::matrix::{Matrix, Power};
use crate::network::{Network, Updates};
use crate::scales::{End, Kind, ParamEdges, ScaleClass, ScaleGraph};

/// The size of a unit's incoming or outgoing weights that balancing makes equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Norm {
    /// Root of the sum of squares, biases included.
    #[default]
    L2,
    /// Largest absolute value, biases left out: what rounding a whole tensor to a few bits wants (cross-layer
    /// equalisation, Nagel et al. 2019, section 4.1).
    MaxAbs,
}

/// What balanced means, and when balancing is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// What is made equal. Default l2.
    pub norm: Norm,
    /// Largest |ln(incoming norm / outgoing norm)| of a unit that counts as balanced; > 0. Default 1e-6.
    pub tolerance: f64,
    /// Sweeps over the network after which it ends in any case. Default 200.
    pub max_sweeps: usize,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            norm: Norm::L2,
            tolerance: 1e-6,
            max_sweeps: 200,
        }
    }
}

impl Norm {
    /// The square of the norm that balancing gives a row before batch norm, whose scale has no effect: that of He weights,
    /// or 1.
    fn of_unscaled(self) -> f64 {
        match self {
            Self::L2 => 2.0,
            Self::MaxAbs => 1.0,
        }
    }

    /// Squared norms of the edges into every head line, with a factor per tail line.
    fn by_head<M: Matrix>(self, network: Network<M>, param: usize, tails: Vec<f64>) -> Vec<f64> {
        match self {
            Self::L2 => network.powers_by_head(param, &squared(tails), Power::Two),
            Self::MaxAbs => squared(network.maxima_by_head(param, &tails)),
        }
    }

    /// Squared norms of the edges out of every tail line, with a factor per head line.
    fn by_tail<M: Matrix>(self, network: Network<M>, param: usize, heads: Vec<f64>) -> Vec<f64> {
        match self {
            Self::L2 => network.powers_by_tail(param, &squared(heads), Power::Two),
            Self::MaxAbs => squared(network.maxima_by_tail(param, &heads)),
        }
    }

    /// The squared norm of weights together, from those of two parts.
    fn joined(self, a: f64, b: f64) -> f64 {
        match self {
            Self::L2 => a + b,
            Self::MaxAbs => a.max(b),
        }
    }

    fn counts(self, edges: &ParamEdges) -> bool {
        self == Self::L2 || !edges.is_bias()
    }
}

fn squared(mut values: Vec<f64>) -> Vec<f64> {
    values.iter_mut().for_each(|value| *value *= *value);
    values
}

/// What balancing found.
#[derive(Debug, Clone, PartialEq)]
pub struct Balanced {
    /// The scaling that balances.
    pub scaling: Scaling,
    /// Sweeps used.
    pub sweeps: usize,
    /// Largest |ln(incoming norm / outgoing norm)| met in the last sweep.
    pub imbalance: f64,
}

/// The scaling to the balanced representative, and how it was reached.
///
/// Block coordinate descent on the sum of all squared weights over the group (equi-normalisation, Stock et al.
/// 2019), which is convex in the factors' logarithms. It starts from the canonical representative, so the result
/// does not depend on how the network came scaled; for the largest absolute value the same, without that theory. Units
/// without weights on one side keep their scale; rows before a batch norm, whose scale has no effect, get the norm of He
/// weights.
///
/// # Errors
/// A product leaves the range of f64.
pub fn balance<M: Matrix>(network: Network<M>, until: Balance) -> Result<Balanced, Error> {
    let mut balanced = Balanced {
        scaling: to_canonical(network)?,
        sweeps: 0,
        imbalance: f64::INFINITY,
    };
    let levels = levels(network.graph);
    while balanced.sweeps < until.max_sweeps && balanced.imbalance > until.tolerance {
        balanced.imbalance = 0.0;
        for level in &levels {
            let worst = balance_level(network, until.norm, level, &mut balanced.scaling);
            balanced.imbalance = balanced.imbalance.max(worst);
        }
        balanced.sweeps += 1;
    }
    Ok(balanced)
}

/// A step of SGD on the balanced representative: the network is balanced, then descends from there, with an lr per
/// parameter; the new weights, in the memory of the gradients.
///
/// Under a scaling c the gradient of weight e becomes `g c[tail] / c[head]`, so weights and gradients are carried to
/// the balanced representative together and no second backward pass is needed (equi-normalisation at every step,
/// Stock et al. 2019).
///
/// # Errors
/// A weight or gradient is not finite, or factors leave the range of the weights' type.
pub fn balanced_sgd<M: Matrix>(
    network: Network<M>,
    gradients: Vec<M>,
    lr: &[f64],
    until: Balance,
) -> Result<Vec<M>, Error> {
    let c = balance(network, until)?.scaling;
    let scales = lr.iter().enumerate().map(|(param, lr)| {
        let of_weights = network.by_class(param, |t| 1.0 / c.factor(t), |h| c.factor(h))?;
        let of_gradients = network.by_class(param, |t| -lr * c.factor(t), |h| 1.0 / c.factor(h))?;
        Ok([of_weights, of_gradients])
    });
    let scales = scales.collect::<Result<_, Error>>()?;
    network.updated(gradients, &Updates::plain(scales))
}

/// Incoming over outgoing l2 norm of every hidden class, in the order of [`ScaleGraph::hidden_classes`]; `None` where one
/// side has no weights or only zeros. 1 is balanced.
pub fn imbalances<M: Matrix>(network: Network<M>) -> Vec<Option<f64>> {
    let graph = network.graph;
    let mut incoming = vec![0.0; graph.hidden() + 1];
    let mut outgoing = incoming.clone();
    for (param, edges) in graph.edges.iter().enumerate() {
        let sums = network.squares_by_head(param).read();
        for (head, sum) in edges.heads.iter().zip(sums) {
            incoming[head.index()] += sum;
        }
        let sums = network.powers_by_tail(param, &vec![1.0; edges.heads.len()], Power::Two);
        for (tail, sum) in edges.tails.iter().zip(sums) {
            outgoing[tail.index()] += sum;
        }
    }
    let ratio = |class: ScaleClass| {
        let ratio = (incoming[class.index()] / outgoing[class.index()]).sqrt();
        ratio.is_normal().then_some(ratio)
    };
    graph.hidden_classes().map(ratio).collect()
}

/// Classes that are first written at one place, with the parameters at both of their sides.
struct Level {
    classes: Vec<ScaleClass>,
    before: Vec<usize>,
    after: Vec<usize>,
    /// Whether an edge leads from one of the classes to another; half steps then.
    within: bool,
}

fn levels(graph: &ScaleGraph) -> Vec<Level> {
    let classes: Vec<ScaleClass> = graph.hidden_classes().collect();
    let parameters = |ends: &[Vec<End>], level: &[ScaleClass]| {
        let all = level
            .iter()
            .flat_map(|class| ends[class.index()].iter().map(|end| end.param));
        let mut all: Vec<usize> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    classes
        .chunk_by(|a, b| graph.ord_in[a.index()] == graph.ord_in[b.index()])
        .map(|level| {
            let before = parameters(&graph.writers, level);
            let after = parameters(&graph.readers, level);
            Level {
                classes: level.to_vec(),
                within: before.iter().any(|param| after.contains(param)),
                before,
                after,
            }
        })
        .collect()
}

/// One step for the classes of a level; returns the largest |ln(incoming / outgoing norm)| found.
fn balance_level<M: Matrix>(
    network: Network<M>,
    norm: Norm,
    level: &Level,
    scaling: &mut Scaling,
) -> f64 {
    let mut incoming = vec![0.0; scaling.factors.len()];
    let mut outgoing = vec![0.0; scaling.factors.len()];
    for &param in &level.before {
        let edges = &network.graph.edges[param];
        if norm.counts(edges) {
            let tails = edges.tails.iter().map(|&t| 1.0 / scaling.factor(t));
            let norms = norm.by_head(network, param, tails.collect());
            for (head, size) in edges.heads.iter().zip(norms) {
                let whole = &mut incoming[head.index()];
                *whole = norm.joined(*whole, size);
            }
        }
    }
    for &param in &level.after {
        let edges = &network.graph.edges[param];
        if norm.counts(edges) {
            let heads = edges.heads.iter().map(|&h| scaling.factor(h));
            let norms = norm.by_tail(network, param, heads.collect());
            for (tail, size) in edges.tails.iter().zip(norms) {
                let whole = &mut outgoing[tail.index()];
                *whole = norm.joined(*whole, size);
            }
        }
    }
    let mut worst = 0.0f64;
    for &class in &level.classes {
        let b = class.index();
        let square = scaling.factors[b] * scaling.factors[b];
        let ratio = match network.graph.kind(class) {
            // both sides of the square: the only weights that its scale moves are its row
            Kind::IntoBatchNorm => (norm.of_unscaled() / (incoming[b] * square)).powi(2),
            _ => (outgoing[b] / square) / (incoming[b] * square),
        };
        if !ratio.is_normal() || ratio < 0.0 {
            continue; // no weights on one side
        }
        worst = worst.max(0.5 * ratio.ln().abs());
        let step = ratio.sqrt().sqrt();
        scaling.factors[b] *= if level.within { step.sqrt() } else { step };
    }
    worst
}
