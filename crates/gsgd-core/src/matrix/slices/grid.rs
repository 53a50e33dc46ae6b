//! Rows, columns and blocks of a matrix, and what runs over them.

use std::ops::Range;

use super::Real;
use super::fixed::Fixed;
use super::real::vectorised;
use crate::matrix::Side;

/// Entries of a block of rows.
const BLOCK: usize = 1 << 15;
/// Rows that are summed by column in the type of the entries.
pub(super) const FEW: usize = 16;

/// Rows and columns of a matrix, and the groups of rows that have columns of their own.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub rows: usize,
    pub columns: usize,
    pub groups: usize,
}

impl Grid {
    /// The row's part of a list with an entry per column of every group.
    #[inline(always)]
    pub fn columns_at(self, row: usize) -> Range<usize> {
        let group = match self.groups {
            1 => 0,
            groups => row / (self.rows / groups),
        };
        group * self.columns..(group + 1) * self.columns
    }

    #[inline(always)]
    pub fn line(self, row: usize) -> Range<usize> {
        row * self.columns..(row + 1) * self.columns
    }

    /// Rows of a block on which sums by line of this side are taken, if any: more where every block has sums of its own
    /// for all columns.
    pub fn rows_for(self, sums: Option<Side>) -> usize {
        let rows = (BLOCK / self.columns).max(1);
        match sums {
            Some(Side::Columns) => rows.max(4 * FEW),
            _ => rows,
        }
    }

    /// `work` on every block of `step` rows, results in order.
    pub fn blocks<R: Send>(self, step: usize, work: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
        let block = |at: usize| work(at * step..self.rows.min((at + 1) * step));
        let count = self.rows.div_ceil(step);
        #[cfg(feature = "rayon")]
        if count > 3 && several_cores() {
            use rayon::prelude::*;
            return (0..count).into_par_iter().map(block).collect();
        }
        (0..count).map(block).collect()
    }

    /// `work(row, columns, line of x, lines of the moments, line of y)` on every row of these lines, of which this is the
    /// first, with the row's part of a list with an entry per column of every group; whether all said yes.
    #[inline(always)]
    pub fn each<E, const N: usize>(
        self,
        first: usize,
        x: &mut [E],
        mut moments: [&mut [E]; N],
        y: &[E],
        mut work: impl FnMut(usize, Range<usize>, &mut [E], [&mut [E]; N], &[E]) -> bool,
    ) -> bool {
        let mut good = true;
        let (mut row, end) = (first, first + y.len() / self.columns);
        // group by group: else every row looks for its own
        while row < end {
            let columns = self.columns_at(row);
            let next = end.min(columns.end / self.columns * (self.rows / self.groups));
            let part = (row - first) * self.columns..(next - first) * self.columns;
            let x = x[part.clone()].chunks_exact_mut(self.columns);
            let y = y[part].chunks_exact(self.columns);
            for (at, (x, y)) in (row..next).zip(x.zip(y)) {
                let moments = moments.each_mut().map(|m| &mut m[self.line(at - first)]);
                good &= work(at, columns.clone(), x, moments, y);
            }
            row = next;
        }
        good
    }

    /// `work(first row, lines of x, lines of the moments, lines of y)` on rows next to each other; after every block its
    /// fixed entries set, while it is near. Whether all of `work` said yes.
    #[inline(always)]
    pub fn change<E: Real, const N: usize>(
        self,
        x: &mut [E],
        mut moments: [&mut [E]; N],
        y: &[E],
        fixed: Fixed<N>,
        work: impl Fn(usize, &mut [E], [&mut [E]; N], &[E]) -> bool + Sync,
    ) -> bool {
        let step = self.rows_for(None);
        let block = step * self.columns;
        let run = |at: usize, fixed: Fixed<N>, x: &mut [E], mut moments: [&mut [E]; N], y: &[E]| {
            let good = vectorised(
                #[inline(always)]
                || work(at * step, x, moments.each_mut().map(|m| &mut **m), y),
            );
            fixed.set(at * block, x, moments);
            good
        };
        if y.len() <= block {
            return run(0, fixed, x, moments, y);
        }
        let mut parts = moments.each_mut().map(|m| m.chunks_mut(block));
        let blocks = x.chunks_mut(block).zip(y.chunks(block)).map(|(x, y)| {
            let moments = parts.each_mut().map(|part| part.next().unwrap_or_default());
            (x, moments, y)
        });
        let run = |(at, (x, moments, y)): (usize, (&mut [E], _, &[E]))| {
            let fixed = fixed.within(at * block..at * block + x.len());
            run(at, fixed, x, moments, y)
        };
        #[cfg(feature = "rayon")]
        if y.len() > 3 * block && several_cores() {
            use rayon::prelude::*;
            let blocks: Vec<_> = blocks.collect();
            let done = blocks.into_par_iter().enumerate().map(run);
            return done.reduce(|| true, |all, one| all & one);
        }
        blocks.enumerate().map(run).fold(true, |all, one| all & one)
    }

    /// A number per row: `of(row, line of x, line of y)`.
    #[inline(always)]
    pub fn per_row<E: Real>(
        self,
        x: &[E],
        y: &[E],
        of: impl Fn(usize, &[E], &[E]) -> f64 + Sync,
    ) -> Vec<f64> {
        let blocks = self.blocks(self.rows_for(Some(Side::Rows)), |rows| {
            vectorised(
                #[inline(always)]
                || {
                    // in place: a push would ask for room after every row
                    let mut totals = vec![0.0; rows.len()];
                    let part = rows.start * self.columns..rows.end * self.columns;
                    let x = x[part.clone()].chunks_exact(self.columns);
                    let y = y[part.clone()].chunks_exact(self.columns);
                    for (at, ((total, x), y)) in totals.iter_mut().zip(x).zip(y).enumerate() {
                        *total = of(rows.start + at, x, y);
                    }
                    totals
                },
            )
        });
        merged(Side::Rows, blocks)
    }

    /// N numbers per column of every group, summed over the group's rows: `add(row, totals of the row's columns)`.
    #[inline(always)]
    pub fn per_column<const N: usize>(
        self,
        add: impl Fn(usize, [&mut [f64]; N]) + Sync,
    ) -> [Vec<f64>; N] {
        let blocks = self.blocks(self.rows_for(Some(Side::Columns)), |rows| {
            vectorised(
                #[inline(always)]
                || {
                    let mut totals = [(); N].map(|()| vec![0.0; self.groups * self.columns]);
                    for row in rows.clone() {
                        let at = self.columns_at(row);
                        add(row, totals.each_mut().map(|t| &mut t[at.clone()]));
                    }
                    totals
                },
            )
        });
        let mut lists = [(); N].map(|()| Vec::with_capacity(blocks.len()));
        for block in blocks {
            for (list, totals) in lists.iter_mut().zip(block) {
                list.push(totals);
            }
        }
        lists.map(|blocks| merged(Side::Columns, blocks))
    }
}

/// Whether work is shared. A pool of one thread is another thread, on another core, than the one that has the data near.
#[cfg(feature = "rayon")]
fn several_cores() -> bool {
    rayon::current_num_threads() > 1
}

/// Sums of all rows from those of every block of them: one after the other, or added up in order.
pub(super) fn merged(side: Side, blocks: Vec<Vec<f64>>) -> Vec<f64> {
    let mut blocks = blocks.into_iter();
    let mut all = blocks.next().expect("a parameter has rows");
    for block in blocks {
        match side {
            Side::Rows => all.extend(block),
            Side::Columns => all.iter_mut().zip(block).for_each(|(t, p)| *t += p),
        }
    }
    all
}
