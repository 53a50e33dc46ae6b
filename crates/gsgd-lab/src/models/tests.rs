//! Networks of graphs: their numbers, their starting weights, their graphs when captured, and what is refused.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use gsgd::ScaleGraphConfig;
use gsgd::core::graph::{Activation, Function, Graph, Op, Pooling, Reduction, Value, Window};

use super::{Architecture, Design, Net, Plan};
use crate::data::ImageShape;

fn architecture(arch: &str, bias: bool, norm: bool, shape: ImageShape) -> Design {
    let of = Architecture {
        arch: arch.parse().unwrap(),
        bias,
        norm,
        shape,
        classes: 10,
    };
    Design::try_from(&of).unwrap()
}

const COLOURED: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

#[test]
fn starting_weights_are_those_of_the_first_version() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("init.safetensors");
    for (arch, bias, norm, shape, expected) in [
        (
            "mlp:49-64-64-10",
            false,
            false,
            ImageShape::grey(7, 7),
            0x3ceb_b555,
        ),
        (
            "mlp:49-64-64-10",
            true,
            false,
            ImageShape::grey(7, 7),
            0x8016_1f02,
        ),
        ("resnet:8", false, true, COLOURED, 0xa20c_612f),
        ("plain:8", true, false, COLOURED, 0x57f7_fbf7),
    ] {
        let design = architecture(arch, bias, norm, shape);
        let net = design.he(0, &Device::flex().autodiff()).unwrap();
        design.save(&net, &file).unwrap();
        let found = crc32fast::hash(&std::fs::read(&file).unwrap());
        assert_eq!(found, expected, "{arch}: {found:#x}");
    }
}

#[test]
fn architectures_are_captured_as_they_are() {
    for (arch, bias, norm) in [
        ("mlp:49-8-8-10", true, false),
        ("plain:8", true, false),
        ("resnet:14", false, true),
    ] {
        let shape = match arch {
            "mlp:49-8-8-10" => ImageShape::grey(7, 7),
            _ => COLOURED,
        };
        same_classes(architecture(arch, bias, norm, shape).graph(), arch);
    }
}

/// The classes of a graph are those of its network's forward pass.
fn same_classes(graph: &Graph, of: &str) {
    let net = made(graph);
    let [own, captured] = [graph, &net.graph().unwrap()].map(|graph| {
        let scales = graph.scales(ScaleGraphConfig::new()).unwrap();
        (scales.weights(), scales.hidden())
    });
    assert_eq!(own, captured, "{of}");
}

/// The network of a graph with normal weights.
fn made(graph: &Graph) -> Net {
    Design::of_graph("test", graph)
        .unwrap()
        .he(3, &Device::flex().autodiff())
        .unwrap()
}

/// A graph of one operation on an input.
fn one(shape: &[usize], op: Op) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input(shape).unwrap();
    let y = graph.push("op", op, &[x]).unwrap();
    let y = match graph.node(y).shape.len() {
        2 => y,
        _ => graph.flatten(y).unwrap(),
    };
    graph.output(y);
    graph
}

fn window(kernel: &[usize], stride: &[usize], padding: &[[usize; 2]]) -> Window {
    Window {
        padding: padding.to_vec(),
        ..Window::new(kernel).with_stride(stride)
    }
}

fn outputs(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let net = made(graph).valid();
    let x = TensorData::new(x.to_vec(), [1, x.len()]);
    let y = net.forward(Tensor::from_data(x, &Device::flex()));
    y.into_data().iter::<f32>().collect()
}

