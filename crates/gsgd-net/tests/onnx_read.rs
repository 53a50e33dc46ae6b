//! ONNX files are read into graphs with as many classes as the mathematics allows.

mod onnx_common;

use std::collections::BTreeMap;

use gsgd_core::graph::Op;
use gsgd_net::onnx::proto::*;
use gsgd_net::onnx::{OnnxError, ReadOptions};
use onnx_common::*;

/// Maps of 4 channels, 4 x 4, behind a convolution: `h`.
fn maps(opset: i64) -> File {
    File::new(opset)
        .input("x", &[1, 3, 4, 4])
        .tensor("w1", &[4, 3, 3, 3])
        .tensor("b1", &[4])
        .node("Conv", &["x", "w1", "b1"], "c", &[ints("pads", &[1; 4])])
        .node("Relu", &["c"], "h", &[])
}

/// A convolution of `y` with so many channels to two outputs.
fn end(file: File, channels: i64) -> File {
    file.tensor("w2", &[2, channels, 1, 1])
        .tensor("b2", &[2])
        .node("Conv", &["y", "w2", "b2"], "out", &[])
        .output("out")
}

/// Hidden classes with this between `h` and `y`, which has 4 channels.
fn hidden(opset: i64, between: impl FnOnce(File) -> File) -> usize {
    check(&end(between(maps(opset)), 4))
}

#[test]
fn operations_that_classes_go_through() {
    let one = |op: &str, attributes: &[AttributeProto]| {
        hidden(13, |file| file.node(op, &["h"], "y", attributes))
    };
    for op in [
        "Identity",
        "Dropout",
        "Relu",
        "Abs",
        "Neg",
        "GlobalAveragePool",
        "GlobalMaxPool",
    ] {
        assert_eq!(one(op, &[]), 4, "{op}");
    }
    assert_eq!(one("LeakyRelu", &[float("alpha", 0.25)]), 4);
    assert_eq!(one("Cast", &[int("to", 10)]), 4);
    let window = [ints("kernel_shape", &[2, 2])];
    assert_eq!(one("MaxPool", &window), 4);
    assert_eq!(one("AveragePool", &window), 4);
    assert_eq!(
        one(
            "MaxPool",
            &[window[0].clone(), text("auto_pad", "SAME_UPPER")]
        ),
        4
    );
    assert_eq!(one("ReduceMean", &[ints("axes", &[-1, -2])]), 4);
    assert_eq!(
        one("ReduceMax", &[ints("axes", &[2, 3]), int("keepdims", 1)]),
        4
    );
    // functions that are not homogeneous
    for op in [
        "Sigmoid",
        "Tanh",
        "Elu",
        "Softplus",
        "Erf",
        "Exp",
        "HardSwish",
        "Mish",
        "LRN",
    ] {
        assert_eq!(one(op, &[]), 0, "{op}");
    }
    assert_eq!(one("Cast", &[int("to", 7)]), 0);
    assert_eq!(one("Softmax", &[int("axis", 1)]), 0);
}

#[test]
fn bounds_at_zero_are_relus() {
    let two = |op: &str, bounds: &[f32]| {
        hidden(13, |mut file| {
            let mut reads = vec!["h".to_string()];
            for (at, &bound) in bounds.iter().enumerate() {
                file = file.single(&format!("bound{at}"), bound);
                reads.push(format!("bound{at}"));
            }
            let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
            file.node(op, &reads, "y", &[])
        })
    };
    assert_eq!(two("Clip", &[0.0]), 4);
    assert_eq!(two("Clip", &[0.0, f32::MAX]), 4);
    assert_eq!(two("Clip", &[f32::MIN, 0.0]), 4);
    assert_eq!(two("Clip", &[0.0, 6.0]), 0);
    assert_eq!(two("Max", &[0.0]), 4);
    assert_eq!(two("Min", &[0.0]), 4);
    assert_eq!(two("Max", &[1.0]), 0);
    let old = hidden(6, |file| {
        file.node("Clip", &["h"], "y", &[float("min", 0.0)])
    });
    assert_eq!(old, 4);
    // the larger of two values: their classes are one
    let larger = hidden(13, |file| {
        file.tensor("w3", &[4, 3, 1, 1])
            .node("Conv", &["x", "w3"], "z", &[])
            .node("Max", &["h", "z"], "y", &[])
    });
    assert_eq!(larger, 4);
}

