//! A graph that is written as a file and read again is the same network.

mod onnx_common;

use gsgd_core::graph::{Activation, Function, Graph, Op, Pooling, Reduction, Value, Window};
use gsgd_core::scales::ParamKey;
use gsgd_net::onnx::proto::*;
use gsgd_net::onnx::{Number, OnnxError, OnnxFile, ReadOptions, export};
use onnx_common::forward::{self, Array};
use prost::Message;

/// Values that have few bits.
fn values(graph: &Graph, key: ParamKey) -> Vec<f64> {
    let shape = &graph.tensor(key).unwrap().shape;
    let count = shape.iter().product::<usize>();
    (0..count)
        .map(|at| ((at as u64 * 7 + key.0 * 3) % 11 + 1) as f64 / 8.0)
        .collect()
}

fn written(graph: &Graph) -> OnnxFile {
    let file = export(graph, |key| values(graph, key), Number::Float32).unwrap();
    let bytes = file.model().encode_to_vec();
    OnnxFile::from_bytes(bytes, ".").unwrap()
}

/// Writes and reads a graph: the same classes and the same outputs.
fn check(graph: &Graph) {
    let file = written(graph);
    let network = file.read(&ReadOptions::default()).unwrap();
    assert!(network.notes.is_empty(), "{:?}", network.notes);
    let [before, after] =
        [graph, &network.graph].map(|graph| graph.scales(Default::default()).unwrap());
    assert_eq!(
        (before.hidden(), before.weights()),
        (after.hidden(), after.weights())
    );
    let shapes = |graph: &Graph| -> Vec<Vec<usize>> {
        let outputs = graph.outputs().iter();
        outputs
            .map(|&value| graph.node(value).shape.clone())
            .collect()
    };
    assert_eq!(shapes(graph), shapes(&network.graph));
    // functions and constants are stood in for where outputs are computed
    let plain = |node: &gsgd_core::graph::Node| {
        !matches!(
            node.op,
            Op::Function(_) | Op::Normalise { .. } | Op::Div | Op::BatchNorm { .. }
        )
    };
    if graph.nodes().iter().all(plain) {
        let outputs = |graph: &Graph, params| {
            let inputs = graph.nodes().iter();
            let inputs: Vec<Array> = inputs
                .filter(|node| matches!(node.op, Op::Input { .. }))
                .map(|node| {
                    Array::from_fn(&node.shape, |index| {
                        index.iter().sum::<usize>() as f64 / 4.0
                    })
                })
                .collect();
            forward::outputs(graph, &params, &inputs)
        };
        let params = graph.params().iter();
        let own = params.map(|param| {
            let array = Array {
                shape: param.shape.clone(),
                data: values(graph, param.key),
            };
            (param.key, array)
        });
        let read = onnx_common::params(&file, &network);
        assert_eq!(outputs(graph, own.collect()), outputs(&network.graph, read));
    }
}

fn conv(kernel: usize) -> Op {
    Op::Conv {
        window: Window::new(&[kernel, kernel]).with_padding(&[kernel / 2; 2]),
        groups: 1,
    }
}

/// A graph with this between two convolutions of 4 channels.
fn between(make: impl FnOnce(&mut Graph, Value) -> Value) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input(&[1, 3, 4, 4]).unwrap();
    let [w, b] = [
        graph.param("first.weight", &[4, 3, 3, 3]).unwrap(),
        graph.param("first.bias", &[4]).unwrap(),
    ];
    let y = graph.layer(conv(3), x, w, Some(b)).unwrap();
    let y = graph.relu(y).unwrap();
    let y = make(&mut graph, y);
    let channels = graph.node(y).shape[1];
    let w = graph.param("last.weight", &[2, channels, 1, 1]).unwrap();
    let y = graph.layer(conv(1), y, w, None).unwrap();
    graph.output(y);
    graph
}

