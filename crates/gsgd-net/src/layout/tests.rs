//! Every graph that can be written is read as it was.

use gsgd_core::graph::{Activation, Function, Graph, Op, Pooling, Reduction, Value, Window};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{parse_alone, write};
use crate::architecture::Architecture;
use crate::image::ImageShape;

/// The operations with what they read, parameters by their names.
fn operations(graph: &Graph) -> Vec<String> {
    let op = |value: Value| match &graph.node(value).op {
        Op::Param(key) => format!("param {:?}", graph.tensor(*key).map(|param| &param.name)),
        op => format!("{op:?}"),
    };
    let values = graph.values();
    let mut all: Vec<String> = values
        .map(|value| {
            let node = graph.node(value);
            format!("{} {:?} {:?}", op(value), node.reads, node.shape)
        })
        .collect();
    all.push(format!("{:?}", graph.outputs()));
    all
}

fn goes_round(graph: &Graph) -> String {
    let text = write(graph).unwrap();
    let read = parse_alone(&text, None).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    assert_eq!(operations(&read), operations(graph), "{text}");
    text
}

#[test]
fn architectures_go_round() {
    for (arch, bias, norm) in [
        ("mlp:12-5-4-3", false, false),
        ("mlp:12-5-4-3", true, false),
        ("plain:8", true, false),
        ("plain:14", false, true),
        ("resnet:20", false, true),
        ("resnet34", false, false),
    ] {
        let shape = ImageShape {
            channels: 3,
            height: 8,
            width: 8,
        };
        let graph = Architecture {
            arch: arch.parse().unwrap(),
            bias,
            norm,
            shape,
            classes: 10,
        };
        let text = goes_round(&graph.graph().unwrap());
        assert!(!text.contains("\"param\""), "{text}");
        if arch == "mlp:12-5-4-3" {
            assert!(!text.contains("from"), "{text}");
        }
    }
}

/// A random operation on random values so far, perhaps one that does not fit.
fn random_op(graph: &mut Graph, rng: &mut ChaCha8Rng, values: &[Value]) -> Option<Value> {
    let mut pick = || values[rng.random_range(0..values.len())];
    let (x, y) = (pick(), pick());
    let shape = graph.node(x).shape.clone();
    let rank = shape.len();
    let axis = rng.random_range(0..rank);
    let space = rank.saturating_sub(2);
    let mut window = Window::new(&vec![rng.random_range(1..4); space]);
    window.stride = (0..space).map(|_| rng.random_range(1..3)).collect();
    window.dilation = vec![rng.random_range(1..3); space];
    let pads = [rng.random_range(0..3), rng.random_range(0..3)];
    window.padding = vec![pads; space];
    let number = rng.random_range(0..1000);
    let name = match rng.random_range(0..4) {
        0 => String::new(),
        1 => "again".into(),
        2 => format!("#{}", number % 9),
        _ => format!("node{number}"),
    };
    let param = |graph: &mut Graph, leaf: &str, shape: &[usize]| {
        graph.param(&format!("{name}.{number}.{leaf}"), shape).ok()
    };
    let channels = shape.get(1).copied().unwrap_or(1);
    let last = shape[rank - 1];
    let size: usize = shape.iter().product();
    let functions = [
        Function::Sigmoid,
        Function::Tanh,
        Function::Gelu,
        Function::Silu,
        Function::Relu6,
        Function::HardSigmoid,
        Function::HardSwish,
    ];
    let reductions = [
        Reduction::Max,
        Reduction::Min,
        Reduction::Mean,
        Reduction::Sum,
    ];
    let some = rng.random_bool(0.5);
    let which = rng.random_range(0..33);
    if (2..=4).contains(&which) && !(1..=3).contains(&space) {
        return None;
    }
    let (op, reads) = match which {
        0 => {
            let w = param(graph, "weight", &[4, last])?;
            let mut reads = vec![x, w];
            if some {
                reads.push(param(graph, "bias", &[4])?);
            }
            (Op::MatMul { transposed: true }, reads)
        }
        1 => {
            let w = param(graph, "kernel", &[last, 3])?;
            (Op::MatMul { transposed: false }, vec![x, w])
        }
        2 | 3 => {
            let leaf = if some { "weight" } else { "other" };
            let w = param(graph, leaf, &[&[6, channels], &window.kernel[..]].concat())?;
            let mut reads = vec![x, w];
            if some {
                reads.push(param(graph, "bias", &[6])?);
            }
            (Op::Conv { window, groups: 1 }, reads)
        }
        4 => {
            let w = param(
                graph,
                "weight",
                &[&[channels, 2], &window.kernel[..]].concat(),
            )?;
            let op = Op::ConvTranspose {
                output_padding: vec![usize::from(some); space],
                window,
                groups: 1,
            };
            (op, vec![x, w])
        }
        5 => {
            let mut reads = vec![x];
            for leaf in ["weight", "bias", "running_mean", "running_var"] {
                reads.push(param(graph, leaf, &[channels])?);
            }
            let epsilon = if some { 1e-5 } else { 1e-3 };
            (Op::BatchNorm { epsilon }, reads)
        }
        6 => (Op::Activation(Activation::Relu), vec![x]),
        7 => (Op::Activation(Activation::LeakyRelu(0.2)), vec![x]),
        8 => (Op::Activation(Activation::Abs), vec![x]),
        9 => (Op::Activation(Activation::Neg), vec![x]),
        10 => (Op::Prelu, vec![x, param(graph, "weight", &[channels])?]),
        11 | 12 => {
            let pooling = match rng.random_range(0..3) {
                0 => Pooling::Max,
                which => Pooling::Mean {
                    counts_padding: which == 1,
                },
            };
            window.ceil = some;
            (Op::Pool { pooling, window }, vec![x])
        }
        13 => {
            let op = Op::Reduce {
                reduction: reductions[rng.random_range(0..4)],
                axes: match some {
                    true => (2..rank).collect(),
                    false => vec![axis],
                },
                keep: rng.random_bool(0.5),
            };
            (op, vec![x])
        }
        14 => {
            let shape = vec![2; rank];
            let kind = "adaptive pooling".into();
            (Op::Resample { kind, shape }, vec![x])
        }
        15 => (Op::Add, vec![x, y]),
        16 => (Op::Sub, vec![x, y]),
        17 => (Op::Mul, vec![x, y]),
        18 => (Op::Div, vec![x, y]),
        19 => (Op::Concat { axis }, vec![x, y]),
        20 => {
            let op = Op::Slice {
                axis,
                start: shape[axis] - 1,
                step: -1,
                count: shape[axis],
            };
            (op, vec![x])
        }
        21 => (
            Op::Slice {
                axis,
                start: 0,
                step: 1,
                count: 1,
            },
            vec![x],
        ),
        22 => {
            let places = vec![0, shape[axis] - 1];
            (Op::Select { axis, places }, vec![x])
        }
        23 => {
            let table = param(graph, "table", &[5, 3])?;
            let shape = [&shape[..], &[3]].concat();
            (Op::Gather { axis: 0, shape }, vec![table, x])
        }
        24 => (
            Op::Reshape {
                shape: vec![1, size],
            },
            vec![x],
        ),
        25 => (
            Op::Reshape {
                shape: vec![size, 1],
            },
            vec![x],
        ),
        26 => (
            Op::Transpose {
                order: (0..rank).rev().collect(),
            },
            vec![x],
        ),
        27 => {
            let shape = [&[2], &shape[..]].concat();
            (Op::Expand { shape }, vec![x])
        }
        28 => (Op::Identity, vec![x]),
        29 => (Op::Function(functions[rng.random_range(0..7)]), vec![x]),
        30 => (Op::Softmax { axis }, vec![x]),
        31 => {
            let op = Op::Normalise {
                axes: vec![axis],
                groups: some.then_some(1),
                centred: rng.random_bool(0.5),
                epsilon: 1e-6,
            };
            (op, vec![x])
        }
        _ => (Op::Constant { shape: vec![1, 3] }, vec![]),
    };
    graph.push(name, op, &reads).ok()
}

