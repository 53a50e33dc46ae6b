//! The reference: every operation as the formula reads, in tensor operations of any backend.
//!
//! A matrix of G groups of rows is a tensor `[G, rows / G, columns]` here.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Advance, Combine, Entries, HeadSums, Lines, Motion, Picked, Power, Side, entries_of};

/// A tensor in this shape, off the autodiff tape.
pub fn matrix<const D: usize>(x: Tensor<D>, shape: [usize; 2]) -> Tensor<2> {
    x.inner().reshape(shape)
}

fn grouped(x: &Tensor<2>, groups: usize) -> Tensor<3> {
    let [rows, columns] = x.dims();
    x.clone().reshape([groups, rows / groups, columns])
}

/// A factor per line of one side, to be multiplied with a grouped matrix.
fn along(x: &Tensor<3>, side: Side, values: &[f64]) -> Tensor<3> {
    let [groups, rows, columns] = x.dims();
    let shape = match side {
        Side::Rows => [groups, rows, 1],
        Side::Columns => [groups, 1, columns],
    };
    Tensor::from_data(
        TensorData::new(values.to_vec(), shape),
        (&x.device(), x.dtype()),
    )
}

/// Sum over the entries of every line of one side.
fn sum(x: Tensor<3>, side: Side) -> Vec<f64> {
    let sums = match side {
        Side::Rows => x.sum_dim(2),
        Side::Columns => x.sum_dim(1),
    };
    sums.into_data().iter::<f64>().collect()
}

fn power(w: Tensor<3>, p: Power) -> Tensor<3> {
    match p {
        Power::One => w.abs(),
        Power::Two => w.clone() * w,
    }
}

pub fn is_finite(x: &Tensor<2>) -> bool {
    x.clone().is_finite().all().into_scalar()
}

pub fn dots(w: Tensor<2>, g: Tensor<2>, side: Side, groups: usize) -> Vec<f64> {
    sum(grouped(&(w * g), groups), side)
}

pub fn pick(w: Tensor<2>, g: Tensor<2>, picked: Picked, weights: &mut [f64], products: &mut [f64]) {
    let pairs = gather(&w, picked.at).into_iter().zip(gather(&g, picked.at));
    for (&to, (w, g)) in picked.to.iter().zip(pairs) {
        (weights[to as usize], products[to as usize]) = (w, w * g);
    }
}

pub fn line_sums(w: Tensor<2>, g: Tensor<2>, side: Side, groups: usize, line: usize) -> [f64; 2] {
    let entries = entries_of(line, side, groups, w.dims());
    let u = w.slice(entries.clone()) * g.slice(entries);
    [u.clone(), u.abs()].map(|u| u.sum().into_scalar())
}

pub fn head_sums(
    w: Tensor<2>,
    g: Tensor<2>,
    heads: Side,
    groups: usize,
    tails: &[f64],
) -> HeadSums {
    let (w, g) = (grouped(&w, groups), grouped(&g, groups));
    let factor = along(&w, heads.other(), tails);
    HeadSums {
        squares: sum(power(w.clone() * factor.clone(), Power::Two), heads),
        dots: sum(w * g.clone(), heads),
        gradient_squares: sum(power(g / factor, Power::Two), heads),
    }
}

pub fn powers(w: &Tensor<2>, side: Side, groups: usize, others: &[f64], p: Power) -> Vec<f64> {
    let w = grouped(w, groups);
    let factor = along(&w, side.other(), others);
    sum(power(w, p) * factor, side)
}

pub fn maxima(w: &Tensor<2>, side: Side, groups: usize, others: &[f64]) -> Vec<f64> {
    let w = grouped(w, groups);
    let factor = along(&w, side.other(), others);
    let sizes = w.abs() * factor;
    let maxima = match side {
        Side::Rows => sizes.max_dim(2),
        Side::Columns => sizes.max_dim(1),
    };
    maxima.into_data().iter::<f64>().collect()
}

pub fn scale(x: &Tensor<2>, by: &Lines) -> Tensor<2> {
    let (shape, x) = (x.dims(), grouped(x, by.groups(x.dims()[1])));
    let rows = along(&x, Side::Rows, &by.all_of_rows());
    let columns = along(&x, Side::Columns, &by.columns);
    (x * rows * columns).reshape(shape)
}

