//! Graphs of modules from their forward passes: classes that the mathematics allows, and the function that they leave.

mod common;

use burn::module::{Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{
    Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose2d, ConvTranspose2dConfig,
};
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::nn::pool::{AdaptiveAvgPool2dConfig, AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, GroupNorm, GroupNormConfig, LayerNorm,
    LayerNormConfig, Linear, LinearConfig, PRelu, PReluConfig, PaddingConfig2d,
};
use burn::tensor::activation::{leaky_relu, relu, sigmoid};
use burn::tensor::{Distribution, Tensor};
use common::device;
use gsgd::rescale::{Scaling, apply};
use gsgd::{Example, Outputs, ScaleGraph, verify};

/// The scale graph of a forward pass, and that rescaling by it leaves the function.
fn scales<M: Module, O: Outputs>(model: &M, forward: impl Fn(&M, &mut Example) -> O) -> ScaleGraph {
    let graph = gsgd::capture(model, &forward).unwrap();
    let scales = graph.scales(Default::default()).unwrap();
    // the check of a new optimiser carries the pass out
    let optim = gsgd::GSpaceConfig::sgd().with_outside(gsgd::Outside::WeightSpace);
    let optim = optim.init(model, forward);
    assert!(optim.is_ok(), "{:?}", optim.err());
    scales
}

fn same(from: usize, to: usize) -> Conv2d {
    let config = Conv2dConfig::new([from, to], [3, 3]);
    config.with_padding(PaddingConfig2d::Same).init(&device())
}

fn dense(inputs: usize, outputs: usize) -> Linear {
    LinearConfig::new(inputs, outputs).init(&device())
}

#[derive(Module, Debug)]
struct TwoWays {
    left: Linear,
    right: Linear,
    joint: Linear,
    value: Linear,
    policy: Linear,
}

#[test]
fn several_inputs_and_outputs() {
    let model = TwoWays {
        left: dense(3, 4),
        right: dense(2, 5),
        joint: dense(9, 6),
        value: dense(6, 1),
        policy: dense(6, 3),
    };
    let forward = |model: &TwoWays, example: &mut Example| {
        let left = relu(model.left.forward(example.input([2, 3])));
        let right = relu(model.right.forward(example.input([2, 2])));
        let joint = relu(model.joint.forward(Tensor::cat(vec![left, right], 1)));
        (
            model.value.forward(joint.clone()),
            [model.policy.forward(joint)],
        )
    };
    let scales = scales(&model, forward);
    assert_eq!(
        (scales.hidden(), scales.weights()),
        (15, 16 + 15 + 60 + 7 + 21)
    );
}

#[derive(Module, Debug)]
struct UNet {
    down: Conv2d,
    norm: BatchNorm,
    slopes: PRelu,
    deep: Conv2d,
    up: ConvTranspose2d,
    end: Conv2d,
}

#[test]
fn maps_through_pools_and_back() {
    let model = UNet {
        down: same(3, 4),
        norm: BatchNormConfig::new(4).init(&device()),
        slopes: PReluConfig::new().with_num_parameters(4).init(&device()),
        deep: same(4, 6),
        up: ConvTranspose2dConfig::new([6, 5], [2, 2])
            .with_stride([2, 2])
            .init(&device()),
        end: same(4 + 5 + 6 + 2, 2),
    };
    let forward = |net: &UNet, example: &mut Example| {
        let down = net.slopes.forward(
            net.norm
                .forward(net.down.forward(example.input([1, 3, 8, 8]))),
        );
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let deep = leaky_relu(net.deep.forward(pool.forward(down.clone())), 0.1);
        let up = relu(net.up.forward(deep.clone()));
        let wide = Interpolate2dConfig::new()
            .with_output_size(Some([8, 8]))
            .with_mode(InterpolateMode::Linear)
            .init()
            .forward(deep);
        let pool = AvgPool2dConfig::new([3, 3]).with_strides([1, 1]);
        let some = down.clone().slice([0..1, 1..3]);
        let some = pool
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init()
            .forward(some);
        net.end.forward(Tensor::cat(vec![down, up, wide, some], 1))
    };
    let scales = scales(&model, forward);
    // 4 before batch norm and 4 behind it, 6 and 5
    assert_eq!(scales.hidden(), 4 + 4 + 6 + 5);
    assert_eq!(scales.grounded().count(), 0);
}

#[derive(Module, Debug)]
struct Transformer {
    words: Embedding,
    first: LayerNorm,
    attention: MultiHeadAttention,
    second: LayerNorm,
    inner: Linear,
    outer: Linear,
    head: Linear,
}

#[test]
fn a_transformer_has_the_scales_of_its_values_gains_and_inner_units() {
    let model = Transformer {
        words: EmbeddingConfig::new(11, 8).init(&device()),
        first: LayerNormConfig::new(8).init(&device()),
        attention: MultiHeadAttentionConfig::new(8, 2)
            .with_dropout(0.0)
            .init(&device()),
        second: LayerNormConfig::new(8).init(&device()),
        inner: dense(8, 12),
        outer: dense(12, 8),
        head: dense(8, 11),
    };
    let forward = |net: &Transformer, example: &mut Example| {
        let x = net.words.forward(example.indices([1, 5], 11));
        let y = net.first.forward(x.clone());
        let x = x + net.attention.forward(MhaInput::self_attn(y)).context;
        let y = net.second.forward(x.clone());
        let y = net.outer.forward(relu(net.inner.forward(y)));
        net.head.forward(x + y)
    };
    let scales = scales(&model, forward);
    // the gains of both norms, the values of the attention, the inner units; the stream is read by norms and the head
    assert_eq!(scales.hidden(), 8 + 8 + 8 + 12);
    assert!(scales.grounded().count() > 0);
}

#[derive(Module, Debug)]
struct Gated {
    stem: Conv2d,
    squeeze: Conv2d,
    groups: GroupNorm,
    end: Conv2d,
    depth: Conv3d,
}

#[test]
fn gates_group_norms_and_shuffled_channels() {
    let model = Gated {
        stem: same(3, 4),
        squeeze: Conv2dConfig::new([4, 4], [1, 1]).init(&device()),
        groups: GroupNormConfig::new(2, 4).init(&device()),
        end: same(4, 4),
        depth: Conv3dConfig::new([2, 3], [1, 1, 1]).init(&device()),
    };
    let forward = |net: &Gated, example: &mut Example| {
        let x = relu(net.stem.forward(example.input([1, 3, 4, 4])));
        let squeezed = AdaptiveAvgPool2dConfig::new([1, 1])
            .init()
            .forward(x.clone());
        let x = x * sigmoid(net.squeeze.forward(squeezed));
        // two groups of two channels, shuffled
        let x = x
            .reshape([1, 2, 2, 4, 4])
            .swap_dims(1, 2)
            .reshape([1, 4, 4, 4]);
        let y = relu(net.groups.forward(net.end.forward(x)));
        relu(net.depth.forward(y.reshape([1, 2, 2, 4, 4])))
    };
    let scales = scales(&model, forward);
    // the stem's channels; a gain of group norm is an edge too, and two of its channels are planes of one of depth's
    assert_eq!(scales.hidden(), 4 + 2);
    let by: Vec<&str> = scales.grounded().map(|(_, by)| by).collect();
    assert!(by.contains(&"sigmoid"), "{by:?}");
}

#[derive(Module, Debug)]
struct Tied {
    first: Linear,
    middle: Linear,
    scale: Param<Tensor<1>>,
}

#[test]
fn weights_that_are_read_twice_stay_and_train() {
    let model = Tied {
        first: dense(3, 5),
        middle: dense(5, 5),
        scale: Param::from_tensor(Tensor::random([3], Distribution::Default, &device())),
    };
    let forward = |net: &Tied, example: &mut Example| {
        let y = relu(net.first.forward(example.input([4, 3])));
        let y = relu(net.middle.forward(relu(net.middle.forward(y))));
        // the first layer's weight again, transposed
        y.matmul(net.first.weight.val().transpose()) * net.scale.val().unsqueeze()
    };
    let scales = scales(&model, forward);
    let held: Vec<&str> = scales.held().map(|(name, _)| name).collect();
    assert!(
        held.contains(&"first.weight") && held.contains(&"middle.weight"),
        "{held:?}"
    );
    let scaling = Scaling::powers_of_two(&scales, 3, 1);
    let twin = apply(model.clone(), &scales, &scaling).unwrap();
    verify(&twin, &scales, |net: &Tied| {
        forward(net, &mut example_on_device())
    })
    .unwrap();
}

/// An example whose inputs are there.
fn example_on_device() -> Example {
    Example::on(device(), burn::tensor::DType::F32)
}