#[test]
fn operations_give_their_numbers() {
    let row = [1.0, -2.0, 3.0, -4.0];
    let relu = |at: f64| Op::Activation(Activation::LeakyRelu(at));
    let reduce = |reduction, axes: &[usize]| Op::Reduce {
        reduction,
        axes: axes.to_vec(),
        keep: false,
    };
    let mean = |counts_padding| Pooling::Mean { counts_padding };
    let pool = |pooling, window| Op::Pool { pooling, window };
    let slice = |start, step, count| Op::Slice {
        axis: 1,
        start,
        step,
        count,
    };
    let function = Op::Function;
    let e = |x: f32| x.exp();
    let cases: Vec<(&[usize], Op, Vec<f32>)> = vec![
        (
            &[1, 4],
            Op::Activation(Activation::Relu),
            vec![1.0, 0.0, 3.0, 0.0],
        ),
        (&[1, 4], relu(0.5), vec![1.0, -1.0, 3.0, -2.0]),
        (
            &[1, 4],
            Op::Activation(Activation::Abs),
            vec![1.0, 2.0, 3.0, 4.0],
        ),
        (
            &[1, 4],
            Op::Activation(Activation::Neg),
            vec![-1.0, 2.0, -3.0, 4.0],
        ),
        (&[1, 4], Op::Identity, row.to_vec()),
        (&[1, 4], slice(3, -2, 2), vec![-4.0, -2.0]),
        (&[1, 4], slice(1, 1, 2), vec![-2.0, 3.0]),
        (&[1, 4], slice(2, 1, 1), vec![3.0]),
        (
            &[1, 4],
            Op::Select {
                axis: 1,
                places: vec![3, 0, 0],
            },
            vec![-4.0, 1.0, 1.0],
        ),
        (
            &[1, 2, 2],
            Op::Transpose {
                order: vec![0, 2, 1],
            },
            vec![1.0, 3.0, -2.0, -4.0],
        ),
        (&[1, 2, 2], reduce(Reduction::Mean, &[1, 2]), vec![-0.5]),
        (&[1, 2, 2], reduce(Reduction::Sum, &[1]), vec![4.0, -6.0]),
        (&[1, 2, 2], reduce(Reduction::Max, &[2]), vec![1.0, 3.0]),
        (&[1, 2, 2], reduce(Reduction::Min, &[1]), vec![1.0, -4.0]),
        (
            &[1, 1, 2, 2],
            pool(Pooling::Max, window(&[2, 2], &[1, 1], &[[0, 0]; 2])),
            vec![3.0],
        ),
        (
            &[1, 1, 4],
            pool(mean(true), window(&[2], &[2], &[[1, 1]])),
            vec![0.5, 0.5, -2.0],
        ),
        (
            &[1, 1, 4],
            pool(mean(false), window(&[2], &[2], &[[1, 1]])),
            vec![1.0, 0.5, -4.0],
        ),
        (
            &[1, 1, 4],
            pool(Pooling::Max, window(&[3], &[1], &[[1, 0]])),
            vec![1.0, 3.0, 3.0],
        ),
        (
            &[1, 1, 4, 1, 1],
            pool(Pooling::Max, window(&[2, 1, 1], &[2, 1, 1], &[[0, 0]; 3])),
            vec![1.0, 3.0],
        ),
        (
            &[1, 1, 1, 2, 2],
            pool(mean(true), window(&[1, 2, 1], &[1, 1, 1], &[[0, 0]; 3])),
            vec![2.0, -3.0],
        ),
        (
            &[1, 1, 4],
            Op::Resample {
                kind: "adaptive pooling".into(),
                shape: vec![1, 1, 2],
            },
            vec![-0.5, -0.5],
        ),
        (
            &[1, 1, 4],
            Op::Expand {
                shape: vec![1, 2, 4],
            },
            [row, row].concat(),
        ),
        (
            &[1, 4],
            function(Function::Sigmoid),
            row.map(|x| 1.0 / (1.0 + e(-x))).to_vec(),
        ),
        (
            &[1, 4],
            function(Function::Tanh),
            row.map(f32::tanh).to_vec(),
        ),
        (
            &[1, 4],
            function(Function::Silu),
            row.map(|x| x / (1.0 + e(-x))).to_vec(),
        ),
        (
            &[1, 4],
            function(Function::Gelu),
            vec![0.841345, -0.0455, 2.99595, -0.000127],
        ),
        (
            &[1, 4],
            function(Function::HardSigmoid),
            vec![0.666667, 0.166667, 1.0, 0.0],
        ),
        (
            &[1, 4],
            function(Function::HardSwish),
            vec![0.666667, -0.333333, 3.0, 0.0],
        ),
        (&[1, 4], function(Function::Relu6), vec![1.0, 0.0, 3.0, 0.0]),
        (
            &[1, 4],
            Op::Softmax { axis: 1 },
            row.map(|x| e(x) / row.iter().map(|&x| e(x)).sum::<f32>())
                .to_vec(),
        ),
        (
            &[1, 4],
            Op::Normalise {
                axes: vec![1],
                groups: None,
                centred: true,
                epsilon: 1e-12,
            },
            row.map(|x| (x + 0.5) / 7.25f32.sqrt()).to_vec(),
        ),
        (
            &[1, 4],
            Op::Normalise {
                axes: vec![1],
                groups: None,
                centred: false,
                epsilon: 1e-12,
            },
            row.map(|x| x / 7.5f32.sqrt()).to_vec(),
        ),
        (
            &[1, 4],
            Op::Normalise {
                axes: vec![],
                groups: Some(2),
                centred: true,
                epsilon: 1e-12,
            },
            vec![1.0, -1.0, 1.0, -1.0],
        ),
    ];
    for (shape, op, expected) in cases {
        let found = outputs(&one(shape, op.clone()), &row);
        let close = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close, "{op:?} of {shape:?}: {found:?}, not {expected:?}");
    }
}

