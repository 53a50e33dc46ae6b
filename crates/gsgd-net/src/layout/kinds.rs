//! The kinds of layers, as they stand in the file.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use gsgd_core::graph::{Function, Reduction, Window};

/// The value or values that a layer reads.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum From {
    One(String),
    Many(Vec<String>),
}

/// A size for all axes of space, or one for each.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(untagged)]
pub(super) enum Sizes {
    All(usize),
    Each(Vec<usize>),
}

impl Sizes {
    /// A size for each of this many axes.
    pub fn of(&self, axes: usize) -> Result<Vec<usize>> {
        match self {
            Self::All(size) => Ok(vec![*size; axes]),
            Self::Each(sizes) => {
                ensure!(
                    sizes.len() == axes,
                    "{sizes:?} are {} sizes, there are {axes} axes of space",
                    sizes.len()
                );
                Ok(sizes.clone())
            }
        }
    }

    /// Zeros before and after each axis: of all, of each axis, or those before all axes and then those after.
    pub fn around(&self, axes: usize) -> Result<Vec<[usize; 2]>> {
        match self {
            Self::Each(sizes) if axes > 0 && sizes.len() == 2 * axes => {
                let (before, after) = sizes.split_at(axes);
                Ok(before.iter().zip(after).map(|(&a, &b)| [a, b]).collect())
            }
            sizes => Ok(sizes.of(axes)?.into_iter().map(|pad| [pad, pad]).collect()),
        }
    }

    /// The shortest form of a list.
    pub fn from_list(list: &[usize]) -> Self {
        match list {
            [first, rest @ ..] if rest.iter().all(|size| size == first) => Self::All(*first),
            _ => Self::Each(list.to_vec()),
        }
    }

    /// The shortest form of zeros before and after each axis.
    pub fn from_around(padding: &[[usize; 2]]) -> Self {
        let side = |side: usize| padding.iter().map(move |pad| pad[side]);
        match side(0).eq(side(1)) {
            true => Self::from_list(&side(0).collect::<Vec<_>>()),
            false => Self::Each(side(0).chain(side(1)).collect()),
        }
    }
}

/// Functions that are not positively homogeneous.
#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FunctionName {
    Sigmoid,
    Tanh,
    Gelu,
    Silu,
    Relu6,
    HardSigmoid,
    HardSwish,
    Softmax,
}

impl FunctionName {
    /// The function, but for softmax, which is one of several numbers.
    pub fn function(self) -> Option<Function> {
        Some(match self {
            Self::Sigmoid => Function::Sigmoid,
            Self::Tanh => Function::Tanh,
            Self::Gelu => Function::Gelu,
            Self::Silu => Function::Silu,
            Self::Relu6 => Function::Relu6,
            Self::HardSigmoid => Function::HardSigmoid,
            Self::HardSwish => Function::HardSwish,
            Self::Softmax => return None,
        })
    }

    /// Of a function.
    pub fn of(function: Function) -> Self {
        match function {
            Function::Sigmoid => Self::Sigmoid,
            Function::Tanh => Self::Tanh,
            Function::Gelu => Self::Gelu,
            Function::Silu => Self::Silu,
            Function::Relu6 => Self::Relu6,
            Function::HardSigmoid => Self::HardSigmoid,
            Function::HardSwish => Self::HardSwish,
        }
    }
}

/// How several numbers become one.
#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReductionName {
    Max,
    Min,
    Mean,
    Sum,
}

impl ReductionName {
    pub fn reduction(self) -> Reduction {
        match self {
            Self::Max => Reduction::Max,
            Self::Min => Reduction::Min,
            Self::Mean => Reduction::Mean,
            Self::Sum => Reduction::Sum,
        }
    }

    pub fn of(reduction: Reduction) -> Self {
        match reduction {
            Reduction::Max => Self::Max,
            Reduction::Min => Self::Min,
            Reduction::Mean => Self::Mean,
            Reduction::Sum => Self::Sum,
        }
    }
}

/// How a window moves.
pub(super) struct Moves {
    pub stride: Sizes,
    pub padding: Sizes,
    pub dilation: Sizes,
}

