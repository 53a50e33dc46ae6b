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

use super::places::{Factors, Places};

/// Pin of every class: the product of the weights on the in-path from the ground, `Pin(ground) = 1`; and Pout, the
/// product of the weights on the out-path to the ground, 1 of classes that are not grounded.
pub(crate) fn products(places: &Places, in_weights: &[f64], out_weights: &[f64]) -> Factors {
    let mut pin = vec![1.0; places.classes()];
    for (b, (&tail, w)) in places.in_tail.iter().zip(in_weights).enumerate().skip(1) {
        pin[b] = pin[tail] * w;
    }
    let mut pout = vec![1.0; places.classes()];
    for &b in &places.out_order {
        pout[b] = pout[places.out_head[b]] * out_weights[b];
    }
    Factors {
        tail: pin,
        head: pout,
    }
}

/// T and D, but D of sinks.
pub(crate) fn factors(places: &Places, products: &Factors) -> Factors {
    let ratios = |products: &[f64], sizes: &[f64]| {
        let pairs = products.iter().zip(sizes);
        pairs.map(|(product, size)| product / size).collect()
    };
    let mut factors = Factors {
        tail: ratios(&products.tail, &places.size.tail),
        head: ratios(&products.head, &places.size.head),
    };
    for &b in &places.floating {
        factors.head[b] = 1.0 / factors.tail[b];
    }
    factors
}

/// The coordinates of the In edges.
pub(crate) fn in_values(places: &Places, in_weights: &[f64], factors: &Factors) -> Vec<f64> {
    let tails = places.in_tail.iter().map(|&tail| factors.tail[tail]);
    let values = tails.zip(in_weights).zip(&factors.head);
    values.map(|((tail, w), head)| tail * w * head).collect()
}
