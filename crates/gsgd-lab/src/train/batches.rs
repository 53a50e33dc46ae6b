//! Which examples a step sees, and putting them together.

use std::sync::mpsc::sync_channel;
use std::thread;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::{Augment, Inputs};

/// The order of an epoch's examples: a permutation that depends on seed and epoch, or file order.
pub fn order(count: usize, shuffle: Option<u64>, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if let Some(seed) = shuffle {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch as u64 + 1);
        order.shuffle(&mut rng);
    }
    order
}

/// The random numbers that vary one example in one epoch; streams below 2^32 belong to [`order`].
fn variation(seed: u64, epoch: usize, example: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((epoch as u64 + 1) << 32 | example as u64);
    rng
}

/// How an epoch's examples are varied: by what, with the run's seed, in which epoch.
#[derive(Debug, Clone, Copy)]
pub struct Varied {
    /// By what.
    pub augment: Augment,
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
}

/// Inputs and labels of some examples in memory, to be made tensors of.
pub struct Batch {
    x: Vec<f32>,
    y: Vec<i64>,
}

impl Batch {
    /// The examples as they are, or varied.
    pub fn from_examples(inputs: &Inputs, examples: &[usize], varied: Option<Varied>) -> Self {
        let mut x = Vec::with_capacity(examples.len() * inputs.features());
        for &example in examples {
            match varied {
                Some(Varied {
                    augment: Augment::CropFlip,
                    seed,
                    epoch,
                }) => {
                    let mut rng = variation(seed, epoch, example);
                    inputs.push_varied(example, &mut rng, &mut x);
                }
                _ => inputs.push(example, &mut x),
            }
        }
        let y = examples.iter().map(|&at| i64::from(inputs.label(at)));
        Self { x, y: y.collect() }
    }

    /// Inputs `[batch, features]` and labels `[batch]`.
    pub fn on(self, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
        let rows = self.y.len();
        let shape = [rows, self.x.len() / rows];
        (
            Tensor::from_data(TensorData::new(self.x, shape), device),
            Tensor::from_data(TensorData::new(self.y, [rows]), device),
        )
    }
}

/// Inputs per batch from which on a separate thread puts batches together. Handing over a small batch takes longer
/// than making it.
const LARGE: usize = 1 << 16;

/// Calls `step` with the batches of an epoch in order, as long as it returns true.
pub fn each(
    inputs: &Inputs,
    order: &[usize],
    size: usize,
    varied: Varied,
    mut step: impl FnMut(Batch) -> bool,
) {
    let mut batches = order
        .chunks(size)
        .map(|examples| Batch::from_examples(inputs, examples, Some(varied)));
    if size * inputs.features() < LARGE {
        batches.all(step);
        return;
    }
    thread::scope(|scope| {
        let (send, receive) = sync_channel(2);
        scope.spawn(move || {
            // ends when the receiver is gone
            batches.all(|batch| send.send(batch).is_ok());
        });
        for batch in receive {
            if !step(batch) {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn orders_are_permutations_and_repeat() {
        let a = order(100, Some(3), 0);
        assert_eq!(a, order(100, Some(3), 0));
        assert_ne!(a, order(100, Some(3), 1));
        assert_ne!(a, order(100, Some(4), 0));
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, order(100, None, 5));
    }
}
