//! Products along the skeleton (Meng et al. 2019, section 4.1) and the factors of path values, of which the inverses are used.
//!
//! ```text
//! v_e = T(tail) w_e D(head)
//! T(b) = Pin(b)
//! D(b) = Pout(b)        b reaches an output without batch norm
//!      = 1 / T(b)       b is behind batch norm
//!      = radius / N(b)  b goes into batch norm, N the l2 norm of T(tail) w over the edges into b
//! ```
//!
//! In normalised coordinates Pin and Pout are taken relative to their sizes at the start.

use crate::chart::state::Factors;
use crate::skeleton::TreeOrder;

/// Pin, the product of the weights on the in-path from the ground, 1 of the ground, and Pout, that on the out-path to the
/// ground, 1 of classes that reach no output without batch norm, of every class. From weights by skeleton edge.
pub(crate) fn products(order: &TreeOrder, weights: &[f64]) -> Factors {
    let (ins, outs) = TreeOrder::ins_and_outs(weights);
    // Pin and Pout
    let (mut tail, mut head) = (vec![1.0; ins.len()], vec![1.0; ins.len()]);
    // the ground's own entry in both lists is itself and 1
    for (b, (from, w)) in order.in_tail.iter().zip(ins).enumerate() {
        tail[b] = tail[from.index()] * w;
    }
    for [class, to] in &order.outs {
        let b = class.index();
        head[b] = head[to.index()] * outs[b];
    }
    Factors { tail, head }
}

/// 1 / T and 1 / D, but those of classes into batch norm.
pub(crate) fn inverse_factors(order: &TreeOrder, size: &Factors, products: Factors) -> Factors {
    let over = |sizes: &[f64], products: Vec<f64>| {
        let pairs = sizes.iter().zip(products);
        pairs.map(|(size, product)| size / product).collect()
    };
    let Factors { tail, head } = products;
    let mut inverse = Factors {
        tail: over(&size.tail, tail),
        head: over(&size.head, head),
    };
    for &b in &order.behind_norm {
        inverse.head[b] = 1.0 / inverse.tail[b];
    }
    inverse
}

/// What a gradient of weights is multiplied with in a step, 1 / T^2 and 1 / D^2: once to make it dL/dv and once on the way
/// back.
pub(crate) fn of_gradient(inverse: &Factors) -> Factors {
    let squares = |factors: &[f64]| factors.iter().map(|factor| factor * factor).collect();
    Factors {
        tail: squares(&inverse.tail),
        head: squares(&inverse.head),
    }
}

/// The inverses of the coordinates of the In edges: as `Pin(b) = Pin(tail) w`, they are `1 / (T(b) D(b))` times what the
/// size of Pin(tail) is of that of Pin(b).
pub(crate) fn per_in_value(order: &TreeOrder, size: &Factors, inverse: &Factors) -> Vec<f64> {
    let of_tail = order.in_tail.iter().zip(&size.tail);
    let of_tail = of_tail.map(|(tail, own)| size.tail[tail.index()] / own);
    let classes = inverse.tail.iter().zip(&inverse.head).zip(of_tail);
    classes.map(|((t, d), of_tail)| t * d * of_tail).collect()
}
