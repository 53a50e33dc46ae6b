//! Everything that can go wrong, with the parameter, layer or file it concerns.

use std::path::PathBuf;

/// What the library returns where it cannot do what was asked.
///
/// No error leaves a model changed: every check is made before the first weight is written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The method cannot do it, whatever the framework.
    #[error(transparent)]
    Core(#[from] gsgd_core::Error),

    /// A forward pass that cannot be captured.
    #[error(
        "the forward pass cannot be captured: {reason}; it may not read the numbers of a tensor, and all that it returns must \
         come from inputs of the example. A graph built by hand will do too: `gsgd::declared` and `GSpaceConfig::init_graph`"
    )]
    Capture {
        /// What Burn says.
        reason: String,
    },

    /// Some parameters are outside the scale graph.
    #[error(
        "not in the scale graph: {}; use their layers in the forward pass, or call \
         `.with_outside(Outside::WeightSpace)` to step them in weight space", .names.join(", ")
    )]
    Outside {
        /// The parameters' paths in the module.
        names: Vec<String>,
    },

    /// A parameter of the scale graph is not in the model that was handed in.
    #[error(
        "parameter `{name}` of the scale graph is not in this model: the optimiser was made for another one"
    )]
    MissingParameter {
        /// The parameter's path in the module the graph was made from.
        name: String,
    },

    /// A parameter has another shape than when the graph was made.
    #[error("parameter `{name}` has shape {found:?}, the graph was made for {expected:?}")]
    ShapeChanged {
        /// The parameter's path.
        name: String,
        /// Shape in the graph.
        expected: Vec<usize>,
        /// Shape in the model.
        found: Vec<usize>,
    },

    /// A parameter has no gradient.
    #[error(
        "no gradient for parameter `{name}`: does the loss depend on it, was the model created on an \
         autodiff device, and do the gradients come from this model? If it has been frozen since the optimiser was \
         made, make another one"
    )]
    MissingGradient {
        /// The parameter's path.
        name: String,
    },

    /// A gradient is of another number type than its parameter.
    #[error("the gradient of parameter `{name}` is {found}, the parameter {expected}")]
    GradientType {
        /// The parameter's path.
        name: String,
        /// Number type of the parameter.
        expected: String,
        /// Number type of the gradient.
        found: String,
    },

    /// The learning rate is not a finite number >= 0.
    #[error("lr must be a finite number >= 0, got {lr}")]
    LearningRate {
        /// What was given.
        lr: f64,
    },

    /// A parameter has a gradient that had none when the optimiser was made.
    #[error(
        "parameter `{name}` has a gradient, but was frozen when the optimiser was made: make another one for the network \
         as it trains now"
    )]
    Unfrozen {
        /// The parameter's path.
        name: String,
    },

    /// A layer whose gradient Burn computes wrongly.
    #[error(
        "the gradient of `{name}` cannot be used: Burn 0.22 computes a wrong one for the weights of a conv1d with groups and a \
         stride above 1; take a conv2d with a kernel of height 1, or freeze the layer"
    )]
    WrongGradient {
        /// The parameter's path.
        name: String,
    },

    /// The learner of Burn's trainer was not made by the strategy that it is trained with.
    #[error(
        "this learner has an optimiser that the strategy would not use: let the strategy make it, by \
         `Strategy::launch` or `Strategy::learner`"
    )]
    Learner,

    /// A state file cannot be read or written.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },

    /// A state does not belong to this optimiser or model.
    #[error("the saved optimiser state does not fit: {reason}")]
    State {
        /// What was expected and what was found.
        reason: String,
    },
}

impl From<gsgd_core::GraphError> for Error {
    fn from(error: gsgd_core::GraphError) -> Self {
        Self::Core(error.into())
    }
}

/// An error together with the model it was handed, unchanged.
///
/// [`GSpace::step`](crate::GSpace::step) takes the model by value, as Burn's optimisers do; this hands it back.
/// `?` turns it into an [`Error`] where the model is not needed any more.
#[derive(Debug, Clone)]
pub struct Rejected<M> {
    /// The model as it was.
    pub model: M,
    /// Why the step was refused.
    pub error: Error,
}

impl<M> std::fmt::Display for Rejected<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl<M: std::fmt::Debug> std::error::Error for Rejected<M> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<M> From<Rejected<M>> for Error {
    fn from(rejected: Rejected<M>) -> Self {
        rejected.error
    }
}

impl<M> Rejected<M> {
    /// The model and why it was refused.
    pub(crate) fn new(model: M, error: impl Into<Error>) -> Self {
        let error = error.into();
        Self { model, error }
    }
}
