//! What changes a matrix: one pass each.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::entries::Fixed;
use super::grid::{Also, Grid};
use super::{Greatest, Real, narrow, vectorised};
use crate::kernels::{Advance, Combine, Entries, Lines, Motion};

pub fn scale(mut x: FlexTensor, by: &Lines) -> FlexTensor {
    let grid = Grid::under(&x, by);
    by_dtype!(x, E => {
        let (rows, columns) = (narrow::<E>(&by.rows), narrow::<E>(&by.columns));
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

pub fn combine(mut x: FlexTensor, y: &FlexTensor, by: &Combine) -> (FlexTensor, bool, Vec<f64>) {
    let grid = Grid::under(&x, by.of_x);
    let (finite, dots) =
        by_dtype!(x, E => combine_rows::<E>(grid, x.storage_mut(), y.storage(), by));
    (x, finite, dots)
}

fn combine_rows<E: Real>(grid: Grid, x: &mut [E], y: &[E], by: &Combine) -> (bool, Vec<f64>) {
    let Combine { of_x, of_y, .. } = by;
    let plain = of_y.columns.iter().all(|&c| c == 1.0);
    let xc = narrow::<E>(&of_x.columns);
    let yc = if plain {
        Vec::new()
    } else {
        narrow::<E>(&of_y.columns)
    };
    let also = Also {
        fixed: Fixed::of(by.fixed, []),
        dots: by.dots,
    };
    grid.change(
        x,
        [],
        y,
        also,
        #[inline(always)]
        |rows, x, [], y| {
            // lists at hand: else they are looked up for every row
            let (xr, yr, xc, yc) = (&of_x.rows[..], &of_y.rows[..], &xc[..], &yc[..]);
            grid.each(
                rows,
                x,
                [],
                y,
                #[inline(always)]
                |row, x, [], y| {
                    let (xr, yr, at) = (E::of(xr[row]), E::of(yr[row]), grid.columns_at(row));
                    match plain {
                        true => combine_plain(x, y, &xc[at], xr, yr),
                        false => combine_line(x, y, &xc[at.clone()], &yc[at], xr, yr),
                    }
                },
            )
        },
    )
}

#[inline(always)]
fn combine_plain<E: Real>(x: &mut [E], y: &[E], xc: &[E], xr: E, yr: E) -> bool {
    let mut greatest = Greatest::default();
    for ((x, &y), &xc) in x.iter_mut().zip(y).zip(xc) {
        *x = (*x * xr) * xc + y * yr;
        greatest = greatest.with(*x);
    }
    greatest.is_finite()
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
    mut w: FlexTensor,
    moved: &FlexTensor,
    v: &Lines,
    of_w: &Lines,
    of_change: &Lines,
    fixed: &Entries,
) -> FlexTensor {
    let grid = Grid::under(&w, v);
    by_dtype!(w, E => {
        let lines = [v, of_w, of_change].map(Narrow::<E>::of);
        allocate_rows(grid, w.storage_mut(), moved.storage(), &lines, fixed);
    });
    w
}

fn allocate_rows<E: Real>(
    grid: Grid,
    w: &mut [E],
    moved: &[E],
    lines: &[Narrow<E>; 3],
    fixed: &Entries,
) {
    let also = Also {
        fixed: Fixed::of(fixed, []),
        dots: None,
    };
    grid.change(
        w,
        [],
        moved,
        also,
        #[inline(always)]
        |rows, w, [], moved| {
            let [(vr, vc), (ar, ac), (br, bc)] = lines.each_ref().map(Narrow::lists);
            grid.each(
                rows,
                w,
                [],
                moved,
                #[inline(always)]
                |row, w, [], moved| {
                    let (vr, ar, br, at) = (vr[row], ar[row], br[row], grid.columns_at(row));
                    let columns = vc[at.clone()].iter().zip(&ac[at.clone()]).zip(&bc[at]);
                    for ((w, &moved), ((&vc, &ac), &bc)) in w.iter_mut().zip(moved).zip(columns) {
                        let change = moved - (*w * vr) * vc;
                        *w = (*w * ar) * ac + (change * br) * bc;
                    }
                    true
                },
            )
        },
    );
}

/// Factors in the type of the entries.
struct Narrow<E> {
    rows: Vec<E>,
    columns: Vec<E>,
}

impl<E: Real> Narrow<E> {
    fn of(lines: &Lines) -> Self {
        Self {
            rows: narrow(&lines.rows),
            columns: narrow(&lines.columns),
        }
    }

    /// Of rows and of columns.
    #[inline(always)]
    fn lists(&self) -> (&[E], &[E]) {
        (&self.rows, &self.columns)
    }
}

pub fn advance(
    mut g: FlexTensor,
    w: &FlexTensor,
    mut moments: Vec<FlexTensor>,
    by: &Advance,
) -> (FlexTensor, Vec<FlexTensor>, bool, Vec<f64>) {
    let grid = Grid::under(&g, by.of_weights);
    let (finite, dots) = by_dtype!(g, E => {
        let (g, w) = (g.storage_mut::<E>(), w.storage::<E>());
        let lines = [by.gradient, by.of_weights, by.of_change].map(Narrow::of);
        match (by.motion, moments.as_mut_slice()) {
            (Motion::Ball { momentum, of_gradient, of_moment }, [m, ..]) => {
                let numbers = [momentum, of_gradient, of_moment].map(E::of);
                roll(grid, g, m.storage_mut(), w, &lines, numbers, by)
            }
            (Motion::Adam { betas: [one, two], rate, epsilon }, [m, s, ..]) => {
                let numbers = [one, 1.0 - one, two, 1.0 - two, rate, epsilon];
                let moments = [m.storage_mut(), s.storage_mut()];
                adapt(grid, g, moments, w, &lines, numbers.map(E::of), by)
            }
            _ => unreachable!("a rule has its moments"),
        }
    });
    (g, moments, finite, dots)
}

/// Whether the gradient and the change have the same columns and weights none, as where all heads are grounded; fewer
/// columns stay nearer.
fn share_columns<E: Real>([gradient, weights, change]: &[Narrow<E>; 3]) -> bool {
    gradient.columns == change.columns && weights.columns.iter().all(|&c| c == E::ONE)
}

fn roll<E: Real>(
    grid: Grid,
    g: &mut [E],
    m: &mut [E],
    w: &[E],
    lines: &[Narrow<E>; 3],
    numbers: [E; 3],
    by: &Advance,
) -> (bool, Vec<f64>) {
    let shared = share_columns(lines);
    let also = Also {
        fixed: Fixed::of(by.fixed, [&by.fixed_moments[0]]),
        dots: by.dots,
    };
    grid.change(
        g,
        [m],
        w,
        also,
        #[inline(always)]
        |rows, g, [m], w| {
            let [(gr, gc), (ar, ac), (br, bc)] = lines.each_ref().map(Narrow::lists);
            grid.each(
                rows,
                g,
                [m],
                w,
                #[inline(always)]
                |row, g, [m], w| {
                    let (rows, at) = ([gr[row], ar[row], br[row]], grid.columns_at(row));
                    if shared {
                        return ball_line(g, m, w, rows, thrice(&gc[at]), numbers);
                    }
                    let columns = triples(&gc[at.clone()], &ac[at.clone()], &bc[at]);
                    ball_line(g, m, w, rows, columns, numbers)
                },
            )
        },
    )
}

fn adapt<E: Real>(
    grid: Grid,
    g: &mut [E],
    moments: [&mut [E]; 2],
    w: &[E],
    lines: &[Narrow<E>; 3],
    numbers: [E; 6],
    by: &Advance,
) -> (bool, Vec<f64>) {
    let shared = share_columns(lines);
    let also = Also {
        fixed: Fixed::of(by.fixed, [&by.fixed_moments[0], &by.fixed_moments[1]]),
        dots: by.dots,
    };
    grid.change(
        g,
        moments,
        w,
        also,
        #[inline(always)]
        |rows, g, moments, w| {
            let [(gr, gc), (ar, ac), (br, bc)] = lines.each_ref().map(Narrow::lists);
            grid.each(
                rows,
                g,
                moments,
                w,
                #[inline(always)]
                |row, g, [m, s], w| {
                    let (rows, at) = ([gr[row], ar[row], br[row]], grid.columns_at(row));
                    if shared {
                        return adam_line(g, m, s, w, rows, thrice(&gc[at]), numbers);
                    }
                    let columns = triples(&gc[at.clone()], &ac[at.clone()], &bc[at]);
                    adam_line(g, m, s, w, rows, columns, numbers)
                },
            )
        },
    )
}

/// Factors of the gradient, of weights and of their change, by column: one for the gradient and the change, 1 for weights.
#[inline(always)]
fn thrice<E: Real>(columns: &[E]) -> impl Iterator<Item = [E; 3]> {
    columns.iter().map(|&c| [c, E::ONE, c])
}

/// The same, each with its own.
#[inline(always)]
fn triples<E: Real>(g: &[E], w: &[E], change: &[E]) -> impl Iterator<Item = [E; 3]> {
    let columns = g.iter().zip(w).zip(change);
    columns.map(|((&g, &w), &change)| [g, w, change])
}

#[inline(always)]
fn ball_line<E: Real>(
    g: &mut [E],
    m: &mut [E],
    w: &[E],
    [gr, ar, br]: [E; 3],
    columns: impl Iterator<Item = [E; 3]>,
    [momentum, of_gradient, of_moment]: [E; 3],
) -> bool {
    let mut greatest = Greatest::default();
    for (((x, m), &w), [gc, ac, bc]) in g.iter_mut().zip(m).zip(w).zip(columns) {
        let (before, g) = (*m, (*x * gr) * gc);
        let next = before * momentum + g;
        let change = g * of_gradient + next * of_moment;
        let moved = (w * ar) * ac + (change * br) * bc;
        *x = moved;
        *m = if moved.is_finite() { next } else { before };
        greatest = greatest.with(moved);
    }
    greatest.is_finite()
}

#[inline(always)]
fn adam_line<E: Real>(
    g: &mut [E],
    m: &mut [E],
    s: &mut [E],
    w: &[E],
    [gr, ar, br]: [E; 3],
    columns: impl Iterator<Item = [E; 3]>,
    [one, rest_one, two, rest_two, rate, epsilon]: [E; 6],
) -> bool {
    let mut greatest = Greatest::default();
    let numbers = g.iter_mut().zip(m).zip(s).zip(w);
    for ((((x, m), s), &w), [gc, ac, bc]) in numbers.zip(columns) {
        let (before, g) = ([*m, *s], (*x * gr) * gc);
        let next = [
            before[0] * one + g * rest_one,
            before[1] * two + (g * g) * rest_two,
        ];
        let change = next[0] * rate / (next[1].root() + epsilon);
        let moved = (w * ar) * ac + (change * br) * bc;
        *x = moved;
        [*m, *s] = if moved.is_finite() { next } else { before };
        greatest = greatest.with(moved);
    }
    greatest.is_finite()
}
