//! Scaling classes of operations: rescaling by powers of two leaves outputs bit for bit as they are, and there are as many
//! classes as the mathematics allows.

mod common;

use std::collections::HashMap;

use common::forward::{Array, outputs};
use common::{Net, normal, random_net, rng};
use gsgd_core::graph::{Activation, Function, Graph, Op, Pooling, Reduction, Value, Window};
use gsgd_core::scales::{ParamKey, ScaleGraph, ScaleGraphConfig};
use proptest::prelude::*;
use rand::Rng;

/// Random values of all parameters.
fn params(graph: &Graph, seed: u64) -> HashMap<ParamKey, Array> {
    let mut rng = rng(seed);
    let params = graph.params().iter();
    params
        .map(|param| {
            (
                param.key,
                Array::from_fn(&param.shape, |_| normal(&mut rng)),
            )
        })
        .collect()
}

fn inputs(graph: &Graph, seed: u64) -> Vec<Array> {
    let mut rng = rng(seed);
    let nodes = graph.nodes().iter();
    nodes
        .filter(|node| matches!(node.op, Op::Input { .. }))
        .map(|node| Array::from_fn(&node.shape, |_| normal(&mut rng)))
        .collect()
}

/// The parameters multiplied by the factors of their classes.
fn rescaled(
    scales: &ScaleGraph,
    params: &HashMap<ParamKey, Array>,
    factors: &[f64],
) -> HashMap<ParamKey, Array> {
    let mut params = params.clone();
    for edges in scales.edges() {
        let array = params.get_mut(&edges.key()).unwrap();
        for (t, tail) in edges.tails().iter().enumerate() {
            for (h, head) in edges.heads().iter().enumerate() {
                if let Some(at) = edges.flat(t, h) {
                    array.data[at] *= factors[head.index()] / factors[tail.index()];
                }
            }
        }
    }
    for tensor in scales.co_scaled() {
        let array = params.get_mut(&tensor.key()).unwrap();
        let power = tensor.power();
        for (value, class) in array.data.iter_mut().zip(tensor.classes()) {
            *value *= factors[class.index()].powi(power);
        }
    }
    params
}

/// Random powers of two leave the outputs bit for bit; without epsilon, which is no part of the symmetry.
fn check(graph: &Graph, seed: u64) -> ScaleGraph {
    let scales = graph.scales(ScaleGraphConfig::new()).unwrap();
    let (params, inputs) = (params(graph, seed), inputs(graph, seed + 1));
    let mut rng = rng(seed + 2);
    let mut factors: Vec<f64> = scales
        .classes()
        .map(|_| f64::powi(2.0, rng.random_range(-3..4)))
        .collect();
    factors[0] = 1.0;
    let before = outputs(graph, &params, &inputs);
    let after = outputs(graph, &rescaled(&scales, &params, &factors), &inputs);
    assert_eq!(before, after);
    scales
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_graphs_are_left_bit_for_bit(seed in 0u64..1_000_000, norms: bool) {
        let mut graph = random_net(seed, norms).graph;
        if norms {
            // an epsilon of 0 makes batch norm exact
            graph = without_epsilon(&graph);
        }
        check(&graph, seed);
    }
}

fn without_epsilon(graph: &Graph) -> Graph {
    let mut new = Graph::new();
    for param in graph.params() {
        new.declare(param.clone()).unwrap();
    }
    for node in graph.nodes() {
        let op = match &node.op {
            Op::BatchNorm { .. } => Op::BatchNorm { epsilon: 0.0 },
            op => op.clone(),
        };
        new.push(&node.name, op, &node.reads).unwrap();
    }
    graph.outputs().iter().for_each(|&value| new.output(value));
    new
}

fn conv(kernel: usize) -> Op {
    Op::Conv {
        window: Window::new(&[kernel, kernel]).with_padding(&[kernel / 2; 2]),
        groups: 1,
    }
}

/// Maps of 4 channels behind a convolution of an input.
fn maps(net: &mut Net) -> Value {
    let x = net.graph.input(&[1, 3, 4, 4]).unwrap();
    let y = net.layer(conv(3), x, &[4, 3, 3, 3], Some(4));
    net.relu(y)
}

/// A convolution to two outputs, all of them.
fn end(mut net: Net, y: Value) -> Graph {
    let channels = net.graph.node(y).shape[1];
    let y = net.layer(conv(1), y, &[2, channels, 1, 1], Some(2));
    net.graph.output(y);
    net.graph
}

