//! The product's forward and backward pass.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;
use rten_tensor::prelude::*;

use crate::autodiff::Operation;
use crate::memory::{tensor, zeros};

/// Rows that are transposed at a time.
const TILE: usize = 16;

/// `[batch, inputs]` times `[inputs, outputs]`.
#[derive(Debug)]
pub struct Product;

impl Operation<2, 2> for Product {
    type State = ();

    fn forward(self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, ()) {
        (product(matrix(&x), matrix(&weight)), ())
    }

    fn backward(
        _: (),
        [x, weight]: [FlexTensor; 2],
        up: FlexTensor,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let inputs = of_x.then(|| transposed(&product(matrix(&weight), matrix(&up).transposed())));
        let weights = of_weight.then(|| product(matrix(&x).transposed(), matrix(&up)));
        [inputs, weights]
    }
}

/// The tensor's memory, rows one after the other.
fn matrix(x: &FlexTensor) -> NdTensorView<'_, f32, 2> {
    NdTensorView::from_data(x.shape().dims::<2>(), x.storage())
}

fn product(a: NdTensorView<f32, 2>, b: NdTensorView<f32, 2>) -> FlexTensor {
    let shape = [a.size(0), b.size(1)];
    let mut out = zeros(shape[0] * shape[1]);
    let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Unpacked(b));
    let done = GemmExecutor::<f32>::new().gemm(&mut out, a, b, GemmOptions::default());
    done.expect("the shapes are those of a product");
    tensor(out, shape)
}

fn transposed(x: &FlexTensor) -> FlexTensor {
    let [rows, columns] = x.shape().dims();
    let (from, mut to) = (x.storage::<f32>(), vec![0.0; rows * columns]);
    // a few rows at a time, which stay near
    for (block, from) in from.chunks(TILE * columns).enumerate() {
        for (column, to) in to.chunks_exact_mut(rows).enumerate() {
            let from = from[column..].iter().step_by(columns);
            to[block * TILE..]
                .iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to = *from);
        }
    }
    tensor(to, [columns, rows])
}
