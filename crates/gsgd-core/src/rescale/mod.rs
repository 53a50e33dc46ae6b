//! The group of positive scalings: draw at random, apply, balance, compare.
//!
//! A scaling has one positive factor per hidden class and multiplies every weight by `c[head] / c[tail]`, with 1 for
//! the ground. The function stays as it is.

mod balance;
mod dead;
mod equivalent;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use balance::{Balance, Balanced, Norm, balance, balanced_sgd, imbalances};
pub use equivalent::{Equivalence, equivalent};

use crate::chart::NormChart;
use crate::error::Error;
use crate::matrix::{Matrix, RowColScale};
use crate::network::Network;
use crate::scales::{CoScaled, ScaleClass, ScaleGraph};

/// One positive factor per hidden class.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// By class, the ground (1) first.
    factors: Vec<f64>,
}

impl Scaling {
    /// All factors 1.
    pub fn identity(graph: &ScaleGraph) -> Self {
        Self {
            factors: vec![1.0; graph.hidden() + 1],
        }
    }

    /// Given factors, for classes 1 to H.
    ///
    /// # Errors
    /// Not H factors, or one that is not positive and finite.
    pub fn new(graph: &ScaleGraph, factors: &[f64]) -> Result<Self, Error> {
        let refuse = |found: String| {
            Err(Error::Scaling {
                expected: graph.hidden(),
                found,
            })
        };
        if factors.len() != graph.hidden() {
            return refuse(format!("got {}", factors.len()));
        }
        if let Some(at) = factors.iter().position(|c| !c.is_normal() || *c < 0.0) {
            return refuse(format!("factor {} is {}", at + 1, factors[at]));
        }
        let mut with_ground = vec![1.0];
        with_ground.extend(factors);
        Ok(Self {
            factors: with_ground,
        })
    }

    /// Factors `10^u`, u uniform in `[-decades, decades]`, the same for the same seed.
    ///
    /// # Errors
    /// `decades` is not in `[0, 30]`.
    pub fn random(graph: &ScaleGraph, decades: f64, seed: u64) -> Result<Self, Error> {
        if !(0.0..=30.0).contains(&decades) {
            return Err(Error::Setting {
                name: "the spread",
                found: decades.to_string(),
                allowed: "a number of decades in [0, 30]",
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let factors =
            (0..graph.hidden()).map(|_| 10f64.powf((2.0 * rng.random::<f64>() - 1.0) * decades));
        Self::new(graph, &factors.collect::<Vec<_>>())
    }

    /// Factors `2^k`, k uniform in `-exponent..=exponent`: floating point carries them without rounding.
    pub fn powers_of_two(graph: &ScaleGraph, exponent: u8, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let exponent = i32::from(exponent);
        let mut scaling = Self::identity(graph);
        for factor in &mut scaling.factors[1..] {
            *factor = 2f64.powi(rng.random_range(-exponent..=exponent));
        }
        scaling
    }

    /// The factor of a class; 1 for the ground.
    pub fn factor(&self, class: ScaleClass) -> f64 {
        self.factors[class.index()]
    }

    /// Another factor of a class.
    ///
    /// # Panics
    /// If the class is the ground, or the factor not positive and finite.
    pub fn set(&mut self, class: ScaleClass, factor: f64) {
        assert!(!class.is_ground() && factor.is_normal() && factor > 0.0);
        self.factors[class.index()] = factor;
    }

    /// The factors of classes 1 to H.
    pub fn factors(&self) -> &[f64] {
        &self.factors[1..]
    }

    /// The scaling that undoes this one.
    pub fn inverse(&self) -> Self {
        Self {
            factors: self.factors.iter().map(|c| 1.0 / c).collect(),
        }
    }

    /// What every weight matrix is multiplied with, `c[head] / c[tail]`, in the order of [`ScaleGraph::edges`].
    ///
    /// # Errors
    /// The factors are those of another network, or leave the range of the weights' type.
    pub fn of_weights<M: Matrix>(&self, network: Network<M>) -> Result<Vec<RowColScale>, Error> {
        let hidden = network.graph.hidden();
        if self.factors.len() != hidden + 1 {
            return Err(Error::Scaling {
                expected: hidden,
                found: format!("this one has {}", self.factors.len() - 1),
            });
        }
        network.scales(|c| 1.0 / self.factor(c), |c| self.factor(c))
    }

    /// What every channel of a tensor is multiplied with that is scaled along.
    pub fn of_co_scaled(&self, tensor: &CoScaled) -> Vec<f64> {
        let classes = tensor.classes.iter();
        classes
            .map(|&class| self.factor(class).powi(tensor.power))
            .collect()
    }
}

/// The scaling to the canonical representative of the network's class: every unit's incoming norm A, taken over
/// weights already normalised, is 1.
///
/// Two networks that differ by a positive scaling have one canonical representative, exactly so for powers of two.
/// Units without any incoming weight keep their scale.
///
/// # Errors
/// A product leaves the range of f64.
pub fn to_canonical<M: Matrix>(network: Network<M>) -> Result<Scaling, Error> {
    let norms = NormChart::new(network.graph).norms_or_one(network)?;
    Ok(Scaling {
        factors: norms.iter().map(|a| 1.0 / a).collect(),
    })
}
