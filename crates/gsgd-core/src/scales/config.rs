//! Choices in what batch norms and residual connections do to scaling classes.

/// What a batch norm does to scaling classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum BatchNormTreatment {
    /// Gamma, beta, the rows before it and the running statistics are part of the group of scalings. Exactly
    /// invariant, but for the layer's epsilon.
    #[default]
    Exact,
    /// As in the paper's experiments: the classes go through as if there were no batch norm, gamma and beta are stepped in
    /// weight space, and gradients of the layer before are multiplied by the l2 norm of each unit's incoming weights.
    /// An approximation: rescaling such a network changes its function.
    Paper,
}

/// What a residual connection does to scaling classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum SkipTreatment {
    /// Both sides become one class, so that a residual stream has one scale per channel.
    #[default]
    WholeNetwork,
    /// Both sides are grounded, as in the paper: invariance inside residual blocks only.
    PerBlock,
}

/// What batch norms and residual connections do to scaling classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScaleGraphConfig {
    pub(super) batch_norm: BatchNormTreatment,
    pub(super) skips: SkipTreatment,
}

impl ScaleGraphConfig {
    /// Exact batch norm, whole-network skips.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the classes are exact: rescaling leaves the function as it is.
    pub fn is_exact(&self) -> bool {
        self.batch_norm == BatchNormTreatment::Exact
    }

    /// What batch norms do.
    pub fn with_batch_norm(mut self, treatment: BatchNormTreatment) -> Self {
        self.batch_norm = treatment;
        self
    }

    /// What residual connections do.
    pub fn with_skips(mut self, treatment: SkipTreatment) -> Self {
        self.skips = treatment;
        self
    }
}
