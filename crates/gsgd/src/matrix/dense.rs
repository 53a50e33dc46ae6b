//! The reference: every operation as the formula reads, in tensor operations of any backend.
//!
//! A matrix of G groups of rows is a tensor `[G, rows / G, columns]` here.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use gsgd_core::matrix::{
    Adam, Ball, Entries, MomentStep, Power, RowColScale, ScaledSum, Side, StepCoefficients,
};

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

/// Sum over the entries of every line of one side. Columns are summed up in pieces first: on a GPU they alone are too
/// few for its threads.
fn sum(x: Tensor<3>, side: Side) -> Tensor<1> {
    let [groups, rows, columns] = x.dims();
    by_line(match side {
        Side::Rows => x.sum_dim(2),
        Side::Columns => {
            let piece = piece(rows);
            let pieces = x.reshape([groups, rows / piece, piece, columns]);
            pieces.sum_dim(2).sum_dim(1).squeeze_dim(2)
        }
    })
}

/// The largest divisor of a number that is not above its root.
fn piece(rows: usize) -> usize {
    let divides = |piece: &usize| rows.is_multiple_of(*piece);
    (1..=rows.isqrt()).rev().find(divides).unwrap_or(1)
}

fn by_line(x: Tensor<3>) -> Tensor<1> {
    x.flatten(0, 2)
}

fn power(w: Tensor<3>, p: Power) -> Tensor<3> {
    match p {
        Power::One => w.abs(),
        Power::Two => w.clone() * w,
    }
}

/// A number per row that is finite if its entries are: a sum, which takes a fourth of the operations of a conjunction. It
/// cannot overflow, as the entries are made small.
pub fn is_finite(x: &Tensor<2>) -> Tensor<1> {
    const SMALL: f64 = 1.0 / (1u64 << 40) as f64;
    (x.clone() * SMALL).sum_dim(1).squeeze_dim(1)
}

pub fn dots(w: Tensor<2>, g: Tensor<2>, side: Side, groups: usize) -> Tensor<1> {
    sum(grouped(&(w * g), groups), side)
}

pub fn head_sums(
    w: Tensor<2>,
    g: Tensor<2>,
    heads: Side,
    groups: usize,
    tails: &[f64],
) -> Tensor<1> {
    let (w, g) = (grouped(&w, groups), grouped(&g, groups));
    let factor = along(&w, heads.other(), tails);
    let squares = power(w.clone() * factor.clone(), Power::Two);
    let gradient_squares = power(g.clone() / factor, Power::Two);
    let sums = [squares, w * g, gradient_squares].map(|x| sum(x, heads));
    Tensor::cat(sums.to_vec(), 0)
}

pub fn powers(w: &Tensor<2>, side: Side, groups: usize, others: &[f64], p: Power) -> Tensor<1> {
    let w = grouped(w, groups);
    let factor = along(&w, side.other(), others);
    sum(power(w, p) * factor, side)
}

pub fn maxima(w: &Tensor<2>, side: Side, groups: usize, others: &[f64]) -> Tensor<1> {
    let w = grouped(w, groups);
    let factor = along(&w, side.other(), others);
    let sizes = w.abs() * factor;
    by_line(match side {
        Side::Rows => sizes.max_dim(2),
        Side::Columns => sizes.max_dim(1),
    })
}

pub fn scale(x: &Tensor<2>, by: &RowColScale) -> Tensor<2> {
    let (shape, x) = (x.dims(), grouped(x, by.groups(x.dims()[1])));
    let x = scaled(x, Side::Rows, &by.rows);
    scaled(x, Side::Columns, &by.columns).reshape(shape)
}

fn scaled(x: Tensor<3>, side: Side, factors: &[f64]) -> Tensor<3> {
    match *factors {
        [factor] => x * factor,
        _ if factors.iter().all(|&factor| factor == 1.0) => x,
        _ => {
            let factors = along(&x, side, factors);
            x * factors
        }
    }
}

fn sum_of(x: Tensor<2>, of_x: &RowColScale, y: Tensor<2>, of_y: &RowColScale) -> Tensor<2> {
    scale(&x, of_x) + scale(&y, of_y)
}

/// A matrix, and whether it was finite before single entries were set.
type Combined = (Tensor<2>, Tensor<1>);

fn combined(x: Tensor<2>, fixed: Entries) -> Combined {
    let finite = is_finite(&x);
    (scatter(x, fixed), finite)
}

pub fn combine(x: Tensor<2>, y: Tensor<2>, by: &ScaledSum) -> Combined {
    combined(sum_of(x, by.of_x, y, by.of_y), by.fixed)
}

/// Weights and moments after a step, no single entry set.
fn advanced(
    g: Tensor<2>,
    w: Tensor<2>,
    moments: Vec<Tensor<2>>,
    by: &MomentStep,
) -> (Tensor<2>, Vec<Tensor<2>>) {
    let g = scale(&g, by.gradient);
    let (change, moments) = match by.coefficients {
        StepCoefficients::Ball(Ball {
            momentum,
            of_gradient,
            of_moment,
        }) => {
            let m = moments[0].clone() * momentum + g.clone();
            (g * of_gradient + m.clone() * of_moment, vec![m])
        }
        StepCoefficients::Adam(Adam {
            means: [[keep_m, of_g], [keep_s, of_square]],
            rate,
            epsilon,
        }) => {
            let m = moments[0].clone() * keep_m + g.clone() * of_g;
            let s = moments[1].clone() * keep_s + g.clone() * g * of_square;
            (m.clone() * rate / (s.clone().sqrt() + epsilon), vec![m, s])
        }
    };
    (sum_of(w, by.of_weights, change, by.of_change), moments)
}

pub fn advances_finitely(
    g: Tensor<2>,
    w: Tensor<2>,
    moments: Vec<Tensor<2>>,
    by: &MomentStep,
) -> Tensor<1> {
    let (moved, moments) = advanced(g, w, moments, by);
    let verdicts = moments.iter().map(is_finite);
    verdicts.fold(is_finite(&moved), |all, one| all + one)
}

pub fn advance(
    g: Tensor<2>,
    w: Tensor<2>,
    moments: Vec<Tensor<2>>,
    by: &MomentStep,
) -> (Tensor<2>, Vec<Tensor<2>>) {
    let (moved, moments) = advanced(g, w, moments, by);
    let moments = moments.into_iter().zip(by.fixed_moments);
    let moments = moments.map(|(moment, values)| scatter(moment, by.fixed.with(values)));
    (scatter(moved, by.fixed), moments.collect())
}

fn indices(x: &Tensor<2>, at: &[usize]) -> Tensor<1, Int> {
    let at: Vec<i64> = at.iter().map(|&i| i as i64).collect();
    Tensor::from_data(TensorData::from(at.as_slice()), &x.device())
}

pub fn gather(x: &Tensor<2>, at: &[usize]) -> Tensor<1> {
    let index = indices(x, at);
    x.clone().flatten::<1>(0, 1).select(0, index)
}

pub fn scatter(x: Tensor<2>, entries: Entries) -> Tensor<2> {
    if entries.at.is_empty() {
        return x;
    }
    let shape = x.dims();
    let values = entries.of.iter().map(|&of| entries.values[of as usize]);
    let data = TensorData::new(values.collect(), [entries.of.len()]);
    let values = Tensor::<1>::from_data(data, (&x.device(), x.dtype()));
    let index = indices(&x, entries.at);
    x.flatten::<1>(0, 1)
        .scatter(0, index, values, IndexingUpdateOp::Assign)
        .reshape(shape)
}
