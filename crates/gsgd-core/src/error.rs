//! Everything that can go wrong, with the parameter or layer it concerns.

/// What cannot be done, and why. Nothing is changed then: every check is made before the first weight is written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operations that describe the network do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),

    /// A gradient holds NaN or an infinity.
    #[error(
        "the gradient of parameter `{name}` is not finite; the model is unchanged (lower the lr, or look for NaN in the data)"
    )]
    NonFiniteGradient {
        /// The parameter's path.
        name: String,
    },

    /// A weight is NaN or infinite.
    #[error("parameter `{name}` holds a value that is not finite")]
    NonFiniteWeight {
        /// The parameter's path.
        name: String,
    },

    /// A setting lies outside its range.
    #[error("{name} must be {allowed}, got {found}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What was given.
        found: String,
        /// The values allowed.
        allowed: &'static str,
    },

    /// A skeleton weight is zero, so its basis paths have no value.
    #[error(
        "skeleton weight `{name}`[{tail}, {head}] is zero: the path values behind it are not coordinates there; \
         norm coordinates need no skeleton, and Skeleton::Largest has none of zero unless all weights on one side of a unit are"
    )]
    ZeroSkeleton {
        /// The parameter's path.
        name: String,
        /// Index on the incoming side.
        tail: usize,
        /// Index on the outgoing side.
        head: usize,
    },

    /// The index-modulo skeleton rests on weights far smaller than their neighbours.
    #[error(
        "Skeleton::Paper is unstable on these weights: skeleton weight `{name}`[{tail}, {head}] is {ratio:.1e} of \
         its unit's root mean square (at least {least} is asked for), and every step is divided by it; use \
         Skeleton::Largest, or set the skeleton to 1 first with `skeleton_to_one`, which changes the function"
    )]
    TinySkeleton {
        /// The parameter's path.
        name: String,
        /// Index on the incoming side.
        tail: usize,
        /// Index on the outgoing side.
        head: usize,
        /// The weight's size against the root mean square of its unit, in the balanced network.
        ratio: f64,
        /// The least ratio accepted.
        least: f64,
    },

    /// A step would carry a basis path through zero, where the coordinates end.
    #[error(
        "this step takes the basis path of skeleton weight `{name}`[{tail}, {head}] to {value:e} times its value; \
         the model is unchanged (keep the ratio floor on, or lower the lr)"
    )]
    Singular {
        /// The parameter's path.
        name: String,
        /// Index on the incoming side.
        tail: usize,
        /// Index on the outgoing side.
        head: usize,
        /// The ratio of new to old path value.
        value: f64,
    },

    /// Path products left the range of floating point numbers.
    #[error(
        "the path values at parameter `{name}` overflow or vanish in floating point: balance the network first"
    )]
    OutOfRange {
        /// The parameter's path.
        name: String,
    },

    /// A hidden unit has no incoming weight but zeros.
    #[error("all weights into unit {unit} are zero: norm coordinates have no direction there")]
    DeadUnit {
        /// The unit, as layer and index.
        unit: String,
    },

    /// A scaling has the wrong number of factors or a factor that is not positive and finite.
    #[error("a scaling of this network has {expected} positive finite factors: {found}")]
    Scaling {
        /// The number of hidden classes.
        expected: usize,
        /// What is wrong.
        found: String,
    },

    /// The network has too many paths to enumerate.
    #[error(
        "the network has {paths} paths, more than the limit of {limit}: exact enumeration is for small networks"
    )]
    TooManyPaths {
        /// The number of paths (saturating).
        paths: u128,
        /// The most that are enumerated.
        limit: u128,
    },

    /// Paths cannot be followed through a function that is not positively homogeneous.
    #[error(
        "the network has a batch norm or another function inside that is not positively homogeneous: its output is \
         no sum over paths"
    )]
    Grounded,

    /// Eq. (1) of the paper is computed for dense layers only.
    #[error(
        "`{name}` is no dense layer: paths tell no positions apart, so outputs are computed for dense layers only"
    )]
    NotDense {
        /// The parameter's path.
        name: String,
    },

    /// A tool that does not work through batch norm.
    #[error("{tool} does not work on a network with batch norm: {reason}")]
    BatchNorm {
        /// The tool.
        tool: &'static str,
        /// Why.
        reason: &'static str,
    },

    /// A tool that does not work with frozen parameters.
    #[error("{tool} does not work on a network with frozen parameters, such as `{name}`")]
    Frozen {
        /// The tool.
        tool: &'static str,
        /// One of them.
        name: String,
    },

    /// An input vector has the wrong length.
    #[error("the network takes inputs of widths {expected:?}, got {found:?}")]
    Input {
        /// Width of every input.
        expected: Vec<usize>,
        /// Lengths given.
        found: Vec<usize>,
    },

    /// A skeleton does not belong to the scale graph.
    #[error("the skeleton does not fit the scale graph: {reason}")]
    Skeleton {
        /// What is wrong with it.
        reason: String,
    },

    /// Two networks cannot be compared.
    #[error("the two networks differ in their scale graphs: {reason}")]
    Incomparable {
        /// The first difference.
        reason: String,
    },
}

/// A graph that makes no sense, or one that is not its model's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operation that does not fit what it reads.
    #[error("{operation} `{value}`: {why}")]
    Shape {
        /// Its name.
        value: String,
        /// What it is.
        operation: String,
        /// What does not fit.
        why: String,
    },

    /// More channels than can be followed.
    #[error("with layer `{value}` there are more than {most} channels in all values together")]
    Channels {
        /// The value.
        value: String,
        /// The most.
        most: usize,
    },

    /// No output.
    #[error("the graph has no output, so that nothing in it has an effect")]
    NoOutput,

    /// A parameter was taken in before.
    #[error("parameter `{layer}` is declared twice")]
    Twice {
        /// The parameter.
        layer: String,
    },

    /// A tensor without elements.
    #[error("`{layer}` has no elements")]
    Empty {
        /// The layer.
        layer: String,
    },

    /// Outputs are not the same in two forward passes.
    #[error(
        "two forward passes of the same model on the same input differ, so that nothing can be checked: is dropout active? \
         Verify a model in evaluation, or one without dropout"
    )]
    Random,

    /// Model and scale graph disagree about the function.
    #[error(
        "scale graph and model part at `{layer}`: rescaling its units changes the output by {difference:.1e} \
         (of {scale:.1e}); is a residual add, a shared weight or a function that is not positively homogeneous \
         missing from the scale graph?"
    )]
    Mismatch {
        /// The layer whose units were rescaled.
        layer: String,
        /// Largest change of an output.
        difference: f64,
        /// Largest output.
        scale: f64,
    },
}
