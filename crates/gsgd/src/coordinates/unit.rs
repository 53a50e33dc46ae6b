//! What the skeleton chart knows of one class.

use crate::skeleton::Tree;
use crate::wiring::{Kind, Wiring};

/// A class's place in the skeleton and its reference sizes, which stay.
///
/// Places stand in a list by class, the ground first. In edges come from earlier places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub kind: Kind,
    /// The class that the In edge comes from.
    pub in_tail: usize,
    /// Whether the In edge is held fixed: as the Out edge of its tail, or because the class is floating.
    pub in_is_free: bool,
    /// The class that the Out edge leads to.
    pub out_head: usize,
    /// |Pin| and |Pout| at the start in the balanced network; 1 in plain coordinates.
    pub size: Factors,
    /// |path value| of the In edge at the start, for the floor guard.
    pub at_start: f64,
}

/// A number for edges out of a class and one for edges into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factors {
    pub tail: f64,
    pub head: f64,
}

impl Factors {
    pub const ONE: Self = Self {
        tail: 1.0,
        head: 1.0,
    };
}

impl Place {
    /// The places of a skeleton.
    pub fn list(wiring: &Wiring, tree: &Tree) -> Vec<Self> {
        let ground = Self {
            kind: Kind::Grounded,
            in_tail: 0,
            in_is_free: true,
            out_head: 0,
            size: Factors::ONE,
            at_start: 1.0,
        };
        let mut places = vec![ground];
        places.extend(wiring.hidden_classes().map(|class| {
            let (into, out) = (tree.in_edge(class), tree.out_edge(class));
            Self {
                kind: wiring.kind(class),
                in_tail: into.map_or(0, |edge| wiring.tail(edge).index()),
                in_is_free: tree.in_is_free(wiring, class),
                out_head: out.map_or(0, |edge| wiring.head(edge).index()),
                ..ground
            }
        }));
        places
    }
}

/// A class's numbers at one network and gradient, in the order in which they come to be known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unit {
    /// Weight and gradient of the In and of the Out edge.
    pub in_weight: f64,
    pub in_gradient: f64,
    pub out_weight: f64,
    pub out_gradient: f64,
    /// Sum of u = g w over all edges out of the class, or into it where that is the same.
    pub outgoing: f64,
    /// Sum of u over all edges into the class, of floating classes and sinks.
    pub incoming: f64,
    /// Sum of (T(tail) w)^2 over all edges into a sink.
    pub squares: f64,

    /// Products along the in-path and the out-path.
    pub pin: f64,
    pub pout: f64,
    /// T and D: the coordinate of an edge is T(tail) w D(head).
    pub factor: Factors,
    /// S of the inverse chain rule.
    pub sum: f64,
    /// Coordinate of the In edge and, where it moves, dL/dv of it.
    pub in_value: f64,
    pub in_path_gradient: f64,

    /// Ratio of new to old Pin.
    pub rho: f64,
    /// What weights into the class are multiplied with after all else: rho of a floating class, and what brings a
    /// sink's row back to its length.
    pub back: f64,
}

impl Unit {
    /// Nothing known yet; the ground stays so.
    pub const UNKNOWN: Self = Self {
        in_weight: 1.0,
        in_gradient: 0.0,
        out_weight: 1.0,
        out_gradient: 0.0,
        outgoing: 0.0,
        incoming: 0.0,
        squares: 0.0,
        pin: 1.0,
        pout: 1.0,
        factor: Factors::ONE,
        sum: 0.0,
        in_value: 1.0,
        in_path_gradient: 0.0,
        rho: 1.0,
        back: 1.0,
    };
}
