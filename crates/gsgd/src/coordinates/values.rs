//! Products along the skeleton (Meng et al. 2019, section 4.1).

use crate::skeleton::Branches;

/// Pin of every class: the product of the weights on the in-path from the ground, `Pin(ground) = 1`.
///
/// `in_weights[b]` is the weight of the In edge of class b; entry 0 is not read.
pub(crate) fn in_products(branches: &Branches, in_weights: &[f64]) -> Vec<f64> {
    let mut pin = vec![1.0; in_weights.len()];
    for b in 1..pin.len() {
        pin[b] = pin[branches.in_tail[b]] * in_weights[b];
    }
    pin
}

/// Pout of every class: the product of the weights on the out-path to the ground, `Pout(ground) = 1`.
///
/// `out_weights[b]` is the weight of the Out edge of class b; entry 0 is not read.
pub(crate) fn out_products(branches: &Branches, out_weights: &[f64]) -> Vec<f64> {
    let mut pout = vec![1.0; out_weights.len()];
    for &b in &branches.out_order {
        pout[b] = pout[branches.out_head[b]] * out_weights[b];
    }
    pout
}
