//! The few operations on whole weight matrices that the method needs.
//!
//! Each stands here once by name and twice in code: in tensor operations ([`dense`], the readable reference, for
//! any backend) and as one pass over the memory of a CPU tensor ([`stream`]). [`Arithmetic`] says which runs. All
//! that is per unit, not per weight, is done elsewhere in f64.

mod dense;
#[cfg(feature = "flex")]
mod stream;

use burn::tensor::{DType, Tensor};

/// How whole-matrix operations are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// One pass over the memory of CPU tensors, in place where they are uniquely owned; tensor operations for
    /// whatever is not an f32 or f64 tensor of Burn's flex backend.
    #[default]
    Streamed,
    /// Tensor operations throughout: the readable reference, about eight times the work.
    TensorOps,
}

/// A factor per row and a factor per column of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lines {
    pub rows: Vec<f64>,
    pub columns: Vec<f64>,
}

impl Lines {
    /// Factors brought into the range of `dtype` by moving a power of two from rows to columns, which changes no
    /// product. `None` where no such power of two exists, or a factor is not finite.
    pub fn fit(mut rows: Vec<f64>, mut columns: Vec<f64>, dtype: DType) -> Option<Self> {
        let limit = limit(dtype);
        let (row_low, row_high) = exponents(&rows)?;
        let (column_low, column_high) = exponents(&columns)?;
        let shift = ((row_high + row_low - column_high - column_low) / 4.0).round();
        if row_high - shift > limit
            || row_low - shift < -limit
            || column_high + shift > limit
            || column_low + shift < -limit
        {
            return None;
        }
        let factor = shift.exp2();
        rows.iter_mut().for_each(|r| *r /= factor);
        columns.iter_mut().for_each(|c| *c *= factor);
        Some(Self { rows, columns })
    }
}

impl Lines {
    /// Whether every product of a row and a column factor lies in the range of `dtype`.
    pub fn products_fit(&self, dtype: DType) -> bool {
        let (Some(rows), Some(columns)) = (exponents(&self.rows), exponents(&self.columns)) else {
            return false;
        };
        rows.1 + columns.1 <= limit(dtype) && rows.0 + columns.0 >= -limit(dtype)
    }
}

/// The largest binary exponent that leaves room for weights and sums.
fn limit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1000.0,
        _ => 120.0,
    }
}

/// Least and greatest binary exponent of the factors that are not zero.
fn exponents(factors: &[f64]) -> Option<(f64, f64)> {
    let mut range: Option<(f64, f64)> = None;
    for factor in factors {
        if !factor.is_finite() {
            return None;
        }
        if *factor == 0.0 {
            continue;
        }
        let exponent = exponent(*factor);
        let (low, high) = range.unwrap_or((exponent, exponent));
        range = Some((low.min(exponent), high.max(exponent)));
    }
    Some(range.unwrap_or((0.0, 0.0)))
}

/// The binary exponent as the number stores it, exact for powers of two; log2 would cost more than the pass over a
/// small matrix.
fn exponent(factor: f64) -> f64 {
    ((factor.to_bits() >> 52 & 0x7ff) as i32 - 1023).into()
}

/// Column sums that norm coordinates need, from one pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnSums {
    /// Sum over rows of (factor w)^2.
    pub squares: Vec<f64>,
    /// Sum over rows of g w.
    pub dots: Vec<f64>,
    /// Sum over rows of (g / factor)^2.
    pub gradient_squares: Vec<f64>,
}

macro_rules! dispatch {
    ($how:expr, $name:ident($first:expr $(, $rest:expr)*)) => {{
        #[cfg(feature = "flex")]
        if $how == Arithmetic::Streamed && stream::takes(&$first) {
            return stream::$name($first $(, $rest)*);
        }
        let _ = $how;
        dense::$name($first $(, $rest)*)
    }};
}

impl Arithmetic {
    /// Sum over columns of w g, for every row.
    pub(crate) fn row_dots(self, w: Tensor<2>, g: Tensor<2>) -> Vec<f64> {
        dispatch!(self, row_dots(w, g))
    }

    /// Squares and dot products by column; see [`ColumnSums`].
    pub(crate) fn column_sums(self, w: Tensor<2>, g: Tensor<2>, rows: &[f64]) -> ColumnSums {
        dispatch!(self, column_sums(w, g, rows))
    }

    /// Sum over columns of factor |w|^p, for every row; p is 1 or 2.
    pub(crate) fn row_powers(self, w: Tensor<2>, columns: &[f64], p: Power) -> Vec<f64> {
        dispatch!(self, row_powers(w, columns, p))
    }

    /// Sum over rows of factor |w|^p, for every column; p is 1 or 2.
    pub(crate) fn column_powers(self, w: Tensor<2>, rows: &[f64], p: Power) -> Vec<f64> {
        dispatch!(self, column_powers(w, rows, p))
    }

    /// `(x * rows) * columns`.
    pub(crate) fn scale(self, x: Tensor<2>, by: &Lines) -> Tensor<2> {
        dispatch!(self, scale(x, by))
    }