/// Checks the graph that `between` makes of 4 channels; its hidden classes.
fn hidden(between: impl FnOnce(&mut Net, Value) -> Value) -> usize {
    let mut net = Net::default();
    let x = maps(&mut net);
    let y = between(&mut net, x);
    check(&end(net, y), 3).hidden()
}

#[test]
fn what_classes_go_through() {
    let one = |op: Op| hidden(|net, x| net.push(op, &[x]));
    assert_eq!(one(Op::Identity), 4);
    assert_eq!(one(Op::Activation(Activation::LeakyRelu(0.1))), 4);
    assert_eq!(one(Op::Activation(Activation::Abs)), 4);
    assert_eq!(one(Op::Activation(Activation::Neg)), 4);
    for pooling in [
        Pooling::Max,
        Pooling::Mean {
            counts_padding: false,
        },
    ] {
        let window = Window::new(&[2, 2]).with_stride(&[2, 2]);
        assert_eq!(one(Op::Pool { pooling, window }), 4);
    }
    for reduction in [
        Reduction::Max,
        Reduction::Min,
        Reduction::Mean,
        Reduction::Sum,
    ] {
        let axes = vec![2, 3];
        let keep = true;
        assert_eq!(
            one(Op::Reduce {
                reduction,
                axes,
                keep
            }),
            4
        );
        // over channels
        let axes = vec![1];
        assert_eq!(
            one(Op::Reduce {
                reduction,
                axes,
                keep
            }),
            1
        );
    }
    let padded = vec![1, 4, 6, 5];
    let kind = "pad".to_string();
    assert_eq!(
        one(Op::Resample {
            kind,
            shape: padded
        }),
        4
    );
    let slice = |axis, start, step, count| Op::Slice {
        axis,
        start,
        step,
        count,
    };
    assert_eq!(one(slice(3, 3, -1, 4)), 4);
    // nothing reads the other two: their scale is free
    assert_eq!(one(slice(1, 1, 1, 2)), 4);
    assert_eq!(one(slice(1, 3, -1, 4)), 4);
    assert_eq!(
        one(Op::Select {
            axis: 1,
            places: vec![2, 0, 2, 1, 3]
        }),
        4
    );
    assert_eq!(one(Op::Function(Function::Relu6)), 0);
    assert_eq!(one(Op::Softmax { axis: 1 }), 0);
}

#[test]
fn channels_that_are_shuffled_are_followed() {
    let shuffled = hidden(|net, x| {
        let y = net.push(
            Op::Reshape {
                shape: vec![1, 2, 2, 4, 4],
            },
            &[x],
        );
        let y = net.push(
            Op::Transpose {
                order: vec![0, 2, 1, 3, 4],
            },
            &[y],
        );
        net.push(
            Op::Reshape {
                shape: vec![1, 4, 4, 4],
            },
            &[y],
        )
    });
    assert_eq!(shuffled, 4);
    // added to themselves in another order: two pairs become one
    let sum = hidden(|net, x| {
        let y = net.push(
            Op::Select {
                axis: 1,
                places: vec![1, 0, 3, 2],
            },
            &[x],
        );
        net.push(Op::Add, &[x, y])
    });
    assert_eq!(sum, 2);
    // tokens and channels: a dense layer over places makes all channels one
    let mixer = hidden(|net, x| {
        let y = net.push(
            Op::Reshape {
                shape: vec![1, 4, 16],
            },
            &[x],
        );
        let y = net.dense(y, [16, 16], true);
        net.push(
            Op::Reshape {
                shape: vec![1, 4, 4, 4],
            },
            &[y],
        )
    });
    assert_eq!(mixer, 2);
}

#[test]
fn flattened_maps_keep_a_class_per_channel() {
    let mut net = Net::default();
    let x = maps(&mut net);
    let y = net.graph.flatten(x).unwrap();
    let y = net.dense(y, [64, 5], true);
    let y = net.relu(y);
    let y = net.dense(y, [5, 2], false);
    net.graph.output(y);
    assert_eq!(check(&net.graph, 1).hidden(), 9);
}

