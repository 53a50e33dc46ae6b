//! One pass over the memory of a CPU tensor per operation; the only hot loops of the crate.
//!
//! Loops run along rows, compiled for the vector instructions that the machine is found to have. A large matrix is
//! cut into blocks of rows that all cores share; the cut depends on the shape alone and partial sums are added up in
//! order, so no result depends on the number of threads.

use std::ops::{Add, AddAssign, Div, Mul, Range, Sub};

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, Element, Tensor};
use pulp::Arch;

use super::{Advance, Entries, HeadSums, Lines, Motion, Power, Side};

/// Running totals in a sum along a row.
const LANES: usize = 16;
/// Rows that are summed in the type of the entries.
const FEW: usize = 16;
/// Entries of a block of rows.
const BLOCK: usize = 1 << 15;

trait Real:
    Element
    + bytemuck::Pod
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + PartialOrd
{
    const ZERO: Self;
    fn is_finite(self) -> bool;
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn root(self) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
}

/// Whether the tensor's memory can be streamed over.
pub fn takes(x: &Tensor<2>) -> bool {
    let device = x.device();
    matches!(x.dtype(), DType::F32 | DType::F64)
        && !device.is_autodiff()
        && device == Device::flex()
}

/// Its memory, whole rows one after the other.
pub fn memory(x: Tensor<2>) -> FlexTensor {
    let tensor = x
        .try_into_primitive::<Flex>()
        .expect("`takes` admits flex tensors only");
    let whole = tensor.is_contiguous() && tensor.layout().start_offset() == 0;
    if whole {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

fn narrow<E: Real>(values: &[f64]) -> Vec<E> {
    values.iter().map(|&v| E::of(v)).collect()
}

macro_rules! by_dtype {
    ($memory:expr, $E:ident => $body:expr) => {
        match $memory.dtype() {
            DType::F64 => {
                type $E = f64;
                $body
            }
            _ => {
                type $E = f32;
                $body
            }
        }
    };
}

/// Runs `work`, compiled for the vector instructions of this machine.
///
/// Only what is inlined here is: closures on the way carry `#[inline(always)]` and are called directly, not through
/// references or iterator adapters.
#[inline(always)]
fn vectorised<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;
        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// Whether work is shared. A pool of one thread is another thread, on another core, than the one that has the data near.
#[cfg(feature = "rayon")]
fn several_cores() -> bool {
    rayon::current_num_threads() > 1
}

/// Rows and columns of a matrix, and the groups of rows that have columns of their own.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
    groups: usize,
}

impl Grid {
    fn of(x: &FlexTensor, groups: usize) -> Self {
        let (rows, columns) = (x.layout().shape()[0], x.layout().shape()[1]);
        Self {
            rows,
            columns,
            groups,
        }
    }

    /// The grid of a matrix that has these lines.
    fn under(x: &FlexTensor, lines: &Lines) -> Self {
        Self::of(x, lines.groups(x.layout().shape()[1]))
    }

    /// The row's part of a list with an entry per column of every group.
    #[inline(always)]
    fn columns_at(self, row: usize) -> Range<usize> {
        let group = match self.groups {
            1 => 0,
            groups => row / (self.rows / groups),
        };
        group * self.columns..(group + 1) * self.columns
    }

    #[inline(always)]
    fn line(self, row: usize) -> Range<usize> {
        row * self.columns..(row + 1) * self.columns
    }

    fn rows_per_block(self) -> usize {
        (BLOCK / self.columns).max(1)
    }

    /// The same where every block has sums of its own for all columns.
    fn rows_per_sums(self) -> usize {
        self.rows_per_block().max(4 * FEW)
    }

    /// `work` on every block of so many rows, results in order.
    fn blocks<R: Send>(self, step: usize, work: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
        let block = |at: usize| work(at * step..self.rows.min((at + 1) * step));
        let count = self.rows.div_ceil(step);
        #[cfg(feature = "rayon")]
        if count > 3 && several_cores() {
            use rayon::prelude::*;
            return (0..count).into_par_iter().map(block).collect();
        }
        (0..count).map(block).collect()
    }

    /// `work(row, line of x, lines of the moments, line of y)` on every row, then the fixed entries of its block set,
    /// while it is near; whether all of `work` said yes.
    #[inline(always)]
    fn change<E: Real, const N: usize>(
        self,
        x: &mut [E],
        mut moments: [&mut [E]; N],
        y: &[E],
        fixed: Fixed<N>,
        work: impl Fn(usize, &mut [E], [&mut [E]; N], &[E]) -> bool + Sync,
    ) -> bool {
        let (step, columns) = (self.rows_per_block(), self.columns);
        let block = step * columns;
        let run = |at: usize, x: &mut [E], mut moments: [&mut [E]; N], y: &[E]| {
            let good = vectorised(
                #[inline(always)]
                || {
                    let mut good = true;
                    for row in 0..y.len() / columns {
                        let line = row * columns..(row + 1) * columns;
                        let of_moments = moments.each_mut().map(|m| &mut m[line.clone()]);
                        good &= work(at * step + row, &mut x[line.clone()], of_moments, &y[line]);
                    }
                    good
                },
            );
            fixed.set(at * block, x, moments);
            good
        };
        let mut parts = moments.each_mut().map(|m| m.chunks_mut(block));
        let blocks = x.chunks_mut(block).zip(y.chunks(block)).map(|(x, y)| {
            let moments = parts.each_mut().map(|part| part.next().unwrap_or_default());
            (x, moments, y)
        });
        #[cfg(feature = "rayon")]
        if y.len() > 3 * block && several_cores() {
            use rayon::prelude::*;
            let blocks: Vec<_> = blocks.collect();
            let good = blocks.into_par_iter().enumerate();
            let good = good.map(|(at, (x, moments, y))| run(at, x, moments, y));
            return good.reduce(|| true, |a, b| a & b);
        }
        let good = blocks.enumerate();
        good.fold(true, |all, (at, (x, moments, y))| {
            all & run(at, x, moments, y)
        })
    }

    /// A number per row: `of(row, line)`.
    #[inline(always)]
    fn per_row(self, of: impl Fn(usize) -> f64 + Sync) -> Vec<f64> {
        let mut blocks = self.blocks(self.rows_per_block(), |rows| {
            vectorised(
                #[inline(always)]
                || {
                    let mut totals = Vec::with_capacity(rows.len());
                    for row in rows.clone() {
                        totals.push(of(row));
                    }
                    totals
                },
            )
        });
        match blocks.len() {
            1 => blocks.remove(0),
            _ => blocks.concat(),
        }
    }

    /// N numbers per column of every group, summed over the group's rows: `add(row, totals of the row's columns)`.
    #[inline(always)]
    fn per_column<const N: usize>(
        self,
        add: impl Fn(usize, [&mut [f64]; N]) + Sync,
    ) -> [Vec<f64>; N] {
        self.added(
            #[inline(always)]
            |rows| {
                let mut totals = [(); N].map(|()| vec![0.0; self.groups * self.columns]);
                for row in rows {
                    let at = self.columns_at(row);
                    add(row, totals.each_mut().map(|t| &mut t[at.clone()]));
                }
                totals
            },
        )
    }

    /// Lists of numbers of every block of rows, added up in order.
    #[inline(always)]
    fn added<const N: usize>(
        self,
        of_block: impl Fn(Range<usize>) -> [Vec<f64>; N] + Sync,
    ) -> [Vec<f64>; N] {
        let blocks = self.blocks(self.rows_per_sums(), |rows| {
            vectorised(
                #[inline(always)]
                || of_block(rows.clone()),
            )
        });
        let mut blocks = blocks.into_iter();
        let mut totals = blocks.next().expect("a parameter has rows");
        for block in blocks {
            for (total, part) in totals.iter_mut().zip(block) {
                total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
            }
        }
        totals
    }
}

/// Sum of `of(a, b)` along a row in 16 running totals, which are then added up in pairs.
#[inline(always)]
fn sum_along<A: Copy, B: Copy, T: Real>(a: &[A], b: &[B], of: impl Fn(A, B) -> T) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut totals = [T::ZERO; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
            *total += of(a, b);
        }
    }
    let eight: [T; 8] = std::array::from_fn(|at| totals[at] + totals[at + 8]);
    let mut four: [T; 4] = std::array::from_fn(|at| eight[at] + eight[at + 4]);
    let ((a, a_rest), (b, b_rest)) = (a_rest.as_chunks::<4>(), b_rest.as_chunks::<4>());
    for (a, b) in a.iter().zip(b) {
        for ((total, &a), &b) in four.iter_mut().zip(a).zip(b) {
            *total += of(a, b);
        }
    }
    let mut rest = T::ZERO;
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        rest += of(a, b);
    }
    ((four[0] + four[2]) + (four[1] + four[3]) + rest).wide()
}

