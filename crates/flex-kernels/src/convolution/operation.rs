//! The convolution's forward and backward pass.

use burn::backend::flex::FlexTensor;

use super::passes;
use super::planes::Geometry;
use crate::autodiff::Operation;
use crate::memory::tensor;

/// Images `[batch, inputs, height, width]` convolved with weights `[outputs, inputs, kernel height, kernel width]`.
#[derive(Debug)]
pub struct Convolution(pub Geometry);

impl Operation<2, 2> for Convolution {
    type State = Geometry;

    fn forward(self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Geometry) {
        let Self(geometry) = self;
        let y = passes::forward(x.storage(), weight.storage(), &geometry);
        let [height, width] = geometry.output();
        let shape = [geometry.batch, geometry.outputs, height, width];
        (tensor(y, shape), geometry)
    }

    fn backward(
        geometry: Geometry,
        [x, weight]: [FlexTensor; 2],
        up: FlexTensor,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let weights = of_weight.then(|| {
            let weights = passes::of_weight(x.storage(), up.storage(), &geometry);
            let [height, width] = geometry.kernel;
            tensor(weights, [geometry.outputs, geometry.inputs, height, width])
        });
        // last, for it takes the memory of the gradient
        let images = of_x.then(|| passes::of_images(weight.storage(), up, &geometry));
        [images, weights]
    }
}