#[test]
fn shapes_are_computed() {
    // a channel shuffle whose sizes come of `Shape`, and a flattening
    let shuffle = |opset: i64, axes_are_input: bool| {
        let unsqueeze = |file: File, from: &str, to: &str| match axes_are_input {
            true => file.node("Unsqueeze", &[from, "zero"], to, &[]),
            false => file.node("Unsqueeze", &[from], to, &[ints("axes", &[0])]),
        };
        hidden(opset, |file| {
            let mut file = file
                .whole("zero", &[0])
                .whole("places", &[0, 1, 2, 3])
                .node("Shape", &["h"], "shape", &[]);
            for at in 0..4 {
                let value = TensorProto {
                    dims: Vec::new(),
                    ..wholes("", &[at])
                };
                file = file
                    .node("Constant", &[], &format!("at{at}"), &[value_tensor(value)])
                    .node(
                        "Gather",
                        &["shape", &format!("at{at}")],
                        &format!("s{at}"),
                        &[],
                    );
            }
            let two = TensorProto {
                dims: Vec::new(),
                ..wholes("", &[2])
            };
            file = file
                .node("Constant", &[], "two", &[value_tensor(two)])
                .node("Div", &["s1", "two"], "half", &[])
                .node("Cast", &["half"], "half7", &[int("to", 7)]);
            for (from, to) in [
                ("s0", "u0"),
                ("s2", "u2"),
                ("s3", "u3"),
                ("half7", "uh"),
                ("two", "ug"),
            ] {
                file = unsqueeze(file, from, to);
            }
            file.node(
                "Concat",
                &["u0", "ug", "uh", "u2", "u3"],
                "cut",
                &[int("axis", 0)],
            )
            .node("Reshape", &["h", "cut"], "r", &[])
            .node("Transpose", &["r"], "t", &[ints("perm", &[0, 2, 1, 3, 4])])
            .node("Reshape", &["t", "shape"], "y", &[])
        })
    };
    assert_eq!(shuffle(11, false), 4);
    assert_eq!(shuffle(13, true), 4);
    let flat = |op: fn(File) -> File| {
        let file = op(maps(13))
            .tensor("w2", &[64, 2])
            .node("MatMul", &["y", "w2"], "out", &[])
            .output("out");
        check(&file)
    };
    assert_eq!(flat(|file| file.node("Flatten", &["h"], "y", &[])), 4);
    assert_eq!(
        flat(|file| file
            .whole("to", &[0, -1])
            .node("Reshape", &["h", "to"], "y", &[])),
        4
    );
}

#[test]
fn parts_of_values_keep_their_channels() {
    let split = |opset: i64| {
        hidden(opset, |file| {
            let file = file.whole("sizes", &[1, 3]);
            let file = match opset {
                ..13 => file.nodes(
                    "Split",
                    &["h"],
                    &["a", "b"],
                    &[int("axis", 1), ints("split", &[1, 3])],
                ),
                _ => file.nodes("Split", &["h", "sizes"], &["a", "b"], &[int("axis", 1)]),
            };
            file.node("Concat", &["b", "a"], "y", &[int("axis", -3)])
        })
    };
    assert_eq!((split(11), split(13)), (4, 4));
    let halves = hidden(18, |file| {
        file.nodes(
            "Split",
            &["h"],
            &["a", "b"],
            &[int("axis", 1), int("num_outputs", 2)],
        )
        .node("Concat", &["b", "a"], "y", &[int("axis", 1)])
    });
    assert_eq!(halves, 4);
    let slice = hidden(13, |file| {
        file.whole("from", &[-1, 0])
            .whole("to", &[i64::MIN, i64::MAX])
            .whole("axes", &[1, 2])
            .whole("steps", &[-1, 2])
            .node("Slice", &["h", "from", "to", "axes", "steps"], "y", &[])
    });
    assert_eq!(slice, 4);
    let old = hidden(9, |file| {
        let attributes = [ints("starts", &[0]), ints("ends", &[2]), ints("axes", &[2])];
        file.node("Slice", &["h"], "y", &attributes)
    });
    assert_eq!(old, 4);
    let gather = hidden(13, |file| {
        file.whole("places", &[-1, 0, 1, 2]).node(
            "Gather",
            &["h", "places"],
            "y",
            &[int("axis", 1)],
        )
    });
    assert_eq!(gather, 4);
    let tiled = hidden(13, |file| {
        file.whole("times", &[1, 1, 2, 3])
            .node("Tile", &["h", "times"], "y", &[])
    });
    assert_eq!(tiled, 4);
    for mode in ["DCR", "CRD"] {
        let there_and_back = hidden(13, |file| {
            file.node("SpaceToDepth", &["h"], "deep", &[int("blocksize", 2)])
                .node(
                    "DepthToSpace",
                    &["deep"],
                    "y",
                    &[int("blocksize", 2), text("mode", mode)],
                )
        });
        // read in another order, channels are mixed: those of a convolution's input along one axis become one
        assert_eq!(there_and_back, if mode == "DCR" { 4 } else { 1 }, "{mode}");
    }
    for mode in ["constant", "reflect", "edge"] {
        let padded = hidden(13, |file| {
            file.whole("pads", &[0, 0, 1, 2, 0, 0, 0, 1]).node(
                "Pad",
                &["h", "pads"],
                "y",
                &[text("mode", mode)],
            )
        });
        assert_eq!(padded, 4, "{mode}");
    }
    let deeper =
        maps(13)
            .whole("pads", &[0, 1, 0, 0, 0, 2, 0, 0])
            .node("Pad", &["h", "pads"], "y", &[]);
    assert_eq!(check(&end(deeper, 7)), 4);
    let resized = hidden(13, |mut file| {
        file.graph()
            .initializer
            .push(floats("scales", &[4], &[1.0, 1.0, 2.0, 1.5]));
        file.node("Resize", &["h", "", "scales"], "y", &[])
    });
    assert_eq!(resized, 4);
    let old = hidden(9, |mut file| {
        file.graph()
            .initializer
            .push(floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]));
        file.node("Upsample", &["h", "scales"], "y", &[])
    });
    assert_eq!(old, 4);
}