#[inline(always)]
fn power<E: Real>(w: E, p: Power) -> f64 {
    match p {
        Power::One => w.wide().abs(),
        Power::Two => w.wide() * w.wide(),
    }
}

pub fn is_finite(x: &FlexTensor) -> bool {
    let grid = Grid::of(x, 1);
    by_dtype!(x, E => {
        let x = x.storage::<E>();
        let of_blocks = grid.blocks(grid.rows_per_block(), |rows| {
            vectorised(
                #[inline(always)]
                || all_finite(&x[rows.start * grid.columns..rows.end * grid.columns]),
            )
        });
        of_blocks.into_iter().all(|finite| finite)
    })
}

pub fn dots(w: &FlexTensor, g: &FlexTensor, side: Side, groups: usize) -> Vec<f64> {
    let grid = Grid::of(w, groups);
    by_dtype!(w, E => line_dots(grid, w.storage::<E>(), g.storage::<E>(), side))
}

pub fn pairs(w: &FlexTensor, g: &FlexTensor, at: &[usize]) -> Vec<[f64; 2]> {
    by_dtype!(w, E => {
        let (w, g) = (w.storage::<E>(), g.storage::<E>());
        at.iter().map(|&i| [w[i].wide(), g[i].wide()]).collect()
    })
}

