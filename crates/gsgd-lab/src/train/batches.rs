//! Which examples a step sees.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::Inputs;

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

/// Features `[batch, features]` and labels `[batch]` of some examples.
pub fn batch(inputs: &Inputs, examples: &[usize], device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let mut x = Vec::with_capacity(examples.len() * inputs.features);
    let mut y = Vec::with_capacity(examples.len());
    for &example in examples {
        x.extend_from_slice(inputs.row(example));
        y.push(i64::from(inputs.y[example]));
    }
    let shape = [examples.len(), inputs.features];
    (
        Tensor::from_data(TensorData::new(x, shape), device),
        Tensor::from_data(TensorData::new(y, [examples.len()]), device),
    )
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
