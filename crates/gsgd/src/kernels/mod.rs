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

/// A side of a matrix: its rows or its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Rows,
    Columns,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Rows => Self::Columns,
            Self::Columns => Self::Rows,
        }
    }
}

/// A factor per row and a factor per column of a matrix.
///
/// The rows may fall into groups of equal size, as those of a grouped convolution do; then there is a factor for
/// every column of every group.
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
        let (row, column) = (Exponents::of(&rows)?, Exponents::of(&columns)?);
        let shift = (row.high + row.low - column.high - column.low) / 4;
        if row.high - shift > limit
            || row.low - shift < -limit
            || column.high + shift > limit
            || column.low + shift < -limit
        {
            return None;
        }
        if shift != 0 {
            let factor = f64::from(shift).exp2();
            rows.iter_mut().for_each(|r| *r /= factor);
            columns.iter_mut().for_each(|c| *c *= factor);
        }
        Some(Self { rows, columns })
    }

    /// Whether every product of a row and a column factor lies in the range of `dtype`.
    pub fn products_fit(&self, dtype: DType) -> bool {
        let (rows, columns) = (Exponents::of(&self.rows), Exponents::of(&self.columns));
        let (Some(rows), Some(columns)) = (rows, columns) else {
            return false;
        };
        rows.high + columns.high <= limit(dtype) && rows.low + columns.low >= -limit(dtype)
    }

    /// The number of groups of rows, if these are the lines of `x`.
    fn groups(&self, x: &Tensor<2>) -> usize {
        self.columns.len() / x.dims()[1]
    }
}

/// The largest binary exponent that leaves room for weights and sums.
fn limit(dtype: DType) -> i32 {
    match dtype {
        DType::F64 => 1000,
        _ => 120,
    }
}

/// Least and greatest binary exponent of the factors that are not zero; 0 where all are.
struct Exponents {
    low: i32,
    high: i32,
}

impl Exponents {
    /// `None` where a factor is not finite.
    ///
    /// Works on the numbers as they are stored, whose order is that of their sizes: log2 would cost more than the
    /// pass over a small matrix.
    fn of(factors: &[f64]) -> Option<Self> {
        const SIGN: u64 = 1 << 63;
        let (mut low, mut high) = (u64::MAX, 0);
        for factor in factors {
            let size = factor.to_bits() & !SIGN;
            high = size.max(high);
            // zero wraps around to the largest number
            low = size.wrapping_sub(1).min(low);
        }
        let exponent = |size: u64| (size >> 52) as i32 - 1023;
        match high {
            0 => Some(Self { low: 0, high: 0 }),
            high if high >= f64::INFINITY.to_bits() => None,
            high => Some(Self {
                low: exponent(low + 1),
                high: exponent(high),
            }),
        }
    }
}

/// Single entries of a matrix, by index into its row-major memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Entries {
    pub at: Vec<usize>,
    pub values: Vec<f64>,
}

