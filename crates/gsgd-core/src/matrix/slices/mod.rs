//! Matrices in CPU memory: one pass over it per operation, the only hot loops of the method.
//!
//! Loops run along rows, compiled for the vector instructions that the machine is found to have. A large matrix is
//! cut into blocks of rows that all cores share; the cut depends on the shape alone and partial sums are added up in
//! order, so no result depends on the number of threads.
//!
//! - [`real`]: the number types;
//! - [`grid`]: rows, columns and blocks, and what runs over them;
//! - [`sums`], [`products`]: sums by line;
//! - [`passes`], [`moments`]: what changes a matrix;
//! - [`fixed`]: single entries.

mod fixed;
mod grid;
mod moments;
mod passes;
mod products;
mod real;
mod sums;

use std::convert::Infallible;

pub use real::Real;
pub(super) use real::vectorised;

use super::{
    Combined, Entries, HeadSums, Matrix, MomentStep, Power, Precision, Readback, RowColScale,
    ScaledSum, Side,
};
use fixed::Fixed;

/// CPU memory that holds a matrix, whole rows one after the other. Whatever gives its numbers like this is a [`Matrix`].
pub trait Slices: Clone {
    /// Rows and columns.
    fn dims(&self) -> [usize; 2];

    /// The number type.
    fn number_type(&self) -> Precision;

    /// Zeros of the same shape and type.
    fn zeros(&self) -> Self;

    /// The numbers.
    ///
    /// # Panics
    /// If `E` is not their type.
    fn values<E: Real>(&self) -> &[E];

    /// The numbers, to be changed; a copy of them where something else holds them too.
    ///
    /// # Panics
    /// If `E` is not their type.
    fn values_mut<E: Real>(&mut self) -> &mut [E];
}

/// A matrix of its own memory.
///
/// ```
/// use gsgd_core::matrix::{Dense, Matrix, Side};
///
/// let w = Dense::new([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let sums = w.dots(&w, Side::Rows, 1).read();
/// println!("{sums:?}");
/// assert_eq!(sums, [14.0, 77.0]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Dense<E> {
    dims: [usize; 2],
    values: Vec<E>,
}

impl<E: Real> Dense<E> {
    /// A matrix of `[rows, columns]` from its entries, row by row.
    ///
    /// # Panics
    /// If there are not `rows * columns` of them.
    pub fn new(dims: [usize; 2], values: Vec<E>) -> Self {
        assert_eq!(dims[0] * dims[1], values.len(), "entries of {dims:?}");
        Self { dims, values }
    }

    /// The entries, row by row.
    pub fn entries(&self) -> &[E] {
        &self.values
    }
}

impl<E: Real> Slices for Dense<E> {
    fn dims(&self) -> [usize; 2] {
        self.dims
    }

    fn number_type(&self) -> Precision {
        E::PRECISION
    }

    fn zeros(&self) -> Self {
        Self {
            values: vec![E::ZERO; self.values.len()],
            ..*self
        }
    }

    fn values<F: Real>(&self) -> &[F] {
        assert_eq!(E::PRECISION, F::PRECISION);
        bytemuck::cast_slice(&self.values)
    }

    fn values_mut<F: Real>(&mut self) -> &mut [F] {
        assert_eq!(E::PRECISION, F::PRECISION);
        bytemuck::cast_slice_mut(&mut self.values)
    }
}

/// Runs `$body` with `$E` the number type of a matrix.
macro_rules! by_precision {
    ($x:expr, $E:ident => $body:expr) => {
        match $x.number_type() {
            Precision::Single => {
                type $E = f32;
                $body
            }
            Precision::Double => {
                type $E = f64;
                $body
            }
        }
    };
}

impl<S: Slices> Matrix for S {
    type Pending = Infallible;

    fn wait(_: Vec<Infallible>) -> Vec<Vec<f64>> {
        Vec::new()
    }