    /// `(x * x_rows) * x_columns + (y * y_rows) * y_columns`, in the memory of x where it is uniquely owned.
    pub(crate) fn combine(
        self,
        x: Tensor<2>,
        of_x: &Lines,
        y: Tensor<2>,
        of_y: &Lines,
    ) -> Tensor<2> {
        dispatch!(self, combine(x, of_x, y, of_y))
    }

    /// Weights for moved path values: `(w * a_rows) * a_columns + ((v' - v) * b_rows) * b_columns` where
    /// `v = (w * rows) * columns`, in the memory of w where it is uniquely owned.
    pub(crate) fn allocate(
        self,
        w: Tensor<2>,
        moved: Tensor<2>,
        v: &Lines,
        a: &Lines,
        b: &Lines,
    ) -> Tensor<2> {
        dispatch!(self, allocate(w, moved, v, a, b))
    }

    /// Single entries, by index into the row-major matrix.
    pub(crate) fn gather(self, x: Tensor<2>, at: &[usize]) -> Vec<f64> {
        if at.is_empty() {
            return Vec::new();
        }
        dispatch!(self, gather(x, at))
    }

    /// The matrix with single entries replaced.
    pub(crate) fn put(self, x: Tensor<2>, at: &[usize], values: &[f64]) -> Tensor<2> {
        if at.is_empty() {
            return x;
        }
        dispatch!(self, put(x, at, values))
    }
}

/// The power of the absolute value in a path norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Absolute values, p = 1.
    One,
    /// Squares, p = 2.
    Two,
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, TensorData};

    fn random(shape: [usize; 2], dtype: DType) -> Tensor<2> {
        let device = Device::flex();
        device.seed(7);
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), (&device, dtype))
    }

    fn values(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} and {b}");
        }
    }

    fn lines(shape: [usize; 2], seed: f64) -> Lines {
        let line = |n: usize, s: f64| (0..n).map(|i| (s + i as f64).sin() + 1.5).collect();
        Lines {
            rows: line(shape[0], seed),
            columns: line(shape[1], seed + 0.5),
        }
    }

    #[test]
    fn streamed_and_tensor_operations_agree() {
        use Arithmetic::{Streamed, TensorOps};
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-5)] {
            for shape in [[1, 1], [3, 5], [16, 16], [49, 64], [7, 33]] {
                let (w, g) = (random(shape, dtype), random(shape, dtype));
                let (a, b, c) = (lines(shape, 0.1), lines(shape, 0.2), lines(shape, 0.3));
                let agree = |f: &dyn Fn(Arithmetic) -> Vec<f64>| {
                    close(&f(Streamed), &f(TensorOps), tolerance)
                };
                agree(&|how| how.row_dots(w.clone(), g.clone()));
                agree(&|how| how.column_sums(w.clone(), g.clone(), &a.rows).squares);
                agree(&|how| how.column_sums(w.clone(), g.clone(), &a.rows).dots);
                agree(&|how| {
                    how.column_sums(w.clone(), g.clone(), &a.rows)
                        .gradient_squares
                });
                for p in [Power::One, Power::Two] {
                    agree(&|how| how.row_powers(w.clone(), &a.columns, p));
                    agree(&|how| how.column_powers(w.clone(), &a.rows, p));
                }
                agree(&|how| values(how.scale(w.clone(), &a)));
                agree(&|how| values(how.combine(w.clone(), &a, g.clone(), &b)));
                agree(&|how| values(how.allocate(w.clone(), g.clone(), &a, &b, &c)));
                let at = [0, shape[0] * shape[1] - 1];
                agree(&|how| how.gather(w.clone(), &at));
                agree(&|how| values(how.put(w.clone(), &at, &[2.0, 3.0])));
            }
        }
    }

    #[test]
    fn transposed_tensors_are_read_by_their_layout() {
        let w = random([5, 3], DType::F32).transpose();
        let by = lines([3, 5], 0.4);
        close(
            &values(Arithmetic::Streamed.scale(w.clone(), &by)),
            &values(Arithmetic::TensorOps.scale(w, &by)),
            1e-6,
        );
    }

    #[test]
    fn shared_memory_is_left_alone() {
        let w = random([4, 4], DType::F32);
        let before = values(w.clone());
        let _changed = Arithmetic::Streamed.scale(w.clone(), &lines([4, 4], 0.7));
        assert_eq!(values(w), before);
    }

    #[test]
    fn integers_do_not_reach_the_streams() {
        let w = Tensor::<2>::from_data(TensorData::from([[1.0f32, 2.0]]), &Device::flex());
        assert_eq!(Arithmetic::Streamed.row_dots(w.clone(), w), [5.0]);
    }

    #[test]
    fn factors_out_of_range_are_moved_or_refused() {
        let fit = Lines::fit(vec![1e60, 2e60], vec![1e-60, 3e-60], DType::F32).unwrap();
        assert!(fit.rows[0] < 1e30 && fit.columns[0] > 1e-30);
        assert!((fit.rows[1] * fit.columns[1] - 6.0).abs() < 1e-12);
        assert_eq!(Lines::fit(vec![1e60, 1e-60], vec![1.0], DType::F32), None);
        assert_eq!(Lines::fit(vec![f64::NAN], vec![1.0], DType::F64), None);
    }
}
