//! The operations of a network.

use crate::scales::ParamKey;

/// How a convolution or pooling moves over the axes of space, a number for each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Sizes.
    pub kernel: Vec<usize>,
    /// Steps.
    pub stride: Vec<usize>,
    /// Zeros before and after.
    pub padding: Vec<[usize; 2]>,
    /// Distance of neighbouring taps.
    pub dilation: Vec<usize>,
    /// Whether a last window may reach over the end (pooling).
    pub ceil: bool,
}

impl Window {
    /// A window that moves by one, without padding.
    pub fn new(kernel: &[usize]) -> Self {
        let axes = kernel.len();
        Self {
            kernel: kernel.to_vec(),
            stride: vec![1; axes],
            padding: vec![[0, 0]; axes],
            dilation: vec![1; axes],
            ceil: false,
        }
    }

    /// With these steps.
    pub fn with_stride(self, stride: &[usize]) -> Self {
        Self {
            stride: stride.to_vec(),
            ..self
        }
    }

    /// With as many zeros before as after.
    pub fn with_padding(self, padding: &[usize]) -> Self {
        Self {
            padding: padding.iter().map(|&pad| [pad, pad]).collect(),
            ..self
        }
    }
}

/// Functions of one number that are positively homogeneous: f(c x) = c f(x) for c > 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x, times a slope below zero.
    LeakyRelu(f64),
    /// |x|
    Abs,
    /// -x
    Neg,
}

/// How several numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The mean.
    Mean,
    /// The sum.
    Sum,
}

/// How a window of a pooling becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest.
    Max,
    /// The mean.
    Mean {
        /// Whether padding counts.
        counts_padding: bool,
    },
}

/// Functions of one number that are not positively homogeneous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
    /// x Phi(x)
    Gelu,
    /// x sigmoid(x)
    Silu,
    /// min(max(x, 0), 6)
    Relu6,
    /// min(max(x / 6 + 1 / 2, 0), 1)
    HardSigmoid,
    /// x times that
    HardSwish,
}