    fn precision(&self) -> Precision {
        self.number_type()
    }

    fn zeros_like(&self) -> Self {
        self.zeros()
    }

    fn to_vec(&self) -> Vec<f64> {
        by_precision!(self, E => self.values::<E>().iter().map(|x| x.to_f64()).collect())
    }

    fn is_finite(&self) -> Readback<bool, S> {
        by_precision!(self, E => sums::is_finite::<E>(self.values())).into()
    }

    fn dots(&self, g: &S, side: Side, groups: usize) -> Readback<Vec<f64>, S> {
        let grid = grid(self, groups);
        by_precision!(self, E => sums::dots::<E>(grid, self.values(), g.values(), side)).into()
    }

    fn head_sums(&self, g: &S, heads: Side, groups: usize, tails: &[f64]) -> Readback<HeadSums, S> {
        let grid = grid(self, groups);
        by_precision!(self, E => {
            sums::head_sums::<E>(grid, self.values(), g.values(), heads, tails)
        })
        .into()
    }

    fn powers(&self, side: Side, groups: usize, others: &[f64], p: Power) -> Readback<Vec<f64>, S> {
        let grid = grid(self, groups);
        by_precision!(self, E => sums::powers::<E>(grid, self.values(), side, others, p)).into()
    }

    fn maxima(&self, side: Side, groups: usize, others: &[f64]) -> Readback<Vec<f64>, S> {
        let grid = grid(self, groups);
        by_precision!(self, E => sums::maxima::<E>(grid, self.values(), side, others)).into()
    }

    fn scale(mut self, by: &RowColScale) -> S {
        let grid = grid_of(&self, by);
        by_precision!(self, E => passes::scale::<E>(grid, self.values_mut(), by));
        self
    }

    fn combine(mut self, y: &S, by: &ScaledSum) -> Combined<S> {
        let grid = grid_of(&self, by.of_x);
        let finite = by_precision!(self, E => {
            passes::combine::<E>(grid, self.values_mut(), y.values(), by)
        });
        Combined {
            matrix: self,
            finite: finite.into(),
        }
    }

    fn advances_finitely(&self, w: &S, moments: &[S], by: &MomentStep) -> Readback<bool, S> {
        let grid = grid_of(self, by.of_weights);
        by_precision!(self, E => {
            let moments = moments.iter().map(|m| m.values());
            moments::are_finite::<E>(grid, self.values(), w.values(), moments, by)
        })
        .into()
    }

    fn advance(mut self, w: &S, mut moments: Vec<S>, by: &MomentStep) -> (S, Vec<S>) {
        let grid = grid_of(&self, by.of_weights);
        by_precision!(self, E => {
            let moments = moments.iter_mut().map(|m| m.values_mut());
            moments::advance::<E>(grid, self.values_mut(), w.values(), moments, by)
        });
        (self, moments)
    }

    fn gather(&self, at: &[usize]) -> Readback<Vec<f64>, S> {
        let gathered: Vec<f64> = by_precision!(self, E => {
            let entries = self.values::<E>();
            at.iter().map(|&at| entries[at].to_f64()).collect()
        });
        gathered.into()
    }

    fn scatter(mut self, entries: Entries) -> S {
        by_precision!(self, E => {
            Fixed::new(entries, []).set::<E>(0, self.values_mut(), [])
        });
        self
    }
}

fn grid(x: &impl Slices, groups: usize) -> grid::Grid {
    let [rows, columns] = x.dims();
    grid::Grid {
        rows,
        columns,
        groups,
    }
}

/// The grid of a matrix with these factors.
fn grid_of(x: &impl Slices, by: &RowColScale) -> grid::Grid {
    grid(x, by.groups(x.dims()[1]))
}

impl<T: super::FromNumbers, S: Slices> From<T> for Readback<T, S> {
    fn from(given: T) -> Self {
        Self::Host(given)
    }
}
