//! Networks of PyTorch (`tools/networks.py`): outputs, scale graphs, folding.

use std::path::PathBuf;

use burn::tensor::Tensor;
use gsgd::rescale::{Scaling, apply};
use gsgd::{Kind, Rejected};

use super::*;

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
    folder.join(name)
}

/// A network in all its files, with what says its layers.
fn all(name: &str) -> Vec<NetworkFile> {
    let layers = file(&format!("{name}.toml"));
    let layers = (name != "mlp").then(|| layers.display().to_string());
    let open = |extension: &str| {
        let arch = layers.as_deref().filter(|_| extension != "onnx");
        NetworkFile::open(&file(&format!("{name}.{extension}")), arch).unwrap()
    };
    ["pt", "safetensors", "onnx"].map(open).into()
}

fn expected(name: &str) -> Vec<f32> {
    let tensors = Tensors::open(&file(&format!("{name}.outputs.safetensors"))).unwrap();
    tensors.values::<f32>("output").unwrap()
}

#[track_caller]
fn close(found: &[Tensor<2>], expected: &[f32], tolerance: f32) {
    let found: Vec<f32> = found[0].clone().into_data().iter::<f32>().collect();
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f32, |most, y| most.max(y.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * size, "{found:?} {expected:?}");
    }
}

const NAMES: [&str; 3] = ["mlp", "cnn", "residual"];

#[test]
fn outputs_are_those_of_pytorch() {
    for name in NAMES {
        for network in all(name) {
            let inputs = file(&format!("{name}.inputs.safetensors"));
            let inputs = network.inputs_from(&inputs).unwrap();
            // by Burn, and where the file is ONNX by the ONNX runtime too
            close(
                &network.net.outputs(&inputs).unwrap(),
                &expected(name),
                1e-5,
            );
            close(&network.outputs(&inputs).unwrap(), &expected(name), 1e-5);
        }
    }
}

#[test]
fn files_of_a_network_have_one_scale_graph() {
    for name in NAMES {
        for network in all(name) {
            let scales = network.scale_graph().unwrap();
            let into_batch_norm = scales
                .hidden_classes()
                .filter(|&c| scales.kind(c) == Kind::IntoBatchNorm);
            let into_batch_norm = into_batch_norm.count();
            let expected = match name {
                "mlp" => [25, 0],
                // 8 and 6 channels before batch norm and behind it, 8 of the convolution between
                "cnn" => [8 + 8 + 8 + 6 + 6, 14],
                // three times 6 before batch norm, 6 in the stream and 6 between, 8 and 8, 4; the sigmoid's 3 are ground
                _ => [3 * 6 + 6 + 6 + 8 + 8 + 4, 18],
            };
            assert_eq!([scales.hidden(), into_batch_norm], expected, "{name}");
        }
    }
}

#[test]
fn rescaled_networks_go_through_the_file_and_give_the_same_outputs() {
    for name in NAMES {
        for network in all(name) {
            let inputs = network
                .inputs_from(&file(&format!("{name}.inputs.safetensors")))
                .unwrap();
            let before = network.tensors.bytes().to_vec();
            let rescaled = network.changed(|net, scales| {
                let scaling = Scaling::random(scales, 0.5, 3)?;
                let rescaled = apply(net, scales, &scaling);
                Ok((rescaled.map_err(|Rejected { error, .. }| error)?, ()))
            });
            let (rescaled, ()) = rescaled.unwrap();
            assert_ne!(before, rescaled.tensors.bytes());
            assert_eq!(before.len(), rescaled.tensors.bytes().len());
            // epsilon in the batch norms keeps this from being exact
            let tolerance = if name == "mlp" { 1e-5 } else { 3e-3 };
            close(
                &rescaled.outputs(&inputs).unwrap(),
                &expected(name),
                tolerance,
            );
        }
    }
}

#[test]
fn folded_batch_norms_give_the_same_outputs() {
    for (name, norms) in [("cnn", 2), ("residual", 3)] {
        for network in all(name) {
            let inputs = network
                .inputs_from(&file(&format!("{name}.inputs.safetensors")))
                .unwrap();
            let (folded, taken) = network.folded().unwrap();
            assert_eq!(taken.count(), norms);
            close(&folded.outputs(&inputs).unwrap(), &expected(name), 1e-5);
            let scales = folded.scale_graph().unwrap();
            let kinds = scales.hidden_classes().map(|class| scales.kind(class));
            assert!(kinds.into_iter().all(|kind| kind == Kind::ReachesOutput));
            assert!(folded.tensors.names().all(|name| !name.contains("running")));
        }
    }
}

