//! The optimisers by name; one table for the command line, the comparison and the tests.

use anyhow::{Result, anyhow, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Bytes, Tensor};
use flex_kernels::optim::{self, WeightRule};
use gsgd::rescale::{Balance, Norm};
use gsgd::{BalancedSgd, GSpace, GSpaceConfig, Outside, PathSgd, Rejected};
use serde::Serialize;

use super::Settings;
use crate::models::{Net, name_now};

/// An optimiser of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize)]
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
    #[value(alias = "gsgd")]
    GSgd,
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
        Self::GSgd,
        Self::GMomentum,
        Self::GAdam,
    ];

    /// The learning rate where none is given: the one with the least training loss on the side-by-side run's network and
    /// data, of one grid for all (`results/lr-grid.csv`).
    pub fn default_lr(self) -> f64 {
        match self {
            Self::Sgd | Self::PathSgd | Self::GSgd => 0.3,
            Self::BalancedSgd => 0.1,
            Self::Momentum | Self::GMomentum => 0.03,
            Self::Adam | Self::GAdam => 0.003,
        }
    }

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Momentum => "momentum",
            Self::Adam => "adam",
            Self::PathSgd => "path-sgd",
            Self::BalancedSgd => "balanced-sgd",
            Self::GSgd => "g-sgd",
            Self::GMomentum => "g-momentum",
            Self::GAdam => "g-adam",
        }
    }
}

/// An optimiser at work.
#[derive(Clone)]
pub struct Stepper {
    optim: AnyOptimizer,
    clip_norm: Option<f64>,
}

#[derive(Clone)]
enum AnyOptimizer {
    /// On weights.
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
    pub fn new(settings: &Settings, model: &Net) -> Result<Self, gsgd::Error> {
        use OptimizerName::*;
        let optim = match settings.optimizer {
            Sgd | Momentum | Adam => AnyOptimizer::WeightSpace(inner(settings)),
            PathSgd => AnyOptimizer::PathSgd(Box::new(gsgd::PathSgd::init(
                &model.graph()?,
                Outside::Refuse,
            )?)),
            BalancedSgd => {
                let until = Balance {
                    norm: Norm::L2,
                    tolerance: 1e-3,
                    max_sweeps: 20,
                };
                AnyOptimizer::Balanced(Box::new(gsgd::BalancedSgd::init(
                    &model.graph()?,
                    until,
                    Outside::Refuse,
                )?))
            }
            GSgd | GMomentum | GAdam => AnyOptimizer::PathSpace(Box::new(
                lifted(settings).init_graph(model, &model.graph()?)?,
            )),
        };
        Ok(Self {
            optim,
            clip_norm: settings.clip_norm,
        })
    }

    /// An optimiser on weights.
    pub fn on_weights(optim: impl Into<ModuleOptimizer>) -> Self {
        Self {
            optim: AnyOptimizer::WeightSpace(optim.into()),
            clip_norm: None,
        }
    }

    /// The optimiser as [`to_bytes`](Self::to_bytes) left it, for the model of the same checkpoint.
    ///
    /// # Errors
    /// The bytes are no such state.
    pub fn restore(settings: &Settings, model: &Net, bytes: Vec<u8>) -> Result<Self> {
        use OptimizerName::*;
        let bytes = Bytes::from_bytes_vec(bytes);
        let optim = match settings.optimizer {
            Sgd | Momentum | Adam => {
                let record = OptimizerRecord::from_bytes(bytes);
                let record = record.map_err(|error| anyhow!("the optimiser's state: {error}"))?;
                let tensors = record.len();
                let optim = inner(settings).load_record(record);
                // what it cannot read it leaves out
                if optim.to_record().len() != tensors {
                    bail!(
                        "the optimiser's state is not one of {}",
                        settings.optimizer.as_str()
                    );
                }
                AnyOptimizer::WeightSpace(optim)
            }
            GSgd | GMomentum | GAdam => AnyOptimizer::PathSpace(Box::new(
                lifted(settings).from_renamed(bytes, model, &model.graph()?, name_now)?,
            )),
            PathSgd | BalancedSgd => return Ok(Self::new(settings, model)?),
        };
        Ok(Self {
            optim,
            clip_norm: settings.clip_norm,
        })
    }

