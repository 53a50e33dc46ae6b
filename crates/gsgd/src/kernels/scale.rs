//! Factors of the rows and columns of a matrix.

use std::borrow::Cow;

use burn::tensor::DType;

use super::all;

/// A factor per row and a factor per column of a matrix, and one for all.
///
/// The rows may fall into groups of equal size, as those of a grouped convolution do; then there is a factor for
/// every column of every group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowColScale<'a> {
    pub rows: Cow<'a, [f64]>,
    pub columns: Cow<'a, [f64]>,
    /// What all factors of rows are multiplied with.
    pub times: f64,
}

impl<'a> RowColScale<'a> {
    /// Factors brought into the range of `dtype` by moving a power of two from rows to columns, which changes no
    /// product. `None` where no such power of two exists, or a factor is not finite.
    pub fn fit(self, dtype: DType) -> Option<Self> {
        let ordinary = |list: &[f64]| all(list, is_ordinary);
        if is_ordinary(self.times) && ordinary(&self.rows) && ordinary(&self.columns) {
            return Some(self);
        }
        let Self {
            mut rows,
            mut columns,
            times,
        } = self;
        if times != 1.0 {
            rows.to_mut().iter_mut().for_each(|row| *row *= times);
        }
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
            rows.to_mut().iter_mut().for_each(|r| *r /= factor);
            columns.to_mut().iter_mut().for_each(|c| *c *= factor);
        }
        Some(Self {
            rows,
            columns,
            times: 1.0,
        })
    }

    /// The same factors in memory of their own.
    pub fn into_owned(self) -> RowColScale<'static> {
        RowColScale {
            rows: Cow::Owned(self.rows.into_owned()),
            columns: Cow::Owned(self.columns.into_owned()),
            times: self.times,
        }
    }

    /// Whether every product of a row and a column factor lies in the range of `dtype`.
    pub fn products_fit(&self, dtype: DType) -> bool {
        let (rows, columns) = (
            Exponents::of(&self.all_of_rows()),
            Exponents::of(&self.columns),
        );
        let (Some(rows), Some(columns)) = (rows, columns) else {
            return false;
        };
        rows.high + columns.high <= limit(dtype) && rows.low + columns.low >= -limit(dtype)
    }

    /// A factor per row with the one for all.
    pub fn all_of_rows(&self) -> Vec<f64> {
        self.rows.iter().map(|row| row * self.times).collect()
    }

    /// The number of groups of rows, if these are the lines of a matrix with so many columns.
    pub fn groups(&self, columns: usize) -> usize {
        self.columns.len() / columns
    }
}

/// Whether a factor is of ordinary size. Where all are, nothing needs to be moved.
#[inline(always)]
pub(crate) fn is_ordinary(factor: f64) -> bool {
    const LIMIT: f64 = (1u64 << 32) as f64;
    (factor.abs() <= LIMIT) & (factor.abs() >= 1.0 / LIMIT)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_out_of_range_are_moved_or_refused() {
        let lines = |rows: &[f64], columns: &[f64], dtype| {
            let lines = RowColScale {
                rows: rows.into(),
                columns: columns.into(),
                times: 1.0,
            };
            lines.fit(dtype).map(RowColScale::into_owned)
        };
        let fit = lines(&[1e60, 2e60], &[1e-60, 3e-60], DType::F32).unwrap();
        assert!(fit.rows[0] < 1e30 && fit.columns[0] > 1e-30);
        assert!((fit.rows[1] * fit.columns[1] - 6.0).abs() < 1e-12);
        assert_eq!(lines(&[1e60, 1e-60], &[1.0], DType::F32), None);
        assert_eq!(lines(&[f64::NAN], &[1.0], DType::F64), None);
        assert_eq!(lines(&[1.0, -f64::INFINITY], &[1.0], DType::F64), None);
        assert!(lines(&[0.0, 1e-300], &[1e300, 0.0], DType::F32).is_some());
        let times = |times| {
            let lines = RowColScale {
                rows: vec![2.0].into(),
                columns: vec![3.0].into(),
                times,
            };
            let fit = lines.fit(DType::F32)?;
            Some((fit.rows[0], fit.times))
        };
        assert_eq!(times(0.5), Some((2.0, 0.5)));
        assert_eq!(times(0.0), Some((0.0, 1.0)));
        assert_eq!((times(1e-80), times(f64::NAN)), (None, None));
    }
}
