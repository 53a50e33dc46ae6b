//! The inverse chain rule (Meng et al. 2019, section 4.2), for any widths and wiring.
//!
//! With `u_e = g_e w_e`:
//!
//! ```text
//! S(b)     = sum of u_f over edges f out of b, f not free
//!            + S(b') for every class b' whose In edge is free and leaves b
//! dL/dv_e  = g_e / (T(tail) D(head))          e not an In edge
//!          = (u_e - S(head)) / v_e            e an In edge that is not free
//! ```
//!
//! Nothing is divided by an ordinary weight.

use crate::skeleton::Branches;

/// S of every class.
///
/// `outgoing[b]` is the sum of u over all edges out of b, `free[b]` is u of the Out edge of b. Entry 0 is not read.
pub(crate) fn sums(branches: &Branches, outgoing: &[f64], free: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; outgoing.len()];
    for b in (1..sums.len()).rev() {
        sums[b] += outgoing[b] - free[b];
        if branches.in_is_free[b] {
            sums[branches.in_tail[b]] += sums[b];
        }
    }
    sums
}
