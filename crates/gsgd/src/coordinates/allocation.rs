//! Weight allocation (Meng et al. 2019, section 4.3), for any widths and wiring, and the floor guard.
//!
//! With R(b) the ratio of new to old path value of the In edge of b:
//!
//! ```text
//! rho(ground) = 1
//! rho(b)      = rho(tail In(b)) if In(b) is free, R(b) otherwise
//! w'_e        = (w_e + dv_e / (T(tail) D(head))) / rho(tail)    e not free
//!             = w_e                                            e free
//! ```

use crate::skeleton::Branches;

/// rho of every class, from the ratios R of the classes whose In edge is not free.
pub(crate) fn ratios(branches: &Branches, r: &[f64]) -> Vec<f64> {
    let mut rho = vec![1.0; r.len()];
    for b in 1..rho.len() {
        rho[b] = match branches.in_is_free[b] {
            true => rho[branches.in_tail[b]],
            false => r[b],
        };
    }
    rho
}

/// The floor guard: keeps the sign of a skeleton path's value, and its size at `tau` of what it was at the start;
/// no step multiplies it by more than `1 / tau`.
///
/// `R <- min(max(R, min(tau |v0| / |v|, 1)), 1 / tau)`. Unchanged by rescaling; bounds by 1 / tau^2 how much the
/// coordinates can amplify the lr.
pub(crate) fn floored(r: f64, value: f64, at_start: f64, tau: f64) -> f64 {
    r.max((tau * at_start.abs() / value.abs()).min(1.0))
        .min(1.0 / tau)
}

#[cfg(test)]
mod tests {
    use super::floored;

    #[test]
    fn the_floor_keeps_sign_and_size() {
        assert_eq!(floored(0.9, 2.0, 2.0, 0.5), 0.9);
        assert_eq!(floored(-3.0, 2.0, 2.0, 0.5), 0.5);
        assert_eq!(floored(0.1, -1.0, 2.0, 0.5), 1.0);
        assert_eq!(floored(f64::NEG_INFINITY, 1.0, 1.0, 0.25), 0.25);
        assert_eq!(floored(1e9, 1.0, 1.0, 0.25), 4.0);
        assert_eq!(floored(1e9, 1.0, 1.0, 0.0), 1e9);
    }
}
