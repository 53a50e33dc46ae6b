//! Everything that can go wrong, with the parameter or layer it concerns.

/// What cannot be done, and why. Nothing is changed then: every check is made before the first weight is written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The calls that describe the network do not fit together.
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
        "`{name}` is a convolution: paths tell no positions apart, so outputs are computed for dense layers only"
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

/// A call of [`ScaleGraphBuilder`](crate::scales::ScaleGraphBuilder) that makes no sense for the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A layer expects another number of channels than it is given.
    #[error("`{layer}` takes {expected} features, but is given {found}")]
    Width {
        /// The layer.
        layer: String,
        /// Features the layer takes.
        expected: usize,
        /// Features given.
        found: usize,
    },

    /// Channels that the groups of a convolution do not divide.
    #[error(
        "`{layer}` has {channels} channels, which {groups} groups do not divide: a group would split a class"
    )]
    Groups {
        /// The layer.
        layer: String,
        /// Channels on the side of the first dimension.
        channels: usize,
        /// Its groups.
        groups: usize,
    },

    /// `add` of two values with unequal channel counts.
    #[error(
        "add: {left} channels (from {left_from}) and {right} channels (from {right_from}) cannot be added"
    )]
    Add {
        /// Channels on the left.
        left: usize,
        /// Where they come from.
        left_from: String,
        /// Channels on the right.
        right: usize,
        /// Where they come from.
        right_from: String,
    },

    /// A width is needed where only the network's input is known.
    #[error("{call}: the input's width is not known here; declare it with `input(width)`")]
    UnknownWidth {
        /// The call.
        call: &'static str,
    },

    /// One parameter is used twice.
    #[error(
        "parameter `{layer}` is used twice: weights used in two places have no positive scaling of their own"
    )]
    Twice {
        /// The parameter.
        layer: String,
    },

    /// A layer's parameter is not a parameter of the model.
    #[error("layer number {call} of the scale graph has a parameter that is not one of the model")]
    Foreign {
        /// Position of the call, from 1.
        call: usize,
    },

    /// A weight with another number of dimensions than its form has.
    #[error("`{layer}` of shape {shape:?} is no weight of the form that it is said to have")]
    Form {
        /// The layer.
        layer: String,
        /// The weight's shape.
        shape: Vec<usize>,
    },

    /// A layer without inputs or outputs.
    #[error("`{layer}` has no features on one side")]
    Empty {
        /// The layer.
        layer: String,
    },

    /// A layer's result reaches no output.
    #[error("the result of `{layer}` reaches no output: use it, or leave the layer out")]
    DeadEnd {
        /// The layer.
        layer: String,
    },

    /// A value from another builder.
    #[error("{call}: these channels were made by another builder")]
    WrongBuilder {
        /// The call.
        call: &'static str,
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