#[test]
fn operations_come_back() {
    let window = || Window::new(&[2, 2]).with_stride(&[2, 2]);
    let one = [
        Op::Identity,
        Op::Activation(Activation::LeakyRelu(0.125)),
        Op::Activation(Activation::Abs),
        Op::Activation(Activation::Neg),
        Op::Pool {
            pooling: Pooling::Max,
            window: Window {
                ceil: true,
                ..window()
            },
        },
        Op::Pool {
            pooling: Pooling::Mean {
                counts_padding: true,
            },
            window: window().with_padding(&[1, 1]),
        },
        Op::Slice {
            axis: 1,
            start: 3,
            step: -1,
            count: 4,
        },
        Op::Slice {
            axis: 2,
            start: 0,
            step: 2,
            count: 2,
        },
        Op::Select {
            axis: 1,
            places: vec![2, 0, 1, 3, 2],
        },
        Op::Function(Function::Sigmoid),
        Op::Function(Function::Tanh),
        Op::Function(Function::Relu6),
        Op::Function(Function::HardSigmoid),
        Op::Function(Function::HardSwish),
        Op::Function(Function::Silu),
        Op::Function(Function::Gelu),
        Op::Softmax { axis: 1 },
    ];
    for op in one {
        check(&between(|graph, x| graph.push("", op, &[x]).unwrap()));
    }
    for reduction in [
        Reduction::Max,
        Reduction::Min,
        Reduction::Mean,
        Reduction::Sum,
    ] {
        let op = Op::Reduce {
            reduction,
            axes: vec![2, 3],
            keep: true,
        };
        check(&between(|graph, x| graph.push("", op, &[x]).unwrap()));
    }
    for (axes, groups) in [
        (vec![1, 2, 3], None),
        (vec![2, 3], None),
        (vec![2, 3], Some(2)),
    ] {
        let op = Op::Normalise {
            axes,
            groups,
            centred: groups.is_some(),
            epsilon: 1e-5,
        };
        check(&between(|graph, x| {
            let y = graph.push("", op, &[x]).unwrap();
            let gain = graph.param("gain", &[4, 1, 1]).unwrap();
            graph.push("", Op::Mul, &[y, gain]).unwrap()
        }));
    }
    check(&between(|graph, x| {
        let tensors = ["gamma", "beta", "mean", "variance"];
        let tensors = tensors.map(|name| graph.param(name, &[4]).unwrap());
        graph.batch_norm(x, tensors, 1e-5).unwrap()
    }));
    check(&between(|graph, x| {
        let slopes = graph.param("slopes", &[4]).unwrap();
        graph.push("", Op::Prelu, &[x, slopes]).unwrap()
    }));
    check(&between(|graph, x| {
        let w = graph.param("up", &[4, 3, 2, 2]).unwrap();
        let op = Op::ConvTranspose {
            window: window(),
            groups: 2,
            output_padding: vec![1, 0],
        };
        let y = graph.layer(op, x, w, None).unwrap();
        let more = graph.param("more", &[6, 1, 1]).unwrap();
        graph.add(y, more).unwrap()
    }));
    // a shuffle, a sum of three, and values side by side
    check(&between(|graph, x| {
        let shape = vec![1, 2, 2, 4, 4];
        let y = graph.push("", Op::Reshape { shape }, &[x]).unwrap();
        let order = vec![0, 2, 1, 3, 4];
        let y = graph.push("", Op::Transpose { order }, &[y]).unwrap();
        let shape = vec![1, 4, 4, 4];
        let y = graph.push("", Op::Reshape { shape }, &[y]).unwrap();
        let sum = graph.push("", Op::Add, &[x, y, x]).unwrap();
        let less = graph.push("", Op::Sub, &[sum, x]).unwrap();
        graph.concat(&[less, y], 1).unwrap()
    }));
}

#[test]
fn matrices_come_back() {
    for transposed in [false, true] {
        let mut graph = Graph::new();
        let x = graph.input(&[1, 5, 6]).unwrap();
        let op = || Op::MatMul { transposed };
        let w = graph.param("w", &[6, 6]).unwrap();
        let b = graph.param("b", &[6]).unwrap();
        let y = graph.layer(op(), x, w, Some(b)).unwrap();
        let y = graph.relu(y).unwrap();
        let scores = graph
            .push("", Op::MatMul { transposed: true }, &[y, y])
            .unwrap();
        let scores = graph.push("", Op::Softmax { axis: 2 }, &[scores]).unwrap();
        let w = graph.param("v", &[6, 6]).unwrap();
        let v = graph.layer(op(), x, w, None).unwrap();
        let y = graph
            .push("", Op::MatMul { transposed: false }, &[scores, v])
            .unwrap();
        let y = graph.flatten(y).unwrap();
        let w = graph.param("out", &[30, 30]).unwrap();
        let y = graph.layer(op(), y, w, None).unwrap();
        graph.output(y);
        check(&graph);
    }
    // an embedding: its places are whole numbers
    let mut graph = Graph::new();
    let places = graph.input(&[1, 7]).unwrap();
    let table = graph.param("table", &[11, 6]).unwrap();
    let op = Op::Gather {
        axis: 0,
        shape: vec![1, 7, 6],
    };
    let y = graph.push("", op, &[table, places]).unwrap();
    let y = graph.relu(y).unwrap();
    let w = graph.param("w", &[6, 3]).unwrap();
    let y = graph.dense(y, w, None).unwrap();
    graph.output(y);
    check(&graph);
    let file = written(&graph);
    let input = &file.model().graph.as_ref().unwrap().input[0];
    match input.r#type.as_ref().unwrap().value.as_ref().unwrap() {
        TypeValue::TensorType(tensor) => assert_eq!(tensor.elem_type, Some(data_type::INT64)),
        other => panic!("{other:?}"),
    }
}