#[test]
fn layers_in_all_their_forms() {
    let dense = |last: fn(File) -> File| {
        let file = File::new(13)
            .input("x", &[2, 3])
            .tensor("w1", &[3, 5])
            .tensor("b1", &[5])
            .node("Gemm", &["x", "w1", "b1"], "g", &[])
            .node("Relu", &["g"], "h", &[]);
        check(&last(file).output("out"))
    };
    let gemm = |b: &'static [i64], c: &'static [i64], attributes: Vec<AttributeProto>| {
        let file = File::new(13)
            .input("x", &[2, 3])
            .tensor("w1", &[3, 5])
            .node("MatMul", &["x", "w1"], "g", &[])
            .node("Relu", &["g"], "h", &[])
            .tensor("w2", b)
            .tensor("b2", c)
            .node("Gemm", &["h", "w2", "b2"], "i", &attributes)
            .node("Relu", &["i"], "j", &[])
            .tensor("w3", &[4, 2])
            .node("MatMul", &["j", "w3"], "out", &[])
            .output("out");
        check(&file)
    };
    assert_eq!(gemm(&[5, 4], &[4], vec![]), 9);
    assert_eq!(gemm(&[5, 4], &[1, 4], vec![]), 9);
    assert_eq!(gemm(&[4, 5], &[4], vec![int("transB", 1)]), 9);
    assert_eq!(
        gemm(&[5, 4], &[4], vec![float("alpha", 0.5), float("beta", 2.0)]),
        9
    );
    // one number for all channels
    assert_eq!(gemm(&[5, 4], &[], vec![]), 6);
    // a row for each of two examples
    assert_eq!(gemm(&[5, 4], &[2, 4], vec![]), 9);
    // weights in other shapes and types
    assert_eq!(
        dense(|file| {
            file.tensor("w2", &[1, 1, 2, 5])
                .whole("to", &[2, 5])
                .node("Reshape", &["w2", "to"], "r", &[])
                .node("Cast", &["r"], "rc", &[int("to", 10)])
                .node("Transpose", &["rc"], "t", &[])
                .node("MatMul", &["h", "t"], "out", &[])
        }),
        5
    );
    assert_eq!(
        dense(|file| {
            file.tensor("w2", &[5, 2])
                .tensor("b2", &[2])
                .node("MatMul", &["h", "w2"], "m", &[])
                .node("Add", &["b2", "m"], "out", &[])
        }),
        5
    );
    // a vector
    assert_eq!(
        dense(|file| file
            .tensor("w2", &[5])
            .node("MatMul", &["h", "w2"], "out", &[])),
        5
    );
    let transposed = hidden(13, |file| {
        let attributes = [
            ints("strides", &[2, 2]),
            ints("output_shape", &[7, 7]),
            int("group", 2),
        ];
        file.tensor("w3", &[4, 2, 3, 3]).tensor("b3", &[4]).node(
            "ConvTranspose",
            &["h", "w3", "b3"],
            "y",
            &attributes,
        )
    });
    assert_eq!(transposed, 8);
}

