//! What a chart of path values knows of the network at its start.

use serde::{Deserialize, Serialize};

use crate::skeleton::SkeletonTree;

/// What a chart knows of the network at its start: all that has to be saved of it. Lists by class, the ground first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathChartState {
    /// The skeleton.
    pub tree: SkeletonTree,
    /// tau of the ratio floor.
    pub floor: Option<f64>,
    /// |path value| of the skeleton paths at the start, for the ratio floor; 1 without it.
    pub values: Vec<f64>,
    /// Whether coordinates are normalised.
    pub normalised: bool,
    /// |Pin| and |Pout| at the start in the balanced network; 1 in plain coordinates.
    pub sizes: Factors,
}

/// By class, the ground first, a number for edges out of it and one for edges into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factors {
    /// Out of it.
    pub tail: Vec<f64>,
    /// Into it.
    pub head: Vec<f64>,
}
