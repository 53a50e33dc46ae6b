//! Networks, each with its scale graph beside its forward pass, and their files.

mod arch;
mod convnet;
mod file;
mod init;
mod mlp;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gsgd::skeleton::{self, SkeletonTree};
use gsgd::{Graph, ScaleGraphConfig, capture};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use arch::{Arch, Conv};
pub use convnet::{Block, ConvNet, ConvNorm};
pub use file::{
    FilePart, NETWORK, TEMPORARY, file_name, fill, load_into, move_into_place, network_of, save,
    save_text, tensors, write_whole,
};
pub use init::Init;
pub use mlp::Mlp;

use crate::data::ImageShape;
use init::Draw;

/// A network of the program.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Model {
    /// Dense layers.
    Mlp(Mlp),
    /// Convolutions.
    Conv(ConvNet),
}

/// The stream of the seed's random numbers that skeleton signs are drawn from.
const SIGNS: u64 = 1;

/// What decides a network's layers.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The architecture.
    pub arch: Arch,
    /// Biases in dense layers and, without batch norm, in convolutions.
    pub bias: bool,
    /// Batch norm behind every convolution.
    pub norm: bool,
    /// The shape of the images.
    pub shape: ImageShape,
    /// Outputs of convolutional networks.
    pub classes: usize,
}

impl Model {
    /// A network with He weights that depend on the seed alone.
    pub fn he(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let mut draw = Draw::new(seed);
        match &config.arch {
            Arch::Mlp(widths) => Self::Mlp(Mlp::new(widths, config.bias, &mut draw, device)),
            Arch::Conv(conv) => Self::Conv(ConvNet::new(
                conv,
                config.shape,
                config.classes,
                config.norm,
                config.bias && !config.norm,
                &mut draw,
                device,
            )),
        }
    }

    /// A network with starting weights that depend on the seed alone; the skeleton is that of its scale graph.
    ///
    /// # Errors
    /// The scale graph does not fit the model.
    pub fn init(
        config: &ModelConfig,
        init: Init,
        scales: ScaleGraphConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, gsgd::Error> {
        let model = Self::he(config, seed, device);
        match init {
            Init::He => Ok(model),
            Init::Skeleton {
                magnitude,
                random_signs,
            } => {
                let scales = model.graph()?.scales(scales)?;
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(SIGNS);
                let sign = |_| match random_signs && rng.random() {
                    true => -magnitude,
                    false => magnitude,
                };
                Ok(skeleton::set(
                    model,
                    &scales,
                    &SkeletonTree::paper(&scales),
                    sign,
                )?)
            }
        }
    }

    /// Its operations.
    ///
    /// # Errors
    /// They cannot be captured.
    pub fn graph(&self) -> Result<Graph, gsgd::Error> {
        let features = match self {
            Self::Mlp(mlp) => mlp.layers[0].weight.dims()[0],
            Self::Conv(conv) => conv.shape.features(),
        };
        capture(self, |model, example| {
            model.forward(example.input([1, features]))
        })
    }

    /// Logits `[batch, outputs]` of inputs `[batch, features]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Mlp(mlp) => mlp.forward(x),
            Self::Conv(conv) => conv.forward(x),
        }
    }
}
