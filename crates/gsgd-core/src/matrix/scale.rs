//! Factors of the rows and columns of a matrix.

use super::all;

/// The number type of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32, or a type with fewer digits on a device.
    Single,
    /// f64.
    Double,
}

impl Precision {
    /// The largest binary exponent that leaves room for weights and sums.
    fn limit(self) -> i32 {
        match self {
            Self::Double => 1000,
            Self::Single => 120,
        }
    }
}

/// diag(rows) X diag(columns): a factor per row and a factor per column of a matrix.
///
/// The rows may fall into groups of equal size, as those of a grouped convolution do; then there is a factor for
/// every column of every group.
#[derive(Debug, Clone, PartialEq)]
pub struct RowColScale {
    /// A factor per row.
    pub rows: Vec<f64>,
    /// A factor per column of every group.
    pub columns: Vec<f64>,
}

impl RowColScale {
    /// Factors brought into the range of a number type by moving a power of two from rows to columns, which changes no
    /// product. `None` where no such power of two exists, or a factor is not finite.
    pub fn fit(mut self, precision: Precision) -> Option<Self> {
        if all(&self.rows, is_ordinary) && all(&self.columns, is_ordinary) {
            return Some(self);
        }
        let limit = precision.limit();
        let (row, column) = (
            Exponents::from_factors(&self.rows)?,
            Exponents::from_factors(&self.columns)?,
        );
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
            self.rows.iter_mut().for_each(|r| *r /= factor);
            self.columns.iter_mut().for_each(|c| *c *= factor);
        }
        Some(self)
    }

    /// Whether every product of a row and a column factor lies in the range of a number type.
    pub fn products_fit(&self, precision: Precision) -> bool {
        let (rows, columns) = (
            Exponents::from_factors(&self.rows),
            Exponents::from_factors(&self.columns),
        );
        let (Some(rows), Some(columns)) = (rows, columns) else {
            return false;
        };
        let limit = precision.limit();
        rows.high + columns.high <= limit && rows.low + columns.low >= -limit
    }

    /// The number of groups of rows, if these are the factors of a matrix with this number of columns.
    pub fn groups(&self, columns: usize) -> usize {
        self.columns.len() / columns
    }
}

/// Whether a factor is of ordinary size. Where all are, nothing needs to be moved.
#[inline(always)]
fn is_ordinary(factor: f64) -> bool {
    const LIMIT: f64 = (1u64 << 32) as f64;
    (factor.abs() <= LIMIT) & (factor.abs() >= 1.0 / LIMIT)
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
    fn from_factors(factors: &[f64]) -> Option<Self> {
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
        use Precision::{Double, Single};
        let fit = |rows: &[f64], columns: &[f64], precision| {
            let scale = RowColScale {
                rows: rows.into(),
                columns: columns.into(),
            };
            scale.fit(precision)
        };
        let moved = fit(&[1e60, 2e60], &[1e-60, 3e-60], Single).unwrap();
        assert!(moved.rows[0] < 1e30 && moved.columns[0] > 1e-30);
        assert!((moved.rows[1] * moved.columns[1] - 6.0).abs() < 1e-12);
        assert_eq!(fit(&[1e60, 1e-60], &[1.0], Single), None);
        assert_eq!(fit(&[f64::NAN], &[1.0], Double), None);
        assert_eq!(fit(&[1.0, -f64::INFINITY], &[1.0], Double), None);
        assert!(fit(&[0.0, 1e-300], &[1e300, 0.0], Single).is_some());
        assert!(fit(&[0.0], &[3.0], Single).is_some());
        assert_eq!(fit(&[2e-80], &[3.0], Single), None);
    }
}