/// A graph with layers of all kinds on maps.
fn of_maps() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input(&[1, 2, 6, 6]).unwrap();
    let param = |graph: &mut Graph, name: &str, shape: &[usize]| graph.param(name, shape).unwrap();
    let w = param(&mut graph, "a.weight", &[4, 2, 3, 3]);
    let b = param(&mut graph, "a.bias", &[4]);
    let moves = window(&[3, 3], &[1, 1], &[[1, 1]; 2]);
    let y = graph.conv(x, w, Some(b), moves.clone()).unwrap();
    let norm = ["a.gamma", "a.beta", "a.mean", "a.variance"];
    let norm = norm.map(|name| param(&mut graph, name, &[4]));
    let y = graph.batch_norm(y, norm, 1e-5).unwrap();
    let y = graph.relu(y).unwrap();
    // in two groups, padded on one side
    let w = param(&mut graph, "b.weight", &[4, 2, 3, 3]);
    let op = Op::Conv {
        window: window(&[3, 3], &[2, 2], &[[0, 1]; 2]),
        groups: 2,
    };
    let y = graph.layer(op, y, w, None).unwrap();
    let slopes = param(&mut graph, "b.slopes", &[4]);
    let y = graph.push("prelu", Op::Prelu, &[y, slopes]).unwrap();
    // and back to the size
    let w = param(&mut graph, "c.weight", &[4, 4, 2, 2]);
    let b = param(&mut graph, "c.bias", &[4]);
    let op = Op::ConvTranspose {
        window: window(&[2, 2], &[2, 2], &[[0, 1], [0, 0]]),
        groups: 1,
        output_padding: vec![1, 0],
    };
    let y = graph.layer(op, y, w, Some(b)).unwrap();
    let gain = param(&mut graph, "gain", &[4, 1, 1]);
    let z = graph.push("gain", Op::Mul, &[y, gain]).unwrap();
    let sum = graph.add(y, z).unwrap();
    let y = graph.relu(sum).unwrap();
    let y = graph.concat(&[y, z], 1).unwrap();
    let y = graph.global_mean(y).unwrap();
    let w = param(&mut graph, "head.weight", &[8, 3]);
    let y = graph.dense(y, w, None).unwrap();
    graph.output(y);
    graph
}

/// One with attention over a sequence.
fn of_sequences() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input(&[1, 5, 4]).unwrap();
    let token = graph.param("token", &[1, 1, 4]).unwrap();
    let x = graph.concat(&[token, x], 1).unwrap();
    let mut heads = ["q", "k", "v"].map(|name| {
        let w = graph.param(&format!("{name}.weight"), &[4, 4]).unwrap();
        let op = Op::MatMul { transposed: true };
        graph.layer(op, x, w, None).unwrap()
    });
    let [q, k, v] = &mut heads;
    let scores = Op::MatMul { transposed: true };
    let scores = graph.push("scores", scores, &[*q, *k]).unwrap();
    let weights = graph.push("", Op::Softmax { axis: 2 }, &[scores]).unwrap();
    let product = Op::MatMul { transposed: false };
    let y = graph.push("", product, &[weights, *v]).unwrap();
    let norm = Op::Normalise {
        axes: vec![2],
        groups: None,
        centred: true,
        epsilon: 1e-5,
    };
    let y = graph.push("", norm, &[y]).unwrap();
    let first = Op::Slice {
        axis: 1,
        start: 0,
        step: 1,
        count: 1,
    };
    let y = graph.push("", first, &[y]).unwrap();
    let y = graph
        .push("", Op::Reshape { shape: vec![1, 4] }, &[y])
        .unwrap();
    let w = graph.param("head.weight", &[2, 4]).unwrap();
    let b = graph.param("head.bias", &[2]).unwrap();
    let op = Op::MatMul { transposed: true };
    let y = graph.layer(op, y, w, Some(b)).unwrap();
    graph.output(y);
    graph
}

