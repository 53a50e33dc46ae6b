//! One pass over the memory of a CPU tensor per operation; the only hot loops of the crate.
//!
//! Loops run over rows and, within a row, over blocks of 16 entries that the compiler turns into vector
//! instructions. Sums keep 16 running totals and are added up in f64. No result depends on the number of threads.

use std::ops::{Add, AddAssign, Mul, Sub};

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, Element, Tensor};

use super::{ColumnSums, Lines, Power};

const BLOCK: usize = 16;

trait Real:
    Element + bytemuck::Pod + Add<Output = Self> + AddAssign + Sub<Output = Self> + Mul<Output = Self>
{
    const ZERO: Self;
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    fn of(value: f64) -> Self {
        value as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    fn of(value: f64) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self
    }
}

/// Whether the tensor's memory can be streamed over.
pub fn takes(x: &Tensor<2>) -> bool {
    matches!(x.dtype(), DType::F32 | DType::F64) && !x.is_autodiff() && x.device() == Device::flex()
}

fn memory(x: Tensor<2>) -> FlexTensor {
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

fn tensor(memory: FlexTensor) -> Tensor<2> {
    Tensor::from_primitive::<Flex>(memory)
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

pub fn row_dots(w: Tensor<2>, g: Tensor<2>) -> Vec<f64> {
    let rows = w.dims()[0];
    let (w, g) = (memory(w), memory(g));
    by_dtype!(w, E => dots(w.storage::<E>(), g.storage::<E>(), rows))
}

fn dots<E: Real>(w: &[E], g: &[E], rows: usize) -> Vec<f64> {
    let columns = w.len() / rows;
    w.chunks_exact(columns)
        .zip(g.chunks_exact(columns))
        .map(|(w, g)| dot(w, g))
        .collect()
}

fn dot<E: Real>(a: &[E], b: &[E]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<BLOCK>(), b.as_chunks::<BLOCK>());
    let mut totals = [E::ZERO; BLOCK];
    for (a, b) in a.iter().zip(b) {
        for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
            *total += a * b;
        }
    }
    for ((total, &a), &b) in totals.iter_mut().zip(a_rest).zip(b_rest) {
        *total += a * b;
    }
    totals.iter().map(|total| total.wide()).sum()
}

pub fn column_sums(w: Tensor<2>, g: Tensor<2>, rows: &[f64]) -> ColumnSums {
    let columns = w.dims()[1];
    let (w, g) = (memory(w), memory(g));
    by_dtype!(w, E => sums(w.storage::<E>(), g.storage::<E>(), rows, columns))
}

fn sums<E: Real>(w: &[E], g: &[E], rows: &[f64], columns: usize) -> ColumnSums {
    let mut of = ColumnSums {
        squares: vec![0.0; columns],
        dots: vec![0.0; columns],
        gradient_squares: vec![0.0; columns],
    };
    for ((w, g), &factor) in w
        .chunks_exact(columns)
        .zip(g.chunks_exact(columns))
        .zip(rows)
    {
        let inverse = 1.0 / factor;
        let sums = of
            .squares
            .iter_mut()
            .zip(&mut of.dots)
            .zip(&mut of.gradient_squares);
        for (((square, dot), gradient), (&w, &g)) in sums.zip(w.iter().zip(g)) {
            let (w, g) = (w.wide(), g.wide());
            *square += (w * factor) * (w * factor);
            *dot += w * g;
            *gradient += (g * inverse) * (g * inverse);
        }
    }
    of
}

pub fn row_powers(w: Tensor<2>, columns: &[f64], p: Power) -> Vec<f64> {
    let w = memory(w);
    by_dtype!(w, E => w
        .storage::<E>()
        .chunks_exact(columns.len())
        .map(|row| row_power(row, columns, p))
        .collect())
}

fn row_power<E: Real>(row: &[E], columns: &[f64], p: Power) -> f64 {
    let ((w, w_rest), (c, c_rest)) = (row.as_chunks::<BLOCK>(), columns.as_chunks::<BLOCK>());
    let mut totals = [0.0; BLOCK];
    for (w, c) in w.iter().zip(c) {
        for ((total, &w), &c) in totals.iter_mut().zip(w).zip(c) {
            *total += c * power(w, p);
        }
    }
    for ((total, &w), &c) in totals.iter_mut().zip(w_rest).zip(c_rest) {
        *total += c * power(w, p);
    }
    totals.iter().sum()
}