#[test]
fn a_bias_may_stand_behind_its_layer() {
    let per_channel = |shape: &'static [usize]| {
        hidden(move |net, x| {
            let bias = net.param(shape);
            net.push(Op::Add, &[bias, x])
        })
    };
    assert_eq!(per_channel(&[1, 4, 1, 1]), 4);
    assert_eq!(per_channel(&[4, 1, 1]), 4);
    // a row for every place of a channel
    assert_eq!(per_channel(&[4, 4, 4]), 4);
    // one number for all channels makes them one
    assert_eq!(per_channel(&[1]), 1);
    // one number for every row: its rows are one, and so are the channels
    assert_eq!(per_channel(&[4]), 1);
    let constant = hidden(|net, x| {
        let one = net.push(Op::Constant { shape: vec![1] }, &[]);
        net.push(Op::Add, &[x, one])
    });
    assert_eq!(constant, 0);
    let product = hidden(|net, x| {
        let factors = net.param(&[4, 1, 1]);
        net.push(Op::Mul, &[x, factors])
    });
    assert_eq!(product, 4);
}

#[test]
fn a_single_number_has_no_axis() {
    // one number for all channels makes them one
    let added = hidden(|net, x| {
        let number = net.param(&[]);
        net.push(Op::Add, &[x, number])
    });
    assert_eq!(added, 1);
    let factor = hidden(|net, x| {
        let number = net.param(&[]);
        net.push(Op::Mul, &[number, x])
    });
    assert_eq!(factor, 4);
}

#[test]
fn steps_beyond_all_sizes_are_refused() {
    for (stride, dilation) in [(usize::MAX, 1), (1, usize::MAX)] {
        let mut graph = Graph::new();
        let x = graph.input(&[1, 2, 4]).unwrap();
        let w = graph.param("w", &[2, 2, 3]).unwrap();
        let window = Window {
            dilation: vec![dilation],
            ..Window::new(&[3]).with_stride(&[stride])
        };
        let op = Op::ConvTranspose {
            window,
            groups: 1,
            output_padding: vec![0],
        };
        assert!(graph.push("", op, &[x, w]).is_err());
    }
}

#[test]
fn gates_and_norms_ground_one_side() {
    // squeeze and excite: the gate is ground, the maps go through
    let gated = hidden(|net, x| {
        let op = Op::Reduce {
            reduction: Reduction::Mean,
            axes: vec![2, 3],
            keep: true,
        };
        let squeezed = net.push(op, &[x]);
        let y = net.layer(conv(1), squeezed, &[4, 4, 1, 1], Some(4));
        let gate = net.push(Op::Function(Function::Sigmoid), &[y]);
        net.push(Op::Mul, &[gate, x])
    });
    assert_eq!(gated, 4);
    let squared = hidden(|net, x| net.push(Op::Mul, &[x, x]));
    assert_eq!(squared, 0);
    // the gain and the shift of a layer norm are edges to new classes
    let normed = hidden(|net, x| {
        let op = Op::Normalise {
            axes: vec![1, 2, 3],
            groups: None,
            centred: true,
            epsilon: 1e-5,
        };
        let y = net.push(op, &[x]);
        let gain = net.param(&[4, 1, 1]);
        let y = net.push(Op::Mul, &[y, gain]);
        let shift = net.param(&[4, 1, 1]);
        net.push(Op::Add, &[y, shift])
    });
    assert_eq!(normed, 4);
    let opaque = hidden(|net, x| {
        let op = Op::Opaque {
            kind: "LRN".into(),
            shape: vec![1, 4, 4, 4],
        };
        net.push(op, &[x])
    });
    assert_eq!(opaque, 0);
}

#[test]
fn attention_keeps_the_classes_of_its_values() {
    let mut net = Net::default();
    let x = net.graph.input(&[1, 5, 6]).unwrap();
    // two heads of three channels
    let head = |net: &mut Net, x: Value| {
        let y = net.dense(x, [6, 6], true);
        let y = net.push(
            Op::Reshape {
                shape: vec![1, 5, 2, 3],
            },
            &[y],
        );
        net.push(
            Op::Transpose {
                order: vec![0, 2, 1, 3],
            },
            &[y],
        )
    };
    let [q, k, v] = std::array::from_fn(|_| head(&mut net, x));
    let scores = net.push(Op::MatMul { transposed: true }, &[q, k]);
    let weights = net.push(Op::Softmax { axis: 3 }, &[scores]);
    let y = net.push(Op::MatMul { transposed: false }, &[weights, v]);
    let y = net.push(
        Op::Transpose {
            order: vec![0, 2, 1, 3],
        },
        &[y],
    );
    let y = net.push(
        Op::Reshape {
            shape: vec![1, 5, 6],
        },
        &[y],
    );
    let y = net.dense(y, [6, 4], true);
    net.graph.output(y);
    let scales = check(&net.graph, 5);
    assert_eq!(scales.hidden(), 6);
    assert!(
        scales.grounded().any(|(_, why)| why == "softmax"),
        "{scales:?}"
    );
}