/// A kind of layer with its settings. Axes and shapes count the batch, but for the shapes of `input` and `reshape`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum LayerKind {
    Linear {
        #[serde(skip_serializing_if = "Option::is_none")]
        outputs: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bias: Option<bool>,
    },
    Matmul {
        #[serde(default, skip_serializing_if = "is_false")]
        transposed: bool,
    },
    Conv {
        #[serde(skip_serializing_if = "Option::is_none")]
        outputs: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Sizes>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bias: Option<bool>,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        stride: Sizes,
        #[serde(default = "zero", skip_serializing_if = "is_zero")]
        padding: Sizes,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        dilation: Sizes,
        #[serde(default = "first", skip_serializing_if = "is_first")]
        groups: usize,
    },
    ConvTranspose {
        #[serde(skip_serializing_if = "Option::is_none")]
        outputs: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Sizes>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bias: Option<bool>,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        stride: Sizes,
        #[serde(default = "zero", skip_serializing_if = "is_zero")]
        padding: Sizes,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        dilation: Sizes,
        #[serde(default = "first", skip_serializing_if = "is_first")]
        groups: usize,
        #[serde(default = "zero", skip_serializing_if = "is_zero")]
        output_padding: Sizes,
    },
    BatchNorm {
        #[serde(default = "epsilon", skip_serializing_if = "is_epsilon")]
        epsilon: f64,
    },
    Relu {},
    LeakyRelu {
        #[serde(default = "slope", skip_serializing_if = "is_slope")]
        slope: f64,
    },
    Abs {},
    Neg {},
    Prelu {
        #[serde(skip_serializing_if = "Option::is_none")]
        slopes: Option<usize>,
    },
    MaxPool {
        size: Sizes,
        #[serde(skip_serializing_if = "Option::is_none")]
        stride: Option<Sizes>,
        #[serde(default = "zero", skip_serializing_if = "is_zero")]
        padding: Sizes,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        dilation: Sizes,
        #[serde(default, skip_serializing_if = "is_false")]
        ceil: bool,
    },
    AvgPool {
        size: Sizes,
        #[serde(skip_serializing_if = "Option::is_none")]
        stride: Option<Sizes>,
        #[serde(default = "zero", skip_serializing_if = "is_zero")]
        padding: Sizes,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        dilation: Sizes,
        #[serde(default, skip_serializing_if = "is_false")]
        ceil: bool,
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        counts_padding: bool,
    },
    GlobalAvgPool {},
    Reduce {
        by: ReductionName,
        axes: Vec<usize>,
        #[serde(default, skip_serializing_if = "is_false")]
        keep: bool,
    },
    Resample {
        operation: String,
        shape: Vec<usize>,
    },
    Add {},
    Sub {},
    Mul {},
    Div {},
    Concat {
        #[serde(default = "first", skip_serializing_if = "is_first")]
        axis: usize,
    },
    Slice {
        #[serde(default = "first", skip_serializing_if = "is_first")]
        axis: usize,
        start: usize,
        count: usize,
        #[serde(default = "forwards", skip_serializing_if = "is_forwards")]
        step: isize,
    },
    Select {
        #[serde(default = "first", skip_serializing_if = "is_first")]
        axis: usize,
        places: Vec<usize>,
    },
    Gather {
        axis: usize,
        shape: Vec<usize>,
    },
    Reshape {
        #[serde(skip_serializing_if = "Option::is_none")]
        shape: Option<Vec<usize>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        whole: Option<Vec<usize>>,
    },
    Transpose {
        order: Vec<usize>,
    },
    Expand {
        shape: Vec<usize>,
    },
    Flatten {},
    Dropout {},
    Function {
        function: FunctionName,
    },
    Softmax {
        #[serde(default = "first", skip_serializing_if = "is_first")]
        axis: usize,
    },
    Normalise {
        axes: Vec<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        groups: Option<usize>,
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        centred: bool,
        #[serde(default = "epsilon", skip_serializing_if = "is_epsilon")]
        epsilon: f64,
    },
    Param {
        tensor: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        shape: Option<Vec<usize>>,
    },
    Constant {
        shape: Vec<usize>,
    },
}

impl Moves {
    /// Of a window.
    pub fn of(window: &Window) -> Self {
        Self {
            stride: Sizes::from_list(&window.stride),
            padding: Sizes::from_around(&window.padding),
            dilation: Sizes::from_list(&window.dilation),
        }
    }

    /// The window of this size.
    pub fn window(&self, kernel: Vec<usize>) -> Result<Window> {
        let axes = kernel.len();
        Ok(Window {
            stride: self.stride.of(axes)?,
            padding: self.padding.around(axes)?,
            dilation: self.dilation.of(axes)?,
            ceil: false,
            kernel,
        })
    }
}

fn one() -> Sizes {
    Sizes::All(1)
}

fn is_one(sizes: &Sizes) -> bool {
    *sizes == one()
}

fn zero() -> Sizes {
    Sizes::All(0)
}

fn is_zero(sizes: &Sizes) -> bool {
    *sizes == zero()
}

fn first() -> usize {
    1
}

fn is_first(axis: &usize) -> bool {
    *axis == first()
}

fn epsilon() -> f64 {
    1e-5
}

fn is_epsilon(number: &f64) -> bool {
    *number == epsilon()
}

fn slope() -> f64 {
    0.01
}

fn is_slope(number: &f64) -> bool {
    *number == slope()
}

fn forwards() -> isize {
    1
}

fn is_forwards(step: &isize) -> bool {
    *step == forwards()
}

fn yes() -> bool {
    true
}

fn is_yes(answer: &bool) -> bool {
    *answer
}

fn is_false(answer: &bool) -> bool {
    !*answer
}
