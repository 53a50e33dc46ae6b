//! What changes a matrix: one pass each.

use super::Real;
use super::fixed::Fixed;
use super::grid::Grid;
use super::real::{Greatest, narrow, vectorised};
use crate::matrix::{RowColScale, ScaledSum};

/// Factors of rows, and those of columns in the type of the entries.
pub(super) struct Factors<'a, E> {
    rows: &'a [f64],
    columns: Vec<E>,
}

impl<'a, E: Real> Factors<'a, E> {
    pub fn from_scale(scale: &'a RowColScale) -> Self {
        Self {
            rows: &scale.rows,
            columns: narrow(&scale.columns),
        }
    }

    /// Of rows and of columns.
    #[inline(always)]
    pub fn lists(&self) -> (&[f64], &[E]) {
        (self.rows, &self.columns)
    }
}

pub fn scale<E: Real>(grid: Grid, x: &mut [E], by: &RowColScale) {
    let by = Factors::<E>::from_scale(by);
    vectorised(
        #[inline(always)]
        || {
            let (rows, columns) = by.lists();
            for (row, x) in x.chunks_exact_mut(grid.columns).enumerate() {
                for (x, &column) in x.iter_mut().zip(&columns[grid.columns_at(row)]) {
                    *x = (*x * E::from_f64(rows[row])) * column;
                }
            }
        },
    );
}

/// x and y scaled and added, in the memory of x; whether all sums are finite.
pub fn combine<E: Real>(grid: Grid, x: &mut [E], y: &[E], by: &ScaledSum) -> bool {
    let factors = [by.of_x, by.of_y].map(Factors::<E>::from_scale);
    grid.change(
        x,
        [],
        y,
        Fixed::new(by.fixed, []),
        #[inline(always)]
        |first, x, [], y| {
            // lists at hand: else they are looked up for every row
            let [(xr, xc), (yr, yc)] = factors.each_ref().map(Factors::lists);
            grid.each(
                first,
                x,
                [],
                y,
                #[inline(always)]
                |row, at, x, [], y| {
                    let (xr, yr) = (E::from_f64(xr[row]), E::from_f64(yr[row]));
                    combine_line(x, y, &xc[at.clone()], &yc[at], xr, yr)
                },
            )
        },
    )
}

/// The slices are arguments of a function so that the compiler knows that they do not overlap.
#[inline(always)]
fn combine_line<E: Real>(x: &mut [E], y: &[E], xc: &[E], yc: &[E], xr: E, yr: E) -> bool {
    let mut greatest = Greatest::default();
    for ((x, &y), (&xc, &yc)) in x.iter_mut().zip(y).zip(xc.iter().zip(yc)) {
        *x = (*x * xr) * xc + (y * yr) * yc;
        greatest = greatest.with(*x);
    }
    greatest.is_finite()
}