fn line_dots<E: Real>(grid: Grid, w: &[E], g: &[E], side: Side) -> Vec<f64> {
    match side {
        Side::Rows => grid.per_row(
            #[inline(always)]
            |row| sum_along(&w[grid.line(row)], &g[grid.line(row)], |w, g| w * g),
        ),
        Side::Columns => column_dots(grid, w, g),
    }
}

/// A few rows are summed in the type of the entries, and their sums in f64.
fn column_dots<E: Real>(grid: Grid, w: &[E], g: &[E]) -> Vec<f64> {
    let all = grid.groups * grid.columns;
    let [totals] = grid.added(
        #[inline(always)]
        |rows| {
            let (mut totals, mut few) = (vec![0.0; all], vec![E::ZERO; all]);
            for row in rows.clone() {
                let line = grid.line(row);
                add_products(&mut few[grid.columns_at(row)], &w[line.clone()], &g[line]);
                if row % FEW == FEW - 1 || row + 1 == rows.end {
                    for (total, few) in totals.iter_mut().zip(&mut few) {
                        *total += few.wide();
                        *few = E::ZERO;
                    }
                }
            }
            [totals]
        },
    );
    totals
}

#[inline(always)]
fn add_products<E: Real>(totals: &mut [E], w: &[E], g: &[E]) {
    for ((total, &w), &g) in totals.iter_mut().zip(w).zip(g) {
        *total += w * g;
    }
}

pub fn head_sums(
    w: &FlexTensor,
    g: &FlexTensor,
    heads: Side,
    groups: usize,
    tails: &[f64],
) -> HeadSums {
    let grid = Grid::of(w, groups);
    let inverse: Vec<f64> = tails.iter().map(|factor| 1.0 / factor).collect();
    by_dtype!(w, E => {
        let (w, g) = (w.storage::<E>(), g.storage::<E>());
        match heads {
            Side::Columns => columns_of_sums(grid, w, g, tails, &inverse),
            Side::Rows => rows_of_sums(grid, w, g, tails, &inverse),
        }
    })
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
                let (w, g) = (w.wide(), g.wide());
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
    let square = |x: E, factor: f64| (x.wide() * factor) * (x.wide() * factor);
    HeadSums {
        squares: grid.per_row(
            #[inline(always)]
            |row| sum_along(&w[grid.line(row)], &tails[grid.columns_at(row)], square),
        ),
        dots: line_dots(grid, w, g, Side::Rows),
        gradient_squares: grid.per_row(
            #[inline(always)]
            |row| sum_along(&g[grid.line(row)], &inverse[grid.columns_at(row)], square),
        ),
    }
}

