//! Batch norm in training, alone or with the ReLU behind it: the same values as Burn's own to rounding, from one pass over
//! the images for the moments and one for the result, on every core.

mod operation;
mod passes;

use burn::backend::Dispatch;
use burn::module::RunningState;
use burn::nn::BatchNorm;
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};

use crate::autodiff::{Apply, takes};
use operation::{Normalisation, moments};
use passes::Then;

/// What `layer.forward(x)` gives, for images `[batch, channels, height, width]`, to rounding (Ioffe and Szegedy 2015). In
/// training it moves the layer's running statistics as Burn does.
///
/// Training is where the tensor is on an autodiff device and the layer is not frozen. All else takes Burn's own, and so do
/// tensors that are empty, not f32 or not on flex.
///
/// # Panics
/// Where Burn's own does: the layer is one for another number of channels.
pub fn batch_norm(layer: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    match is_taken(layer, &x) {
        true => normalised(layer, x, Then::Done),
        false => layer.forward(x),
    }
}

/// What `relu(layer.forward(x))` gives: the bits of [`batch_norm`] and a ReLU, without a pass for it. What is not
/// a number stays.
///
/// # Panics
/// As [`batch_norm`].
pub fn batch_norm_relu(layer: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    match is_taken(layer, &x) {
        true => normalised(layer, x, Then::Relu),
        false => relu(layer.forward(x)),
    }
}

fn is_taken(layer: &BatchNorm, x: &Tensor<4>) -> bool {
    let trains = x.device().is_autodiff() && layer.training.is_enabled();
    trains && layer.gamma.dims() == [x.dims()[1]] && takes(x) && takes(&layer.gamma.val())
}

fn normalised(layer: &BatchNorm, x: Tensor<4>, then: Then) -> Tensor<4> {
    let device = x.device();
    let moments = moments(x.clone(), layer.epsilon);
    let follow = |state: &RunningState<Tensor<1>>, now: &[f32]| {
        let now = TensorData::new(now.to_vec(), [now.len()]);
        let now = Tensor::<1>::from_data(now, &device).mul_scalar(layer.momentum);
        let before = state.value_sync().to_device(&device);
        let after = before.mul_scalar(1.0 - layer.momentum).add(now);
        state.update(after.detach());
    };
    follow(&layer.running_mean, &moments.mean);
    follow(&layer.running_var, &moments.variance);
    let [gamma, beta] = [&layer.gamma, &layer.beta].map(|param| param.val().into_dispatch());
    let norm = Normalisation { moments, then };
    Tensor::from_dispatch(Dispatch::on_three(norm, x.into_dispatch(), gamma, beta))
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::BatchNormConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::testing::{assert_agree, gradient, passes, values};

    /// Output, gradients of images, gamma and beta, and both running statistics.
    fn both(
        layer: &BatchNorm,
        x: &Tensor<4>,
        forward: impl Fn(Tensor<4>) -> Tensor<4>,
    ) -> Vec<Vec<f32>> {
        passes(x, Distribution::Normal(0.2, 1.0), forward, |grads| {
            vec![
                gradient(&layer.gamma, grads),
                gradient(&layer.beta, grads),
                values(layer.running_mean.value_sync()),
                values(layer.running_var.value_sync()),
            ]
        })
    }

    #[test]
    fn values_gradients_and_statistics_are_those_of_burn() {
        let device = Device::flex().autodiff();
        device.seed(5);
        for [batch, channels, height, width] in
            [[6, 5, 8, 8], [3, 4, 7, 5], [1, 2, 1, 3], [40, 16, 32, 32]]
        {
            let layer = || {
                let mut layer = BatchNormConfig::new(channels).init(&device);
                let shift = Tensor::<1>::from_data(
                    TensorData::new((0..channels).map(|c| c as f32 * 0.3).collect(), [channels]),
                    &device,
                );
                // leaves of their own: 1 + shift and -shift
                layer.gamma = Param::from_tensor(shift.clone().add_scalar(1.0).detach());
                layer.beta = Param::from_tensor(shift.neg().detach());
                layer
            };
            let x = Tensor::<4>::random(
                [batch, channels, height, width],
                Distribution::Normal(3.0, 2.0),
                &device,
            );
            let (ours, burns) = (layer(), layer());
            let found = both(&ours, &x, |x| batch_norm(&ours, x));
            let expected = both(&burns, &x, |x| burns.forward(x));
            assert_agree(&found, &expected, 3e-5);
            let (ours, burns) = (layer(), layer());
            let found = both(&ours, &x, |x| batch_norm_relu(&ours, x));
            let expected = both(&burns, &x, |x| relu(burns.forward(x)));
            assert_agree(&found, &expected, 3e-5);
        }
    }

    #[test]
    fn relu_in_the_same_pass_gives_the_same_bits() {
        let device = Device::flex().autodiff();
        device.seed(7);
        let x = Tensor::<4>::random([6, 3, 5, 7], Distribution::Normal(1.0, 1.0), &device);
        let wrong = Tensor::<1>::from_data([f32::NAN], &device).reshape([1, 1, 1, 1]);
        for x in [x.clone(), x.slice_assign([2..3, 1..2, 0..1, 3..4], wrong)] {
            let layers = [(); 2].map(|()| BatchNormConfig::new(3).init(&device));
            let [one, two] = &layers;
            let found = both(one, &x, |x| batch_norm_relu(one, x));
            let expected = both(two, &x, |x| relu(batch_norm(two, x)));
            let bits = |lists: Vec<Vec<f32>>| -> Vec<u32> {
                lists
                    .iter()
                    .flatten()
                    .map(|entry| entry.to_bits())
                    .collect()
            };
            assert_eq!(bits(found), bits(expected));
        }
    }

    #[test]
    fn a_gradient_that_others_hold_too_stays_as_it_is() {
        let device = Device::flex().autodiff();
        device.seed(8);
        let layers = [(); 2].map(|()| BatchNormConfig::new(3).init(&device));
        let [one, two] = &layers;
        let x = Tensor::<4>::random([6, 3, 5, 7], Distribution::Normal(1.0, 1.0), &device);
        // the sum hands one gradient to both
        let found = both(one, &x, |x| batch_norm(one, x.clone()) + x);
        let expected = both(two, &x, |x| two.forward(x.clone()) + x);
        assert_agree(&found, &expected, 3e-5);
    }

    #[test]
    fn channels_scaled_by_a_power_of_two_give_the_same_bits() {
        let device = Device::flex().autodiff();
        device.seed(6);
        let layer = BatchNormConfig::new(3).with_epsilon(1e-30).init(&device);
        let x = Tensor::<4>::random([4, 3, 5, 5], Distribution::Normal(1.0, 1.0), &device);
        let scaled = x.clone().mul_scalar(8.0);
        let same = |a: Tensor<4>, b: Tensor<4>| a.into_data().assert_eq(&b.into_data(), true);
        same(batch_norm(&layer, x), batch_norm(&layer, scaled));
    }
}
