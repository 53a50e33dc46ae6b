//! Burn's tensors as matrices.
//!
//! Each operation is there twice: in tensor operations ([`dense`], the readable reference, for any backend) and, for CPU
//! memory, as the core's pass over it ([`flex`]). [`Execution`] says which runs.

mod dense;
#[cfg(feature = "flex")]
mod flex;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::tensor::{DType, Tensor, Transaction};
use gsgd_core::matrix::{
    Combined, Entries, FromNumbers, HeadSums, Matrix, MomentStep, Power, Precision, Readback,
    RowColScale, ScaledSum, Side,
};

#[cfg(feature = "flex")]
use flex::Memory;

/// How whole-matrix operations are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Execution {
    /// One pass over the memory of CPU tensors, in place where they are uniquely owned; tensor operations for
    /// whatever is not an f32 or f64 tensor of Burn's flex backend.
    #[default]
    Fused,
    /// Tensor operations throughout: the readable reference, about eight times the work.
    Reference,
}

/// A matrix of weights, gradients or path values.
#[derive(Debug, Clone)]
pub(crate) enum BurnMatrix {
    /// In CPU memory.
    #[cfg(feature = "flex")]
    Memory(Memory),
    /// In a box, for it is three times as large.
    Tensor(Box<Tensor<2>>),
}

impl BurnMatrix {
    /// A tensor in this shape, off the autodiff tape.
    pub fn new<const D: usize>(tensor: Tensor<D>, shape: [usize; 2], execution: Execution) -> Self {
        #[cfg(feature = "flex")]
        let tensor = match execution {
            Execution::Fused => match flex::memory(tensor, shape) {
                Ok(memory) => return Self::Memory(memory),
                Err(tensor) => *tensor,
            },
            Execution::Reference => tensor,
        };
        #[cfg(not(feature = "flex"))]
        let _ = execution;
        dense::matrix(tensor, shape).into()
    }

    /// How operations on it are carried out.
    pub fn execution(&self) -> Execution {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(_) => Execution::Fused,
            Self::Tensor(_) => Execution::Reference,
        }
    }

    #[cfg(feature = "flex")]
    fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Memory(memory) => Some(memory),
            Self::Tensor(_) => None,
        }
    }
}

/// What the core gave, as what it is here.
#[cfg(feature = "flex")]
fn host<T>(readback: Readback<T, Memory>) -> Readback<T, BurnMatrix> {
    match readback {
        Readback::Host(given) => Readback::Host(given),
        Readback::Device(nothing) => match nothing {},
    }
}

/// Numbers that are still on a device.
fn device<T: FromNumbers>(numbers: Tensor<1>) -> Readback<T, BurnMatrix> {
    Readback::Device(Box::new(numbers))
}

fn combined((matrix, finite): (Tensor<2>, Tensor<1>)) -> Combined<BurnMatrix> {
    Combined {
        matrix: matrix.into(),
        finite: device(finite),
    }
}

/// An operation that gives numbers, from one matrix or from two: the core's on memory, ours on tensors.
macro_rules! numbers {
    ($name:ident($x:expr; $($rest:expr),*)) => {
        match $x {
            #[cfg(feature = "flex")]
            BurnMatrix::Memory(x) => host(x.$name($($rest),*)),
            BurnMatrix::Tensor(x) => device(dense::$name(x, $($rest),*)),
        }
    };
    ($name:ident($x:expr, $y:expr; $($rest:expr),*)) => {
        match ($x, $y) {
            #[cfg(feature = "flex")]
            (BurnMatrix::Memory(x), BurnMatrix::Memory(y)) => host(x.$name(y, $($rest),*)),
            (x, y) => device(dense::$name(x.clone().into(), y.clone().into(), $($rest),*)),
        }
    };
}

impl Matrix for BurnMatrix {
    type Pending = Box<Tensor<1>>;

    /// Reads those tensors of one device that are next to each other at once.
    #[cold]
    fn wait(pending: Vec<Box<Tensor<1>>>) -> Vec<Vec<f64>> {
        let runs = pending.chunk_by(|a, b| a.device() == b.device());
        let read = runs.flat_map(|run| {
            let all = run.iter().map(|numbers| (**numbers).clone());
            let all = all.fold(Transaction::default(), Transaction::register);
            all.execute()
        });
        read.map(|data| data.iter::<f64>().collect()).collect()
    }

