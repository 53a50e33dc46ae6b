//! Batch norm's forward and backward pass.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Tensor;

use super::passes::{self, BatchNormPasses, ChannelMoments, Then};
use crate::autodiff::Operation;
use crate::memory::{own, tensor};

/// Moments of images `[batch, channels, height, width]` on flex by channel, off the tape.
pub fn moments(x: Tensor<4>, epsilon: f64) -> ChannelMoments {
    let [_, channels, height, width] = x.dims();
    let x = x.inner().try_into_primitive::<Flex>();
    let x = x.expect("taken on flex only").to_contiguous();
    passes::moments(x.storage(), channels, height * width, epsilon as f32)
}

/// Images `[batch, channels, height, width]` with moments 0 and 1, then scaled and shifted, `gamma` and `beta`
/// `[channels]`, and what follows. Gradients flow through the moments, which must be those of the images.
#[derive(Debug, Clone)]
pub struct Normalisation {
    pub moments: ChannelMoments,
    pub then: Then,
}

impl Normalisation {
    fn passes<'a>(&'a self, [x, gamma, beta]: [&'a FlexTensor; 3]) -> BatchNormPasses<'a> {
        BatchNormPasses {
            gamma: gamma.storage(),
            beta: beta.storage(),
            of: &self.moments,
            plane: x.shape()[2] * x.shape()[3],
            then: self.then,
        }
    }
}

impl Operation<3, 3> for Normalisation {
    type State = Self;

    fn forward(self, [x, gamma, beta]: [FlexTensor; 3]) -> (FlexTensor, Self) {
        let y = self.passes([&x, &gamma, &beta]).forward(x.storage());
        (tensor(y, x.shape()), self)
    }

    fn backward(
        norm: Self,
        [x, gamma, beta]: [FlexTensor; 3],
        up: FlexTensor,
        [of_x, of_gamma, of_beta]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let mut up = own(up);
        let found = norm
            .passes([&x, &gamma, &beta])
            .backward(x.storage(), up.storage_mut());
        let vector = |entries: Vec<f32>| {
            let shape = [entries.len()];
            tensor(entries, shape)
        };
        [
            of_x.then_some(up),
            of_gamma.then(|| vector(found.gamma)),
            of_beta.then(|| vector(found.beta)),
        ]
    }
}
