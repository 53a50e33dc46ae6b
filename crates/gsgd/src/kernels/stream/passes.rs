//! What changes a matrix: one pass each.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::entries::Fixed;
use super::grid::Grid;
use super::{Greatest, Real, narrow, vectorised};
use crate::kernels::{Entries, MomentStep, RowColScale, ScaledSum, StepCoefficients, all};

pub fn scale(mut x: FlexTensor, by: &RowColScale) -> FlexTensor {
    let grid = Grid::under(&x, by);
    by_dtype!(x, E => {
        let (rows, columns) = (narrow::<E>(&by.rows, by.times), narrow::<E>(&by.columns, 1.0));
        let x = x.storage_mut::<E>();
        vectorised(
            #[inline(always)]
            || {
                for (row, x) in x.chunks_exact_mut(grid.columns).enumerate() {
                    for (x, &column) in x.iter_mut().zip(&columns[grid.columns_at(row)]) {
                        *x = (*x * rows[row]) * column;
                    }
                }
            },
        );
    });
    x
}

pub fn combine(mut x: FlexTensor, y: &FlexTensor, by: &ScaledSum) -> (FlexTensor, bool) {
    let grid = Grid::under(&x, by.of_x);
    let finite = by_dtype!(x, E => combine_rows::<E>(grid, x.storage_mut(), y.storage(), by));
    (x, finite)
}

fn combine_rows<E: Real>(grid: Grid, x: &mut [E], y: &[E], by: &ScaledSum) -> bool {
    let ScaledSum { of_x, of_y, .. } = by;
    let plain = all(&of_y.columns, |c| c == 1.0);
    let xc = narrow::<E>(&of_x.columns, 1.0);
    let yc = if plain {
        Vec::new()
    } else {
        narrow::<E>(&of_y.columns, 1.0)
    };
    grid.change(
        x,
        [],
        y,
        Fixed::of(by.fixed, []),
        #[inline(always)]
        |first, x, [], y| {
            // lists at hand: else they are looked up for every row
            let (xr, yr, xc, yc) = (&of_x.rows[..], &of_y.rows[..], &xc[..], &yc[..]);
            let (xt, yt) = (of_x.times, of_y.times);
            let factors = |row: usize| (E::from_f64(xr[row] * xt), E::from_f64(yr[row] * yt));
            // a loop of its own: in one with the other it takes more instructions for every row
            if plain {
                return grid.each(
                    first,
                    x,
                    [],
                    y,
                    #[inline(always)]
                    |row, at, x, [], y| {
                        let (xr, yr) = factors(row);
                        combine_plain(x, y, &xc[at], xr, yr)
                    },
                );
            }
            grid.each(
                first,
                x,
                [],
                y,
                #[inline(always)]
                |row, at, x, [], y| {
                    let (xr, yr) = factors(row);
                    combine_line(x, y, &xc[at.clone()], &yc[at], xr, yr)
                },
            )
        },
    )
}

#[inline(always)]
fn combine_plain<E: Real>(x: &mut [E], y: &[E], xc: &[E], xr: E, yr: E) -> bool {
    let sum = |x: E, y: E, xc: E| (x * xr) * xc + y * yr;
    if let Some(finite) = combine_short(x, y, xc, sum) {
        return finite;
    }
    let mut greatest = Greatest::default();
    for ((x, &y), &xc) in x.iter_mut().zip(y).zip(xc) {
        *x = sum(*x, y, xc);
        greatest = greatest.with(*x);
    }
    greatest.is_finite()
}

