//! Batch norm as an operation of Burn's flex backend and of its autodiff.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::passes::{self, BatchNormPasses, ChannelMoments, Then};
use crate::memory::own;

/// Moments of images by channel, off the tape.
pub fn moments(x: Tensor<4>, epsilon: f64) -> ChannelMoments {
    let [_, channels, height, width] = x.dims();
    let x = x.inner().try_into_primitive::<Flex>();
    let x = x.expect("the program runs on flex").to_contiguous();
    passes::moments(x.storage(), channels, height * width, epsilon as f32)
}

/// A backend that normalises with our passes.
#[backend_extension(Flex, Autodiff)]
pub trait Normalise: Backend {
    /// Images `[batch, channels, height, width]` with moments 0 and 1, then scaled and shifted, `gamma` and `beta`
    /// `[channels]`, and what follows; gradients flow through the moments, which must be those of `x`.
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: ChannelMoments,
        then: Then,
    ) -> FloatTensor<Self>;
}

impl Normalise for Flex {
    fn normalise(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        moments: ChannelMoments,
        then: Then,
    ) -> FlexTensor {
        let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.to_contiguous());
        let norm = norm([&x, &gamma, &beta], &moments, then);
        FlexTensor::from_data(TensorData::new(norm.forward(x.storage()), x.shape()))
    }
}

/// The batch norm of these images.
fn norm<'a>(
    [x, gamma, beta]: [&'a FlexTensor; 3],
    moments: &'a ChannelMoments,
    then: Then,
) -> BatchNormPasses<'a> {
    BatchNormPasses {
        gamma: gamma.storage(),
        beta: beta.storage(),
        of: moments,
        plane: x.shape()[2] * x.shape()[3],
        then,
    }
}

impl<C: CheckpointStrategy> Normalise for Autodiff<Flex, C> {
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: ChannelMoments,
        then: Then,
    ) -> FloatTensor<Self> {
        let prepared = Normalisation
            .prepare::<C>([x.node(), gamma.node(), beta.node()])
            .compute_bound()
            .stateful();
        let forward =
            |x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>, moments| {
                let (x, gamma) = (x.into_primitive(), gamma.into_primitive());
                Flex::normalise(x, gamma, beta.into_primitive(), moments, then)
            };
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                let parents = [&x, &gamma, &beta].map(|tensor| prepared.checkpoint(tensor));
                let state = (parents, moments.clone(), then);
                prepared.finish(state, forward(x, gamma, beta, moments))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward(x, gamma, beta, moments)),
        }
    }
}

/// The operation on the tape.
#[derive(Debug)]
struct Normalisation;

impl Backward<Flex, 3> for Normalisation {
    type State = ([NodeId; 3], ChannelMoments, Then);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [of_x, of_gamma, of_beta] = ops.parents;
        let (parents, moments, then) = ops.state;
        let mut up = own(grads.consume::<Flex>(&ops.node));
        let [x, gamma, beta] = parents.map(|parent| {
            let tensor = checkpointer.retrieve_node_output::<FlexTensor>(parent);
            tensor.to_contiguous()
        });
        let norm = norm([&x, &gamma, &beta], &moments, then);
        let found = norm.backward(x.storage(), up.storage_mut());
        let vector = |values: Vec<f32>| {
            let shape = [values.len()];
            FlexTensor::from_data(TensorData::new(values, shape))
        };
        if let Some(node) = of_x {
            grads.register::<Flex>(node.id, up);
        }
        if let Some(node) = of_gamma {
            grads.register::<Flex>(node.id, vector(found.gamma));
        }
        if let Some(node) = of_beta {
            grads.register::<Flex>(node.id, vector(found.beta));
        }
    }
}
