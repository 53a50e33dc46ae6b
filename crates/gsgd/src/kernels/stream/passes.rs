//! What changes a matrix: one pass each.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::entries::Fixed;
use super::grid::{Also, Grid};
use super::{Greatest, Real, narrow, vectorised};
use crate::kernels::{Advance, Combine, Entries, Lines, Motion, all};

pub fn scale(mut x: FlexTensor, by: &Lines) -> FlexTensor {
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

pub fn combine(mut x: FlexTensor, y: &FlexTensor, by: &Combine) -> (FlexTensor, bool, Vec<f64>) {
    let grid = Grid::under(&x, by.of_x);
    let (finite, dots) =
        by_dtype!(x, E => combine_rows::<E>(grid, x.storage_mut(), y.storage(), by));
    (x, finite, dots)
}

fn combine_rows<E: Real>(grid: Grid, x: &mut [E], y: &[E], by: &Combine) -> (bool, Vec<f64>) {
    let Combine { of_x, of_y, .. } = by;
    let plain = all(&of_y.columns, |c| c == 1.0);
    let xc = narrow::<E>(&of_x.columns, 1.0);
    let yc = if plain {
        Vec::new()
    } else {
        narrow::<E>(&of_y.columns, 1.0)
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
        |first, x, [], y| {
            // lists at hand: else they are looked up for every row
            let (xr, yr, xc, yc) = (&of_x.rows[..], &of_y.rows[..], &xc[..], &yc[..]);
            let (xt, yt) = (of_x.times, of_y.times);
            let factors = |row: usize| (E::of(xr[row] * xt), E::of(yr[row] * yt));
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
        |first, w, [], moved| {
            let [(vr, vc), (ar, ac), (br, bc)] = lines.each_ref().map(Narrow::lists);
            grid.each(
                first,
                w,
                [],
                moved,
                #[inline(always)]
                |row, at, w, [], moved| {
                    let (vr, ar, br) = (vr[row], ar[row], br[row]);
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
                advance_rows(
                    grid,
                    g,
                    [m.storage_mut()],
                    w,
                    &lines,
                    by,
                    #[inline(always)]
                    |g, [m], w, rows, columns| match columns {
                        Columns::Shared(c) => ball_line(g, m, w, rows, thrice(c), numbers),
                        Columns::Own(own) => ball_line(g, m, w, rows, triples(own), numbers),
                    },
                )
            }
            (Motion::Adam { betas: [one, two], rate, epsilon }, [m, s, ..]) => {
                let numbers = [one, 1.0 - one, two, 1.0 - two, rate, epsilon].map(E::of);
                advance_rows(
                    grid,
                    g,
                    [m.storage_mut(), s.storage_mut()],
                    w,
                    &lines,
                    by,
                    #[inline(always)]
                    |g, [m, s], w, rows, columns| match columns {
                        Columns::Shared(c) => adam_line(g, m, s, w, rows, thrice(c), numbers),
                        Columns::Own(own) => adam_line(g, m, s, w, rows, triples(own), numbers),
                    },
                )
            }
            _ => unreachable!("a rule has its moments"),
        }
    });
    (g, moments, finite, dots)
}

/// Factors of the gradient, of weights and of their change, by column.
enum Columns<'a, E> {
    /// One for the gradient and the change, 1 for weights, as where all heads are grounded; fewer columns stay nearer.
    Shared(&'a [E]),
    /// Each with its own.
    Own([&'a [E]; 3]),
}

/// `step(line of g, lines of the moments, line of w, factors of the row, factors by column)` on every row.
#[inline(always)]
fn advance_rows<E: Real, const N: usize>(
    grid: Grid,
    g: &mut [E],
    moments: [&mut [E]; N],
    w: &[E],
    lines: &[Narrow<E>; 3],
    by: &Advance,
    step: impl Fn(&mut [E], [&mut [E]; N], &[E], [E; 3], Columns<E>) -> bool + Sync,
) -> (bool, Vec<f64>) {
    let [gradient, weights, change] = lines;
    let shared = gradient.columns == change.columns && weights.columns.iter().all(|&c| c == E::ONE);
    let also = Also {
        fixed: Fixed::of(by.fixed, std::array::from_fn(|at| &by.fixed_moments[at])),
        dots: by.dots,
    };
    grid.change(
        g,
        moments,
        w,
        also,
        #[inline(always)]
        |first, g, moments, w| {
            let [(gr, gc), (ar, ac), (br, bc)] = lines.each_ref().map(Narrow::lists);
            grid.each(
                first,
                g,
                moments,
                w,
                #[inline(always)]
                |row, at, g, moments, w| {
                    let rows = [gr[row], ar[row], br[row]];
                    let columns = match shared {
                        true => Columns::Shared(&gc[at]),
                        false => Columns::Own([&gc[at.clone()], &ac[at.clone()], &bc[at]]),
                    };
                    step(g, moments, w, rows, columns)
                },
            )
        },
    )
}

#[inline(always)]
fn thrice<E: Real>(columns: &[E]) -> impl Iterator<Item = [E; 3]> {
    columns.iter().map(|&c| [c, E::ONE, c])
}

#[inline(always)]
fn triples<E: Real>([g, w, change]: [&[E]; 3]) -> impl Iterator<Item = [E; 3]> {
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
