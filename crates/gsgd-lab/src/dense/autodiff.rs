//! The product as an operation of Burn's flex backend and of its autodiff.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::TensorData;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;
use rten_tensor::prelude::*;

use crate::memory::zeros;

/// Rows that are transposed at a time.
const TILE: usize = 16;

/// A backend that has its own product.
#[backend_extension(Flex, Autodiff)]
pub trait Multiply: Backend {
    /// `[batch, inputs]` times `[inputs, outputs]`.
    fn multiply(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Multiply for Flex {
    fn multiply(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        product(matrix(&x), matrix(&weight))
    }
}

/// The tensor's memory, rows one after the other.
fn matrix(x: &FlexTensor) -> NdTensorView<'_, f32, 2> {
    let shape = [x.shape()[0], x.shape()[1]];
    let start = x.layout().start_offset();
    NdTensorView::from_data(shape, &x.storage()[start..start + shape[0] * shape[1]])
}

fn product(a: NdTensorView<f32, 2>, b: NdTensorView<f32, 2>) -> FlexTensor {
    let shape = [a.size(0), b.size(1)];
    let mut out = zeros(shape[0] * shape[1]);
    let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Unpacked(b));
    let done = GemmExecutor::<f32>::new().gemm(&mut out, a, b, GemmOptions::default());
    done.expect("the shapes are those of a product");
    FlexTensor::from_data(TensorData::new(out, shape))
}

fn transposed(x: &FlexTensor) -> FlexTensor {
    let (rows, columns) = (x.shape()[0], x.shape()[1]);
    let (from, mut to) = (x.storage::<f32>(), vec![0.0; rows * columns]);
    // a few rows at a time, which stay near
    for (block, from) in from.chunks(TILE * columns).enumerate() {
        for (column, to) in to.chunks_exact_mut(rows).enumerate() {
            let from = from[column..].iter().step_by(columns);
            to[block * TILE..]
                .iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to = *from);
        }
    }
    FlexTensor::from_data(TensorData::new(to, [columns, rows]))
}

impl<C: CheckpointStrategy> Multiply for Autodiff<Flex, C> {
    fn multiply(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = Product
            .prepare::<C>([x.node(), weight.node()])
            .compute_bound()
            .stateful();
        let forward = |x: FloatTensor<Self>, weight: FloatTensor<Self>| {
            Flex::multiply(x.into_primitive(), weight.into_primitive())
        };
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                let state = (prepared.checkpoint(&x), prepared.checkpoint(&weight));
                prepared.finish(state, forward(x, weight))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward(x, weight)),
        }
    }
}

/// The operation on the tape.
#[derive(Debug)]
struct Product;

impl Backward<Flex, 2> for Product {
    type State = (NodeId, NodeId);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [of_x, of_weight] = ops.parents;
        let (x, weight) = ops.state;
        let up = grads.consume::<Flex>(&ops.node).to_contiguous();
        let x = checkpointer
            .retrieve_node_output::<FlexTensor>(x)
            .to_contiguous();
        let weight = checkpointer
            .retrieve_node_output::<FlexTensor>(weight)
            .to_contiguous();
        if let Some(node) = of_x {
            let across = product(matrix(&weight), matrix(&up).transposed());
            grads.register::<Flex>(node.id, transposed(&across));
        }
        if let Some(node) = of_weight {
            let gradient = product(matrix(&x).transposed(), matrix(&up));
            grads.register::<Flex>(node.id, gradient);
        }
    }
}
