//! Products along the skeleton (Meng et al. 2019, section 4.1).

use crate::skeleton::Tree;
use crate::wiring::{Class, Wiring};

/// Pin of every class: the product of the weights on the in-path from the ground, `Pin(ground) = 1`.
///
/// `in_weights[b]` is the weight of the In edge of class b; entry 0 is not read.
pub(crate) fn in_products(wiring: &Wiring, tree: &Tree, in_weights: &[f64]) -> Vec<f64> {
    let mut pin = vec![1.0; wiring.hidden() + 1];
    for class in wiring.hidden_classes() {
        let tail = wiring.tail(tree.in_edge(class));
        pin[class.index()] = pin[tail.index()] * in_weights[class.index()];
    }
    pin
}

/// Pout of every class: the product of the weights on the out-path to the ground, `Pout(ground) = 1`.
///
/// `out_weights[b]` is the weight of the Out edge of class b; entry 0 is not read.
pub(crate) fn out_products(
    wiring: &Wiring,
    tree: &Tree,
    order: &[Class],
    out_weights: &[f64],
) -> Vec<f64> {
    let mut pout = vec![1.0; wiring.hidden() + 1];
    for &class in order {
        let head = wiring.head(tree.out_edge(class));
        pout[class.index()] = pout[head.index()] * out_weights[class.index()];
    }
    pout
}
