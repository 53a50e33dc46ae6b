//! Products along the skeleton (Meng et al. 2019, section 4.1) and the factors of path values.
//!
//! ```text
//! v_e = T(tail) w_e D(head)
//! T(b) = Pin(b)
//! D(b) = Pout(b)        b grounded
//!      = 1 / T(b)       b floating
//!      = radius / N(b)  b a sink, N the l2 norm of T(tail) w over the edges into b
//! ```
//!
//! In normalised coordinates Pin and Pout are taken relative to their sizes at the start.

use super::unit::{Factors, Place, Unit};
use crate::wiring::Kind;

/// Pin of every class: the product of the weights on the in-path from the ground, `Pin(ground) = 1`; and Pout, the
/// product of the weights on the out-path to the ground.
///
/// `out_order` lists the classes such that every Out edge leads to an earlier one or the ground.
pub(crate) fn products(places: &[Place], out_order: &[usize], units: &mut [Unit]) {
    for b in 1..units.len() {
        units[b].pin = units[places[b].in_tail].pin * units[b].in_weight;
    }
    for &b in out_order {
        units[b].pout = units[places[b].out_head].pout * units[b].out_weight;
    }
    for (place, unit) in places.iter().zip(units) {
        let tail = unit.pin / place.size.tail;
        let head = match place.kind {
            Kind::Grounded => unit.pout / place.size.head,
            Kind::Floating | Kind::Sink => 1.0 / tail,
        };
        unit.factor = Factors { tail, head };
    }
}

/// D of the sinks, once their sums of squares are known, and then the coordinates of all In edges.
pub(crate) fn in_values(places: &[Place], radius: f64, units: &mut [Unit]) {
    for (place, unit) in places.iter().zip(units.iter_mut()) {
        if place.kind == Kind::Sink {
            unit.factor.head = radius / unit.squares.sqrt();
        }
    }
    for b in 1..units.len() {
        let tail = units[places[b].in_tail].factor.tail;
        units[b].in_value = tail * units[b].in_weight * units[b].factor.head;
    }
}
