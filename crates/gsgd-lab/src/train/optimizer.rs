//! The optimisers by name; one table for the command line, the comparison and the tests.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use gsgd::{Balance, BalancedSgd, GSpace, GSpaceConfig, PathSgd, Rejected, Unwired};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::models::Model;

/// An optimiser of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Stochastic gradient descent
    Sgd,
    /// Heavy ball
    Momentum,
    /// Adam (0.9, 0.999, 1e-8)
    Adam,
    /// Path-SGD (Neyshabur et al. 2015)
    PathSgd,
    /// SGD on the balanced representative, rebalanced at every step
    BalancedSgd,
    /// SGD on basis path values (Meng et al. 2019)
    Gsgd,
    /// Heavy ball on basis path values
    GMomentum,
    /// Adam on basis path values
    GAdam,
}

impl OptimizerName {
    /// All of them, baselines first.
    pub const ALL: [Self; 8] = [
        Self::Sgd,
        Self::Momentum,
        Self::Adam,
        Self::PathSgd,
        Self::BalancedSgd,
        Self::Gsgd,
        Self::GMomentum,
        Self::GAdam,
    ];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Momentum => "momentum",
            Self::Adam => "adam",
            Self::PathSgd => "path-sgd",
            Self::BalancedSgd => "balanced-sgd",
            Self::Gsgd => "gsgd",
            Self::GMomentum => "g-momentum",
            Self::GAdam => "g-adam",
        }
    }
}

/// An optimiser at work.
pub enum Stepper {
    /// One of Burn's, on weights.
    WeightSpace(ModuleOptimizer),
    /// On path values.
    PathSpace(Box<GSpace>),
    /// Path-SGD.
    PathSgd(Box<PathSgd>),
    /// Balanced SGD.
    Balanced(Box<BalancedSgd>),
}

impl Stepper {
    /// The optimiser that the settings ask for, on this model.
    ///
    /// # Errors
    /// A setting is out of range, or the skeleton does not suit the weights.
    pub fn new(settings: &Settings, model: &Model) -> Result<Self, gsgd::Error> {
        use OptimizerName::*;
        Ok(match settings.optimizer {
            Sgd | Momentum | Adam => Self::WeightSpace(inner(settings)),
            PathSgd => Self::PathSgd(Box::new(gsgd::PathSgd::init(model, Unwired::Refuse)?)),
            BalancedSgd => {
                let until = Balance {
                    tolerance: 1e-3,
                    max_sweeps: 20,
                };
                Self::Balanced(Box::new(gsgd::BalancedSgd::init(
                    model,
                    until,
                    Unwired::Refuse,
                )?))
            }
            Gsgd | GMomentum | GAdam => {
                let config = match (settings.optimizer, settings.weight_decay == 0.0) {
                    (Gsgd, true) => GSpaceConfig::sgd(),
                    _ => GSpaceConfig::new(inner(settings)),
                };
                let config = config
                    .with_skeleton(settings.skeleton.into())
                    .with_coordinates(settings.coordinates().into())
                    .with_wiring(settings.wiring());
                let config = match settings.floor.0 {
                    Some(tau) => config.with_floor(tau),
                    None => config.without_floor(),
                };
                Self::PathSpace(Box::new(config.init(model)?))
            }
        })
    }

    /// One step.
    ///
    /// # Errors
    /// The gradient is not finite, or the coordinates end; the model comes back as it was.
    pub fn step(
        &mut self,
        lr: f64,
        model: Model,
        grads: GradientsParams,
    ) -> Result<Model, Box<Rejected<Model>>> {
        let stepped = match self {
            Self::WeightSpace(optim) => Ok(optim.step(lr, model, grads)),
            Self::PathSpace(optim) => optim.step(lr, model, grads),
            Self::PathSgd(optim) => optim.step(lr, model, grads),
            Self::Balanced(optim) => optim.step(lr, model, grads),
        };
        stepped.map_err(Box::new)
    }
}

/// Burn's optimiser: on weights as it is, or lifted.
fn inner(settings: &Settings) -> ModuleOptimizer {
    use OptimizerName::*;
    let decay = settings.weight_decay as f32;
    let decay = (decay > 0.0).then(|| WeightDecayConfig::new(decay));
    let momentum = MomentumConfig::new()
        .with_momentum(settings.momentum)
        .with_dampening(0.0);
    let momentum = matches!(settings.optimizer, Momentum | GMomentum).then_some(momentum);
    match settings.optimizer {
        Adam | GAdam => {
            let adam = AdamConfig::new().with_beta_1(0.9).with_beta_2(0.999);
            adam.with_epsilon(1e-8).with_weight_decay(decay).init()
        }
        _ => SgdConfig::new()
            .with_momentum(momentum)
            .with_weight_decay(decay)
            .init(),
    }
}