/// Places in a table that several read.
fn of_places() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input(&[1, 3]).unwrap();
    let table = graph.param("table", &[7, 4]).unwrap();
    let op = Op::Gather {
        axis: 0,
        shape: vec![1, 3, 4],
    };
    let y = graph.push("embedding", op, &[table, x]).unwrap();
    let sum = Op::Reduce {
        reduction: Reduction::Sum,
        axes: vec![1],
        keep: false,
    };
    let y = graph.push("", sum, &[y]).unwrap();
    let y = graph
        .push("tied", Op::MatMul { transposed: true }, &[y, table])
        .unwrap();
    graph.output(y);
    graph
}

#[test]
fn examples_of_a_batch_do_not_meet() {
    for (graph, numbers) in [
        (of_maps(), Distribution::Normal(0.0, 1.0)),
        (of_sequences(), Distribution::Normal(0.0, 1.0)),
        (of_places(), Distribution::Uniform(0.0, 7.0)),
    ] {
        let net = made(&graph).valid();
        let x = Tensor::<2>::random([3, net.features()], numbers, &Device::flex());
        let whole = net.forward(x.clone());
        for at in 0..3 {
            let alone = net.forward(x.clone().slice(at..at + 1));
            let apart = (whole.clone().slice(at..at + 1) - alone).abs().max();
            assert!(apart.into_scalar::<f32>() < 1e-5);
        }
    }
}

#[test]
fn all_weights_of_all_kinds_of_layers_learn() {
    for graph in [of_maps(), of_sequences(), of_places()] {
        let net = made(&graph);
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::random(
            [4, net.features()],
            Distribution::Uniform(0.1, 6.9),
            &device,
        );
        let grads = net.forward(x).square().mean().backward();
        let grads = burn::optim::GradientsParams::from_grads(grads, &net);
        let statistics = super::statistics(&graph).iter().filter(|is| **is).count();
        assert_eq!(grads.len(), graph.params().len() - statistics);
        same_classes(&graph, "a graph");
    }
}

#[test]
fn what_cannot_be_trained_is_named() {
    let build = |build: &dyn Fn(&mut Graph, Value) -> Value| {
        let mut graph = Graph::new();
        let x = graph.input(&[1, 3, 2]).unwrap();
        let y = build(&mut graph, x);
        graph.output(y);
        format!("{:#}", Plan::new(&graph).unwrap_err())
    };
    let opaque = Op::Opaque {
        kind: "Erf".into(),
        shape: vec![1, 3],
    };
    for (op, says) in [
        (opaque, ["`odd`, a `Erf`", "nothing is known"]),
        (
            Op::Resample {
                kind: "resize".into(),
                shape: vec![1, 3, 4],
            },
            ["`odd`, a `resize`", "adaptive pooling"],
        ),
        (
            Op::Transpose {
                order: vec![1, 0, 2],
            },
            ["`odd`, a `transpose`", "the batch"],
        ),
        (Op::Softmax { axis: 0 }, ["`odd`, a `softmax`", "axis 0"]),
        (
            Op::Reshape { shape: vec![6] },
            ["`odd`, a `reshape`", "first axis"],
        ),
    ] {
        let error = build(&|graph, x| graph.push("odd", op.clone(), &[x]).unwrap());
        // an output of another shape is refused before
        if !error.contains("output has shape") {
            assert!(says.iter().all(|says| error.contains(says)), "{error}");
        }
        let error = build(&|graph, x| {
            let y = graph.push("odd", op.clone(), &[x]).unwrap();
            let flat = graph.node(y).shape.iter().product();
            graph
                .push(
                    "",
                    Op::Reshape {
                        shape: vec![1, flat],
                    },
                    &[y],
                )
                .unwrap()
        });
        assert!(says.iter().all(|says| error.contains(says)), "{error}");
    }
    let error = build(&|graph, x| {
        let two = graph
            .push("two", Op::Constant { shape: vec![1] }, &[])
            .unwrap();
        let y = graph.push("", Op::Mul, &[x, two]).unwrap();
        graph.flatten(y).unwrap()
    });
    assert!(
        error.contains("`two`, a `constant`") && error.contains("not in the graph"),
        "{error}"
    );
    let error = build(&|_, x| x);
    assert!(error.contains("flatten"), "{error}");
}
