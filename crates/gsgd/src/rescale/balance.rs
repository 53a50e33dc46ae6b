//! The balanced representative: every unit's incoming and outgoing norms agree.

use burn::module::Module;

use super::{Scaling, canonical, network};
use crate::error::{Error, Rejected};
use crate::kernels::{Execution, Power};
use crate::network::Network;
use crate::params;
use crate::wiring::{Kind, ParamEdges, ScaleClass, Wiring};

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
    fn of_sinks(self) -> f64 {
        match self {
            Self::L2 => 2.0,
            Self::MaxAbs => 1.0,
        }
    }

    /// Squared norms of the edges into every head line, with a factor per tail line.
    fn by_head(self, network: Network, param: usize, tails: Vec<f64>) -> Vec<f64> {
        match self {
            Self::L2 => network.powers_by_head(param, &squared(tails), Power::Two),
            Self::MaxAbs => squared(network.maxima_by_head(param, &tails)),
        }
    }

    /// Squared norms of the edges out of every tail line, with a factor per head line.
    fn by_tail(self, network: Network, param: usize, heads: Vec<f64>) -> Vec<f64> {
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

/// The model at its balanced representative, and how it was reached.
///
/// Block coordinate descent on the sum of all squared weights over the group (equi-normalisation, Stock et al.
/// 2019), which is convex in the factors' logarithms. It starts from the canonical representative, so the result
/// does not depend on how the network came scaled; for the largest absolute value likewise, without that theory. Units without weights on one side keep their scale; rows before a
/// batch norm, whose scale has no effect, get the norm of He weights.
///
/// # Errors
/// Model and wiring do not fit, or the factors leave the range of the weights' type; the model comes back
/// unchanged.
pub fn balance<M: Module>(
    model: M,
    wiring: &Wiring,
    until: Balance,
) -> Result<(M, Balanced), Rejected<M>> {
    let weights = match params::read(&model, wiring, Execution::Fused) {
        Ok(weights) => weights,
        Err(error) => return Err(Rejected { model, error }),
    };
    let found = balancing(network(wiring, &weights), until);
    drop(weights);
    match found {
        Err(error) => Err(Rejected { model, error }),
        Ok(balanced) => Ok((balanced.scaling.apply(model, wiring)?, balanced)),
    }
}

/// Incoming over outgoing l2 norm of every hidden class, in the order of [`Wiring::hidden_classes`]; `None` where one
/// side has no weights or only zeros. 1 is balanced.
///
/// # Errors
/// Model and wiring do not fit.
pub fn imbalances<M: Module>(model: &M, wiring: &Wiring) -> Result<Vec<Option<f64>>, Error> {
    let weights = params::read(model, wiring, Execution::Fused)?;
    let network = network(wiring, &weights);
    let mut incoming = vec![0.0; wiring.hidden() + 1];
    let mut outgoing = incoming.clone();
    for (param, edges) in wiring.edges.iter().enumerate() {
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
    Ok(wiring.hidden_classes().map(ratio).collect())
}

pub(crate) fn balancing(network: Network, until: Balance) -> Result<Balanced, Error> {
    let mut balanced = Balanced {
        scaling: canonical(network)?,
        sweeps: 0,
        imbalance: f64::INFINITY,
    };
    let levels = levels(network.wiring);
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

/// Classes that are first written at one place, with the parameters at both of their sides.
struct Level {
    classes: Vec<ScaleClass>,
    before: Vec<usize>,
    after: Vec<usize>,
    /// Whether an edge leads from one of the classes to another; half steps then.
    within: bool,
}

fn levels(wiring: &Wiring) -> Vec<Level> {
    let classes: Vec<ScaleClass> = wiring.hidden_classes().collect();
    let parameters = |ends: &[Vec<crate::wiring::End>], level: &[ScaleClass]| {
        let all = level
            .iter()
            .flat_map(|class| ends[class.index()].iter().map(|end| end.param));
        let mut all: Vec<usize> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    classes
        .chunk_by(|a, b| wiring.ord_in[a.index()] == wiring.ord_in[b.index()])
        .map(|level| {
            let before = parameters(&wiring.writers, level);
            let after = parameters(&wiring.readers, level);
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
fn balance_level(network: Network, norm: Norm, level: &Level, scaling: &mut Scaling) -> f64 {
    let mut incoming = vec![0.0; scaling.factors.len()];
    let mut outgoing = vec![0.0; scaling.factors.len()];
    for &param in &level.before {
        let edges = &network.wiring.edges[param];
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
        let edges = &network.wiring.edges[param];
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
        let ratio = match network.wiring.kind(class) {
            // both sides of the square: the only weights that its scale moves are its row
            Kind::Sink => (norm.of_sinks() / (incoming[b] * square)).powi(2),
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
