//! The operations of a graph on tensors, one function for each that is not one of Burn's.

use burn::tensor::activation as function;
use burn::tensor::module;
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, MaxPoolOptions};
use burn::tensor::{Int, Tensor, TensorData};
use gsgd::core::graph::{Activation, Function, Op, Pooling, Reduction, Window};

use super::value::{Value, any, both, same};

/// What an operation makes of values; `shape` is that of the result.
///
/// # Panics
/// The plan of a network would not have taken it.
pub(super) fn apply(op: &Op, reads: Vec<Value>, shape: &[usize]) -> Value {
    let mut reads = reads.into_iter();
    let mut next = || reads.next().expect("the graph has checked its reads");
    match op {
        Op::MatMul { transposed } => {
            let (a, b) = (next(), next());
            let b = if *transposed { b.transpose() } else { b };
            let y = matmul(a, b).reshape(shape);
            plus(y, reads.next(), shape.len() - 1)
        }
        Op::Conv { window, groups } => {
            let (x, w) = (next(), next());
            plus(conv(x, w, window, *groups), reads.next(), 1)
        }
        Op::ConvTranspose {
            window,
            groups,
            output_padding,
        } => {
            let (x, w) = (next(), next());
            let y = conv_transpose(x, w, window, *groups, output_padding);
            plus(y, reads.next(), 1)
        }
        Op::Activation(kind) => activation(*kind, next()),
        Op::Prelu => prelu(next(), next()),
        Op::Pool { pooling, window } => pool(next(), *pooling, window),
        Op::Reduce {
            reduction, axes, ..
        } => reduce(next(), *reduction, axes).reshape(shape),
        Op::Resample { .. } => adaptive(next(), shape),
        Op::Add => {
            let first = next();
            reads.fold(first, |a, b| both!(a, b, x, y => x + y))
        }
        Op::Sub => both!(next(), next(), x, y => x - y),
        Op::Mul => both!(next(), next(), x, y => x * y),
        Op::Div => both!(next(), next(), x, y => x / y),
        Op::Concat { axis } => concat(reads.collect(), *axis, shape),
        Op::Slice {
            axis,
            start,
            step,
            count,
        } => {
            let place = |at: usize| *start as i64 + *step as i64 * at as i64;
            select(next(), *axis, (0..*count).map(place).collect())
        }
        Op::Select { axis, places } => {
            let places = places.iter().map(|&at| at as i64);
            select(next(), *axis, places.collect())
        }
        Op::Gather { axis, .. } => {
            let (x, places) = (next(), next());
            let places: Tensor<1, Int> = any!(places, p => p.reshape([-1]).int());
            same!(x, x => x.select(*axis, places)).reshape(shape)
        }
        Op::Reshape { .. } => next().reshape(shape),
        Op::Transpose { order } => next().permute(order),
        Op::Expand { .. } => next().expand(shape),
        Op::Function(kind) => of_numbers(*kind, next()),
        Op::Softmax { axis } => same!(next(), x => function::softmax(x, *axis)),
        Op::Normalise {
            axes,
            groups,
            centred,
            epsilon,
        } => {
            let x = next();
            let Some(groups) = groups else {
                return normalise(x, axes, *centred, *epsilon);
            };
            let split = [
                shape[0],
                *groups,
                shape[1..].iter().product::<usize>() / groups,
            ];
            normalise(x.reshape(&split), &[2], *centred, *epsilon).reshape(shape)
        }
        Op::Identity => next(),
        Op::Input { .. }
        | Op::Param(_)
        | Op::Constant { .. }
        | Op::BatchNorm { .. }
        | Op::Opaque { .. } => {
            unreachable!("the plan has no step for `{}`", op.name())
        }
    }
}

/// A product of matrices, or of a vector and a matrix.
fn matmul(a: Value, b: Value) -> Value {
    let rank = a.rank().max(b.rank()).max(2);
    let (a, b) = (a.with_rank(rank), b.with_rank(rank));
    both!(a, b, x, y => x.matmul(y))
}

/// With a bias along an axis.
fn plus(y: Value, bias: Option<Value>, axis: usize) -> Value {
    let Some(bias) = bias else { return y };
    let mut shape = vec![1; y.rank()];
    shape[axis] = bias.dims().iter().product();
    both!(y, bias.reshape(&shape), a, b => a + b)
}

/// A list for each axis as an array.
fn each<const N: usize, T: Copy>(list: &[T]) -> [T; N] {
    std::array::from_fn(|axis| list[axis])
}

fn pairs<const N: usize>(window: &Window) -> [(usize, usize); N] {
    each::<N, _>(&window.padding).map(|[before, after]| (before, after))
}

