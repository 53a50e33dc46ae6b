//! The multi-layer perceptron with ReLUs.

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use gsgd::{Channels, Homogeneous, Wiring, WiringBuilder, paper, skeleton_to_one};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// An architecture, written `mlp:49-64-64-10`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arch {
    /// Features of the input, the hidden layers and the output.
    pub widths: Vec<usize>,
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is no architecture: {why}; write mlp:INPUT-HIDDEN-...-OUTPUT, such as mlp:49-64-64-10"
            )
        };
        let widths = text
            .strip_prefix("mlp:")
            .ok_or_else(|| wrong("it must start with `mlp:`"))?;
        let widths: Result<Vec<usize>, _> = widths.split('-').map(str::parse).collect();
        let widths = widths.map_err(|_| wrong("widths are whole numbers with `-` between them"))?;
        if widths.len() < 2 || widths.len() > 1000 {
            return Err(wrong("it needs an input and an output"));
        }
        if widths.iter().any(|&w| w == 0 || w > 1 << 20) {
            return Err(wrong("widths lie between 1 and 1048576"));
        }
        Ok(Self { widths })
    }
}

impl TryFrom<String> for Arch {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> Self {
        arch.to_string()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        write!(f, "mlp:{}", widths.join("-"))
    }
}

/// The starting weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Normal with variance 2 / inputs (He et al. 2015), biases 0.
    He,
    /// The same, then every skeleton weight 1, as in the paper's experiments.
    SkeletonOne,
}

/// Dense layers with ReLUs between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The dense layers, weights `[inputs, outputs]`.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// A network with starting weights that depend on the seed alone.
    ///
    /// # Errors
    /// The skeleton does not fit, which the wiring excludes.
    pub fn init(
        arch: &Arch,
        bias: bool,
        init: Init,
        seed: u64,
        device: &Device,
    ) -> Result<Self, gsgd::Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layers = arch.widths.windows(2).map(|w| {
            let std = (2.0 / w[0] as f64).sqrt();
            let weights = (0..w[0] * w[1])
                .map(|_| (std * normal(&mut rng)) as f32)
                .collect();
            layer(weights, bias.then(|| vec![0.0; w[1]]), [w[0], w[1]], device)
        });
        let model = Self {
            layers: layers.collect(),
        };
        match init {
            Init::He => Ok(model),
            Init::SkeletonOne => {
                let wiring = Wiring::of(&model)?;
                Ok(skeleton_to_one(model, &wiring, &paper(&wiring))?)
            }
        }
    }

    /// Logits `[batch, outputs]` of inputs `[batch, inputs]`.
    pub fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = relu(x);
            }
            x = layer.forward(x);
        }
        x
    }
}

impl Homogeneous for Mlp {
    fn wire(&self, w: &mut WiringBuilder, mut x: Channels) -> Channels {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = w.relu(x);
            }
            x = w.linear(x, layer);
        }
        x
    }
}

/// A layer from weights `[inputs, outputs]`, row by row.
pub(super) fn layer(
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    shape: [usize; 2],
    device: &Device,
) -> Linear {
    Linear {
        weight: Param::from_tensor(Tensor::from_data(TensorData::new(weights, shape), device)),
        bias: bias
            .map(|b| Param::from_tensor(Tensor::from_data(TensorData::new(b, [shape[1]]), device))),
    }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
