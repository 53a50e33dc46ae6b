//! Operations on the flex backend and on its tape: what all of them have in common.

use std::array;
use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor};

/// An operation on N tensors of f32. Its backward pass reads the first READ of them again.
///
/// All tensors that it is given have their entries one after the other, and nothing else in their memory.
pub trait Operation<const N: usize, const READ: usize>: Debug + Send + 'static {
    /// What else the backward pass reads.
    type State: Clone + Debug + Send + 'static;

    /// The result, and what to keep for the backward pass.
    fn forward(self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::State);

    /// The gradients of those inputs that are wanted, from the gradient `up` of the result. Its memory may be taken
    /// where nothing else holds it: see [`own`](crate::memory::own).
    fn backward(
        state: Self::State,
        inputs: [FlexTensor; READ],
        up: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// Whether operations take this tensor: f32, on flex, with at least one entry.
pub fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && !x.dims().contains(&0) && x.device() == Device::flex()
}

/// A backend that runs operations.
#[backend_extension(Flex, Autodiff)]
pub trait Apply: Backend {
    /// An operation on two tensors.
    fn on_two<O: Operation<2, READ>, const READ: usize>(
        operation: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// An operation on three tensors.
    fn on_three<O: Operation<3, READ>, const READ: usize>(
        operation: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Apply for Flex {
    fn on_two<O: Operation<2, READ>, const READ: usize>(
        operation: O,
        a: FlexTensor,
        b: FlexTensor,
    ) -> FlexTensor {
        operation.forward([a, b].map(contiguous)).0
    }

    fn on_three<O: Operation<3, READ>, const READ: usize>(
        operation: O,
        a: FlexTensor,
        b: FlexTensor,
        c: FlexTensor,
    ) -> FlexTensor {
        operation.forward([a, b, c].map(contiguous)).0
    }
}

impl<C: CheckpointStrategy> Apply for Autodiff<Flex, C> {
    fn on_two<O: Operation<2, READ>, const READ: usize>(
        operation: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        recorded::<O, C, 2, READ>(operation, [a, b])
    }

    fn on_three<O: Operation<3, READ>, const READ: usize>(
        operation: O,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        recorded::<O, C, 3, READ>(operation, [a, b, c])
    }
}

fn contiguous(x: FlexTensor) -> FlexTensor {
    x.to_contiguous()
}

/// Runs an operation and, where a gradient may be asked for, puts it on the tape.
fn recorded<O, C, const N: usize, const READ: usize>(
    operation: O,
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
) -> FloatTensor<Autodiff<Flex, C>>
where
    O: Operation<N, READ>,
    C: CheckpointStrategy,
{
    let prepared = Recorded::<O, READ>(PhantomData)
        .prepare::<C>(inputs.each_ref().map(|input| input.node()))
        .compute_bound()
        .stateful();
    let forward = |inputs: [FloatTensor<Autodiff<Flex, C>>; N]| {
        operation.forward(inputs.map(|input| contiguous(input.into_primitive())))
    };
    match prepared {
        OpsKind::Tracked(mut prepared) => {
            let read = array::from_fn(|at| prepared.checkpoint(&inputs[at]));
            let (y, state) = forward(inputs);
            prepared.finish((read, state), y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward(inputs).0),
    }
}

/// An operation on the tape.
#[derive(Debug)]
struct Recorded<O, const READ: usize>(PhantomData<O>);

impl<O, const N: usize, const READ: usize> Backward<Flex, N> for Recorded<O, READ>
where
    O: Operation<N, READ>,
{
    type State = ([NodeId; READ], O::State);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (read, state) = ops.state;
        let up = contiguous(grads.consume::<Flex>(&ops.node));
        let inputs = read.map(|node| contiguous(checkpointer.retrieve_node_output(node)));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = O::backward(state, inputs, up, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::tensor::TensorData;
    use burn::tensor::activation::relu;

    use super::*;
    use crate::conv2d;
    use crate::testing::{gradient, values};

    /// Entries without order, the same on every device: tests that run at the same time share its random numbers.
    fn mixed<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        let entries = (0..shape.iter().product()).map(|at| ((at * 37) as f32).sin());
        Tensor::from_data(TensorData::new(entries.collect(), shape), device)
    }

    fn case(device: &Device) -> (Conv2d, Tensor<4>) {
        let mut layer = Conv2dConfig::new([4, 4], [3, 3])
            .with_bias(false)
            .init(device);
        layer.weight = Param::from_tensor(mixed([4, 4, 3, 3], device));
        (layer, mixed([3, 4, 8, 8], device))
    }

    #[test]
    fn recomputed_inputs_give_the_same_bits() {
        let found = |device: Device| {
            let (layer, x) = case(&device);
            let x = x.require_grad();
            // the second layer's input is memory bound: it is computed once more in the backward pass
            let y = conv2d(&layer, relu(conv2d(&layer, x.clone())));
            let grads = y.square().sum().backward();
            let of_x = values(x.grad(&grads).expect("it takes part"));
            [of_x, gradient(&layer.weight, &grads)]
        };
        let device = Device::flex().autodiff();
        assert_eq!(
            found(device.clone()),
            found(device.gradient_checkpointing())
        );
    }

    #[test]
    fn only_what_is_asked_for_has_a_gradient() {
        let (mut layer, x) = case(&Device::flex().autodiff());
        let gradients = |layer: &Conv2d, x: &Tensor<4>| {
            let grads = conv2d(layer, x.clone()).square().sum().backward();
            (
                layer.weight.val().grad(&grads).map(values),
                x.grad(&grads).map(values),
            )
        };
        let tracked = x.clone().require_grad();
        let (Some(weight), Some(images)) = gradients(&layer, &tracked) else {
            panic!("both are asked for");
        };
        assert_eq!(gradients(&layer, &x), (Some(weight), None));
        layer.weight = Param::from_tensor(layer.weight.val().detach()).set_require_grad(false);
        assert_eq!(gradients(&layer, &tracked), (None, Some(images)));
        // inputs with a tape and without go together
        let y = conv2d(&layer, x.clone());
        assert_eq!(values(y), values(conv2d(&layer, x.inner())));
    }

    #[test]
    fn views_of_other_memory_are_taken() {
        let (layer, x) = case(&Device::flex().autodiff());
        let part = x.clone().slice([1..2, 0..4]);
        let copy = Tensor::from_data(part.clone().into_data(), &x.device());
        assert_eq!(values(conv2d(&layer, part)), values(conv2d(&layer, copy)));
    }
}