/// Sums by head that norm coordinates need, from one pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeadSums {
    /// Sum over tails of (factor w)^2.
    pub squares: Vec<f64>,
    /// Sum over tails of g w.
    pub dots: Vec<f64>,
    /// Sum over tails of (g / factor)^2.
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
    /// Sum of w g over every line of a side, and `[w, g]` of single entries.
    pub(crate) fn dots(
        self,
        w: Tensor<2>,
        g: Tensor<2>,
        side: Side,
        groups: usize,
        at: &[usize],
    ) -> (Vec<f64>, Vec<[f64; 2]>) {
        dispatch!(self, dots(w, g, side, groups, at))
    }

    /// Squares and dot products by head, with a factor per tail; see [`HeadSums`].
    pub(crate) fn head_sums(
        self,
        w: Tensor<2>,
        g: Tensor<2>,
        heads: Side,
        groups: usize,
        tails: &[f64],
    ) -> HeadSums {
        dispatch!(self, head_sums(w, g, heads, groups, tails))
    }

    /// Sum of factor |w|^p over every line of a side, with a factor per line of the other side; p is 1 or 2.
    pub(crate) fn powers(
        self,
        w: Tensor<2>,
        side: Side,
        groups: usize,
        others: &[f64],
        p: Power,
    ) -> Vec<f64> {
        dispatch!(self, powers(w, side, groups, others, p))
    }

    /// `(x * rows) * columns`.
    pub(crate) fn scale(self, x: Tensor<2>, by: &Lines) -> Tensor<2> {
        dispatch!(self, scale(x, by))
    }

    /// `(x * x_rows) * x_columns + (y * y_rows) * y_columns`, then `fixed` entries set, in the memory of x where it is
    /// uniquely owned.
    pub(crate) fn combine(
        self,
        x: Tensor<2>,
        of_x: &Lines,
        y: Tensor<2>,
        of_y: &Lines,
        fixed: &Entries,
    ) -> Tensor<2> {
        dispatch!(self, combine(x, of_x, y, of_y, fixed))
    }

    /// Weights for moved path values: `(w * a_rows) * a_columns + ((v' - v) * b_rows) * b_columns` where
    /// `v = (w * rows) * columns`, then `fixed` entries set, in the memory of w where it is uniquely owned.
    pub(crate) fn allocate(
        self,
        w: Tensor<2>,
        moved: Tensor<2>,
        v: &Lines,
        of_w: &Lines,
        of_change: &Lines,
        fixed: &Entries,
    ) -> Tensor<2> {
        dispatch!(self, allocate(w, moved, v, of_w, of_change, fixed))
    }

    /// Single entries, by index into the row-major matrix.
    pub(crate) fn gather(self, x: Tensor<2>, at: &[usize]) -> Vec<f64> {
        if at.is_empty() {
            return Vec::new();
        }
        dispatch!(self, gather(x, at))
    }

    /// The matrix with single entries replaced.
    pub(crate) fn put(self, x: Tensor<2>, entries: &Entries) -> Tensor<2> {
        if entries.at.is_empty() {
            return x;
        }
        dispatch!(self, put(x, entries))
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

    fn lines(shape: [usize; 2], groups: usize, seed: f64) -> Lines {
        let line = |n: usize, s: f64| (0..n).map(|i| (s + i as f64).sin() + 1.5).collect();
        Lines {
            rows: line(shape[0], seed),
            columns: line(groups * shape[1], seed + 0.5),
        }
    }

    #[test]
    fn streamed_and_tensor_operations_agree() {
        use Arithmetic::{Streamed, TensorOps};
        let small = [[1, 1], [3, 5], [16, 16], [49, 64], [7, 33]].map(|shape| (shape, 1));
        let grouped = [([12, 9], 12), ([12, 10], 3), ([500, 300], 5)];
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 5e-5)] {
            for (shape, groups) in small.into_iter().chain(grouped) {
                let (w, g) = (random(shape, dtype), random(shape, dtype) + 0.1);
                let line = |seed| lines(shape, groups, seed);
                let (a, b, c) = (line(0.1), line(0.2), line(0.3));
                let fixed = Entries {
                    at: vec![0, shape[0] * shape[1] - 1],
                    values: vec![2.0, 3.0],
                };
                let agree = |f: &dyn Fn(Arithmetic) -> Vec<f64>| {
                    close(&f(Streamed), &f(TensorOps), tolerance)
                };
                for side in [Side::Rows, Side::Columns] {
                    let others = match side {
                        Side::Rows => &a.columns,
                        Side::Columns => &a.rows,
                    };
                    let sums =
                        |how: Arithmetic| how.head_sums(w.clone(), g.clone(), side, groups, others);
                    let dots =
                        |how: Arithmetic| how.dots(w.clone(), g.clone(), side, groups, &fixed.at);
                    agree(&|how| dots(how).0);
                    agree(&|how| dots(how).1.concat());
                    agree(&|how| sums(how).squares);
                    agree(&|how| sums(how).dots);
                    agree(&|how| sums(how).gradient_squares);
                    for p in [Power::One, Power::Two] {
                        agree(&|how| how.powers(w.clone(), side, groups, others, p));
                    }
                }
                agree(&|how| values(how.scale(w.clone(), &a)));
                agree(&|how| values(how.combine(w.clone(), &a, g.clone(), &b, &fixed)));
                agree(&|how| values(how.allocate(w.clone(), g.clone(), &a, &b, &c, &fixed)));
                agree(&|how| how.gather(w.clone(), &fixed.at));
                agree(&|how| values(how.put(w.clone(), &fixed)));
            }
        }
    }

    #[test]
    fn transposed_tensors_are_read_by_their_layout() {
        let w = random([5, 3], DType::F32).transpose();
        let by = lines([3, 5], 1, 0.4);
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
        let _changed = Arithmetic::Streamed.scale(w.clone(), &lines([4, 4], 1, 0.7));
        assert_eq!(values(w), before);
    }

    #[test]
    fn integers_do_not_reach_the_streams() {
        let w = Tensor::<2>::from_data(TensorData::from([[1.0f32, 2.0]]), &Device::flex());
        assert_eq!(
            Arithmetic::Streamed
                .dots(w.clone(), w, Side::Rows, 1, &[])
                .0,
            [5.0]
        );
    }

    #[test]
    fn factors_out_of_range_are_moved_or_refused() {
        let fit = Lines::fit(vec![1e60, 2e60], vec![1e-60, 3e-60], DType::F32).unwrap();
        assert!(fit.rows[0] < 1e30 && fit.columns[0] > 1e-30);
        assert!((fit.rows[1] * fit.columns[1] - 6.0).abs() < 1e-12);
        assert_eq!(Lines::fit(vec![1e60, 1e-60], vec![1.0], DType::F32), None);
        assert_eq!(Lines::fit(vec![f64::NAN], vec![1.0], DType::F64), None);
        assert_eq!(
            Lines::fit(vec![1.0, -f64::INFINITY], vec![1.0], DType::F64),
            None
        );
        assert!(Lines::fit(vec![0.0, 1e-300], vec![1e300, 0.0], DType::F32).is_some());
    }
}
