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
    let Combine { of_x, of_y, .. } = by;
    let grid = Grid::under(&x, of_x);
    let (finite, dots) = by_dtype!(x, E => {
            let plain = of_y.columns.iter().all(|&c| c == 1.0);
            let (xr, yr) = (&of_x.rows, &of_y.rows);
            let xc = narrow::<E>(&of_x.columns);
            let yc = if plain { Vec::new() } else { narrow(&of_y.columns) };
            grid.change(
                x.storage_mut::<E>(),
                [],
                y.storage::<E>(),
                Also { fixed: Fixed::of(by.fixed, []), dots: by.dots },
                #[inline(always)]
                |rows, x, [], y| {
                    // lists at hand: else they are looked up for every row
                    let (xr, yr, xc, yc) = (&xr[..], &yr[..], &xc[..], &yc[..]);
                    grid.each(rows, x, [], y,
    #[inline(always)]
    |row, x, [], y| {
                        let (xr, yr, at) = (E::of(xr[row]), E::of(yr[row]), grid.columns_at(row));
                        match plain {
                            true => combine_plain(x, y, &xc[at], xr, yr),
                            false => combine_line(x, y, &xc[at.clone()], &yc[at], xr, yr),
                        }
                    })
                },
            )
        });
    (x, finite, dots)
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
            let [v, a, b] = [v, of_w, of_change]
                .map(|lines| (narrow::<E>(&lines.rows), narrow::<E>(&lines.columns)));
            grid.change(
                w.storage_mut::<E>(),
                [],
                moved.storage::<E>(),
                Also { fixed: Fixed::of(fixed, []), dots: None },
                #[inline(always)]
                |rows, w, [], moved| {
                    let [(vr, vc), (ar, ac), (br, bc)] = [&v, &a, &b].map(|(r, c)| (&r[..], &c[..]));
                    grid.each(rows, w, [], moved,
    #[inline(always)]
    |row, w, [], moved| {
                        let (vr, ar, br, at) = (vr[row], ar[row], br[row], grid.columns_at(row));
                        let columns = vc[at.clone()].iter().zip(&ac[at.clone()]).zip(&bc[at]);
                        for ((w, &moved), ((&vc, &ac), &bc)) in w.iter_mut().zip(moved).zip(columns) {
                            let change = moved - (*w * vr) * vc;
                            *w = (*w * ar) * ac + (change * br) * bc;
                        }
                        true
                    })
                },
            );
        });
    w
}

pub fn advance(
    mut g: FlexTensor,
    w: &FlexTensor,
    mut moments: Vec<FlexTensor>,
    by: &Advance,
) -> (FlexTensor, Vec<FlexTensor>, bool, Vec<f64>) {
    let grid = Grid::under(&g, by.of_weights);
    let (finite, dots) = by_dtype!(g, E => {
            let narrowed = |lines: &Lines| (narrow::<E>(&lines.rows), narrow::<E>(&lines.columns));
            let [(gr, gc), (ar, ac), (br, bc)] =
                [by.gradient, by.of_weights, by.of_change].map(narrowed);
            // as where all heads are grounded; fewer columns stay nearer
            let shared = gc == bc && ac.iter().all(|&c| c == E::ONE);
            let [(gr, gc), (ar, ac), (br, bc)] =
                [(&gr, &gc), (&ar, &ac), (&br, &bc)].map(|(r, c)| (&r[..], &c[..]));
            let factors = move |row: usize| [gr[row], ar[row], br[row]];
            let (g, w) = (g.storage_mut::<E>(), w.storage::<E>());
            match (by.motion, moments.as_mut_slice(), by.fixed_moments) {
                (Motion::Ball { momentum, of_gradient, of_moment }, [m, ..], [fixed_m, ..]) => {
                    let numbers = [momentum, of_gradient, of_moment].map(E::of);
                    grid.change(
                        g,
                        [m.storage_mut::<E>()],
                        w,
                        Also { fixed: Fixed::of(by.fixed, [fixed_m]), dots: by.dots },
                        #[inline(always)]
                        |rows, g, [m], w| {
                            let (factors, gc, ac, bc) = (factors, gc, ac, bc);
                            grid.each(rows, g, [m], w,
    #[inline(always)]
    |row, g, [m], w| {
                                let (by, at) = (factors(row), grid.columns_at(row));
                                match shared {
                                    true => ball_line(g, m, w, by, thrice(&gc[at]), numbers),
                                    false => {
                                        let columns =
                                            triples(&gc[at.clone()], &ac[at.clone()], &bc[at]);
                                        ball_line(g, m, w, by, columns, numbers)
                                    }
                                }
                            })
                        },
                    )
                }
                (Motion::Adam { betas: [one, two], rate, correction, epsilon }, [m, s, ..], [fixed_m, fixed_s, ..]) => {
                    let numbers = [one, 1.0 - one, two, 1.0 - two, rate, correction, epsilon].map(E::of);
                    grid.change(
                        g,
                        [m.storage_mut::<E>(), s.storage_mut::<E>()],
                        w,
                        Also { fixed: Fixed::of(by.fixed, [fixed_m, fixed_s]), dots: by.dots },
                        #[inline(always)]
                        |rows, g, [m, s], w| {
                            let (factors, gc, ac, bc) = (factors, gc, ac, bc);
                            grid.each(rows, g, [m, s], w,
    #[inline(always)]
    |row, g, [m, s], w| {
                                let (by, at) = (factors(row), grid.columns_at(row));
                                match shared {
                                    true => adam_line(g, m, s, w, by, thrice(&gc[at]), numbers),
                                    false => {
                                        let columns =
                                            triples(&gc[at.clone()], &ac[at.clone()], &bc[at]);
                                        adam_line(g, m, s, w, by, columns, numbers)
                                    }
                                }
                            })
                        },
                    )
                }
                _ => unreachable!("a rule has its moments"),
            }
        });
    (g, moments, finite, dots)
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
    [one, rest_one, two, rest_two, rate, correction, epsilon]: [E; 7],
) -> bool {
    let mut greatest = Greatest::default();
    let numbers = g.iter_mut().zip(m).zip(s).zip(w);
    for ((((x, m), s), &w), [gc, ac, bc]) in numbers.zip(columns) {
        let (before, g) = ([*m, *s], (*x * gr) * gc);
        let next = [
            before[0] * one + g * rest_one,
            before[1] * two + (g * g) * rest_two,
        ];
        let change = next[0] * rate / ((next[1] * correction).root() + epsilon);
        let moved = (w * ar) * ac + (change * br) * bc;
        *x = moved;
        [*m, *s] = if moved.is_finite() { next } else { before };
        greatest = greatest.with(moved);
    }
    greatest.is_finite()
}
