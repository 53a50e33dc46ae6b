//! The end of a residual block for the CPU, as an extension of Burn's flex backend: sum and ReLU in one pass on every core,
//! with Burn's own numbers.

mod operation;

use burn::backend::Dispatch;
use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};

use operation::AddRelu;

/// What `relu(x + skip)` gives, for images of one shape.
///
/// Tensors that are not f32 take Burn's own.
pub fn add_relu(x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
    if x.dtype() != DType::F32 {
        return relu(x + skip);
    }
    let sum = <Dispatch as AddRelu>::add_relu(x.into_dispatch(), skip.into_dispatch());
    Tensor::from_dispatch(sum)
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
}