/// A row of 8 to 15 entries, such as ten classes have, as two vectors that overlap, its first and its last eight: a loop
/// would take one entry after the other at its end.
#[inline(always)]
fn combine_short<E: Real>(
    x: &mut [E],
    y: &[E],
    xc: &[E],
    sum: impl Fn(E, E, E) -> E,
) -> Option<bool> {
    if x.len() > 15 {
        return None;
    }
    let eight = |mut x: [E; 8], y: &[E; 8], xc: &[E; 8]| {
        for ((x, &y), &xc) in x.iter_mut().zip(y).zip(xc) {
            *x = sum(*x, y, xc);
        }
        x
    };
    let first = eight(*x.first_chunk()?, y.first_chunk()?, xc.first_chunk()?);
    let last = eight(*x.last_chunk()?, y.last_chunk()?, xc.last_chunk()?);
    *x.first_chunk_mut()? = first;
    *x.last_chunk_mut()? = last;
    let pairs = first.iter().zip(&last);
    let greatest = pairs.fold(Greatest::default(), |all, (&a, &b)| all.with(a).with(b));
    Some(greatest.is_finite())
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

pub fn allocate(
    mut moved: FlexTensor,
    w: &FlexTensor,
    v: &RowColScale,
    of_w: &RowColScale,
    of_change: &RowColScale,
    fixed: &Entries,
) -> (FlexTensor, bool) {
    let grid = Grid::under(w, v);
    let finite = by_dtype!(w, E => {
        let lines = [v, of_w, of_change].map(Narrow::<E>::of);
        allocate_rows(grid, moved.storage_mut(), w.storage(), &lines, fixed)
    });
    (moved, finite)
}

fn allocate_rows<E: Real>(
    grid: Grid,
    moved: &mut [E],
    w: &[E],
    lines: &[Narrow<E>; 3],
    fixed: &Entries,
) -> bool {
    grid.change(
        moved,
        [],
        w,
        Fixed::of(fixed, []),
        #[inline(always)]
        |first, moved, [], w| {
            let [(vr, vc), (ar, ac), (br, bc)] = lines.each_ref().map(Narrow::lists);
            grid.each(
                first,
                moved,
                [],
                w,
                #[inline(always)]
                |row, at, moved, [], w| {
                    let (vr, ar, br) = (vr[row], ar[row], br[row]);
                    let columns = vc[at.clone()].iter().zip(&ac[at.clone()]).zip(&bc[at]);
                    let mut greatest = Greatest::default();
                    for ((x, &w), ((&vc, &ac), &bc)) in moved.iter_mut().zip(w).zip(columns) {
                        let change = *x - (w * vr) * vc;
                        *x = (w * ar) * ac + (change * br) * bc;
                        greatest = greatest.with(*x);
                    }
                    greatest.is_finite()
                },
            )
        },
    )
}

/// Factors in the type of the entries.
struct Narrow<E> {
    rows: Vec<E>,
    columns: Vec<E>,
}

impl<E: Real> Narrow<E> {
    fn of(lines: &RowColScale) -> Self {
        Self {
            rows: narrow(&lines.rows, lines.times),
            columns: narrow(&lines.columns, 1.0),
        }
    }

    /// Of rows and of columns.
    #[inline(always)]
    fn lists(&self) -> (&[E], &[E]) {
        (&self.rows, &self.columns)
    }
}

/// What an optimiser's formula makes of one number: its change and new moments.
trait Step<E, const N: usize>: Copy + Sync {
    fn change(self, g: E, moments: [E; N]) -> (E, [E; N]);
}

#[derive(Clone, Copy)]
struct Ball<E> {
    momentum: E,
    of_gradient: E,
    of_moment: E,
}

impl<E: Real> Step<E, 1> for Ball<E> {
    #[inline(always)]
    fn change(self, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
        let m = m * self.momentum + g;
        (g * self.of_gradient + m * self.of_moment, [m])
    }
}

#[derive(Clone, Copy)]
struct Adam<E> {
    /// By moment, what is kept of it and what is taken of the new.
    means: [[E; 2]; 2],
    rate: E,
    epsilon: E,
}

impl<E: Real> Step<E, 2> for Adam<E> {
    #[inline(always)]
    fn change(self, g: E, [m, s]: [E; 2]) -> (E, [E; 2]) {
        let [[keep_m, of_g], [keep_s, of_square]] = self.means;
        let (m, s) = (m * keep_m + g * of_g, s * keep_s + (g * g) * of_square);
        (m * self.rate / (s.sqrt() + self.epsilon), [m, s])
    }
}

/// Runs `$body` with `$step` the formula of a step in the type `$E`, and `$n` moments.
macro_rules! by_coefficients {
    ($coefficients:expr, $E:ty, $step:ident => $body:expr) => {
        match $coefficients {
            StepCoefficients::Ball {
                momentum,
                of_gradient,
                of_moment,
            } => {
                let [momentum, of_gradient, of_moment] =
                    [momentum, of_gradient, of_moment].map(<$E>::from_f64);
                let $step = Ball {
                    momentum,
                    of_gradient,
                    of_moment,
                };
                $body
            }
            StepCoefficients::Adam {
                betas,
                rate,
                epsilon,
            } => {
                let $step = Adam {
                    means: betas.map(|beta| [beta, 1.0 - beta].map(<$E>::from_f64)),
                    rate: <$E>::from_f64(rate),
                    epsilon: <$E>::from_f64(epsilon),
                };
                $body
            }
        }
    };
}

/// Factors of the gradient, of weights and of their change, by row and column.
struct Factors<E>([Narrow<E>; 3]);

impl<E: Real> Factors<E> {
    fn of(by: &MomentStep) -> Self {
        Self([by.gradient, by.of_weights, by.of_change].map(Narrow::of))
    }

    /// Whether those by column are one list for the gradient and the change, and 1 for weights, as where all heads are
    /// grounded; fewer lists stay nearer.
    fn are_shared(&self) -> bool {
        let Self([gradient, weights, change]) = self;
        gradient.columns == change.columns && weights.columns.iter().all(|&c| c == E::ONE)
    }
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

pub fn advances_finitely(
    g: &FlexTensor,
    w: &FlexTensor,
    moments: &[&FlexTensor],
    by: &MomentStep,
) -> bool {
    let grid = Grid::under(g, by.of_weights);
    by_dtype!(g, E => by_coefficients!(by.coefficients, E, step => {
        let moments = list(moments.iter().map(|m| m.storage::<E>()));
        rows_are_finite(grid, g.storage::<E>(), moments, w.storage::<E>(), &Factors::of(by), step)
    }))
}

fn rows_are_finite<E: Real, const N: usize>(
    grid: Grid,
    g: &[E],
    moments: [&[E]; N],
    w: &[E],
    factors: &Factors<E>,
    step: impl Step<E, N>,
) -> bool {
    let shared = factors.are_shared();
    let blocks = grid.blocks(grid.rows_for(None), |rows| {
        vectorised(
            #[inline(always)]
            || {
                let [(gr, gc), (ar, ac), (br, bc)] = factors.0.each_ref().map(Narrow::lists);
                let mut finite = true;
                for row in rows.clone() {
                    let (line, at) = (grid.line(row), grid.columns_at(row));
                    let of_row = [gr[row], ar[row], br[row]];
                    let (g, w) = (&g[line.clone()], &w[line.clone()]);
                    let moments = moments.map(|m| &m[line.clone()]);
                    let (gc, ac, bc) = (&gc[at.clone()], &ac[at.clone()], &bc[at]);
                    finite &= match shared {
                        true => {
                            line_is_finite(g, moments, w, of_row, step, |i| [gc[i], E::ONE, gc[i]])
                        }
                        false => {
                            line_is_finite(g, moments, w, of_row, step, |i| [gc[i], ac[i], bc[i]])
                        }
                    };
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
    step: impl Step<E, N>,
    columns: impl Fn(usize) -> [E; 3],
) -> bool {
    let w = &w[..g.len()];
    let moments = moments.map(|m| &m[..g.len()]);
    let mut greatest = Greatest::default();
    for at in 0..g.len() {
        let before = moments.map(|m| m[at]);
        let (moved, after) = stepped(step, [g[at], w[at]], before, rows, columns(at));
        greatest = after
            .iter()
            .fold(greatest.with(moved), |all, &m| all.with(m));
    }
    greatest.is_finite()
}

pub fn advance(
    mut g: FlexTensor,
    w: &FlexTensor,
    mut moments: Vec<FlexTensor>,
    by: &MomentStep,
) -> (FlexTensor, Vec<FlexTensor>) {
    let grid = Grid::under(&g, by.of_weights);
    by_dtype!(g, E => by_coefficients!(by.coefficients, E, step => {
        let moments = list(moments.iter_mut().map(|m| m.storage_mut::<E>()));
        advance_rows(grid, g.storage_mut::<E>(), moments, w.storage::<E>(), by, step);
    }));
    (g, moments)
}

/// As many as a rule has.
fn list<T, const N: usize>(moments: impl Iterator<Item = T>) -> [T; N] {
    let moments: Result<[T; N], _> = moments.collect::<Vec<T>>().try_into();
    moments.unwrap_or_else(|_| unreachable!("a rule has its moments"))
}

fn advance_rows<E: Real, const N: usize>(
    grid: Grid,
    g: &mut [E],
    moments: [&mut [E]; N],
    w: &[E],
    by: &MomentStep,
    step: impl Step<E, N>,
) {
    let factors = Factors::of(by);
    let shared = factors.are_shared();
    grid.change(
        g,
        moments,
        w,
        Fixed::of(by.fixed, std::array::from_fn(|at| &by.fixed_moments[at])),
        #[inline(always)]
        |first, g, moments, w| {
            let [(gr, gc), (ar, ac), (br, bc)] = factors.0.each_ref().map(Narrow::lists);
            grid.each(
                first,
                g,
                moments,
                w,
                #[inline(always)]
                |row, at, g, moments, w| {
                    let of_row = [gr[row], ar[row], br[row]];
                    let (gc, ac, bc) = (&gc[at.clone()], &ac[at.clone()], &bc[at]);
                    match shared {
                        true => {
                            advance_line(g, moments, w, of_row, step, |i| [gc[i], E::ONE, gc[i]])
                        }
                        false => {
                            advance_line(g, moments, w, of_row, step, |i| [gc[i], ac[i], bc[i]])
                        }
                    }
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
    step: impl Step<E, N>,
    columns: impl Fn(usize) -> [E; 3],
) {
    let w = &w[..g.len()];
    let mut moments = moments.map(|m| &mut m[..w.len()]);
    for at in 0..w.len() {
        let before = moments.each_ref().map(|m| m[at]);
        let (moved, after) = stepped(step, [g[at], w[at]], before, rows, columns(at));
        g[at] = moved;
        for (m, after) in moments.iter_mut().zip(after) {
            m[at] = after;
        }
    }
}
