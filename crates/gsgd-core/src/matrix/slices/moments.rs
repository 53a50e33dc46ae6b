//! A step of moments in one pass: weights, gradient and moments read, moments and new weights written.

use super::Real;
use super::fixed::Fixed;
use super::grid::Grid;
use super::passes::Factors;
use super::real::{Greatest, vectorised};
use crate::matrix::{Adam, Ball, MomentStep, Step, StepCoefficients};

/// Runs `$body` with `$step` the formula of a step in the type `$E`.
macro_rules! by_coefficients {
    ($coefficients:expr, $E:ty, $step:ident => $body:expr) => {
        match $coefficients {
            StepCoefficients::Ball(ball) => {
                let $step: Ball<$E> = ball.narrow();
                $body
            }
            StepCoefficients::Adam(adam) => {
                let $step: Adam<$E> = adam.narrow();
                $body
            }
        }
    };
}

/// Whether weights and moments are finite after the step; nothing is changed.
pub fn are_finite<'a, E: Real>(
    grid: Grid,
    g: &[E],
    w: &[E],
    moments: impl Iterator<Item = &'a [E]>,
    by: &MomentStep,
) -> bool {
    by_coefficients!(by.coefficients, E, step => {
        rows_are_finite(grid, g, list(moments), w, &factors(by), step)
    })
}

/// The step: new weights where the gradient was.
pub fn advance<'a, E: Real>(
    grid: Grid,
    g: &mut [E],
    w: &[E],
    moments: impl Iterator<Item = &'a mut [E]>,
    by: &MomentStep,
) {
    by_coefficients!(by.coefficients, E, step => {
        advance_rows(grid, g, list(moments), w, by, step);
    });
}

/// Factors of the gradient, of weights and of their change.
fn factors<'a, E: Real>(by: &MomentStep<'a>) -> [Factors<'a, E>; 3] {
    [by.gradient, by.of_weights, by.of_change].map(Factors::from_scale)
}

/// As many as a rule has.
fn list<T, const N: usize>(moments: impl Iterator<Item = T>) -> [T; N] {
    let moments: Result<[T; N], _> = moments.collect::<Vec<T>>().try_into();
    moments.unwrap_or_else(|_| unreachable!("a rule has its moments"))
}

/// A number after the step, and its moments.
#[inline(always)]
fn stepped<E: Real, const N: usize>(
    step: impl Step<E, N>,
    [g, w]: [E; 2],
    moments: [E; N],
    rows: [E; 3],
    columns: [E; 3],
) -> (E, [E; N]) {
    let ([gr, ar, br], [gc, ac, bc]) = (rows, columns);
    let (change, moments) = step.change((g * gr) * gc, moments);
    ((w * ar) * ac + (change * br) * bc, moments)
}

fn rows_are_finite<E: Real, const N: usize>(
    grid: Grid,
    g: &[E],
    moments: [&[E]; N],
    w: &[E],
    factors: &[Factors<E>; 3],
    step: impl Step<E, N>,
) -> bool {
    let blocks = grid.blocks(grid.rows_for(None), |rows| {
        vectorised(
            #[inline(always)]
            || {
                let [(gr, gc), (ar, ac), (br, bc)] = factors.each_ref().map(Factors::lists);
                let mut finite = true;
                for row in rows.clone() {
                    let (line, at) = (grid.line(row), grid.columns_at(row));
                    let of_row = [gr, ar, br].map(|rows| E::from_f64(rows[row]));
                    let columns = [&gc[at.clone()], &ac[at.clone()], &bc[at]];
                    let moments = moments.map(|m| &m[line.clone()]);
                    let (g, w) = (&g[line.clone()], &w[line]);
                    finite &= line_is_finite(g, moments, w, of_row, columns, step);
                }
                finite
            },
        )
    });
    !blocks.contains(&false)
}

#[inline(always)]
fn line_is_finite<E: Real, const N: usize>(
    g: &[E],
    moments: [&[E]; N],
    w: &[E],
    rows: [E; 3],
    columns: [&[E]; 3],
    step: impl Step<E, N>,
) -> bool {
    let w = &w[..g.len()];
    let moments = moments.map(|m| &m[..g.len()]);
    let columns = columns.map(|c| &c[..g.len()]);
    let mut greatest = Greatest::default();
    for at in 0..g.len() {
        let (before, columns) = (moments.map(|m| m[at]), columns.map(|c| c[at]));
        let (moved, after) = stepped(step, [g[at], w[at]], before, rows, columns);
        let all = after.iter();
        greatest = all.fold(greatest.with(moved), |all, &m| all.with(m));
    }
    greatest.is_finite()
}

fn advance_rows<E: Real, const N: usize>(
    grid: Grid,
    g: &mut [E],
    moments: [&mut [E]; N],
    w: &[E],
    by: &MomentStep,
    step: impl Step<E, N>,
) {
    let factors = factors(by);
    grid.change(
        g,
        moments,
        w,
        Fixed::new(
            by.fixed,
            std::array::from_fn(|at| &by.fixed_moments[at][..]),
        ),
        #[inline(always)]
        |first, g, moments, w| {
            let [(gr, gc), (ar, ac), (br, bc)] = factors.each_ref().map(Factors::lists);
            grid.each(
                first,
                g,
                moments,
                w,
                #[inline(always)]
                |row, at, g, moments, w| {
                    let of_row = [gr, ar, br].map(|rows| E::from_f64(rows[row]));
                    let columns = [&gc[at.clone()], &ac[at.clone()], &bc[at]];
                    advance_line(g, moments, w, of_row, columns, step);
                    true
                },
            )
        },
    );
}

#[inline(always)]
fn advance_line<E: Real, const N: usize>(
    g: &mut [E],
    moments: [&mut [E]; N],
    w: &[E],
    rows: [E; 3],
    columns: [&[E]; 3],
    step: impl Step<E, N>,
) {
    let w = &w[..g.len()];
    let mut moments = moments.map(|m| &mut m[..w.len()]);
    let columns = columns.map(|c| &c[..w.len()]);
    for at in 0..w.len() {
        let (before, columns) = (moments.each_ref().map(|m| m[at]), columns.map(|c| c[at]));
        let (moved, after) = stepped(step, [g[at], w[at]], before, rows, columns);
        g[at] = moved;
        for (m, after) in moments.iter_mut().zip(after) {
            m[at] = after;
        }
    }
}
