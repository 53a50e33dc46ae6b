//! The inverse chain rule (Meng et al. 2019, section 4.2), for any widths and wiring.
//!
//! With `u_e = g_e w_e`:
//!
//! ```text
//! S(b)     = sum of u_f over edges f out of b, f not free
//!            - sum of u_e over edges e into b, e not free, if b is floating
//!            + S(b') for every class b' whose In edge is free and leaves b
//! dL/dv_e  = g_e / (T(tail) D(head))          e not an In edge that moves
//!          = (u_e - S(head)) / v_e            e an In edge that moves
//! ```
//!
//! and, for edges into a sink, whose coordinates lie on a sphere of that radius, less the part along v:
//! `- v_e (sum of u over the edges into the sink) / radius^2`. Nothing is divided by an ordinary weight.

use super::unit::{Place, Unit};
use crate::wiring::Kind;

/// S of every class and dL/dv of the In edges that move.
pub(crate) fn in_edges(places: &[Place], units: &mut [Unit]) {
    for b in (1..units.len()).rev() {
        let (place, unit) = (&places[b], &mut units[b]);
        unit.sum += match place.kind {
            Kind::Grounded => unit.outgoing - unit.out_weight * unit.out_gradient,
            Kind::Floating => unit.outgoing - (unit.incoming - unit.in_weight * unit.in_gradient),
            Kind::Sink => 0.0,
        };
        let sum = unit.sum;
        if place.in_is_free {
            units[place.in_tail].sum += sum;
        } else {
            unit.in_path_gradient = (unit.in_gradient * unit.in_weight - sum) / unit.in_value;
        }
    }
}
