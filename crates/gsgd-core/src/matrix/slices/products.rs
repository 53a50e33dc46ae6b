//! Sums of products by line, a row at a time.

use super::Real;
use super::grid::{FEW, Grid};

/// Running totals in a sum along a row.
const LANES: usize = 16;

/// Sums of the products of two matrices by column of every group: down a few rows in the type of the entries, all else in
/// f64.
pub(super) struct Products<E> {
    grid: Grid,
    few: Vec<E>,
    totals: Vec<f64>,
}

impl<E: Real> Products<E> {
    pub fn new(grid: Grid) -> Self {
        let columns = grid.groups * grid.columns;
        Self {
            grid,
            few: vec![E::ZERO; columns],
            totals: vec![0.0; columns],
        }
    }

    /// Adds those of a row.
    #[inline(always)]
    pub fn add(&mut self, row: usize, a: &[E], b: &[E]) {
        add_products(&mut self.few[self.grid.columns_at(row)], a, b);
        if row % FEW == FEW - 1 {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        for (total, few) in self.totals.iter_mut().zip(&mut self.few) {
            *total += few.to_f64();
            *few = E::ZERO;
        }
    }

    /// A sum per column of every group.
    #[inline(always)]
    pub fn sums(mut self) -> Vec<f64> {
        self.flush();
        self.totals
    }
}

#[inline(always)]
fn add_products<E: Real>(totals: &mut [E], a: &[E], b: &[E]) {
    for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
        *total += a * b;
    }
}

/// Sum of `of(a, b)` along a row in 16 running totals, which are then added up in pairs.
#[inline(always)]
pub(super) fn sum_along<A: Copy, B: Copy, T: Real>(
    a: &[A],
    b: &[B],
    of: impl Fn(A, B) -> T,
) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut four = four_along(a, b, &of);
    if a_rest.is_empty() {
        return one_of(four).to_f64();
    }
    let ((a, a_rest), (b, b_rest)) = (a_rest.as_chunks::<4>(), b_rest.as_chunks::<4>());
    for (a, b) in a.iter().zip(b) {
        for ((total, &a), &b) in four.iter_mut().zip(a).zip(b) {
            *total += of(a, b);
        }
    }
    let four = one_of(four);
    let mut rest = T::ZERO;
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        rest += of(a, b);
    }
    (four + rest).to_f64()
}

/// Sums along whole chunks, added up in pairs until four are left.
#[inline(always)]
fn four_along<A: Copy, B: Copy, T: Real>(
    a: &[[A; LANES]],
    b: &[[B; LANES]],
    of: impl Fn(A, B) -> T,
) -> [T; 4] {
    let mut totals = [T::ZERO; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
            *total += of(a, b);
        }
    }
    // else the loop above is cut into the pairs that are added here
    let totals = std::hint::black_box(totals);
    let eight: [T; 8] = std::array::from_fn(|at| totals[at] + totals[at + 8]);
    std::array::from_fn(|at| eight[at] + eight[at + 4])
}

/// The sum of four, in pairs.
#[inline(always)]
fn one_of<T: Real>(four: [T; 4]) -> T {
    // else what made them is cut into these pairs
    let four = std::hint::black_box(four);
    (four[0] + four[2]) + (four[1] + four[3])
}