fn conv(x: Value, w: Value, window: &Window, groups: usize) -> Value {
    fn options<const N: usize>(window: &Window, groups: usize) -> ConvOptions<N> {
        let (stride, dilation) = (each(&window.stride), each(&window.dilation));
        ConvOptions::new_with_padding(stride, pairs(window), dilation, groups)
    }
    match (x, w) {
        (Value::D3(x), Value::D3(w)) => module::conv1d(x, w, None, options(window, groups)).into(),
        (Value::D4(x), Value::D4(w)) => module::conv2d(x, w, None, options(window, groups)).into(),
        (Value::D5(x), Value::D5(w)) => {
            // Burn pads volumes by as much on both sides
            let [(a, b), (c, d), (e, f)] = pairs::<3>(window);
            let x = match (a, c, e) == (b, d, f) {
                true => return module::conv3d(x, w, None, options(window, groups)).into(),
                false => x.pad([(a, b), (c, d), (e, f)], 0.0),
            };
            let none = Window {
                padding: vec![[0, 0]; 3],
                ..window.clone()
            };
            module::conv3d(x, w, None, options(&none, groups)).into()
        }
        _ => unreachable!("convolutions have one to three axes of space"),
    }
}

fn conv_transpose(x: Value, w: Value, window: &Window, groups: usize, out: &[usize]) -> Value {
    // what is taken away on both sides, and then the rest on one
    let shared = window.padding.iter().map(|[a, b]| *a.min(b));
    let shared: Vec<usize> = shared.collect();
    fn options<const N: usize>(
        window: &Window,
        shared: &[usize],
        out: &[usize],
        groups: usize,
    ) -> ConvTransposeOptions<N> {
        let (stride, dilation) = (each(&window.stride), each(&window.dilation));
        ConvTransposeOptions::new(stride, each(shared), each(out), dilation, groups)
    }
    let y: Value = match (x, w) {
        (Value::D3(x), Value::D3(w)) => {
            module::conv_transpose1d(x, w, None, options(window, &shared, out, groups)).into()
        }
        (Value::D4(x), Value::D4(w)) => {
            module::conv_transpose2d(x, w, None, options(window, &shared, out, groups)).into()
        }
        (Value::D5(x), Value::D5(w)) => {
            module::conv_transpose3d(x, w, None, options(window, &shared, out, groups)).into()
        }
        _ => unreachable!("convolutions have one to three axes of space"),
    };
    let sides = window.padding.iter().zip(&shared).enumerate();
    sides.fold(y, |y, (axis, ([before, after], shared))| {
        let (first, rest) = (before - shared, after - shared);
        let last = y.dims()[axis + 2] - rest;
        match (first, rest) {
            (0, 0) => y,
            _ => same!(y, y => y.slice_dim(axis + 2, first..last)),
        }
    })
}

fn activation(kind: Activation, x: Value) -> Value {
    same!(x, x => match kind {
        Activation::Relu => function::relu(x),
        Activation::LeakyRelu(slope) => function::leaky_relu(x, slope),
        Activation::Abs => x.abs(),
        Activation::Neg => x.neg(),
    })
}

fn prelu(x: Value, slopes: Value) -> Value {
    let count = slopes.dims().iter().product::<usize>();
    let channels = x.dims().get(1).copied().unwrap_or(1);
    if count == 1 || count == channels {
        let slopes = slopes.reshape(&[count]).tensor::<1>();
        return same!(x, x => function::prelu(x, slopes));
    }
    let above = activation(Activation::Relu, x.clone());
    let below = both!(above.clone(), x, a, x => a - x);
    let below = both!(below, slopes, b, s => b * s);
    both!(above, below, a, b => a - b)
}

fn of_numbers(kind: Function, x: Value) -> Value {
    same!(x, x => match kind {
        Function::Sigmoid => function::sigmoid(x),
        Function::Tanh => x.tanh(),
        Function::Gelu => function::gelu(x),
        Function::Silu => function::silu(x),
        Function::Relu6 => function::relu6(x),
        Function::HardSigmoid => function::hard_sigmoid(x, 1.0 / 6.0, 0.5),
        Function::HardSwish => function::hard_swish(x),
    })
}

fn pool(x: Value, pooling: Pooling, window: &Window) -> Value {
    fn largest<const N: usize>(window: &Window) -> MaxPoolOptions<N> {
        MaxPoolOptions::new(each(&window.kernel))
            .with_stride(each(&window.stride))
            .with_padding_pairs(pairs(window))
            .with_dilation(each(&window.dilation))
            .with_ceil_mode(window.ceil)
    }
    fn mean<const N: usize>(window: &Window, counts_padding: bool) -> AvgPoolOptions<N> {
        AvgPoolOptions::new(each(&window.kernel))
            .with_stride(each(&window.stride))
            .with_padding_pairs(pairs(window))
            .with_count_include_pad(counts_padding)
            .with_ceil_mode(window.ceil)
    }
    match (x, pooling) {
        (Value::D3(x), Pooling::Max) => module::max_pool1d(x, largest(window)).into(),
        (Value::D4(x), Pooling::Max) => module::max_pool2d(x, largest(window)).into(),
        (Value::D3(x), Pooling::Mean { counts_padding }) => {
            module::avg_pool1d(x, mean(window, counts_padding)).into()
        }
        (Value::D4(x), Pooling::Mean { counts_padding }) => {
            module::avg_pool2d(x, mean(window, counts_padding)).into()
        }
        (x, _) => pool_volumes(x, pooling, window),
    }
}

