//! The convolution as an operation of Burn's flex backend and of its autodiff.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;

use super::passes;
use super::planes::Geometry;

/// A backend that convolves with our passes.
#[backend_extension(Flex, Autodiff)]
pub trait Convolve: Backend {
    /// Images `[batch, inputs, height, width]` convolved with weights.
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;
}

impl Convolve for Flex {
    fn convolve(x: FlexTensor, weight: FlexTensor, geometry: Geometry) -> FlexTensor {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let y = passes::forward(x.storage(), weight.storage(), &geometry);
        let [height, width] = geometry.output();
        tensor(y, [geometry.batch, geometry.outputs, height, width])
    }
}

impl<C: CheckpointStrategy> Convolve for Autodiff<Flex, C> {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let prepared = Convolution
            .prepare::<C>([x.node(), weight.node()])
            .compute_bound()
            .stateful();
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                let state = (
                    prepared.checkpoint(&x),
                    prepared.checkpoint(&weight),
                    geometry.clone(),
                );
                let y = Flex::convolve(x.into_primitive(), weight.into_primitive(), geometry);
                prepared.finish(state, y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::convolve(
                x.into_primitive(),
                weight.into_primitive(),
                geometry,
            )),
        }
    }
}

/// The operation on the tape.
#[derive(Debug)]
struct Convolution;

impl Backward<Flex, 2> for Convolution {
    type State = (NodeId, NodeId, Geometry);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [of_x, of_weight] = ops.parents;
        let (x, weight, geometry) = ops.state;
        let up = grads.consume::<Flex>(&ops.node).to_contiguous();
        let x = checkpointer.retrieve_node_output::<FlexTensor>(x);
        let weight = checkpointer.retrieve_node_output::<FlexTensor>(weight);
        let (inputs, outputs) = (geometry.inputs, geometry.outputs);
        if let Some(node) = of_weight {
            let x = x.to_contiguous();
            let weights = passes::of_weight(x.storage(), up.storage(), &geometry);
            let [height, width] = geometry.kernel;
            let shape = [outputs, inputs, height, width];
            grads.register::<Flex>(node.id, tensor(weights, shape));
        }
        // last, for it takes the memory of the gradient
        if let Some(node) = of_x {
            let weight = weight.to_contiguous();
            let images = passes::of_images(weight.storage(), up, &geometry);
            grads.register::<Flex>(node.id, images);
        }
    }
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
