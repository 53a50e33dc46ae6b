//! Convolutions in a seventh to a half of the time that Burn's own take, with the same values to rounding.
//!
//! Neither the forward pass nor a gradient lays out a matrix of patches. Images are copied once into padded planes;
//! there every tap of a kernel is the same run of memory at another offset, so that each pass is sums of shifted rows
//! ([`rows`]) over few images at a time ([`planes`]). A stride splits a plane into phases, of which each tap reads one.

mod operation;
mod passes;
mod planes;
mod rows;

use burn::backend::Dispatch;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use crate::autodiff::{Apply, takes};
use operation::Convolution;
use planes::Geometry;

/// What `layer.forward(x)` gives, for images `[batch, channels, height, width]`, to rounding: images `[batch, outputs,
/// height', width']`.
///
/// Layers with groups, with dilation, or with padding that differs between opposite sides or is `Same`, take Burn's own
/// convolution; so do tensors that are empty, not f32 or not on flex.
///
/// # Panics
/// Where Burn's own does: the layer is one for another number of channels.
pub fn conv2d(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let Some(geometry) = geometry(layer, &x) else {
        return layer.forward(x);
    };
    let weight = layer.weight.val().into_dispatch();
    let y = Dispatch::on_two(Convolution(geometry), x.into_dispatch(), weight);
    let y = Tensor::from_dispatch(y);
    match &layer.bias {
        Some(bias) => y + bias.val().reshape([1, -1, 1, 1]),
        None => y,
    }
}

/// The sizes of a convolution that is taken.
fn geometry(layer: &Conv2d, x: &Tensor<4>) -> Option<Geometry> {
    let padding = match layer.padding {
        PaddingConfig2d::Valid => [0, 0],
        PaddingConfig2d::Explicit(top, left, bottom, right) if (top, left) == (bottom, right) => {
            [top, left]
        }
        _ => return None,
    };
    let [batch, inputs, height, width] = x.dims();
    let weight = layer.weight.val();
    let [outputs, of_inputs, kernel @ ..] = weight.dims();
    let plain = layer.groups == 1 && layer.dilation == [1, 1];
    let sound = of_inputs == inputs && kernel == layer.kernel_size;
    let taken = plain && sound && takes(x) && takes(&weight);
    let fits = |at: usize, size: usize| size + 2 * padding[at] >= layer.kernel_size[at];
    (taken && fits(0, height) && fits(1, width)).then_some(Geometry {
        batch,
        inputs,
        outputs,
        image: [height, width],
        kernel: layer.kernel_size,
        stride: layer.stride,
        padding,
    })
}

#[cfg(test)]
mod tests {
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::testing::{assert_agree, gradient, on_threads, passes};

    /// Output, and gradients of images, weights and biases.
    fn both(
        layer: &Conv2d,
        x: &Tensor<4>,
        forward: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Vec<Vec<f32>> {
        passes(x, Distribution::Normal(0.0, 1.0), forward, |grads| {
            let bias = layer.bias.iter().map(|bias| gradient(bias, grads));
            std::iter::once(gradient(&layer.weight, grads))
                .chain(bias)
                .collect()
        })
    }

    #[test]
    fn values_and_gradients_are_those_of_burn() {
        let device = Device::flex().autodiff();
        device.seed(5);
        for (batch, [inputs, outputs], [height, width], kernel, stride, padding, bias) in [
            (5, [3, 16], [32, 32], [3, 3], 1, 1, true),
            (3, [16, 32], [32, 32], [3, 3], 2, 1, false),
            (9, [16, 32], [16, 16], [1, 1], 2, 0, true),
            (70, [5, 7], [8, 8], [3, 3], 1, 1, false),
            (2, [2, 3], [7, 10], [5, 3], 3, 2, true),
            (1, [1, 1], [1, 1], [1, 1], 1, 0, false),
            (2, [4, 4], [6, 5], [2, 4], 2, 0, false),
            (1, [64, 64], [8, 8], [3, 3], 1, 1, false),
            (3, [3, 5], [6, 7], [5, 5], 1, 1, false),
            (3, [4, 4], [6, 7], [5, 5], 1, 2, false),
            (3, [4, 3], [5, 6], [2, 4], 1, 1, true),
            (3, [4, 4], [5, 6], [1, 3], 1, 1, false),
            (40, [16, 16], [9, 3], [3, 3], 1, 2, false),
            (2, [2, 3], [1, 1], [3, 3], 3, 1, false),
            (2, [2, 3], [4, 1], [3, 1], 4, 1, false),
        ] {
            let layer = Conv2dConfig::new([inputs, outputs], kernel)
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(
                    padding, padding, padding, padding,
                ))
                .with_bias(bias)
                .init(&device);
            let shape = [batch, inputs, height, width];
            let x = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            assert!(geometry(&layer, &x).is_some());
            let ours = both(&layer, &x, |x| conv2d(&layer, x));
            let burns = both(&layer, &x, |x| layer.forward(x));
            assert_agree(&ours, &burns, 2e-5);
        }
    }

    #[test]
    fn layers_that_are_not_taken_run_as_before() {
        let device = Device::flex();
        let layer = Conv2dConfig::new([4, 4], [3, 3])
            .with_groups(2)
            .init(&device);
        let x = Tensor::<4>::random([2, 4, 5, 5], Distribution::Default, &device);
        assert!(geometry(&layer, &x).is_none());
        let found = conv2d(&layer, x.clone()).into_data();
        found.assert_eq(&layer.forward(x).into_data(), true);
    }

    #[test]
    #[should_panic = "channel"]
    fn another_number_of_channels_is_refused_as_by_burn() {
        let device = Device::flex();
        let layer = Conv2dConfig::new([4, 4], [3, 3]).init(&device);
        conv2d(&layer, Tensor::zeros([2, 3, 5, 5], &device));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let device = Device::flex().autodiff();
        device.seed(9);
        let layer = Conv2dConfig::new([8, 8], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&device);
        let x = Tensor::<4>::random([64, 8, 16, 16], Distribution::Default, &device);
        let on = |threads| on_threads(threads, || both(&layer, &x, |x| conv2d(&layer, x)));
        assert_eq!(on(1), on(3));
    }
}