#[test]
fn random_graphs_go_round() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..400 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut graph = Graph::new();
        let inputs: [&[usize]; 4] = [&[1, 3, 6, 6], &[1, 4], &[1, 2, 9], &[1, 2, 4, 4, 4]];
        let mut values = vec![graph.input(inputs[seed as usize % 4]).unwrap()];
        for _ in 0..60 {
            if values.len() > 12 {
                break;
            }
            if let Some(value) = random_op(&mut graph, &mut rng, &values) {
                seen.insert(std::mem::discriminant(&graph.node(value).op));
                values.push(value);
            }
        }
        graph.output(values[values.len() - 1]);
        if seed % 3 == 0 {
            graph.output(values[values.len() / 2]);
        }
        goes_round(&graph);
    }
    // all but `Input`, `Param` and `Opaque`
    assert_eq!(seen.len(), 25);
}

#[test]
fn what_cannot_be_said_is_named() {
    let mut graph = Graph::new();
    let x = graph.input(&[1, 3]).unwrap();
    let op = Op::Opaque {
        kind: "Erf".into(),
        shape: vec![1, 3],
    };
    let y = graph.push("odd", op, &[x]).unwrap();
    graph.output(y);
    let error = write(&graph).unwrap_err().to_string();
    assert!(error.contains("Erf") && error.contains("odd"), "{error}");
    for shape in [&[2, 3], &[4, 3]] {
        let mut graph = Graph::new();
        let x = graph.input(shape).unwrap();
        graph.output(x);
        assert!(
            write(&graph)
                .unwrap_err()
                .to_string()
                .contains("batch of 1")
        );
    }
}

#[test]
fn sizes_are_said_where_there_are_no_tensors() {
    let text = "[[layers]]\nkind = \"conv\"\noutputs = 4\nsize = 3\npadding = 1\n[[layers]]\nkind = \"relu\"\n\
                [[layers]]\nkind = \"flatten\"\n[[layers]]\nname = \"fc\"\nkind = \"linear\"\noutputs = 2\nbias = false\n";
    let graph = parse_alone(text, Some(&[1, 5, 5])).unwrap();
    let names: Vec<&str> = graph
        .params()
        .iter()
        .map(|param| param.name.as_str())
        .collect();
    assert_eq!(names, ["#1.weight", "#1.bias", "fc.weight"]);
    assert_eq!(graph.params()[2].shape, [2, 100]);
    for (from, to, says) in [
        ("outputs = 4\n", "", "`outputs` and `size`"),
        ("outputs = 2\n", "", "`outputs`"),
        ("size = 3\n", "size = [3, 3, 3]\n", "2 axes of space"),
        ("bias = false", "bias = 0", "expected a boolean"),
        ("\"relu\"", "\"rely\"", "rely"),
    ] {
        let error = parse_alone(&text.replace(from, to), Some(&[1, 5, 5])).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
    let error = parse_alone(text, None).unwrap_err();
    assert!(error.to_string().contains("`input`"), "{error}");
}