/// Of volumes: along the first axis of space, then along the other two.
fn pool_volumes(x: Value, pooling: Pooling, window: &Window) -> Value {
    let axes = |from: usize, to: usize| Window {
        kernel: window.kernel[from..to].to_vec(),
        stride: window.stride[from..to].to_vec(),
        padding: window.padding[from..to].to_vec(),
        dilation: window.dilation[from..to].to_vec(),
        ceil: window.ceil,
    };
    let [batch, channels, depth, height, width] = each(&x.dims());
    let x = x.permute(&[0, 1, 3, 4, 2]);
    let x = x.reshape(&[batch, channels * height * width, depth]);
    let x = pool(x, pooling, &axes(0, 1));
    let depth = x.dims()[2];
    let x = x.reshape(&[batch, channels, height, width, depth]);
    let x = x.permute(&[0, 1, 4, 2, 3]);
    let x = pool(
        x.reshape(&[batch, channels * depth, height, width]),
        pooling,
        &axes(1, 3),
    );
    let [_, _, height, width] = each(&x.dims());
    x.reshape(&[batch, channels, depth, height, width])
}

/// Over whole axes, which stay with size 1. Neighbouring axes are taken as one.
fn reduce(x: Value, reduction: Reduction, axes: &[usize]) -> Value {
    let dims = x.dims();
    let mut axes = axes.to_vec();
    axes.sort_unstable();
    axes.dedup();
    let runs = axes.chunk_by(|a, b| a + 1 == *b);
    let mut shape = dims.clone();
    runs.fold(x, |x, run| {
        let (first, last) = (run[0], run[run.len() - 1]);
        let size = |sizes: &[usize]| sizes.iter().product::<usize>();
        let inner = size(&shape[first..=last]);
        let behind = size(&shape[last + 1..]);
        let front = size(&shape[..first]);
        shape[first..=last].fill(1);
        let lines = match behind {
            1 => vec![front, inner],
            _ => vec![front, inner, behind],
        };
        let x = same!(x.reshape(&lines), x => match reduction {
            Reduction::Max => x.max_dim(1),
            Reduction::Min => x.min_dim(1),
            Reduction::Mean => x.mean_dim(1),
            Reduction::Sum => x.sum_dim(1),
        });
        x.reshape(&shape)
    })
}

/// The mean over as many parts of each axis of space as there are places in the result.
fn adaptive(x: Value, shape: &[usize]) -> Value {
    match x {
        Value::D3(x) => module::adaptive_avg_pool1d(x, shape[2]).into(),
        Value::D4(x) => module::adaptive_avg_pool2d(x, each(&shape[2..])).into(),
        Value::D5(x) => module::adaptive_avg_pool3d(x, each(&shape[2..])).into(),
        _ => unreachable!("poolings have one to three axes of space"),
    }
}

/// Side by side; what is the same for all examples is repeated for each.
fn concat(parts: Vec<Value>, axis: usize, shape: &[usize]) -> Value {
    let parts = parts.into_iter().map(|part| {
        let mut own = shape.to_vec();
        own[axis] = part.dims()[axis];
        part.expand(&own)
    });
    fn joined<const D: usize>(parts: Vec<Value>, axis: usize) -> Value {
        let parts = parts.into_iter().map(Value::tensor::<D>);
        Tensor::cat(parts.collect(), axis).into()
    }
    let parts: Vec<Value> = parts.collect();
    match shape.len() {
        1 => joined::<1>(parts, axis),
        2 => joined::<2>(parts, axis),
        3 => joined::<3>(parts, axis),
        4 => joined::<4>(parts, axis),
        5 => joined::<5>(parts, axis),
        _ => joined::<6>(parts, axis),
    }
}

/// Places along an axis.
fn select(x: Value, axis: usize, places: Vec<i64>) -> Value {
    let count = places.len();
    let one_after_the_other = places.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if let (true, [first, .., last] | [first @ last]) = (one_after_the_other, &places[..]) {
        let (first, last) = (*first as usize, *last as usize);
        return same!(x, x => x.slice_dim(axis, first..last + 1));
    }
    same!(x, x => {
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &x.device());
        x.select(axis, places)
    })
}

/// To mean 0 and variance 1 over these axes.
fn normalise(x: Value, axes: &[usize], centred: bool, epsilon: f64) -> Value {
    let rank = x.rank();
    if centred && *axes == [rank - 1] {
        let width = x.dims()[rank - 1];
        return same!(x, x => {
            let ones = Tensor::<1>::ones([width], &x.device());
            module::layer_norm(x, ones, None, epsilon)
        });
    }
    let x = match centred {
        true => {
            let mean = reduce(x.clone(), Reduction::Mean, axes);
            both!(x, mean, x, m => x - m)
        }
        false => x,
    };
    let squares = both!(x.clone(), x.clone(), a, b => a * b);
    let variance = reduce(squares, Reduction::Mean, axes);
    let deviation = same!(variance, v => v.add_scalar(epsilon).sqrt());
    both!(x, deviation, x, d => x / d)
}
