//! The number types of matrices, and loops over them compiled for the machine.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use pulp::Arch;

use crate::matrix::Precision;

/// A number type of a matrix: f32 or f64.
pub trait Real:
    bytemuck::Pod
    + Send
    + Sync
    + PartialOrd
    + Default
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + sealed::Sealed
{
    /// Which it is.
    const PRECISION: Precision;
    /// 0.
    const ZERO: Self;
    /// [`abs_bits`](Self::abs_bits) of infinity.
    const INFINITE: Self::Size;
    /// An integer of as many bits.
    type Size: Copy + Ord + Default;
    /// The number without its sign as it is stored, which is an integer in the order of absolute values; NaN comes last.
    fn abs_bits(self) -> Self::Size;
    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    /// The square root.
    fn sqrt(self) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($E:ident, $Size:ident, $precision:ident) => {
        impl Real for $E {
            const PRECISION: Precision = Precision::$precision;
            const ZERO: Self = 0.0;
            const INFINITE: $Size = $E::INFINITY.to_bits();
            type Size = $Size;
            #[inline(always)]
            fn abs_bits(self) -> $Size {
                self.to_bits() & !(1 << ($Size::BITS - 1))
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $E
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
    };
}

real!(f32, u32, Single);
real!(f64, u64, Double);

pub(super) fn narrow<E: Real>(values: &[f64]) -> Vec<E> {
    values.iter().map(|&v| E::from_f64(v)).collect()
}

/// Runs `work`, compiled for the vector instructions of this machine.
///
/// Only what is inlined here is: closures on the way carry `#[inline(always)]` and are called directly, not through
/// references or iterator adapters.
#[inline(always)]
pub(in crate::matrix) fn vectorised<R>(work: impl FnMut() -> R) -> R {
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

/// The greatest size of some numbers, which tells whether all are finite: a maximum of integers costs a loop nothing, while
/// a conjunction holds up each turn for the one before.
#[derive(Clone, Copy, Default)]
pub(super) struct Greatest<E: Real>(E::Size);

impl<E: Real> Greatest<E> {
    #[inline(always)]
    pub fn with(self, x: E) -> Self {
        Self(self.0.max(x.abs_bits()))
    }

    #[inline(always)]
    pub fn is_finite(self) -> bool {
        self.0 < E::INFINITE
    }
}