    fn precision(&self) -> Precision {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(x) => x.precision(),
            Self::Tensor(x) => match x.dtype() {
                DType::F64 => Precision::Double,
                _ => Precision::Single,
            },
        }
    }

    fn zeros_like(&self) -> Self {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(x) => Self::Memory(x.zeros_like()),
            Self::Tensor(x) => x.zeros_like().into(),
        }
    }

    fn to_vec(&self) -> Vec<f64> {
        Tensor::from(self.clone())
            .into_data()
            .iter::<f64>()
            .collect()
    }

    fn is_finite(&self) -> Readback<bool, Self> {
        numbers!(is_finite(self;))
    }

    fn dots(&self, g: &Self, side: Side, groups: usize) -> Readback<Vec<f64>, Self> {
        numbers!(dots(self, g; side, groups))
    }

    fn head_sums(
        &self,
        g: &Self,
        heads: Side,
        groups: usize,
        tails: &[f64],
    ) -> Readback<HeadSums, Self> {
        numbers!(head_sums(self, g; heads, groups, tails))
    }

    fn powers(
        &self,
        side: Side,
        groups: usize,
        others: &[f64],
        p: Power,
    ) -> Readback<Vec<f64>, Self> {
        numbers!(powers(self; side, groups, others, p))
    }

    fn maxima(&self, side: Side, groups: usize, others: &[f64]) -> Readback<Vec<f64>, Self> {
        numbers!(maxima(self; side, groups, others))
    }

    fn scale(self, by: &RowColScale) -> Self {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(x) => Self::Memory(x.scale(by)),
            Self::Tensor(x) => dense::scale(&x, by).into(),
        }
    }

    fn combine(self, y: &Self, by: &ScaledSum) -> Combined<Self> {
        match (self, y) {
            #[cfg(feature = "flex")]
            (Self::Memory(x), Self::Memory(y)) => {
                let Combined { matrix, finite } = x.combine(y, by);
                Combined {
                    matrix: Self::Memory(matrix),
                    finite: host(finite),
                }
            }
            (x, y) => combined(dense::combine(x.into(), y.clone().into(), by)),
        }
    }

    fn advances_finitely(
        &self,
        w: &Self,
        moments: &[Self],
        by: &MomentStep,
    ) -> Readback<bool, Self> {
        #[cfg(feature = "flex")]
        if let (Self::Memory(g), Self::Memory(w)) = (self, w) {
            let moments = moments.iter().map(|moment| moment.memory().cloned());
            if let Some(moments) = moments.collect::<Option<Vec<Memory>>>() {
                return host(g.advances_finitely(w, &moments, by));
            }
        }
        let moments = moments.iter().cloned().map(Tensor::from).collect();
        let (g, w) = (self.clone().into(), w.clone().into());
        device(dense::advances_finitely(g, w, moments, by))
    }

    fn advance(self, w: &Self, moments: Vec<Self>, by: &MomentStep) -> (Self, Vec<Self>) {
        #[cfg(feature = "flex")]
        if let (Self::Memory(w), Self::Memory(_)) = (w, &self)
            && moments.iter().all(|moment| moment.memory().is_some())
        {
            let memory = |matrix| match matrix {
                Self::Memory(memory) => memory,
                Self::Tensor(_) => unreachable!("all are memory"),
            };
            let moments = moments.into_iter().map(memory).collect();
            let (moved, moments) = memory(self).advance(w, moments, by);
            let moments = moments.into_iter().map(Self::Memory);
            return (Self::Memory(moved), moments.collect());
        }
        let moments = moments.into_iter().map(Tensor::from).collect();
        let (moved, moments) = dense::advance(self.into(), w.clone().into(), moments, by);
        (moved.into(), moments.into_iter().map(Self::from).collect())
    }

    fn gather(&self, at: &[usize]) -> Readback<Vec<f64>, Self> {
        if at.is_empty() {
            return Readback::Host(Vec::new());
        }
        numbers!(gather(self; at))
    }

    fn scatter(self, entries: Entries) -> Self {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(x) => Self::Memory(x.scatter(entries)),
            Self::Tensor(x) => dense::scatter(*x, entries).into(),
        }
    }
}

impl From<Tensor<2>> for BurnMatrix {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Tensor(Box::new(tensor))
    }
}

impl From<BurnMatrix> for Tensor<2> {
    fn from(matrix: BurnMatrix) -> Self {
        match matrix {
            #[cfg(feature = "flex")]
            BurnMatrix::Memory(x) => x.into(),
            BurnMatrix::Tensor(x) => *x,
        }
    }
}