#[test]
fn batch_norms_put_back_give_the_same_outputs_and_standardise_as_before() {
    for name in ["cnn", "residual"] {
        for network in all(name) {
            let inputs = network
                .inputs_from(&file(&format!("{name}.inputs.safetensors")))
                .unwrap();
            let before = standardised_means(&network);
            let size = network.tensors.bytes().len();
            let (folded, norms) = network.folded().unwrap();
            let changed = folded.changed(|net, scales| {
                let scaling = Scaling::random(scales, 0.5, 3)?;
                let rescaled = apply(net, scales, &scaling);
                Ok((rescaled.map_err(|Rejected { error, .. }| error)?, scaling))
            });
            let (rescaled, scaling) = changed.unwrap();
            let weights = rescaled.tensors.clone();
            let whole = norms.put_back(rescaled, &scaling).unwrap();
            assert_eq!(size, whole.tensors.bytes().len());
            close(&whole.outputs(&inputs).unwrap(), &expected(name), 1e-5);
            for (found, expected) in standardised_means(&whole).iter().zip(&before) {
                assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0));
            }
            // batch norms multiply by nothing: folded again, the weights are the same
            let (again, _) = whole.folded().unwrap();
            for name in weights.names() {
                let (found, expected) = (
                    again.tensors.values::<f32>(name),
                    weights.values::<f32>(name),
                );
                let pairs = found.unwrap().into_iter().zip(expected.unwrap());
                for (a, b) in pairs {
                    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} {b}");
                }
            }
        }
    }
}

/// |running mean| over the root of running variance and epsilon, of every channel before a batch norm: what positive
/// factors do not change.
fn standardised_means(network: &NetworkFile) -> Vec<f64> {
    let mut all = Vec::new();
    for node in &network.net.graph().nodes {
        if let op::Op::BatchNorm {
            mean,
            variance,
            epsilon,
            ..
        } = &node.op
        {
            let [mean, variance] =
                [mean, variance].map(|n| network.tensors.values::<f64>(n).unwrap());
            let one = |(m, v): (&f64, &f64)| m.abs() / (v + epsilon).sqrt();
            all.extend(mean.iter().zip(&variance).map(one));
        }
    }
    assert!(!all.is_empty());
    all
}

#[test]
fn onnx_files_of_other_operations_are_read_and_rescaled() {
    let open = || NetworkFile::open(&file("parts.onnx"), None).unwrap();
    let network = open();
    let opaque: Vec<String> = network.opaque().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(opaque, ["Clip"]);
    // 6 channels through leaky ReLU, pooling and concatenation, and the 12 of product and sum
    let scales = network.scale_graph().unwrap();
    assert_eq!(scales.hidden(), 6 + 12);
    let inputs = network
        .inputs_from(&file("parts.inputs.safetensors"))
        .unwrap();
    close(&network.outputs(&inputs).unwrap(), &expected("parts"), 1e-5);
    let changed = network.changed(|net, scales| {
        let scaling = Scaling::random(scales, 1.0, 3)?;
        let rescaled = apply(net, scales, &scaling);
        Ok((rescaled.map_err(|Rejected { error, .. }| error)?, ()))
    });
    let (rescaled, ()) = changed.unwrap();
    assert_ne!(rescaled.tensors.bytes(), open().tensors.bytes());
    close(
        &rescaled.outputs(&inputs).unwrap(),
        &expected("parts"),
        1e-5,
    );
}

#[test]
fn names_are_those_of_the_file() {
    let network = &all("residual")[1];
    let scales = network.scale_graph().unwrap();
    let first = scales.hidden_classes().next().unwrap();
    assert_eq!(network.name(&scales.unit(first)), "stem.weight[0]");
    let layers: Vec<String> = scales.grounded().map(|name| network.named(name)).collect();
    assert_eq!(layers, ["`gate.weight`"]);
}

