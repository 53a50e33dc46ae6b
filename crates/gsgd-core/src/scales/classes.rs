//! Scaling classes and their union.

/// A scaling class: the units that one positive factor scales together.
///
/// All inputs, all outputs and the constant 1 behind the biases are [`ScaleClass::GROUND`], whose factor is 1. Hidden
/// classes are numbered from 1 in the order in which the network first writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScaleClass(pub(crate) u32);

impl ScaleClass {
    /// The class of inputs, outputs and the constant 1; it is never rescaled.
    pub const GROUND: ScaleClass = ScaleClass(0);

    /// Position in a list with one entry per class, the ground at 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether this is the ground.
    pub fn is_ground(self) -> bool {
        self.0 == 0
    }
}

/// How a class reaches the outputs. The ground itself reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Some way to an output passes no batch norm.
    ReachesOutput,
    /// Read by weight layers, but every way to an output passes a batch norm.
    BehindBatchNorm,
    /// Read by batch norms alone: the scale of all weights into it has no effect on outputs.
    IntoBatchNorm,
}

/// Disjoint sets of provisional classes; the ground, 0, stays the representative of its set.
#[derive(Debug)]
pub(super) struct Union {
    parent: Vec<u32>,
}

impl Union {
    pub fn with_ground() -> Self {
        Self { parent: vec![0] }
    }

    pub fn fresh(&mut self) -> u32 {
        let class = self.parent.len() as u32;
        self.parent.push(class);
        class
    }

    pub fn find(&mut self, class: u32) -> u32 {
        let mut root = class;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        let mut at = class;
        while self.parent[at as usize] != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }

    /// Unites two sets under the smaller representative, so that the ground absorbs what it meets.
    pub fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ground_absorbs_what_it_meets() {
        let mut sets = Union::with_ground();
        let (a, b, c) = (sets.fresh(), sets.fresh(), sets.fresh());
        sets.unite(a, b);
        assert_eq!(sets.find(b), sets.find(a));
        assert_ne!(sets.find(c), sets.find(a));
        sets.unite(b, 0);
        assert_eq!(sets.find(a), 0);
        assert_ne!(sets.find(c), 0);
    }
}
