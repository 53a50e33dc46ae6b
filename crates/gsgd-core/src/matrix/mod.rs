//! The few operations on whole weight matrices that the method needs.
//!
//! [`Matrix`] is all that a framework has to bring. CPU memory has it already: what gives its numbers as [`Slices`] of f32
//! or f64 is a matrix, each operation one pass over memory. All that is per unit, not per weight, is done elsewhere in f64.

mod entries;
mod readback;
mod rule;
mod scale;
mod slices;

pub use entries::{Entries, EntryList};
pub use readback::{FromNumbers, Readback, first_false, read_all};
pub use rule::{Adam, Ball, Rule, Step, StepCoefficients};
pub use scale::{Precision, RowColScale};
pub use slices::{Dense, Real, Slices};

/// A matrix of weights, gradients or path values, in the memory of some framework.
///
/// The rows may fall into groups of equal size, as those of a grouped convolution do. A group has columns of its own, so
/// that a list by column has an entry for every column of every group.
///
/// Operations that give a matrix may use the memory of `self` where nothing else holds it.
pub trait Matrix: Clone {
    /// Numbers on a device that have still to be waited for; [`Infallible`](std::convert::Infallible) where there are none.
    type Pending;

    /// Waits for numbers, for all of them at once: a list for each, in their order.
    fn wait(pending: Vec<Self::Pending>) -> Vec<Vec<f64>>;

    /// The number type.
    fn precision(&self) -> Precision;

    /// Zeros of the same shape and type.
    fn zeros_like(&self) -> Self;

    /// All entries, row by row.
    fn to_vec(&self) -> Vec<f64>;

    /// Whether all entries are finite.
    fn is_finite(&self) -> Readback<bool, Self>;

    /// Sum of w g over every line of a side.
    fn dots(&self, g: &Self, side: Side, groups: usize) -> Readback<Vec<f64>, Self>;

    /// Squares and dot products by head, with a factor per tail; see [`HeadSums`].
    fn head_sums(
        &self,
        g: &Self,
        heads: Side,
        groups: usize,
        tails: &[f64],
    ) -> Readback<HeadSums, Self>;

    /// Sum of factor |w|^p over every line of a side, with a factor per line of the other side.
    fn powers(
        &self,
        side: Side,
        groups: usize,
        others: &[f64],
        p: Power,
    ) -> Readback<Vec<f64>, Self>;

    /// Largest factor |w| on every line of a side, with a factor per line of the other side.
    fn maxima(&self, side: Side, groups: usize, others: &[f64]) -> Readback<Vec<f64>, Self>;

    /// `(x * rows) * columns`.
    fn scale(self, by: &RowColScale) -> Self;

    /// x and another matrix, scaled and added; see [`ScaledSum`].
    fn combine(self, y: &Self, by: &ScaledSum) -> Combined<Self>;

    /// Whether [`advance`](Self::advance) gives weights and moments that are finite; nothing is changed.
    fn advances_finitely(
        &self,
        w: &Self,
        moments: &[Self],
        by: &MomentStep,
    ) -> Readback<bool, Self>;

    /// Weights and moments after a step from this gradient, in its memory and that of the moments; see [`MomentStep`].
    fn advance(self, w: &Self, moments: Vec<Self>, by: &MomentStep) -> (Self, Vec<Self>);

    /// Single entries, by index into the row-major matrix.
    fn gather(&self, at: &[usize]) -> Readback<Vec<f64>, Self>;

    /// The matrix with single entries replaced.
    fn scatter(self, entries: Entries) -> Self;
}

/// A side of a matrix: its rows or its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A line is a row.
    Rows,
    /// A line is a column of a group of rows.
    Columns,
}

impl Side {
    /// Columns for rows, rows for columns.
    pub fn other(self) -> Self {
        match self {
            Self::Rows => Self::Columns,
            Self::Columns => Self::Rows,
        }
    }
}

/// `x' = (x * of_x.rows) * of_x.columns + (y * of_y.rows) * of_y.columns`, then single entries set.
#[derive(Debug, Clone, Copy)]
pub struct ScaledSum<'a> {
    /// Factors of x.
    pub of_x: &'a RowColScale,
    /// Factors of y.
    pub of_y: &'a RowColScale,
    /// Entries set in the end.
    pub fixed: Entries<'a>,
}

/// A new matrix.
pub struct Combined<M: Matrix> {
    /// The matrix.
    pub matrix: M,
    /// Whether all was finite, before single entries were set.
    pub finite: Readback<bool, M>,
}

/// A step of moments in path space and its way back to weights, for the gradient g of weights w:
///
/// ```text
/// g'     = (g * gradient.rows) * gradient.columns
/// change = coefficients(g', moments)
/// w'     = (w * of_weights.rows) * of_weights.columns + (change * of_change.rows) * of_change.columns
/// ```
///
/// then single entries of w' and of the moments set, at the same places.
#[derive(Debug, Clone, Copy)]
pub struct MomentStep<'a> {
    /// Factors of the gradient.
    pub gradient: &'a RowColScale,
    /// The formula.
    pub coefficients: StepCoefficients,
    /// Factors of the weights.
    pub of_weights: &'a RowColScale,
    /// Factors of their change.
    pub of_change: &'a RowColScale,
    /// Entries set in the end.
    pub fixed: Entries<'a>,
    /// The same entries of every moment.
    pub fixed_moments: &'a [Vec<f64>],
}

/// Sums by head that norm coordinates need.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSums {
    /// Sum over tails of (factor w)^2.
    pub squares: Vec<f64>,
    /// Sum over tails of g w.
    pub dots: Vec<f64>,
    /// Sum over tails of (g / factor)^2.
    pub gradient_squares: Vec<f64>,
}

/// The power of the absolute value in a path norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Absolute values, p = 1.
    One,
    /// Squares, p = 2.
    Two,
}

/// Whether all numbers are good. Looks at every one, many at a time: as a number a verdict keeps its place in a vector.
pub(crate) fn all(numbers: &[f64], good: impl Fn(f64) -> bool) -> bool {
    slices::vectorised(|| numbers.iter().fold(0, |bad, &x| bad | u64::from(!good(x))) == 0)
}