#[test]
fn a_result_of_one_number_per_example_has_one_feature() {
    use onnx_rs::ast::*;
    let value = |name, dims: &[i64]| ValueInfo {
        name,
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(TensorTypeProto {
                elem_type: DataType::Float,
                shape: Some(TensorShape {
                    dim: dims
                        .iter()
                        .map(|&size| TensorShapeDimension {
                            value: Dimension::Value(size),
                            denotation: "",
                        })
                        .collect(),
                }),
            })),
            denotation: "",
        }),
        ..Default::default()
    };
    let node = |op_type, input: &[&'static str], output| Node {
        name: output,
        op_type,
        input: input.to_vec(),
        output: vec![output],
        attribute: vec![Attribute {
            name: "axis",
            i: 1,
            r#type: AttributeType::Int,
            ..Default::default()
        }],
        ..Default::default()
    };
    let bytes = onnx_rs::encode(&Model {
        ir_version: 8,
        graph: Some(Graph {
            node: vec![
                node(OpType::Custom("Total"), &["x"], "sum"),
                node(OpType::Concat, &["sum", "sum"], "y"),
            ],
            input: vec![value("x", &[1, 4])],
            value_info: vec![value("sum", &[1])],
            output: vec![value("y", &[1, 2])],
            ..Default::default()
        }),
        ..Default::default()
    });
    let network = NetworkFile::from_tensors(Tensors::of_onnx(bytes).unwrap(), None).unwrap();
    assert_eq!(network.opaque(), [("sum".to_string(), "Total".to_string())]);
    assert_eq!(network.net.graph().nodes.last().unwrap().shape, [2]);
}

#[test]
fn a_tensor_that_is_stored_with_the_other_sign_is_refused() {
    // three pickles that tell of the system, then {"w": _rebuild_tensor_v2(storage, 0, (2,), (1,), None, None, facts)}
    let file = |facts: &[u8]| {
        let number = b"\x80\x02K\x01.";
        let tensor = b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQ\
                       K\x00K\x02\x85K\x01\x85NN";
        [&number.repeat(3), &tensor[..], facts, b"tRs."].concat()
    };
    let found = pickle::stored(&file(b"}")).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "w");
    assert_eq!(pickle::stored(&file(b"")).unwrap(), found);
    let error = pickle::stored(&file(b"}U\x03neg\x88s")).unwrap_err();
    assert!(format!("{error:#}").contains("resolve_neg"), "{error:#}");
}

#[test]
fn numbers_of_half_precision_may_be_listed_one_by_one() {
    // field 5 of a graph is a tensor: its sizes, type 10 (f16), name, and bits of 1 and -2 in field 5
    let tensor = b"\x08\x02\x10\x0a\x42\x01w\x28\x80\x78\x28\x80\x80\x03";
    let graph = [&[0x2a, tensor.len() as u8], &tensor[..]].concat();
    let model = [&[0x3a, graph.len() as u8], &graph[..]].concat();
    let tensors = Tensors::of_onnx(model).unwrap();
    assert_eq!(tensors.number("w"), Number::F16);
    assert_eq!(tensors.values::<f32>("w").unwrap(), [1.0, -2.0]);
}

#[test]
fn a_bias_of_another_shape_is_not_taken_for_one_of_the_outputs() {
    use onnx_rs::ast::{Node, OpType, TensorProto};
    let bytes = std::fs::read(file("mlp.onnx")).unwrap();
    for (op_type, unknown) in [(OpType::Identity, 0), (OpType::Unsqueeze, 1)] {
        let mut model = onnx_rs::parse(&bytes).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let is_dense = |node: &Node| node.op_type == OpType::Gemm;
        let at = graph.node.iter().position(is_dense).unwrap();
        let bias = std::mem::replace(&mut graph.node[at].input[2], "column");
        let node = Node {
            input: match op_type {
                OpType::Identity => vec![bias],
                _ => vec![bias, "axis"],
            },
            op_type,
            output: vec!["column"],
            ..Node::default()
        };
        graph.node.insert(at, node);
        let axis = TensorProto::from_i64("axis", vec![1], vec![1]);
        graph.initializer.push(axis);
        let tensors = Tensors::of_onnx(unpack::unpacked(&onnx_rs::encode(&model))).unwrap();
        let network = NetworkFile::from_tensors(tensors, None).unwrap();
        let opaque = network.opaque();
        assert_eq!(opaque.len(), unknown, "{opaque:?}");
        assert!(opaque.iter().all(|(_, kind)| kind == "Gemm"));
    }
}