/// Whether a batch of any size may be given.
fn is_dynamic(graph: &Graph) -> bool {
    let file = written(graph);
    let input = &file.model().graph.as_ref().unwrap().input[0];
    match input.r#type.as_ref().unwrap().value.as_ref().unwrap() {
        TypeValue::TensorType(tensor) => matches!(
            tensor.shape.as_ref().unwrap().dim[0].value,
            Some(DimensionValue::DimParam(_))
        ),
        _ => false,
    }
}

#[test]
fn the_batch_may_have_any_size_where_operations_allow_it() {
    let reshaped = |shapes: &[&[usize]]| {
        between(|graph, x| {
            shapes.iter().fold(x, |x, shape| {
                let shape = shape.to_vec();
                graph.push("", Op::Reshape { shape }, &[x]).unwrap()
            })
        })
    };
    assert!(is_dynamic(&reshaped(&[&[1, 64], &[1, 4, 4, 4]])));
    // behind the places, and back
    let turned = between(|graph, x| {
        let order = vec![2, 3, 0, 1];
        let x = graph
            .push(
                "",
                Op::Transpose {
                    order: order.clone(),
                },
                &[x],
            )
            .unwrap();
        graph.push("", Op::Transpose { order }, &[x]).unwrap()
    });
    assert!(is_dynamic(&turned));
    // a token that is put before others of one example
    let token = between(|graph, x| {
        let token = graph.param("token", &[1, 4, 1, 4]).unwrap();
        graph.concat(&[token, x], 2).unwrap()
    });
    assert!(!is_dynamic(&token));
    // a mean over the batch
    let mean = between(|graph, x| {
        let op = Op::Reduce {
            reduction: Reduction::Mean,
            axes: vec![0],
            keep: true,
        };
        graph.push("", op, &[x]).unwrap()
    });
    assert!(!is_dynamic(&mean));
}

#[test]
fn what_has_no_counterpart_is_named() {
    let error = |op: Op, reads: bool| {
        let graph = between(|graph, x| {
            let reads: Vec<Value> = reads.then_some(x).into_iter().collect();
            let y = graph.push("odd one", op, &reads).unwrap();
            graph.push("", Op::Mul, &[x, y]).unwrap()
        });
        let values = |key| values(&graph, key);
        match export(&graph, values, Number::Float32).map(|_| ()) {
            Err(OnnxError::Export {
                name, operation, ..
            }) => format!("{operation} {name}"),
            other => panic!("{other:?}"),
        }
    };
    let shape = || vec![1, 4, 4, 4];
    let kind = || "fft".to_string();
    assert_eq!(
        error(
            Op::Opaque {
                kind: kind(),
                shape: shape()
            },
            true
        ),
        "fft odd one"
    );
    assert_eq!(
        error(
            Op::Resample {
                kind: "resize".into(),
                shape: shape()
            },
            true
        ),
        "resize odd one"
    );
    assert_eq!(
        error(Op::Constant { shape: vec![1] }, false),
        "constant odd one"
    );
    // values of another length, or too large
    let graph = between(|_, x| x);
    let short = export(&graph, |_| vec![1.0], Number::Float32);
    assert!(matches!(short, Err(OnnxError::Count { .. })));
    let large = export(
        &graph,
        |key| vec![1e6; values(&graph, key).len()],
        Number::Float16,
    );
    assert!(matches!(large, Err(OnnxError::TooLarge { .. })));
}