fn sum_of(x: Tensor<2>, of_x: &Lines, y: Tensor<2>, of_y: &Lines) -> Tensor<2> {
    scale(&x, of_x) + scale(&y, of_y)
}

pub fn combine(x: Tensor<2>, y: Tensor<2>, by: &Combine) -> (Tensor<2>, bool, Vec<f64>) {
    let sums = dots_by(by.dots, &x, &y, by.of_x);
    let sum = sum_of(x, by.of_x, y, by.of_y);
    let finite = is_finite(&sum);
    (put(&sum, by.fixed), finite, sums)
}

/// The sums of products that are asked for, if any.
fn dots_by(side: Option<Side>, x: &Tensor<2>, y: &Tensor<2>, lines: &Lines) -> Vec<f64> {
    let groups = lines.groups(x.dims()[1]);
    let sums = side.map(|side| dots(x.clone(), y.clone(), side, groups));
    sums.unwrap_or_default()
}

pub fn allocate(
    w: Tensor<2>,
    moved: Tensor<2>,
    v: &Lines,
    of_w: &Lines,
    of_change: &Lines,
    fixed: &Entries,
) -> Tensor<2> {
    let change = moved - scale(&w, v);
    put(&sum_of(w, of_w, change, of_change), fixed)
}

pub fn advance(
    g: Tensor<2>,
    w: Tensor<2>,
    mut moments: Vec<Tensor<2>>,
    by: &Advance,
) -> (Tensor<2>, Vec<Tensor<2>>, bool, Vec<f64>) {
    if !is_finite(&g) {
        return (w, moments, false, Vec::new());
    }
    let sums = dots_by(by.dots, &g, &w, by.of_weights);
    let g = scale(&g, by.gradient);
    let change = match by.motion {
        Motion::Ball {
            momentum,
            of_gradient,
            of_moment,
        } => {
            let m = moments[0].clone() * momentum + g.clone();
            moments[0] = m.clone();
            g * of_gradient + m * of_moment
        }
        Motion::Adam {
            betas: [one, two],
            rate,
            epsilon,
        } => {
            let m = moments[0].clone() * one + g.clone() * (1.0 - one);
            let s = moments[1].clone() * two + g.clone() * g * (1.0 - two);
            moments = vec![m.clone(), s.clone()];
            m * rate / (s.sqrt() + epsilon)
        }
    };
    let moved = sum_of(w, by.of_weights, change, by.of_change);
    let finite = is_finite(&moved);
    let set = |(moment, values): (Tensor<2>, &Vec<f64>)| {
        let fixed = Entries {
            values: values.into(),
            ..by.fixed.clone()
        };
        put(&moment, &fixed)
    };
    let moments = moments.into_iter().zip(by.fixed_moments).map(set);
    (put(&moved, by.fixed), moments.collect(), finite, sums)
}

fn flat(x: &Tensor<2>) -> Tensor<1> {
    let [rows, columns] = x.dims();
    x.clone().reshape([rows * columns])
}

fn indices(x: &Tensor<2>, at: &[usize]) -> Tensor<1, Int> {
    let at: Vec<i64> = at.iter().map(|&i| i as i64).collect();
    Tensor::from_data(TensorData::from(at.as_slice()), &x.device())
}

pub fn gather(x: &Tensor<2>, at: &[usize]) -> Vec<f64> {
    let entries = flat(x).select(0, indices(x, at));
    entries.into_data().iter::<f64>().collect()
}

pub fn put(x: &Tensor<2>, entries: &Entries) -> Tensor<2> {
    if entries.at.is_empty() {
        return x.clone();
    }
    let shape = x.dims();
    let values = entries.of.iter().map(|&of| entries.values[of as usize]);
    let data = TensorData::new(values.collect(), [entries.of.len()]);
    let values = Tensor::<1>::from_data(data, (&x.device(), x.dtype()));
    let index = indices(x, &entries.at);
    flat(x)
        .scatter(0, index, values, IndexingUpdateOp::Assign)
        .reshape(shape)
}
