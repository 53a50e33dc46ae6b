//! The end of a residual block: sum and ReLU in one pass on every core, with Burn's own numbers.

mod operation;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::autodiff::{Apply, takes};
use operation::SumRelu;

/// What `relu(x + skip)` gives, bit for bit, for tensors of any shape (He et al. 2015). What is not a number stays.
///
/// Tensors of two shapes take Burn's own, which broadcasts; so do tensors that are empty, not f32 or not on flex.
///
/// # Panics
/// Where Burn's own does: the shapes do not broadcast.
pub fn add_relu<const D: usize>(x: Tensor<D>, skip: Tensor<D>) -> Tensor<D> {
    if x.dims() != skip.dims() || !takes(&x) || !takes(&skip) {
        return relu(x + skip);
    }
    Tensor::from_dispatch(Dispatch::on_two(
        SumRelu,
        x.into_dispatch(),
        skip.into_dispatch(),
    ))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::testing::{passes, values};

    #[test]
    fn values_and_gradients_are_those_of_burn() {
        let device = Device::flex().autodiff();
        device.seed(5);
        for shape in [[2, 3, 4, 5], [1, 1, 1, 1], [3, 16, 8, 9]] {
            let random = || Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let (x, skip) = (random(), random().require_grad());
            let wrong = Tensor::<1>::from_data([f32::NAN], &device).reshape([1, 1, 1, 1]);
            let with_nan = x.clone().slice_assign([0..1, 0..1, 0..1, 0..1], wrong);
            for x in [x, with_nan] {
                let both = |forward: fn(Tensor<4>, Tensor<4>) -> Tensor<4>| -> Vec<u32> {
                    let all = passes(
                        &x,
                        Distribution::Normal(0.0, 1.0),
                        |x| forward(x, skip.clone()),
                        |grads| vec![values(skip.grad(grads).expect("it takes part"))],
                    );
                    all.iter().flatten().map(|entry| entry.to_bits()).collect()
                };
                assert_eq!(both(add_relu), both(|x, skip| relu(x + skip)));
            }
        }
    }

    #[test]
    fn one_tensor_may_be_both() {
        let device = Device::flex().autodiff();
        device.seed(6);
        let x = Tensor::<4>::random([2, 3, 4, 5], Distribution::Normal(0.0, 1.0), &device);
        let both = |forward: fn(Tensor<4>) -> Tensor<4>| {
            passes(&x, Distribution::Normal(0.0, 1.0), forward, |_| Vec::new())
        };
        let twice = both(|x| relu(x.clone() + x));
        assert_eq!(both(|x| add_relu(x.clone(), x)), twice);
    }

    #[test]
    fn tensors_of_any_rank_and_two_shapes_are_taken() {
        let device = Device::flex().autodiff();
        device.seed(7);
        let random = |shape: [usize; 2]| -> Tensor<2> {
            Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
        };
        let x = random([6, 7]);
        for skip in [random([6, 7]), random([1, 7]), random([6, 1])] {
            let both = |forward: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                let with_skip = |x| forward(x, skip.clone());
                passes(&x, Distribution::Normal(0.0, 1.0), with_skip, |_| vec![])
            };
            assert_eq!(both(add_relu), both(|x, skip| relu(x + skip)));
        }
    }
}
