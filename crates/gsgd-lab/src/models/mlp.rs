//! The multi-layer perceptron with ReLUs.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use flex_kernels::linear;

use super::init::Draw;

/// Dense layers with ReLUs between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The dense layers, weights `[inputs, outputs]`.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// A network with He weights (normal with variance 2 / inputs), biases 0.
    pub(super) fn new(widths: &[usize], bias: bool, draw: &mut Draw, device: &Device) -> Self {
        let layers = widths.windows(2);
        Self {
            layers: layers
                .map(|w| draw.linear([w[0], w[1]], bias, device))
                .collect(),
        }
    }

    /// Logits `[batch, outputs]` of inputs `[batch, inputs]`.
    pub fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = relu(x);
            }
            x = linear(layer, x);
        }
        x
    }
}
