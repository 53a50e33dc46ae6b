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

use super::passes::{self, Moments};

/// Moments of images by channel, off the tape.
pub fn moments(x: Tensor<4>, epsilon: f64) -> Moments {
    let [_, channels, height, width] = x.dims();
    let x = x.inner().try_into_primitive::<Flex>();
    let x = x.expect("the program runs on flex").to_contiguous();
    passes::moments(x.storage(), channels, height * width, epsilon as f32)
}

/// A backend that normalises with our passes.
#[backend_extension(Flex, Autodiff)]
pub trait Normalise: Backend {
    /// Images `[batch, channels, height, width]` with moments 0 and 1, then scaled and shifted, `gamma` and `beta`
    /// `[channels]`; gradients flow through the moments, which must be those of `x`.
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: Moments,
    ) -> FloatTensor<Self>;
}

impl Normalise for Flex {
    fn normalise(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        moments: Moments,
    ) -> FlexTensor {
        let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.to_contiguous());
        let (gamma, beta) = (gamma.storage(), beta.storage());
        let y = passes::normalise(x.storage(), gamma, beta, &moments, plane(&x));
        FlexTensor::from_data(TensorData::new(y, x.shape()))
    }
}

/// Entries of a plane.
fn plane(x: &FlexTensor) -> usize {
    x.shape()[2] * x.shape()[3]
}

impl<C: CheckpointStrategy> Normalise for Autodiff<Flex, C> {
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: Moments,
    ) -> FloatTensor<Self> {
        let prepared = Normalisation
            .prepare::<C>([x.node(), gamma.node(), beta.node()])
            .compute_bound()
            .stateful();
        let forward = |x: FloatTensor<Self>, gamma: FloatTensor<Self>, moments| {
            let (x, gamma) = (x.into_primitive(), gamma.into_primitive());
            Flex::normalise(x, gamma, beta.into_primitive(), moments)
        };
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                let state = (
                    prepared.checkpoint(&x),
                    prepared.checkpoint(&gamma),
                    moments.clone(),
                );
                prepared.finish(state, forward(x, gamma, moments))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward(x, gamma, moments)),
        }
    }
}

/// The operation on the tape.
#[derive(Debug)]
struct Normalisation;

impl Backward<Flex, 3> for Normalisation {
    type State = (NodeId, NodeId, Moments);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [of_x, of_gamma, of_beta] = ops.parents;
        let (x, gamma, moments) = ops.state;
        let up = grads.consume::<Flex>(&ops.node).to_contiguous();
        let x = checkpointer
            .retrieve_node_output::<FlexTensor>(x)
            .to_contiguous();
        let gamma = checkpointer.retrieve_node_output::<FlexTensor>(gamma);
        let gamma = gamma.to_contiguous();
        let plane = plane(&x);
        let found = passes::gradients(x.storage(), up.storage(), gamma.storage(), &moments, plane);
        let vector = |values: Vec<f32>| {
            let shape = [values.len()];
            FlexTensor::from_data(TensorData::new(values, shape))
        };
        if let Some(node) = of_x {
            let gradient = TensorData::new(found.x, x.shape());
            grads.register::<Flex>(node.id, FlexTensor::from_data(gradient));
        }
        if let Some(node) = of_gamma {
            grads.register::<Flex>(node.id, vector(found.gamma));
        }
        if let Some(node) = of_beta {
            grads.register::<Flex>(node.id, vector(found.beta));
        }
    }
}
