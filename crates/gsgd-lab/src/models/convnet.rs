//! Plain and residual convolutional networks for small images (He et al. 2015).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use flex_kernels::{add_relu, batch_norm, batch_norm_relu, conv2d};

use super::arch::Conv;
use super::init::Draw;
use crate::data::ImageShape;

/// A convolution and, perhaps, the batch norm behind it.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// The batch norm.
    pub norm: Option<BatchNorm>,
}

impl ConvNorm {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = conv2d(&self.conv, x);
        match &self.norm {
            Some(norm) => batch_norm(norm, y),
            None => y,
        }
    }

    /// With a ReLU behind it.
    fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        let y = conv2d(&self.conv, x);
        match &self.norm {
            Some(norm) => batch_norm_relu(norm, y),
            None => relu(y),
        }
    }
}

/// Two convolutions, with or without a residual connection around them.
#[derive(Module, Debug)]
pub struct Block {
    /// The first convolution.
    pub first: ConvNorm,
    /// The second.
    pub second: ConvNorm,
    /// A projection on the residual connection, where the block changes the shape.
    pub downsample: Option<ConvNorm>,
    #[module(skip)]
    residual: bool,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.first.forward_relu(x.clone());
        if !self.residual {
            return self.second.forward_relu(y);
        }
        let y = self.second.forward(y);
        let skip = match &self.downsample {
            Some(downsample) => downsample.forward(x),
            None => x,
        };
        add_relu(y, skip)
    }
}

/// A stem, stages of blocks, the mean over positions, a dense layer.
#[derive(Module, Debug)]
pub struct ConvNet {
    /// The first convolution.
    pub stem: ConvNorm,
    /// Blocks by stage.
    pub stages: Vec<Vec<Block>>,
    /// The dense layer.
    pub head: Linear,
    #[module(skip)]
    pub(super) shape: ImageShape,
}

impl ConvNet {
    /// A network with He weights for images of this shape.
    pub(super) fn new(
        arch: &Conv,
        shape: ImageShape,
        classes: usize,
        norm: bool,
        bias: bool,
        draw: &mut Draw,
        device: &Device,
    ) -> Self {
        let mut layer = |channels: [usize; 2], size: usize, stride: usize| ConvNorm {
            conv: draw.conv(channels, size, stride, bias, device),
            norm: norm.then(|| BatchNormConfig::new(channels[1]).init(device)),
        };
        let mut width = arch.stages[0].0;
        let stem = layer([shape.channels, width], 3, 1);
        let mut stages = Vec::new();
        for (stage, &(channels, blocks)) in arch.stages.iter().enumerate() {
            let block = |at: usize| {
                let stride = if stage > 0 && at == 0 { 2 } else { 1 };
                let from = std::mem::replace(&mut width, channels);
                Block {
                    first: layer([from, channels], 3, stride),
                    second: layer([channels, channels], 3, 1),
                    downsample: (arch.residual && (from != channels || stride > 1))
                        .then(|| layer([from, channels], 1, stride)),
                    residual: arch.residual,
                }
            };
            stages.push((0..blocks).map(block).collect());
        }
        Self {
            stem,
            stages,
            head: draw.linear([width, classes], true, device),
            shape,
        }
    }

    /// Logits `[batch, classes]` of images `[batch, channels * height * width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let batch = x.dims()[0];
        let images = x.reshape([batch, channels, height, width]);
        let mut y = self.stem.forward_relu(images);
        for block in self.stages.iter().flatten() {
            y = block.forward(y);
        }
        let [batch, channels, height, width] = y.dims();
        let means = y.reshape([batch, channels, height * width]).mean_dim(2);
        self.head.forward(means.reshape([batch, channels]))
    }
}
