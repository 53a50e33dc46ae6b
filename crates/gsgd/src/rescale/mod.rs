//! The group of positive scalings: apply, draw at random, balance, compare.
//!
//! A scaling has one positive factor per hidden class and multiplies every weight by `c[head] / c[tail]`, with 1 for
//! the ground. The function stays as it is.

mod balance;
mod dead;
mod equivalent;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) use balance::balancing;
pub use balance::{Balance, Balanced, Norm, balance, imbalances};
pub use equivalent::{Equivalence, equivalent};

use crate::chart::NormChart;
use crate::error::{Error, Rejected};
use crate::kernels::{Execution, Matrix, RowColScale};
use crate::network::Network;
use crate::params;
use crate::wiring::{Follower, ScaleClass, Wiring};

/// One positive factor per hidden class.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// By class, the ground (1) first.
    factors: Vec<f64>,
}

impl Scaling {
    /// All factors 1.
    pub fn identity(wiring: &Wiring) -> Self {
        Self {
            factors: vec![1.0; wiring.hidden() + 1],
        }
    }

    /// Given factors, for classes 1 to H.
    ///
    /// # Errors
    /// Not H factors, or one that is not positive and finite.
    pub fn new(wiring: &Wiring, factors: &[f64]) -> Result<Self, Error> {
        let refuse = |found: String| {
            Err(Error::Scaling {
                expected: wiring.hidden(),
                found,
            })
        };
        if factors.len() != wiring.hidden() {
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
    pub fn random(wiring: &Wiring, decades: f64, seed: u64) -> Result<Self, Error> {
        if !(0.0..=30.0).contains(&decades) {
            return Err(Error::Setting {
                name: "the spread",
                found: decades.to_string(),
                allowed: "a number of decades in [0, 30]",
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let factors =
            (0..wiring.hidden()).map(|_| 10f64.powf((2.0 * rng.random::<f64>() - 1.0) * decades));
        Self::new(wiring, &factors.collect::<Vec<_>>())
    }

    /// Factors `2^k`, k uniform in `-exponent..=exponent`: floating point carries them without rounding.
    pub fn powers_of_two(wiring: &Wiring, exponent: u8, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let exponent = i32::from(exponent);
        let mut scaling = Self::identity(wiring);
        for factor in &mut scaling.factors[1..] {
            *factor = 2f64.powi(rng.random_range(-exponent..=exponent));
        }
        scaling
    }

    /// The factor of a class; 1 for the ground.
    pub fn factor(&self, class: ScaleClass) -> f64 {
        self.factors[class.index()]
    }

    pub(crate) fn set(&mut self, class: ScaleClass, factor: f64) {
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

    /// The model with every weight multiplied by `c[head] / c[tail]`, and running statistics of batch norms likewise.
    ///
    /// A model with batch norm shares its running statistics with its clones; the result has its own.
    ///
    /// # Errors
    /// Model and wiring do not fit, or the factors leave the range of the weights' type. The model comes back
    /// unchanged.
    pub fn apply<M: Module>(&self, model: M, wiring: &Wiring) -> Result<M, Rejected<M>> {
        match self.lines(&model, wiring) {
            Err(error) => Err(Rejected { model, error }),
            Ok(lines) => {
                let model = match wiring.followers.is_empty() {
                    true => model,
                    false => params::detached(&model),
                };
                let scale = |param: usize, w: Matrix| w.scale(&lines[param]);
                let model = params::map(model, wiring, Execution::Fused, scale);
                Ok(self.lead(model, wiring))
            }
        }
    }

    /// The model with its followers multiplied by their factors.
    fn lead<M: Module>(&self, model: M, wiring: &Wiring) -> M {
        params::map_followers(model, wiring, |follower, x| {
            let factors = self.of_follower(follower);
            let shape = [factors.len()];
            let by =
                Tensor::<1>::from_data(TensorData::new(factors, shape), (&x.device(), x.dtype()));
            x * by
        })
    }

    /// The factor of every channel of a follower.
    fn of_follower(&self, follower: &Follower) -> Vec<f64> {
        let classes = follower.classes.iter();
        classes
            .map(|&class| self.factor(class).powi(follower.power))
            .collect()
    }

    fn lines<M: Module>(
        &self,
        model: &M,
        wiring: &Wiring,
    ) -> Result<Vec<RowColScale<'static>>, Error> {
        if self.factors.len() != wiring.hidden() + 1 {
            return Err(Error::Scaling {
                expected: wiring.hidden(),
                found: format!("this one has {}", self.factors.len() - 1),
            });
        }
        let weights = params::read(model, wiring, Execution::Fused)?;
        let network = network(wiring, &weights);
        (0..weights.len())
            .map(|param| {
                let lines = network.lines(param, |c| 1.0 / self.factor(c), |c| self.factor(c))?;
                match lines.products_fit(weights[param].dtype()) {
                    true => Ok(lines),
                    false => Err(Error::OutOfRange {
                        name: wiring.edges[param].name.clone(),
                    }),
                }
            })
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
/// Model and wiring do not fit.
pub fn to_canonical<M: Module>(model: &M, wiring: &Wiring) -> Result<Scaling, Error> {
    let weights = params::read(model, wiring, Execution::Fused)?;
    canonical(network(wiring, &weights))
}

fn canonical(network: Network) -> Result<Scaling, Error> {
    let norms = NormChart::new(network.wiring).norms_or_one(network)?;
    Ok(Scaling {
        factors: norms.iter().map(|a| 1.0 / a).collect(),
    })
}

fn network<'a>(wiring: &'a Wiring, weights: &'a [Matrix]) -> Network<'a> {
    Network { wiring, weights }
}
