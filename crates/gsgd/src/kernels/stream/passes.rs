//! What changes a matrix: one pass each.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::entries::Fixed;
use super::grid::{Also, Grid};
use super::{Real, all_finite, narrow, vectorised};
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
        let (xc, yc) = (narrow::<E>(&of_x.columns), narrow::<E>(&of_y.columns));
        grid.change(
            x.storage_mut::<E>(),
            [],
            y.storage::<E>(),
            Also { fixed: Fixed::of(by.fixed, []), dots: by.dots },
            #[inline(always)]
            |row, x, [], y| {
                let (xr, yr, at) = (E::of(xr[row]), E::of(yr[row]), grid.columns_at(row));
                match plain {
                    true => combine_plain(x, y, &xc[at], xr, yr),
                    false => combine_line(x, y, &xc[at.clone()], &yc[at], xr, yr),
                }
            },
        )
    });
    (x, finite, dots)
}

#[inline(always)]
fn combine_plain<E: Real>(x: &mut [E], y: &[E], xc: &[E], xr: E, yr: E) -> bool {
    let mut finite = true;
    for ((x, &y), &xc) in x.iter_mut().zip(y).zip(xc) {
        *x = (*x * xr) * xc + y * yr;
        finite &= x.is_finite();
    }
    finite
}

/// The slices are arguments of a function so that the compiler knows that they do not overlap.
#[inline(always)]
fn combine_line<E: Real>(x: &mut [E], y: &[E], xc: &[E], yc: &[E], xr: E, yr: E) -> bool {
    let mut finite = true;
    for ((x, &y), (&xc, &yc)) in x.iter_mut().zip(y).zip(xc.iter().zip(yc)) {
        *x = (*x * xr) * xc + (y * yr) * yc;
        finite &= x.is_finite();
    }
    finite
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
            |row, w, [], moved| {
                let (vr, ar, br, at) = (v.0[row], a.0[row], b.0[row], grid.columns_at(row));
                let columns = v.1[at.clone()].iter().zip(&a.1[at.clone()]).zip(&b.1[at]);
                for ((w, &moved), ((&vc, &ac), &bc)) in w.iter_mut().zip(moved).zip(columns) {
                    let change = moved - (*w * vr) * vc;
                    *w = (*w * ar) * ac + (change * br) * bc;
                }
                true
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
        let lines = |row: usize| {
            let at = grid.columns_at(row);
            Columns {
                rows: [gr[row], ar[row], br[row]],
                columns: [&gc[at.clone()], &ac[at.clone()], &bc[at]],
            }
        };
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
                    |row, g, [m], w| {
                        if !all_finite(g) {
                            return false;
                        }
                        ball_line(g, m, w, lines(row), numbers)
                    },
                )
            }
            (Motion::Adam { betas: [one, two], rate, correction, epsilon }, [m, s, ..], [fixed_m, fixed_s, ..]) => {
                let betas = [one, 1.0 - one, two, 1.0 - two].map(E::of);
                let numbers = [rate, correction, epsilon].map(E::of);
                grid.change(
                    g,
                    [m.storage_mut::<E>(), s.storage_mut::<E>()],
                    w,
                    Also { fixed: Fixed::of(by.fixed, [fixed_m, fixed_s]), dots: by.dots },
                    #[inline(always)]
                    |row, g, [m, s], w| {
                        if !all_finite(g) {
                            return false;
                        }
                        adam_line(g, m, s, w, lines(row), betas, numbers)
                    },
                )
            }
            _ => unreachable!("a rule has its moments"),
        }
    });
    (g, moments, finite, dots)
}

/// The factors of a line: of the gradient, of weights and of their change.
struct Columns<'a, E> {
    rows: [E; 3],
    columns: [&'a [E]; 3],
}

#[inline(always)]
fn ball_line<E: Real>(
    g: &mut [E],
    m: &mut [E],
    w: &[E],
    by: Columns<E>,
    [momentum, of_gradient, of_moment]: [E; 3],
) -> bool {
    let mut finite = true;
    let ([gr, ar, br], [gc, ac, bc]) = (by.rows, by.columns);
    let columns = gc.iter().zip(ac).zip(bc);
    for (((x, m), &w), ((&gc, &ac), &bc)) in g.iter_mut().zip(m).zip(w).zip(columns) {
        let g = (*x * gr) * gc;
        *m = *m * momentum + g;
        let change = g * of_gradient + *m * of_moment;
        *x = (w * ar) * ac + (change * br) * bc;
        finite &= x.is_finite();
    }
    finite
}

#[inline(always)]
fn adam_line<E: Real>(
    g: &mut [E],
    m: &mut [E],
    s: &mut [E],
    w: &[E],
    by: Columns<E>,
    [one, rest_one, two, rest_two]: [E; 4],
    [rate, correction, epsilon]: [E; 3],
) -> bool {
    let mut finite = true;
    let ([gr, ar, br], [gc, ac, bc]) = (by.rows, by.columns);
    let columns = gc.iter().zip(ac).zip(bc);
    let numbers = g.iter_mut().zip(m).zip(s).zip(w);
    for ((((x, m), s), &w), ((&gc, &ac), &bc)) in numbers.zip(columns) {
        let g = (*x * gr) * gc;
        *m = *m * one + g * rest_one;
        *s = *s * two + (g * g) * rest_two;
        let change = *m * rate / ((*s * correction).root() + epsilon);
        *x = (w * ar) * ac + (change * br) * bc;
        finite &= x.is_finite();
    }
    finite
}
