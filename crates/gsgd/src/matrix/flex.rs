//! Tensors of Burn's CPU backend as memory to stream over.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind, Flex};
use burn::tensor::{DType, Tensor};
use gsgd_core::matrix::{Precision, Real, Slices};

/// Whole rows of CPU memory, one after the other, of f32 or f64.
#[derive(Debug, Clone)]
pub struct Memory(FlexTensor);

impl Slices for Memory {
    fn dims(&self) -> [usize; 2] {
        let shape = self.0.layout().shape();
        [shape[0], shape[1]]
    }

    fn number_type(&self) -> Precision {
        match self.0.dtype() {
            DType::F64 => Precision::Double,
            _ => Precision::Single,
        }
    }

    fn zeros(&self) -> Self {
        let like: Tensor<2> = self.clone().into();
        let zeros = Tensor::<2>::zeros(like.dims(), (&like.device(), like.dtype()));
        memory(zeros, self.dims()).unwrap_or_else(|_| unreachable!("it is like one"))
    }

    fn values<E: Real>(&self) -> &[E] {
        match E::PRECISION {
            Precision::Single => bytemuck::cast_slice(self.0.storage::<f32>()),
            Precision::Double => bytemuck::cast_slice(self.0.storage::<f64>()),
        }
    }

    fn values_mut<E: Real>(&mut self) -> &mut [E] {
        match E::PRECISION {
            Precision::Single => bytemuck::cast_slice_mut(self.0.storage_mut::<f32>()),
            Precision::Double => bytemuck::cast_slice_mut(self.0.storage_mut::<f64>()),
        }
    }
}

impl From<Memory> for Tensor<2> {
    fn from(memory: Memory) -> Self {
        Tensor::from_primitive::<Flex>(memory.0)
    }
}

/// A tensor's memory as a matrix of this shape, off the autodiff tape; the tensor itself where it is on another backend or
/// of another type than f32 and f64.
///
/// Looks at what the tensor is made of: to ask it for its device takes an allocation every time.
pub fn memory<const D: usize>(x: Tensor<D>, shape: [usize; 2]) -> Result<Memory, Box<Tensor<D>>> {
    let DispatchTensor { kind, autodiff } = x.into_dispatch();
    let tensor = |kind| {
        Err(Box::new(Tensor::from_dispatch(DispatchTensor {
            kind,
            autodiff,
        })))
    };
    let x = match kind {
        DispatchTensorKind::Flex(BackendTensor::Float(x)) => x,
        DispatchTensorKind::Autodiff(taped) => match *taped {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(x)) => x.into_primitive(),
            taped => return tensor(DispatchTensorKind::Autodiff(Box::new(taped))),
        },
        kind => return tensor(kind),
    };
    if !matches!(x.dtype(), DType::F32 | DType::F64) {
        return Err(Box::new(Tensor::from_primitive::<Flex>(x)));
    }
    let x = match **x.layout().shape() == shape {
        true => x,
        false => x.reshape(shape.into()),
    };
    Ok(Memory(
        match x.is_contiguous() && x.layout().start_offset() == 0 {
            true => x,
            false => x.to_contiguous(),
        },
    ))
}
