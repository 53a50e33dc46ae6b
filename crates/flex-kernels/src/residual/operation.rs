//! The forward and backward pass of sum and ReLU.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use crate::autodiff::Operation;
use crate::memory::{filled, own, tensor};

/// Entries that a core takes at a time.
const BLOCK: usize = 1 << 14;

/// The sum of two tensors of one shape where it is not negative, else 0; what is not a number stays.
#[derive(Debug)]
pub struct SumRelu;

impl Operation<2, 0> for SumRelu {
    /// The result.
    type State = FlexTensor;

    fn forward(self, [x, skip]: [FlexTensor; 2]) -> (FlexTensor, FlexTensor) {
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
        let sum = tensor(sum, x.shape());
        (sum.clone(), sum)
    }

    fn backward(
        sums: FlexTensor,
        []: [FlexTensor; 0],
        up: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let mut up = own(up);
        let sums = sums.storage::<f32>().par_chunks(BLOCK);
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
        wanted.map(|wanted| wanted.then(|| up.clone()))
    }
}
