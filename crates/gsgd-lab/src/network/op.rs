//! The operations of a network, with the tensors of each by name.

/// Which dimension of a dense layer's weight comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// `[outputs, inputs]`, as in PyTorch.
    OutputsFirst,
    /// `[inputs, outputs]`.
    InputsFirst,
}

/// How a convolution or pooling moves over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Steps down and to the right.
    pub stride: [usize; 2],
    /// Zeros at top, left, bottom and right.
    pub padding: [usize; 4],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Whether a last window may reach over the end.
    pub ceil: bool,
}

/// Functions that are not positively homogeneous, as far as they can be computed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// Softmax over the channels
    Softmax,
}

/// What a node does; tensors by their names in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// An input, without the batch.
    Input {
        shape: Vec<usize>,
    },
    Linear {
        weight: String,
        bias: Option<String>,
        orientation: Orientation,
    },
    /// Weight `[outputs, inputs / groups, height, width]`.
    Conv {
        weight: String,
        bias: Option<String>,
        window: Window,
        groups: usize,
    },
    BatchNorm {
        weight: String,
        bias: String,
        mean: String,
        variance: String,
        epsilon: f64,
    },
    Relu {},
    LeakyRelu {
        slope: f64,
    },
    Prelu {
        slopes: String,
    },
    MaxPool {
        window: Window,
    },
    AvgPool {
        window: Window,
        counts_padding: bool,
    },
    GlobalAvgPool {},
    Add {},
    Concat {},
    Flatten {},
    /// What changes nothing in evaluation.
    Identity {},
    Function {
        function: Function,
    },
    /// Something that nothing is known of but the shape of its result.
    Opaque {
        kind: String,
        shape: Vec<usize>,
    },
}

impl Op {
    /// The tensors it has.
    pub fn tensors(&self) -> Vec<&str> {
        match self {
            Self::Linear { weight, bias, .. } | Self::Conv { weight, bias, .. } => {
                let bias = bias.iter();
                bias.chain([weight]).map(String::as_str).collect()
            }
            Self::BatchNorm {
                weight,
                bias,
                mean,
                variance,
                ..
            } => vec![weight, bias, mean, variance],
            Self::Prelu { slopes } => vec![slopes],
            _ => Vec::new(),
        }
    }

    /// Those of them that a rescaling changes: slopes stay.
    pub fn changing(&self) -> Vec<&str> {
        match self {
            Self::Prelu { .. } => Vec::new(),
            _ => self.tensors(),
        }
    }
}
