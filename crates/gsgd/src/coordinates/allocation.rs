//! Weight allocation (Meng et al. 2019, section 4.3), for any widths and wiring, and the floor guard.
//!
//! With R(b) the ratio of new to old path value of the In edge of b:
//!
//! ```text
//! rho(ground) = 1
//! rho(b)      = rho(tail In(b)) if In(b) is free, R(b) otherwise
//! w'_e        = (w_e + dv_e / (T(tail) D(head))) / rho(tail)    e not free
//!               times rho(head) if the head is floating
//!               times radius / |v + dv| if the head is a sink
//!             = w_e                                             e free
//! ```

use super::places::Places;
use crate::kernels::all;

/// rho of every class where its In edge, of a value with this inverse, changes by so much; on failure the class, and the
/// ratio that is no number to divide by.
pub(crate) fn ratios(
    places: &Places,
    tau: Option<f64>,
    per_value: &[f64],
    change: Vec<f64>,
) -> Result<Vec<f64>, (usize, f64)> {
    let mut rho = change;
    for (rho, per_value) in rho.iter_mut().zip(per_value) {
        *rho = 1.0 + *rho * per_value;
    }
    if let Some(tau) = tau {
        let values = per_value.iter().zip(&places.in_value_at_start);
        for (rho, (per_value, at_start)) in rho.iter_mut().zip(values) {
            *rho = floored(*rho, per_value * at_start, tau);
        }
    }
    rho[0] = 1.0;
    for class in &places.still {
        rho[class.index()] = rho[places.in_tail[class.index()].index()];
    }
    let usable = |r: f64| (r.abs() > 0.0) & (r.abs() <= f64::MAX);
    if all(&rho, usable) {
        return Ok(rho);
    }
    let first = rho.iter().position(|&r| !usable(r));
    let b = first.expect("one of them is not usable");
    Err((b, rho[b]))
}

/// The floor guard: keeps the sign of a skeleton path's value, and its size at `tau` of what it was at the start, which is
/// `started` times what it is; no step multiplies it by more than `1 / tau`.
///
/// `R <- min(max(R, min(tau |v0| / |v|, 1)), 1 / tau)`. Unchanged by rescaling; bounds by 1 / tau^2 how much the
/// coordinates can amplify the lr.
fn floored(r: f64, started: f64, tau: f64) -> f64 {
    r.max((tau * started.abs()).min(1.0)).min(1.0 / tau)
}

#[cfg(test)]
mod tests {
    use super::floored;

    #[test]
    fn the_floor_keeps_sign_and_size() {
        assert_eq!(floored(0.9, 1.0, 0.5), 0.9);
        assert_eq!(floored(-3.0, 1.0, 0.5), 0.5);
        assert_eq!(floored(0.1, -2.0, 0.5), 1.0);
        assert_eq!(floored(f64::NEG_INFINITY, 1.0, 0.25), 0.25);
        assert_eq!(floored(1e9, 1.0, 0.25), 4.0);
        assert_eq!(floored(1e9, 1.0, 0.0), 1e9);
    }
}
