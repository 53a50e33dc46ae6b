//! The tensors of a network, each with its name in files.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId, RunningState};
use burn::tensor::{Device, Tensor, TensorData};

use super::plan::{Form, Kept};
use super::value::Value;

/// A tensor of a network: a parameter of one to six axes, or a running statistic.
#[derive(Debug, Clone)]
pub enum Weight {
    /// Of one axis.
    D1(Param<Tensor<1>>),
    /// Of two.
    D2(Param<Tensor<2>>),
    /// Of three.
    D3(Param<Tensor<3>>),
    /// Of four.
    D4(Param<Tensor<4>>),
    /// Of five.
    D5(Param<Tensor<5>>),
    /// Of six.
    D6(Param<Tensor<6>>),
    /// A running mean or variance of a batch norm.
    Statistic(RunningState<Tensor<1>>),
}

/// What an expression makes of a weight's module.
macro_rules! of {
    ($weight:expr, $param:ident => $result:expr) => {
        match $weight {
            Weight::D1($param) => $result,
            Weight::D2($param) => $result,
            Weight::D3($param) => $result,
            Weight::D4($param) => $result,
            Weight::D5($param) => $result,
            Weight::D6($param) => $result,
            Weight::Statistic($param) => $result,
        }
    };
}

/// A weight of the same kind, from what an expression makes of its module.
macro_rules! made {
    ($weight:expr, $param:ident => $result:expr) => {
        match $weight {
            Weight::D1($param) => Weight::D1($result),
            Weight::D2($param) => Weight::D2($result),
            Weight::D3($param) => Weight::D3($result),
            Weight::D4($param) => Weight::D4($result),
            Weight::D5($param) => Weight::D5($result),
            Weight::D6($param) => Weight::D6($result),
            Weight::Statistic($param) => Weight::Statistic($result),
        }
    };
}

impl Weight {
    /// A tensor with these values in the file's order.
    pub(super) fn new(kept: &Kept, values: Vec<f32>, device: &Device) -> Self {
        fn param<const D: usize>(
            kept: &Kept,
            values: Vec<f32>,
            shape: [usize; D],
            device: &Device,
        ) -> Param<Tensor<D>> {
            let param =
                Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device));
            match kept.trains {
                true => param,
                false => param.set_require_grad(false),
            }
        }
        match (kept.form, &kept.shape[..]) {
            (Form::Turned, &[outputs, inputs]) => {
                let turned = turned(&values, outputs);
                Self::D2(param(kept, turned, [inputs, outputs], device))
            }
            (Form::Statistic, _) => {
                let count = values.len();
                let tensor = Tensor::from_data(TensorData::new(values, [count]), device);
                Self::Statistic(RunningState::new(tensor))
            }
            (_, []) => Self::D1(param(kept, values, [1], device)),
            (_, &[a]) => Self::D1(param(kept, values, [a], device)),
            (_, &[a, b]) => Self::D2(param(kept, values, [a, b], device)),
            (_, &[a, b, c]) => Self::D3(param(kept, values, [a, b, c], device)),
            (_, &[a, b, c, d]) => Self::D4(param(kept, values, [a, b, c, d], device)),
            (_, &[a, b, c, d, e]) => Self::D5(param(kept, values, [a, b, c, d, e], device)),
            (_, &[a, b, c, d, e, f]) => Self::D6(param(kept, values, [a, b, c, d, e, f], device)),
            (_, shape) => unreachable!("a plan has no tensor of shape {shape:?}"),
        }
    }

    /// The same parameter, of another id where one is given, with other values in the file's order.
    pub(super) fn with_values(self, kept: &Kept, values: Vec<f32>, id: Option<ParamId>) -> Self {
        struct Replacer {
            values: Vec<f32>,
            id: Option<ParamId>,
        }
        impl ModuleMapper for Replacer {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (id, tensor, mapper) = param.consume();
                let values = TensorData::new(std::mem::take(&mut self.values), tensor.dims());
                let filled = Tensor::<D>::from_data(values, &tensor.device());
                let filled = filled.set_require_grad(tensor.is_require_grad());
                Param::from_mapped_value(self.id.unwrap_or(id), filled, mapper)
            }
        }
        let values = match (kept.form, &kept.shape[..]) {
            (Form::Turned, &[outputs, _]) => turned(&values, outputs),
            _ => values,
        };
        match (self, id) {
            // the module of a statistic keeps its own id
            (Self::Statistic(state), Some(id)) => {
                let before = state.value();
                let data = TensorData::new(values, before.dims());
                let tensor = Tensor::<1>::from_data(data, &before.device());
                Self::Statistic(RunningState::with_id(id, tensor))
            }
            (weight, _) => weight.mapped(&mut Replacer { values, id }),
        }
    }

    /// Its tensor as a value.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::D1(param) => param.val().into(),
            Self::D2(param) => param.val().into(),
            Self::D3(param) => param.val().into(),
            Self::D4(param) => param.val().into(),
            Self::D5(param) => param.val().into(),
            Self::D6(param) => param.val().into(),
            Self::Statistic(state) => state.value().into(),
        }
    }

    /// What a module of Burn's has as its vector.
    pub(super) fn vector(&self) -> Param<Tensor<1>> {
        match self {
            Self::D1(param) => param.clone(),
            other => unreachable!("a plan takes no {other:?} for a vector"),
        }
    }

    /// As its matrix.
    pub(super) fn matrix(&self) -> Param<Tensor<2>> {
        match self {
            Self::D2(param) => param.clone(),
            other => unreachable!("a plan takes no {other:?} for a matrix"),
        }
    }

    /// As its filters.
    pub(super) fn filters(&self) -> Param<Tensor<4>> {
        match self {
            Self::D4(param) => param.clone(),
            other => unreachable!("a plan takes no {other:?} for filters"),
        }
    }

    /// As its running statistic, which it shares.
    pub(super) fn statistic(&self) -> RunningState<Tensor<1>> {
        match self {
            Self::Statistic(state) => state.clone(),
            other => unreachable!("a plan takes no {other:?} for a statistic"),
        }
    }

    /// Visits the parameter in it.
    pub(super) fn visited<V: ModuleVisitor>(&self, visitor: &mut V) {
        of!(self, param => param.visit(visitor));
    }

    /// Maps it.
    pub(super) fn mapped<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        made!(self, param => Module::map(param, mapper))
    }

    pub(super) fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        of!(self, param => param.collect_devices(devices))
    }

    pub(super) fn moved(self, device: &Device) -> Self {
        made!(self, param => param.to_device(device))
    }

    pub(super) fn fork(self, device: &Device) -> Self {
        made!(self, param => param.fork(device))
    }

    pub(super) fn valid(&self) -> Self {
        made!(self, param => param.valid())
    }

    pub(super) fn train(self) -> Self {
        made!(self, param => param.train())
    }

    pub(super) fn materialize(self) -> Self {
        made!(self, param => param.materialize())
    }
}

/// The values of a matrix of this many rows as those of its transpose.
pub(super) fn turned(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    let places = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    places.map(|at| values[at]).collect()
}