#[test]
fn weights_that_several_operations_read_stay() {
    let mut net = Net::default();
    let x = net.graph.input(&[1, 3]).unwrap();
    let weight = net.param(&[3, 5]);
    let bias = net.param(&[5]);
    let y = net.graph.dense(x, weight, Some(bias)).unwrap();
    let y = net.relu(y);
    let y = net.dense(y, [5, 5], true);
    let y = net.relu(y);
    // the same weight, transposed, as an auto-encoder does
    let y = net
        .graph
        .layer(Op::MatMul { transposed: true }, y, weight, None)
        .unwrap();
    net.graph.output(y);
    let scales = check(&net.graph, 5);
    assert_eq!(scales.hidden(), 0);
    assert_eq!(scales.held().count(), 1);

    // behind a weight that stays, a class goes on: all it reads are one
    let mut net = Net::default();
    let x = net.graph.input(&[1, 3]).unwrap();
    let y = net.dense(x, [3, 5], false);
    let y = net.relu(y);
    let weight = net.param(&[5, 5]);
    let y = net.graph.dense(y, weight, None).unwrap();
    let y = net.relu(y);
    let y = net.graph.dense(y, weight, None).unwrap();
    let y = net.relu(y);
    let y = net.dense(y, [5, 2], false);
    net.graph.output(y);
    assert_eq!(check(&net.graph, 5).hidden(), 1);
}

#[test]
fn biases_of_weights_that_stay_lie_along_their_channels() {
    // as many rows as columns: the bias is one number for each column
    let mut net = Net::default();
    let x = net.graph.input(&[1, 4, 3]).unwrap();
    let y = net.dense(x, [3, 4], false);
    let y = net.relu(y);
    let weight = net.param(&[4, 4]);
    let bias = net.param(&[4]);
    let y = net.graph.dense(y, weight, Some(bias)).unwrap();
    let y = net.relu(y);
    let y = net.graph.dense(y, weight, None).unwrap();
    let y = net.relu(y);
    let first = net.param(&[2, 4]);
    let y = net.push(Op::MatMul { transposed: false }, &[first, y]);
    net.graph.output(y);
    check(&net.graph, 4);
    // a kernel and a bias that are inputs
    let mut net = Net::default();
    let x = maps(&mut net);
    let weight = net.graph.input(&[4, 4, 1, 1]).unwrap();
    let bias = net.graph.input(&[4]).unwrap();
    let y = net.graph.layer(conv(1), x, weight, Some(bias)).unwrap();
    assert_eq!(check(&end(net, y), 4).hidden(), 0);
    // a bias that is computed
    let computed = hidden(|net, x| {
        let op = Op::Reduce {
            reduction: Reduction::Mean,
            axes: vec![0, 2, 3],
            keep: false,
        };
        let mean = net.push(op, &[x]);
        let weight = net.param(&[4, 4, 1, 1]);
        net.graph.layer(conv(1), x, weight, Some(mean)).unwrap()
    });
    assert_eq!(computed, 4);
}

#[test]
fn a_weight_may_stand_before_what_it_multiplies() {
    let mut net = Net::default();
    let x = net.graph.input(&[3, 2]).unwrap();
    let first = net.param(&[5, 3]);
    let y = net.push(Op::MatMul { transposed: false }, &[first, x]);
    let y = net.relu(y);
    let second = net.param(&[5, 4]);
    let second = net.push(Op::Transpose { order: vec![1, 0] }, &[second]);
    let y = net.push(Op::MatMul { transposed: false }, &[second, y]);
    net.graph.output(y);
    assert_eq!(check(&net.graph, 2).hidden(), 5);
}

#[test]
fn embeddings_are_edges_from_the_ground() {
    let mut net = Net::default();
    let places = net.graph.input(&[1, 7]).unwrap();
    let table = net.param(&[11, 6]);
    let op = Op::Gather {
        axis: 0,
        shape: vec![1, 7, 6],
    };
    let y = net.push(op, &[table, places]);
    let positions = net.param(&[7, 6]);
    let y = net.push(Op::Add, &[y, positions]);
    let y = net.relu(y);
    let y = net.dense(y, [6, 3], true);
    net.graph.output(y);
    assert_eq!(check(&net.graph, 2).hidden(), 6);
}