    /// The optimiser's state.
    ///
    /// # Errors
    /// The state cannot be written down.
    pub fn to_bytes(&self) -> Result<Bytes> {
        Ok(match &self.optim {
            AnyOptimizer::WeightSpace(optim) => {
                let bytes = optim.to_record().into_bytes();
                bytes.map_err(|error| anyhow!("the optimiser's state: {error}"))?
            }
            AnyOptimizer::PathSpace(optim) => optim.to_bytes()?,
            // all they know follows from the weights
            AnyOptimizer::PathSgd(_) | AnyOptimizer::Balanced(_) => {
                Bytes::from_bytes_vec(Vec::new())
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
        model: Net,
        mut grads: GradientsParams,
    ) -> Result<Net, Box<Rejected<Net>>> {
        if let Some(largest) = self.clip_norm
            && !matches!(self.optim, AnyOptimizer::PathSpace(_))
        {
            clip(&model, &mut grads, largest);
        }
        let stepped = match &mut self.optim {
            AnyOptimizer::WeightSpace(optim) => Ok(optim.step(lr, model, grads)),
            AnyOptimizer::PathSpace(optim) => optim.step(lr, model, grads),
            AnyOptimizer::PathSgd(optim) => optim.step(lr, model, grads),
            AnyOptimizer::Balanced(optim) => optim.step(lr, model, grads),
        };
        stepped.map_err(Box::new)
    }
}

/// Scales the gradients of all parameters down to this l2 norm.
fn clip(model: &Net, grads: &mut GradientsParams, largest: f64) {
    struct Squares<'a>(&'a GradientsParams, f64);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(g) = self.0.get::<D>(param.id) {
                self.1 += (g.clone() * g).sum().into_scalar::<f64>();
            }
        }
    }
    struct Scale<'a>(&'a mut GradientsParams, f64);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(g) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, g.mul_scalar(self.1));
            }
        }
    }
    let mut squares = Squares(grads, 0.0);
    model.visit(&mut squares);
    let norm = squares.1.sqrt();
    if norm > largest {
        model.visit(&mut Scale(grads, largest / norm));
    }
}

/// The settings of a G optimiser.
fn lifted(settings: &Settings) -> GSpaceConfig {
    let decays = settings.weight_decay > 0.0;
    let config = match settings.optimizer {
        OptimizerName::GSgd if !decays => GSpaceConfig::sgd(),
        OptimizerName::GMomentum if !decays => GSpaceConfig::momentum(settings.momentum),
        OptimizerName::GAdam if !decays => GSpaceConfig::adam(),
        _ => GSpaceConfig::new(inner(settings)),
    };
    let config = config
        .with_skeleton(settings.skeleton())
        .with_coordinates(settings.coordinates().into())
        .with_scale_graph(settings.scale_graph_config());
    let config = match settings.floor.0 {
        Some(tau) => config.with_floor(tau),
        None => config.without_floor(),
    };
    match settings.clip_norm {
        Some(norm) => config.with_clip_norm(norm),
        None => config,
    }
}

/// The optimiser of weights, which is used on them or lifted to path values.
fn inner(settings: &Settings) -> ModuleOptimizer {
    use OptimizerName::*;
    let rule = match settings.optimizer {
        Adam | GAdam => WeightRule::Adam {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
        },
        Momentum | GMomentum => WeightRule::HeavyBall {
            momentum: settings.momentum as f32,
        },
        _ => WeightRule::Descent,
    };
    optim::optimizer(rule, settings.weight_decay as f32)
}
