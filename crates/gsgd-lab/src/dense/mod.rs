//! Wide dense layers for the CPU, as an extension of Burn's flex backend: the same values as Burn's own to rounding, in
//! half of the time or less.
//!
//! Products are those of `rten-gemm`, which share the work between cores evenly and write results into fresh memory.
//! (Burn's are zeroed and copied once first, which takes as long as a third of the product where there are weights for
//! results.) The gradient of the inputs is computed transposed, so that weights are read along their rows.

mod autodiff;

use burn::backend::Dispatch;
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};

use autodiff::Multiply;

/// Products of numbers from which on a layer is wide: below, waking another core takes longer than it helps.
const WIDE: usize = 1 << 22;

/// What `layer.forward(x)` gives, for inputs `[batch, inputs]`.
///
/// Narrow layers, and tensors that are not f32, take Burn's own product.
pub fn linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    let ([batch, inputs], [_, outputs]) = (x.dims(), layer.weight.dims());
    if batch * inputs * outputs < WIDE || x.dtype() != DType::F32 {
        return layer.forward(x);
    }
    let weight = layer.weight.val().into_dispatch();
    let y = Tensor::from_dispatch(<Dispatch as Multiply>::multiply(x.into_dispatch(), weight));
    match &layer.bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Output, and gradients of inputs, weights and biases for a random gradient of the output.
    fn passes(
        layer: &Linear,
        x: &Tensor<2>,
        forward: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> [Vec<f32>; 4] {
        let x = x.clone().require_grad();
        let y = forward(x.clone());
        let device = x.device();
        device.seed(3);
        let up = Tensor::<2>::random(y.dims(), Distribution::Normal(0.0, 1.0), &device);
        let grads = (y.clone() * up).sum().backward();
        let values = |tensor: Tensor<1>| tensor.into_data().try_to_vec::<f32>().unwrap();
        let flat = |tensor: Tensor<2>| values(tensor.flatten(0, 1));
        [
            flat(y.inner()),
            flat(x.grad(&grads).unwrap()),
            flat(layer.weight.val().grad(&grads).unwrap()),
            layer
                .bias
                .as_ref()
                .map_or(Vec::new(), |bias| values(bias.val().grad(&grads).unwrap())),
        ]
    }

    fn case(batch: usize, inputs: usize, outputs: usize, bias: bool) -> (Linear, Tensor<2>) {
        let device = Device::flex().autodiff();
        device.seed(5);
        let layer = LinearConfig::new(inputs, outputs).with_bias(bias);
        let normal = Distribution::Normal(0.0, 1.0);
        let x = Tensor::random([batch, inputs], normal, &device);
        assert!(batch * inputs * outputs >= WIDE);
        (layer.init(&device), x)
    }

    #[test]
    fn values_and_gradients_are_those_of_burn() {
        for (batch, inputs, outputs, bias) in [
            (64, 256, 300, true),
            (7, 1000, 601, false),
            (1, 2100, 2000, true),
            (500, 33, 257, false),
        ] {
            let (layer, x) = case(batch, inputs, outputs, bias);
            let ours = passes(&layer, &x, |x| linear(&layer, x));
            let burns = passes(&layer, &x, |x| layer.forward(x));
            for (ours, burns) in ours.into_iter().zip(burns) {
                assert_eq!(ours.len(), burns.len());
                let largest = burns.iter().fold(0.0f32, |largest, y| largest.max(y.abs()));
                for (a, b) in ours.into_iter().zip(burns) {
                    assert!((a - b).abs() <= 1e-5 * largest, "{a} and {b} of {largest}");
                }
            }
        }
    }

    #[test]
    fn tensors_in_any_layout_are_taken() {
        let (layer, x) = case(256, 128, 130, true);
        let transposed = x.clone().transpose().reshape([128, 256]).transpose();
        let data = |x| linear(&layer, x).into_data();
        data(transposed).assert_eq(&data(x), true);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (layer, x) = case(64, 700, 500, true);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| passes(&layer, &x, |x| linear(&layer, x)))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn units_scaled_by_powers_of_two_give_scaled_bits() {
        let (layer, x) = case(64, 256, 300, false);
        let scaled = linear(&layer, x.clone().mul_scalar(8.0));
        let expected = linear(&layer, x).mul_scalar(8.0);
        scaled.into_data().assert_eq(&expected.into_data(), true);
    }
}
