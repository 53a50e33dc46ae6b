//! Which optimiser a strategy trains with.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Bytes;
use gsgd_core::graph::Graph;
use gsgd_core::rescale::Balance;

use crate::error::{Error, Rejected};
use crate::optim::{BalancedSgd, GSpace, GSpaceConfig, Outside, PathSgd};

/// What a [`Strategy`](super::Strategy) trains with.
#[derive(Clone)]
#[non_exhaustive]
pub enum Method {
    /// A [`GSpace`] optimiser.
    GSpace(GSpaceConfig),
    /// [`PathSgd`].
    PathSgd(Outside),
    /// [`BalancedSgd`], balanced as well as the first says at every step.
    BalancedSgd(Balance, Outside),
}

impl From<GSpaceConfig> for Method {
    fn from(config: GSpaceConfig) -> Self {
        Self::GSpace(config)
    }
}

impl Method {
    /// The optimiser at its start.
    pub(super) fn init<M: Module>(&self, model: &M, graph: &Graph) -> Result<Optimiser, Error> {
        Ok(match self {
            Self::GSpace(config) => Optimiser::GSpace(config.init_graph(model, graph)?),
            &Self::PathSgd(outside) => Optimiser::PathSgd(PathSgd::init(graph, outside)?),
            &Self::BalancedSgd(until, outside) => {
                Optimiser::BalancedSgd(BalancedSgd::init(graph, until, outside)?)
            }
        })
    }

    /// The optimiser as it was when its [state](Optimiser::state) was taken.
    pub(super) fn resume<M: Module>(
        &self,
        model: &M,
        graph: &Graph,
        state: Vec<u8>,
    ) -> Result<Optimiser, Error> {
        if let Self::GSpace(config) = self {
            let state = Bytes::from_bytes_vec(state);
            return Ok(Optimiser::GSpace(config.from_bytes(state, model, graph)?));
        }
        let optimiser = self.init(model, graph)?;
        match optimiser.state()? == state {
            true => Ok(optimiser),
            false => Err(Error::State {
                reason: "it was saved with another method".into(),
            }),
        }
    }
}

/// A [`Method`] at work on a model.
pub(super) enum Optimiser {
    GSpace(GSpace),
    PathSgd(PathSgd),
    BalancedSgd(BalancedSgd),
}

impl Optimiser {
    pub fn step<M: Module>(
        &mut self,
        lr: ModuleLearningRate,
        model: M,
        grads: GradientsParams,
    ) -> Result<M, Rejected<M>> {
        match self {
            Self::GSpace(optimiser) => optimiser.step(lr, model, grads),
            Self::PathSgd(optimiser) => optimiser.step(lr, model, grads),
            Self::BalancedSgd(optimiser) => optimiser.step(lr, model, grads),
        }
    }

    /// All it needs to go on; for those without a state, their name.
    pub fn state(&self) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Self::GSpace(optimiser) => optimiser.to_bytes()?.to_vec(),
            Self::PathSgd(_) => b"path-sgd".to_vec(),
            Self::BalancedSgd(_) => b"balanced-sgd".to_vec(),
        })
    }
}