pub fn powers(w: &FlexTensor, side: Side, groups: usize, others: &[f64], p: Power) -> Vec<f64> {
    let grid = Grid::of(w, groups);
    by_dtype!(w, E => {
        let w = w.storage::<E>();
        match side {
            Side::Rows => grid.per_row(
                #[inline(always)]
                |row| sum_along(&w[grid.line(row)], &others[grid.columns_at(row)], |w, c| c * power(w, p)),
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
    })
}

pub fn maxima(w: &FlexTensor, side: Side, groups: usize, others: &[f64]) -> Vec<f64> {
    let grid = Grid::of(w, groups);
    by_dtype!(w, E => {
        let w = w.storage::<E>();
        match side {
            Side::Rows => grid.per_row(
                #[inline(always)]
                |row| {
                    let line = w[grid.line(row)].iter().zip(&others[grid.columns_at(row)]);
                    line.fold(0.0, |most, (w, c)| most.max(c * w.wide().abs()))
                },
            ),
            Side::Columns => {
                let mut all = vec![0.0f64; groups * grid.columns];
                for row in 0..grid.rows {
                    let line = all[grid.columns_at(row)].iter_mut().zip(&w[grid.line(row)]);
                    line.for_each(|(most, w)| *most = most.max(others[row] * w.wide().abs()));
                }
                all
            }
        }
    })
}

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

pub fn combine(
    mut x: FlexTensor,
    y: &FlexTensor,
    of_x: &Lines,
    of_y: &Lines,
    fixed: &Entries,
) -> (FlexTensor, bool) {
    let grid = Grid::under(&x, of_x);
    let finite = by_dtype!(x, E => {
        let plain = of_y.columns.iter().all(|&c| c == 1.0);
        let (xr, yr) = (&of_x.rows, &of_y.rows);
        let (xc, yc) = (narrow::<E>(&of_x.columns), narrow::<E>(&of_y.columns));
        grid.change(
            x.storage_mut::<E>(),
            [],
            y.storage::<E>(),
            Fixed::of(fixed, []),
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
    (x, finite)
}

#[inline(always)]
fn all_finite<E: Real>(x: &[E]) -> bool {
    x.iter().fold(true, |all, x| all & x.is_finite())
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
            Fixed::of(fixed, []),
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
) -> (FlexTensor, Vec<FlexTensor>, bool) {
    let grid = Grid::under(&g, by.of_weights);
    let finite = by_dtype!(g, E => {
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
                    Fixed::of(by.fixed, [fixed_m]),
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
                    Fixed::of(by.fixed, [fixed_m, fixed_s]),
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
    (g, moments, finite)
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

/// Values of single entries of a matrix and of its moments, at ascending places.
#[derive(Clone, Copy)]
struct Fixed<'a, const N: usize> {
    at: &'a [usize],
    values: &'a [f64],
    of_moments: [&'a [f64]; N],
}

impl<'a, const N: usize> Fixed<'a, N> {
    fn of(entries: &'a Entries, of_moments: [&'a Vec<f64>; N]) -> Self {
        Self {
            at: &entries.at,
            values: &entries.values,
            of_moments: of_moments.map(Vec::as_slice),
        }
    }

    /// Sets those that lie in a block, which begins with the matrix's entry `start`.
    fn set<E: Real>(self, start: usize, x: &mut [E], moments: [&mut [E]; N]) {
        let before = |end: usize| self.at.partition_point(|&at| at < end);
        let mine = before(start)..before(start + x.len());
        let at = &self.at[mine.clone()];
        let put = |x: &mut [E], values: &[f64]| {
            for (&at, &value) in at.iter().zip(&values[mine.clone()]) {
                x[at - start] = E::of(value);
            }
        };
        put(x, self.values);
        for (moment, values) in moments.into_iter().zip(self.of_moments) {
            put(moment, values);
        }
    }
}

pub fn gather(x: &FlexTensor, at: &[usize]) -> Vec<f64> {
    by_dtype!(x, E => {
        let entries = x.storage::<E>();
        at.iter().map(|&i| entries[i].wide()).collect()
    })
}

pub fn put(mut x: FlexTensor, entries: &Entries) -> FlexTensor {
    by_dtype!(x, E => Fixed::of(entries, []).set(0, x.storage_mut::<E>(), []));
    x
}
