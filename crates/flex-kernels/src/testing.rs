//! What the tests of operations share: both passes through a layer, ours beside Burn's.

use burn::module::Param;
use burn::tensor::{Distribution, Gradients, Tensor};

/// Output, and the gradients of `x` and of what `others` lists, for a random gradient of the output drawn from `up`.
pub fn passes<const D: usize>(
    x: &Tensor<D>,
    up: Distribution,
    forward: impl Fn(Tensor<D>) -> Tensor<D>,
    others: impl FnOnce(&Gradients) -> Vec<Vec<f32>>,
) -> Vec<Vec<f32>> {
    let x = x.clone().require_grad();
    let y = forward(x.clone());
    let device = x.device();
    device.seed(3);
    let up = Tensor::<D>::random(y.dims(), up, &device);
    let grads = (y.clone() * up).sum().backward();
    let mut all = vec![values(y.inner()), values(x.grad(&grads).unwrap())];
    all.extend(others(&grads));
    all
}

/// The gradient of a parameter.
pub fn gradient<const D: usize>(of: &Param<Tensor<D>>, grads: &Gradients) -> Vec<f32> {
    values(of.val().grad(grads).unwrap())
}

/// All entries.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

/// Every list agrees with its twin, to `tolerance` times the largest entry there.
#[track_caller]
pub fn assert_agree(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0f32, |most, y| most.max(y.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a - b).abs() <= tolerance * largest,
                "{at}: {a} and {b} of {largest}"
            );
        }
    }
}

/// `work` in a pool of this many threads.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}
