//! Products along the skeleton (Meng et al. 2019, section 4.1) and the factors of path values, of which the inverses are used.
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
/// product of the weights on the out-path to the ground, 1 of classes that are not grounded. From weights by skeleton edge.
pub(crate) fn products(places: &Places, weights: &[f64]) -> Factors {
    let (ins, outs) = Places::ins_and_outs(weights);
    let mut products = Factors::all(1.0, places.classes());
    let (pin, pout) = products.tail_and_head_mut();
    // the ground's own entry in both lists is itself and 1
    for (b, (tail, w)) in places.in_tail.iter().zip(ins).enumerate() {
        pin[b] = pin[tail.index()] * w;
    }
    for [class, head] in &places.outs {
        let b = class.index();
        pout[b] = pout[head.index()] * outs[b];
    }
    products
}

/// 1 / T and 1 / D, but those of sinks.
pub(crate) fn inverse_factors(places: &Places, products: Factors) -> Factors {
    let mut inverse = products;
    for (product, size) in inverse.list_mut().iter_mut().zip(places.size().list()) {
        *product = size / *product;
    }
    let (tail, head) = inverse.tail_and_head_mut();
    for &b in &places.floating {
        head[b] = 1.0 / tail[b];
    }
    inverse
}

/// What a gradient of weights is multiplied with in a step, 1 / T^2 and 1 / D^2: once to make it dL/dv and once on the way
/// back.
pub(crate) fn of_gradient(inverse: Factors) -> Factors {
    let mut squares = inverse;
    for factor in squares.list_mut() {
        *factor *= *factor;
    }
    squares
}

/// The inverses of the coordinates of the In edges: as `Pin(b) = Pin(tail) w`, they are `1 / (T(b) D(b))` times what the
/// size of Pin(tail) is of that of Pin(b).
pub(crate) fn per_in_value(places: &Places, inverse: &Factors) -> Vec<f64> {
    let (tail, head) = inverse.tail_and_head();
    let classes = tail.iter().zip(head).zip(&places.of_tail);
    classes.map(|((t, d), of_tail)| t * d * of_tail).collect()
}