fn power<E: Real>(w: E, p: Power) -> f64 {
    match p {
        Power::One => w.wide().abs(),
        Power::Two => w.wide() * w.wide(),
    }
}

pub fn column_powers(w: Tensor<2>, rows: &[f64], p: Power) -> Vec<f64> {
    let mut totals = vec![0.0; w.dims()[1]];
    let w = memory(w);
    by_dtype!(w, E => {
        for (row, &factor) in w.storage::<E>().chunks_exact(totals.len()).zip(rows) {
            for (total, &w) in totals.iter_mut().zip(row) {
                *total += factor * power(w, p);
            }
        }
    });
    totals
}

pub fn scale(x: Tensor<2>, by: &Lines) -> Tensor<2> {
    let mut x = memory(x);
    by_dtype!(x, E => {
        let columns = narrow::<E>(&by.columns);
        for (x, &row) in x.storage_mut::<E>().chunks_exact_mut(columns.len()).zip(&by.rows) {
            let row = E::of(row);
            for (x, &column) in x.iter_mut().zip(&columns) {
                *x = (*x * row) * column;
            }
        }
    });
    tensor(x)
}

pub fn combine(x: Tensor<2>, of_x: &Lines, y: Tensor<2>, of_y: &Lines) -> Tensor<2> {
    let (mut x, y) = (memory(x), memory(y));
    by_dtype!(x, E => {
        let (xc, yc) = (narrow::<E>(&of_x.columns), narrow::<E>(&of_y.columns));
        let rows = of_x.rows.iter().zip(&of_y.rows);
        let lines = x.storage_mut::<E>().chunks_exact_mut(xc.len());
        for ((x, y), (&xr, &yr)) in lines.zip(y.storage::<E>().chunks_exact(xc.len())).zip(rows) {
            let (xr, yr) = (E::of(xr), E::of(yr));
            for ((x, &y), (&xc, &yc)) in x.iter_mut().zip(y).zip(xc.iter().zip(&yc)) {
                *x = (*x * xr) * xc + (y * yr) * yc;
            }
        }
    });
    tensor(x)
}

pub fn allocate(w: Tensor<2>, moved: Tensor<2>, v: &Lines, a: &Lines, b: &Lines) -> Tensor<2> {
    let (mut w, moved) = (memory(w), memory(moved));
    by_dtype!(w, E => {
        let columns: Vec<[E; 3]> = v
            .columns
            .iter()
            .zip(&a.columns)
            .zip(&b.columns)
            .map(|((&v, &a), &b)| [E::of(v), E::of(a), E::of(b)])
            .collect();
        let rows = v.rows.iter().zip(&a.rows).zip(&b.rows);
        let lines = w.storage_mut::<E>().chunks_exact_mut(columns.len());
        let moved = moved.storage::<E>().chunks_exact(columns.len());
        for ((w, moved), ((&vr, &ar), &br)) in lines.zip(moved).zip(rows) {
            let (vr, ar, br) = (E::of(vr), E::of(ar), E::of(br));
            for ((w, &moved), &[vc, ac, bc]) in w.iter_mut().zip(moved).zip(&columns) {
                let change = moved - (*w * vr) * vc;
                *w = (*w * ar) * ac + (change * br) * bc;
            }
        }
    });
    tensor(w)
}

pub fn gather(x: Tensor<2>, at: &[usize]) -> Vec<f64> {
    let x = memory(x);
    by_dtype!(x, E => {
        let entries = x.storage::<E>();
        at.iter().map(|&i| entries[i].wide()).collect()
    })
}

pub fn put(x: Tensor<2>, at: &[usize], values: &[f64]) -> Tensor<2> {
    let mut x = memory(x);
    by_dtype!(x, E => {
        let entries = x.storage_mut::<E>();
        for (&i, &value) in at.iter().zip(values) {
            entries[i] = E::of(value);
        }
    });
    tensor(x)
}