/// What makes a value of those that it reads.
///
/// Shapes are those of the whole value with its batch. A weight is read like any other value; `Param` gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// An input of the network.
    Input {
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A parameter, or another tensor that a rescaling may change.
    Param(ParamKey),
    /// Numbers that stay as they are.
    Constant {
        /// Their shape.
        shape: Vec<usize>,
    },
    /// `[.., n, k] x [.., k, m] (+ [m])`; reads two or three values.
    MatMul {
        /// Whether the second is `[.., m, k]`.
        transposed: bool,
    },
    /// A convolution of `[batch, channels, ..]` with `[outputs, channels / groups, ..] (+ [outputs])`.
    Conv {
        /// How it moves.
        window: Window,
        /// Groups of channels.
        groups: usize,
    },
    /// A transposed convolution of `[batch, channels, ..]` with `[channels, outputs / groups, ..] (+ [outputs])`.
    ConvTranspose {
        /// How it moves.
        window: Window,
        /// Groups of channels.
        groups: usize,
        /// Further rows at the end of each axis of space.
        output_padding: Vec<usize>,
    },
    /// Normalises `[batch, channels, ..]`; reads the value, gamma, beta, running mean and running variance.
    BatchNorm {
        /// What is added to variances.
        epsilon: f64,
    },
    /// A positively homogeneous function of every number.
    Activation(Activation),
    /// Times a slope below zero; reads the value and its slopes, one or one per channel (axis 1).
    Prelu,
    /// Pooling of `[batch, channels, ..]`.
    Pool {
        /// What becomes of a window.
        pooling: Pooling,
        /// How it moves.
        window: Window,
    },
    /// Over whole axes.
    Reduce {
        /// What becomes of them.
        reduction: Reduction,
        /// Which.
        axes: Vec<usize>,
        /// Whether they stay, with size 1.
        keep: bool,
    },
    /// Other sizes along some axes: resizing, zeros around it, an adaptive pooling. What it computes is linear or a largest
    /// number.
    Resample {
        /// Its name.
        kind: String,
        /// The shape of the result.
        shape: Vec<usize>,
    },
    /// The sum of all values read; shapes are brought together as in numpy.
    Add,
    /// The first minus the second.
    Sub,
    /// The product of two values.
    Mul,
    /// The first divided by the second.
    Div,
    /// Side by side along an axis.
    Concat {
        /// Which.
        axis: usize,
    },
    /// Some places along an axis.
    Slice {
        /// Which axis.
        axis: usize,
        /// The first place.
        start: usize,
        /// From one to the next, which may be backwards.
        step: isize,
        /// How many.
        count: usize,
    },
    /// Listed places along an axis.
    Select {
        /// Which axis.
        axis: usize,
        /// Which places.
        places: Vec<usize>,
    },
    /// Places along an axis that are computed, as an embedding does; reads the value, and perhaps the places.
    Gather {
        /// Which axis.
        axis: usize,
        /// The shape of the result, with that of the places in place of the axis.
        shape: Vec<usize>,
    },
    /// The same numbers in another shape.
    Reshape {
        /// Which.
        shape: Vec<usize>,
    },
    /// Axes in another order.
    Transpose {
        /// The axis of the value read for each of the result.
        order: Vec<usize>,
    },
    /// Repeated along axes of size 1, and along new ones in front.
    Expand {
        /// The shape of the result.
        shape: Vec<usize>,
    },
    /// What changes nothing: dropout in evaluation, a cast.
    Identity,
    /// A function of every number that is not positively homogeneous.
    Function(Function),
    /// exp(x) over its sum along an axis.
    Softmax {
        /// Which.
        axis: usize,
    },
    /// To mean 0 and variance 1 over groups of numbers of one example; gain and shift are a product and a sum behind it.
    Normalise {
        /// The axes, or, with groups, those behind the channels (axis 1), which are cut into groups.
        axes: Vec<usize>,
        /// Groups of channels; none where axes say all.
        groups: Option<usize>,
        /// Whether the mean is taken away (not by RMSNorm).
        centred: bool,
        /// What is added to variances.
        epsilon: f64,
    },
    /// Something that nothing is known of but the shape of its result.
    Opaque {
        /// Its name.
        kind: String,
        /// The shape of the result.
        shape: Vec<usize>,
    },
}

impl Op {
    /// As messages name it.
    pub fn name(&self) -> &str {
        match self {
            Self::Input { .. } => "input",
            Self::Param(_) => "parameter",
            Self::Constant { .. } => "constant",
            Self::MatMul { .. } => "matmul",
            Self::Conv { .. } => "convolution",
            Self::ConvTranspose { .. } => "transposed convolution",
            Self::BatchNorm { .. } => "batch norm",
            Self::Activation(Activation::Relu) => "relu",
            Self::Activation(Activation::LeakyRelu(_)) => "leaky relu",
            Self::Activation(Activation::Abs) => "abs",
            Self::Activation(Activation::Neg) => "neg",
            Self::Prelu => "prelu",
            Self::Pool { .. } => "pooling",
            Self::Reduce { .. } => "reduction",
            Self::Resample { kind, .. } | Self::Opaque { kind, .. } => kind,
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Concat { .. } => "concat",
            Self::Slice { .. } => "slice",
            Self::Select { .. } => "select",
            Self::Gather { .. } => "gather",
            Self::Reshape { .. } => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::Expand { .. } => "expand",
            Self::Identity => "identity",
            Self::Function(function) => function.name(),
            Self::Softmax { .. } => "softmax",
            Self::Normalise { groups: None, .. } => "layer norm",
            Self::Normalise { .. } => "group norm",
        }
    }
}

impl Function {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Relu6 => "relu6",
            Self::HardSigmoid => "hard-sigmoid",
            Self::HardSwish => "hard-swish",
        }
    }
}