#[test]
fn norms_and_gates() {
    let norm = |file: File| {
        ["gamma", "beta", "mean", "variance"]
            .into_iter()
            .fold(file, |file, name| file.tensor(name, &[4]))
            .node(
                "BatchNormalization",
                &["h", "gamma", "beta", "mean", "variance"],
                "y",
                &[],
            )
    };
    assert_eq!(hidden(13, norm), 8);
    let scaled = |op: &'static str, opset: i64, attributes: &[AttributeProto], of: i64| {
        let attributes = attributes.to_vec();
        hidden(opset, |file| {
            file.tensor("gain", &[of]).tensor("shift", &[of]).node(
                op,
                &["h", "gain", "shift"],
                "y",
                &attributes,
            )
        })
    };
    assert_eq!(scaled("InstanceNormalization", 13, &[], 4), 4);
    assert_eq!(
        scaled("GroupNormalization", 21, &[int("num_groups", 2)], 4),
        4
    );
    // a gain for each group: its channels are one
    assert_eq!(
        scaled("GroupNormalization", 18, &[int("num_groups", 2)], 2),
        2
    );
    // the gain of a layer norm over the last axis is one for all channels
    assert_eq!(scaled("LayerNormalization", 17, &[int("axis", -1)], 4), 1);
    let gated = hidden(13, |file| {
        file.node("GlobalAveragePool", &["h"], "g", &[])
            .tensor("w3", &[4, 4, 1, 1])
            .node("Conv", &["g", "w3"], "s", &[])
            .node("Sigmoid", &["s"], "gate", &[])
            .node("Mul", &["h", "gate"], "y", &[])
    });
    assert_eq!(gated, 4);
}

#[test]
fn zeros_that_are_computed_are_no_bias() {
    let zero = floats("", &[], &[0.0]);
    let file = |value: f32| {
        let value = TensorProto {
            float_data: vec![value],
            ..zero.clone()
        };
        hidden(18, |file| {
            file.node("Constant", &[], "zero", &[value_tensor(value)])
                .node("CastLike", &["zero", "h"], "like", &[])
                .whole("size", &[4])
                .node("Expand", &["like", "size"], "bias", &[])
                .tensor("w3", &[4, 4, 1, 1])
                .node("Conv", &["h", "w3", "bias"], "y", &[])
        })
    };
    assert_eq!(file(0.0), 8);
    // others can be written as a tensor
    assert_eq!(file(1.0), 8);
    let filled = hidden(13, |file| {
        file.whole("size", &[4, 4, 1, 1])
            .node(
                "ConstantOfShape",
                &["size"],
                "w3",
                &[value_tensor(floats("", &[1], &[0.5]))],
            )
            .node("Conv", &["h", "w3"], "y", &[])
    });
    assert_eq!(filled, 8);
}

#[test]
fn shared_slopes_stay() {
    let file = end(
        maps(13)
            .tensor("slope", &[1])
            .node("PRelu", &["h", "slope"], "p", &[])
            .tensor("w3", &[4, 4, 1, 1])
            .node("Conv", &["p", "w3"], "q", &[])
            .node("PRelu", &["q", "slope"], "y", &[]),
        4,
    );
    assert_eq!(check(&file), 8);
    let slopes = file
        .read()
        .params
        .iter()
        .filter(|param| param.name == "slope")
        .count();
    assert_eq!(slopes, 1);
}

#[test]
fn what_is_not_known_is_opaque() {
    let odd = |op: &'static str| {
        let file = end(maps(13).node(op, &["h"], "y", &[]), 4);
        let network = file.read();
        let scales = network.graph.scales(Default::default()).unwrap();
        (scales.hidden(), network.notes.len())
    };
    // without a shape, whatever reads it is unknown too
    assert_eq!(odd("Unheard"), (0, 2));
    // with a shape, what follows is known
    let mut file = end(
        maps(13)
            .node("Unheard", &["h"], "y1", &[])
            .tensor("w3", &[4, 4, 1, 1])
            .node("Conv", &["y1", "w3"], "y", &[]),
        4,
    );
    let sizes = [Ok(1), Ok(4), Ok(4), Ok(4)];
    file.graph()
        .value_info
        .push(info("y1", data_type::FLOAT, &sizes));
    assert_eq!(file.scales().hidden(), 4);
    // sizes of no value and no name are unknown, not none
    let mut unsaid = info("y1", data_type::FLOAT, &sizes);
    if let Some(TypeValue::TensorType(tensor)) = unsaid.r#type.as_mut().unwrap().value.as_mut() {
        tensor.shape.as_mut().unwrap().dim[2].value = None;
    }
    file.graph().value_info = vec![unsaid];
    assert_eq!(file.scales().hidden(), 0);
}

