//! An optimiser of Burn's that carries the state of another one into checkpoints and out of them.
//!
//! Burn's learner writes the record of its own optimiser, and loads it, and lets nobody else at either. So a record of the
//! carrier is made from the state, and what the carrier is made to load is put where the strategy finds it.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::ParamGroup;
use burn::optim::{
    DynOptimizer, DynState, LearningRate, ModuleOptimizer, OptimizerRecord, SgdConfig, StateSink,
    StateSource,
};
use burn::tensor::kind::BridgeTensor;
use burn::tensor::{Bytes, DType, Device, Shape, TensorData};
use burn_pack::{Tensor, Writer};

use crate::error::Error;

/// The name of the state in the record. The parameter that it is filed under stands for all of them.
const FIELD: &str = "gsgd";
const PARAMETER: u64 = 0;

/// Where a carrier puts the state that it was made to load.
#[derive(Clone, Default)]
pub(super) struct Loaded(Arc<Mutex<Option<Vec<u8>>>>);

impl Loaded {
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.take()
    }

    fn put(&self, loaded: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
    }
}

struct Carrier(Loaded);

/// An optimiser for a learner, to carry a state. By itself it leaves weights as they are.
pub(super) fn optimizer(loaded: Loaded) -> ModuleOptimizer {
    // the carrier takes every parameter from the optimiser that comes first
    SgdConfig::new()
        .init()
        .with_group(ParamGroup::all(), Carrier(loaded), None)
}

/// The record that the carrier loads this state from.
pub(super) fn record(state: Vec<u8>) -> Result<OptimizerRecord, Error> {
    let (name, shape) = (format!("{PARAMETER}.{FIELD}"), Shape::new([state.len()]));
    let bytes = Bytes::from_bytes_vec(state);
    let tensor = Tensor::new(name, DType::U8, shape, Some(PARAMETER), bytes);
    let unfit = |error: &dyn std::fmt::Display| Error::State {
        reason: error.to_string(),
    };
    let bytes = Writer::new(vec![tensor]).into_bytes();
    let bytes = bytes.map_err(|error| unfit(&error))?;
    OptimizerRecord::from_bytes(bytes).map_err(|error| unfit(&error))
}

impl DynOptimizer for Carrier {
    fn step_dyn(
        &self,
        _: usize,
        _: LearningRate,
        tensor: BridgeTensor,
        _: BridgeTensor,
        state: Option<DynState>,
    ) -> (BridgeTensor, Option<DynState>) {
        (tensor, state)
    }

    fn to_device_dyn(&self, state: DynState, _: &Device) -> DynState {
        state
    }

    fn state_flatten(&self, prefix: &str, state: &DynState, out: &mut StateSink) {
        let state: &Vec<u8> = state.downcast_ref();
        let data = TensorData::new(state.clone(), [state.len()]);
        out.push_tensor(prefix, FIELD, data);
    }

    fn state_unflatten(
        &self,
        rank: usize,
        prefix: &str,
        source: &mut StateSource,
        _: &Device,
    ) -> Option<DynState> {
        let state = source.take_tensor(prefix, FIELD)?.as_bytes().to_vec();
        self.0.put(state.clone());
        Some(DynState::create(state, rank))
    }
}
