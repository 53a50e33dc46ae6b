//! One pass over the memory of a CPU tensor per operation; the only hot loops of the crate.
//!
//! Loops run along rows, compiled for the vector instructions that the machine is found to have. A large matrix is
//! cut into blocks of rows that all cores share; the cut depends on the shape alone and partial sums are added up in
//! order, so no result depends on the number of threads.
//!
//! - [`grid`]: rows, columns and blocks, and what runs over them;
//! - [`sums`]: sums by line;
//! - [`passes`]: what changes a matrix;
//! - [`entries`]: single entries.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind, Flex};
use burn::tensor::{DType, Element, Tensor};
use pulp::Arch;

use super::{Matrix, dense};

macro_rules! by_dtype {
    ($memory:expr, $E:ident => $body:expr) => {
        match $memory.dtype() {
            DType::F64 => {
                type $E = f64;
                $body
            }
            _ => {
                type $E = f32;
                $body
            }
        }
    };
}

mod entries;
mod grid;
mod passes;
mod products;
mod sums;

pub use entries::{gather, gather_products, scatter};
pub use passes::{advance, advances_finitely, allocate, combine, scale};
pub use sums::{dots, head_sums, is_finite, maxima, powers};

trait Real:
    Element
    + bytemuck::Pod
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + PartialOrd
{
    const ZERO: Self;
    const ONE: Self;
    /// The size of infinity.
    const INFINITE: Self::Size;
    /// A number without its sign as it is stored, which is an integer in the order of absolute values; NaN comes last.
    type Size: Copy + Ord + Default;
    fn abs_bits(self) -> Self::Size;
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    fn sqrt(self) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITE: u32 = f32::INFINITY.to_bits();
    type Size = u32;
    #[inline(always)]
    fn abs_bits(self) -> u32 {
        self.to_bits() & !(1 << 31)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITE: u64 = f64::INFINITY.to_bits();
    type Size = u64;
    #[inline(always)]
    fn abs_bits(self) -> u64 {
        self.to_bits() & !(1 << 63)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

/// A tensor as a matrix of this shape, off the autodiff tape: its memory, whole rows one after the other, where that can be
/// streamed over.
///
/// Looks at what the tensor is made of: to ask it for its device takes an allocation every time.
pub fn matrix<const D: usize>(x: Tensor<D>, shape: [usize; 2]) -> Matrix {
    let DispatchTensor { kind, autodiff } = x.into_dispatch();
    let tensor = |kind| {
        let tensor = Tensor::<D>::from_dispatch(DispatchTensor { kind, autodiff });
        dense::matrix(tensor, shape).into()
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
        return dense::matrix(Tensor::<D>::from_primitive::<Flex>(x), shape).into();
    }
    let x = match **x.layout().shape() == shape {
        true => x,
        false => x.reshape(shape.into()),
    };
    match x.is_contiguous() && x.layout().start_offset() == 0 {
        true => x.into(),
        false => x.to_contiguous().into(),
    }
}

fn narrow<E: Real>(values: &[f64], times: f64) -> Vec<E> {
    values.iter().map(|&v| E::from_f64(v * times)).collect()
}

/// Runs `work`, compiled for the vector instructions of this machine.
///
/// Only what is inlined here is: closures on the way carry `#[inline(always)]` and are called directly, not through
/// references or iterator adapters.
#[inline(always)]
pub fn vectorised<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;
        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// Whether work is shared. A pool of one thread is another thread, on another core, than the one that has the data near.
#[cfg(feature = "rayon")]
fn several_cores() -> bool {
    rayon::current_num_threads() > 1
}

/// The greatest size of some numbers, which tells whether all are finite: a maximum of integers costs a loop nothing, while
/// a conjunction holds up each turn for the one before.
#[derive(Clone, Copy, Default)]
struct Greatest<E: Real>(E::Size);

impl<E: Real> Greatest<E> {
    #[inline(always)]
    fn with(self, x: E) -> Self {
        Self(self.0.max(x.abs_bits()))
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        self.0 < E::INFINITE
    }
}

#[inline(always)]
fn all_finite<E: Real>(x: &[E]) -> bool {
    let greatest = x.iter().fold(Greatest::default(), |all, &x| all.with(x));
    greatest.is_finite()
}
