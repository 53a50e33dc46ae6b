//! Sums by line.

use super::Real;
use super::grid::{Grid, merged};
use super::products::{Products, sum_along};
use super::real::{Greatest, vectorised};
use crate::matrix::{HeadSums, Power, Side};

#[inline(always)]
fn power<E: Real>(w: E, p: Power) -> f64 {
    match p {
        Power::One => w.to_f64().abs(),
        Power::Two => w.to_f64() * w.to_f64(),
    }
}

pub fn is_finite<E: Real>(x: &[E]) -> bool {
    // one long row
    let grid = Grid {
        rows: x.len(),
        columns: 1,
        groups: 1,
    };
    let blocks = grid.blocks(grid.rows_for(None), |entries| {
        vectorised(
            #[inline(always)]
            || {
                let entries = x[entries.clone()].iter();
                let greatest = entries.fold(Greatest::default(), |all, &x| all.with(x));
                greatest.is_finite()
            },
        )
    });
    !blocks.contains(&false)
}

pub fn dots<E: Real>(grid: Grid, w: &[E], g: &[E], side: Side) -> Vec<f64> {
    if side == Side::Rows {
        return grid.per_row(
            w,
            g,
            #[inline(always)]
            |_, w, g| sum_along(w, g, |w, g| w * g),
        );
    }
    let blocks = grid.blocks(grid.rows_for(Some(side)), |rows| {
        vectorised(
            #[inline(always)]
            || {
                let mut products = Products::new(grid);
                for row in rows.clone() {
                    products.add(row, &w[grid.line(row)], &g[grid.line(row)]);
                }
                products.sums()
            },
        )
    });
    merged(side, blocks)
}

pub fn head_sums<E: Real>(grid: Grid, w: &[E], g: &[E], heads: Side, tails: &[f64]) -> HeadSums {
    let inverse: Vec<f64> = tails.iter().map(|factor| 1.0 / factor).collect();
    match heads {
        Side::Columns => columns_of_sums(grid, w, g, tails, &inverse),
        Side::Rows => rows_of_sums(grid, w, g, tails, &inverse),
    }
}

fn columns_of_sums<E: Real>(
    grid: Grid,
    w: &[E],
    g: &[E],
    tails: &[f64],
    inverse: &[f64],
) -> HeadSums {
    let [squares, dots, gradient_squares] = grid.per_column(
        #[inline(always)]
        |row, [squares, dots, gradient_squares]| {
            let (factor, inverse) = (tails[row], inverse[row]);
            let line = w[grid.line(row)].iter().zip(&g[grid.line(row)]);
            let totals = squares.iter_mut().zip(dots).zip(gradient_squares);
            for (((square, dot), gradient), (&w, &g)) in totals.zip(line) {
                let (w, g) = (w.to_f64(), g.to_f64());
                *square += (w * factor) * (w * factor);
                *dot += w * g;
                *gradient += (g * inverse) * (g * inverse);
            }
        },
    );
    HeadSums {
        squares,
        dots,
        gradient_squares,
    }
}

fn rows_of_sums<E: Real>(grid: Grid, w: &[E], g: &[E], tails: &[f64], inverse: &[f64]) -> HeadSums {
    let square = |x: E, factor: f64| (x.to_f64() * factor) * (x.to_f64() * factor);
    HeadSums {
        squares: grid.per_row(
            w,
            w,
            #[inline(always)]
            |row, w, _| sum_along(w, &tails[grid.columns_at(row)], square),
        ),
        dots: dots(grid, w, g, Side::Rows),
        gradient_squares: grid.per_row(
            g,
            g,
            #[inline(always)]
            |row, g, _| sum_along(g, &inverse[grid.columns_at(row)], square),
        ),
    }
}

pub fn powers<E: Real>(grid: Grid, w: &[E], side: Side, others: &[f64], p: Power) -> Vec<f64> {
    match side {
        Side::Rows => grid.per_row(
            w,
            w,
            #[inline(always)]
            |row, w, _| sum_along(w, &others[grid.columns_at(row)], |w, c| c * power(w, p)),
        ),
        Side::Columns => {
            let [totals] = grid.per_column(
                #[inline(always)]
                |row, [totals]| {
                    let factor = others[row];
                    for (total, &w) in totals.iter_mut().zip(&w[grid.line(row)]) {
                        *total += factor * power(w, p);
                    }
                },
            );
            totals
        }
    }
}

pub fn maxima<E: Real>(grid: Grid, w: &[E], side: Side, others: &[f64]) -> Vec<f64> {
    match side {
        Side::Rows => grid.per_row(
            w,
            w,
            #[inline(always)]
            |row, w, _| {
                let line = w.iter().zip(&others[grid.columns_at(row)]);
                line.fold(0.0, |most, (w, c)| most.max(c * w.to_f64().abs()))
            },
        ),
        Side::Columns => {
            let mut all = vec![0.0f64; grid.groups * grid.columns];
            for row in 0..grid.rows {
                let line = all[grid.columns_at(row)].iter_mut().zip(&w[grid.line(row)]);
                line.for_each(|(most, w)| *most = most.max(others[row] * w.to_f64().abs()));
            }
            all
        }
    }
}