#[test]
fn what_bodies_read_stays() {
    let branch = |reads: &str| GraphProto {
        node: vec![node("Identity", &[reads], &["inner"], &[])],
        output: vec![ValueInfoProto {
            name: Some("inner".into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let file = |reads: &str| {
        let attributes = [
            body("then_branch", branch(reads)),
            body("else_branch", branch("b2")),
        ];
        let file = maps(13)
            .tensor("b3", &[2])
            .node("ReduceMax", &["x"], "most", &[int("keepdims", 0)])
            .single("half", 0.5)
            .node("Greater", &["most", "half"], "condition", &[])
            .node("Identity", &["h"], "y", &[]);
        end(file, 4)
            .node("If", &["condition"], "chosen", &attributes)
            .output("chosen")
    };
    // a value of the network is grounded, a tensor is held
    assert_eq!(file("h").scales().hidden(), 0);
    let scales = file("w1").scales();
    assert!(scales.held().any(|(name, _)| name == "w1"), "{scales:?}");
    assert_eq!(file("b3").scales().hidden(), 4);
}

#[test]
fn inputs_have_sizes() {
    let with = |sizes: &[Result<i64, &str>]| {
        let mut file = end(maps(13).node("Relu", &["h"], "y", &[]), 4);
        file.graph().input[0] = info("x", data_type::FLOAT, sizes);
        file
    };
    let batch = with(&[Err("batch"), Ok(3), Ok(4), Ok(4)]);
    assert_eq!(batch.read().graph.nodes()[0].shape, [1, 3, 4, 4]);
    let free = with(&[Err("batch"), Ok(3), Err("height"), Err("width")]);
    let said = free.error();
    assert!(said.contains("`--input-shape x=1,3,224,224`"), "{said}");
    let read = |shape: &[usize], name: &str| {
        let input_shapes = BTreeMap::from([(name.to_string(), shape.to_vec())]);
        free.file().read(&ReadOptions { input_shapes })
    };
    assert_eq!(
        read(&[2, 3, 8, 9], "x").unwrap().graph.nodes()[0].shape,
        [2, 3, 8, 9]
    );
    assert!(matches!(
        read(&[2, 1, 8, 9], "x"),
        Err(OnnxError::Invalid { .. })
    ));
    assert!(matches!(
        read(&[2, 3, 8], "x"),
        Err(OnnxError::Invalid { .. })
    ));
    assert!(matches!(
        read(&[2, 3, 8, 9], "z"),
        Err(OnnxError::Invalid { .. })
    ));
    // a tensor among the inputs is a tensor
    let mut old = with(&[Ok(1), Ok(3), Ok(4), Ok(4)]);
    old.model.ir_version = Some(3);
    old.graph()
        .input
        .push(info("w1", data_type::FLOAT, &[Ok(4), Ok(3), Ok(3), Ok(3)]));
    assert_eq!(check(&old), 4);
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let good = || end(maps(13).node("Relu", &["h"], "y", &[]), 4);
    let mut twice = good();
    twice.graph().node[1].output = vec!["c".into()];
    assert!(twice.error().contains("`c`"), "{}", twice.error());
    let mut missing = good();
    missing.graph().node[1].input = vec!["nowhere".into()];
    assert!(missing.error().contains("`nowhere`"), "{}", missing.error());
    let mut short = good();
    short.graph().initializer[0].float_data.pop();
    assert!(short.error().contains("107 numbers"), "{}", short.error());
    let mut large = good();
    large.graph().initializer[0].dims = vec![i64::MAX, i64::MAX];
    assert!(large.error().contains("its shape is"), "{}", large.error());
    let mut none = good();
    none.graph().output[0].name = Some("w1".into());
    assert_eq!(none.error(), OnnxError::NoResult.to_string());
    // a weight that does not fit makes the result unknown, and is no error
    let mut odd = good();
    odd.graph().initializer[2].dims = vec![4, 2, 1, 1];
    assert!(
        odd.read()
            .graph
            .nodes()
            .iter()
            .any(|node| matches!(node.op, Op::Opaque { .. }))
    );
}
