//! Wide dense layers in about half of the time that Burn's own take, with the same values to rounding.
//!
//! Products are those of `rten-gemm`, which share the work between cores evenly; results are zeroed by all cores and
//! written once. (Burn's are zeroed by one and copied first, which takes as long as a third of the product where there are
//! weights for results.) The gradient of the inputs is computed transposed, so that weights are read along their rows.

mod operation;

use burn::backend::Dispatch;
use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::autodiff::{Apply, takes};
use operation::Product;

/// Products of numbers from which on a layer is wide: below, waking another core takes longer than it helps.
const WIDE: usize = 1 << 22;

/// What `layer.forward(x)` gives, for inputs `[batch, inputs]`, to rounding: `[batch, outputs]`.
///
/// Layers with `batch * inputs * outputs` below 2^22 take Burn's own product, and so do tensors that are not f32 or not on
/// flex.
///
/// # Panics
/// Where Burn's own does: the layer is one for another number of inputs.
pub fn linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    let ([batch, inputs], [of_inputs, outputs]) = (x.dims(), layer.weight.dims());
    if batch * inputs * outputs < WIDE || of_inputs != inputs {
        return layer.forward(x);
    }
    let weight = layer.weight.val();
    if !takes(&x) || !takes(&weight) {
        return layer.forward(x);
    }
    let y = Dispatch::on_two(Product, x.into_dispatch(), weight.into_dispatch());
    let y = Tensor::from_dispatch(y);
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
    use crate::testing::{assert_agree, gradient, on_threads, passes};

    /// Output, and gradients of inputs, weights and biases.
    fn both(
        layer: &Linear,
        x: &Tensor<2>,
        forward: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> Vec<Vec<f32>> {
        passes(x, Distribution::Normal(0.0, 1.0), forward, |grads| {
            let bias = layer.bias.iter().map(|bias| gradient(bias, grads));
            std::iter::once(gradient(&layer.weight, grads))
                .chain(bias)
                .collect()
        })
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
            let ours = both(&layer, &x, |x| linear(&layer, x));
            let burns = both(&layer, &x, |x| layer.forward(x));
            assert_agree(&ours, &burns, 1e-5);
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
        let on = |threads| on_threads(threads, || both(&layer, &x, |x| linear(&layer, x)));
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
