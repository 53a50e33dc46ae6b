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

use super::places::Places;

/// By class, u of its skeleton edges and sums of u.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sums {
    /// u of the In and of the Out edge.
    pub into: Vec<f64>,
    pub out: Vec<f64>,
    /// Over all edges out of the class, or into it where that is the same.
    pub outgoing: Vec<f64>,
    /// Over all edges into the class, of floating classes and sinks.
    pub incoming: Vec<f64>,
}

impl Sums {
    pub fn zero(classes: usize) -> Self {
        let zero = vec![0.0; classes];
        Self {
            into: zero.clone(),
            out: zero.clone(),
            outgoing: zero.clone(),
            incoming: zero,
        }
    }
}

/// dL/dv of the In edges that move, from their coordinates.
pub(crate) fn in_edges(places: &Places, u: &Sums, in_values: &[f64]) -> Vec<f64> {
    let outs = u.outgoing.iter().zip(&u.out);
    let mut sums: Vec<f64> = outs.map(|(all, out)| all - out).collect();
    for &b in &places.floating {
        sums[b] = u.outgoing[b] - (u.incoming[b] - u.into[b]);
    }
    for &b in &places.sinks {
        sums[b] = 0.0;
    }
    for &b in places.still.iter().rev() {
        sums[places.in_tail[b]] += sums[b];
    }
    let edges = u.into.iter().zip(&sums).zip(in_values);
    edges.map(|((u, sum), v)| (u - sum) / v).collect()
}
