//! Rows of coordinates on a sphere: all rows in norm coordinates, those into batch norm among path values.

use crate::matrix::HeadSums;

/// `|v - lr dL/dv|^2` of a head line whose coordinates are `v = T(tail) w / d`, from its sums with factors T:
/// `dL/dv = g d / T(tail) - along v` has no part along v.
pub(super) fn moved_square(sums: &HeadSums, line: usize, d: f64, along: f64, lr: f64) -> f64 {
    let v_v = sums.squares[line] / (d * d);
    let v_g = sums.dots[line];
    let g_g = sums.gradient_squares[line] * (d * d);
    let slope = v_g - along * v_v;
    let size = g_g - 2.0 * along * v_g + along * along * v_v;
    v_v - 2.0 * lr * slope + lr * lr * size
}
