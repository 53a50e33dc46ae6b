//! Sum and ReLU as one operation of Burn's flex backend and of its autodiff.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::TensorData;
use pulp::Arch;
use rayon::prelude::*;

use crate::memory::{filled, own};

/// Entries that a core takes at a time.
const BLOCK: usize = 1 << 14;

/// A backend that has its own sum and ReLU.
#[backend_extension(Flex, Autodiff)]
pub trait AddRelu: Backend {
    /// The sum of two tensors of one shape where it is not negative, else 0; what is not a number stays.
    fn add_relu(x: FloatTensor<Self>, skip: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl AddRelu for Flex {
    fn add_relu(x: FlexTensor, skip: FlexTensor) -> FlexTensor {
        let (x, skip) = (x.to_contiguous(), skip.to_contiguous());
        let (a, b) = (x.storage::<f32>(), skip.storage::<f32>());
        let sum = filled(a.len(), |first, to| {
            let entries = first..first + to.len();
            let (a, b) = (&a[entries.clone()], &b[entries]);
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (to, (&a, &b)) in to.iter_mut().zip(a.iter().zip(b)) {
                        let sum = a + b;
                        *to = if sum <= 0.0 { 0.0 } else { sum };
                    }
                },
            );
        });
        FlexTensor::from_data(TensorData::new(sum, x.shape()))
    }
}

impl<C: CheckpointStrategy> AddRelu for Autodiff<Flex, C> {
    fn add_relu(x: FloatTensor<Self>, skip: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = Summed
            .prepare::<C>([x.node(), skip.node()])
            .compute_bound()
            .stateful();
        let sum = Flex::add_relu(x.into_primitive(), skip.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(sum.clone(), sum),
            OpsKind::UnTracked(prepared) => prepared.finish(sum),
        }
    }
}

/// The operation on the tape.
#[derive(Debug)]
struct Summed;

impl Backward<Flex, 2> for Summed {
    /// What came of it.
    type State = FlexTensor;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let mut up = own(grads.consume::<Flex>(&ops.node));
        let sums = ops.state.storage::<f32>().par_chunks(BLOCK);
        let blocks = up.storage_mut::<f32>().par_chunks_mut(BLOCK).zip(sums);
        blocks.for_each(|(up, sums)| {
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (up, &sum) in up.iter_mut().zip(sums) {
                        *up = if sum <= 0.0 { 0.0 } else { *up };
                    }
                },
            );
        });
        for parent in ops.parents.into_iter().flatten() {
            grads.register::<Flex>(parent.id, up.clone());
        }
    }
}
