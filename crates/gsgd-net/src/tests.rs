//! Networks of PyTorch (`tools/networks.py`): outputs, scale graphs, folding.

use std::path::PathBuf;

use gsgd_core::graph::Op;
use gsgd_core::rescale::Scaling;
use gsgd_core::scales::Kind;

use crate::file::{Hints, NetworkFile};
use crate::pickle;
use crate::tensors::Tensors;

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../gsgd-lab/tests/networks");
    folder.join(name)
}

/// A network in all its files, with what says its layers.
fn all(name: &str) -> Vec<NetworkFile> {
    let layers = file(&format!("{name}.toml"));
    let layers = (name != "mlp").then(|| layers.display().to_string());
    let open = |extension: &str| {
        let hints = Hints {
            arch: layers.clone().filter(|_| extension != "onnx"),
            ..Hints::default()
        };
        NetworkFile::open(&file(&format!("{name}.{extension}")), &hints).unwrap()
    };
    ["pt", "safetensors", "onnx"].map(open).into()
}

fn expected(name: &str) -> Vec<f32> {
    let path = file(&format!("{name}.outputs.safetensors"));
    let tensors = Tensors::open(&path, None).unwrap();
    let values = tensors.values("output").unwrap();
    values.into_iter().map(|value| value as f32).collect()
}

/// The first output at the inputs of the file beside it.
fn output(network: &NetworkFile, name: &str) -> Vec<f32> {
    let inputs = file(&format!("{name}.inputs.safetensors"));
    let inputs = network.inputs_from(&inputs).unwrap();
    network.outputs(&inputs).unwrap().remove(0)
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f32, |most, y| most.max(y.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * size, "{found:?} {expected:?}");
    }
}

/// Rescaled by random factors.
fn rescaled(network: NetworkFile, spread: f64) -> NetworkFile {
    let scales = network.scale_graph().unwrap();
    let scaling = Scaling::random(&scales, spread, 3).unwrap();
    network.rescaled(&scales, &scaling).unwrap()
}

fn weights(network: &NetworkFile) -> Vec<(String, Vec<f64>)> {
    let params = network.graph().params().iter();
    params
        .map(|param| (param.name.clone(), network.values(param.key).unwrap()))
        .collect()
}

const NAMES: [&str; 3] = ["mlp", "cnn", "residual"];

#[test]
fn outputs_are_those_of_pytorch() {
    for name in NAMES {
        for network in all(name) {
            close(&output(&network, name), &expected(name), 1e-5);
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
            let before = weights(&network);
            let rescaled = rescaled(network, 0.5);
            assert_ne!(before, weights(&rescaled));
            // epsilon in the batch norms keeps this from being exact
            let tolerance = if name == "mlp" { 1e-5 } else { 3e-3 };
            close(&output(&rescaled, name), &expected(name), tolerance);
        }
    }
}

#[test]
fn folded_batch_norms_give_the_same_outputs() {
    for (name, norms) in [("cnn", 2), ("residual", 3)] {
        for network in all(name) {
            let (folded, taken) = network.folded().unwrap();
            assert_eq!((taken.count(), taken.left().len()), (norms, 0));
            close(&output(&folded, name), &expected(name), 1e-5);
            let scales = folded.scale_graph().unwrap();
            let mut kinds = scales.hidden_classes().map(|class| scales.kind(class));
            assert!(kinds.all(|kind| kind == Kind::ReachesOutput));
            let params = folded.graph().params().iter();
            assert!(
                params
                    .into_iter()
                    .all(|param| !param.name.contains("running"))
            );
        }
    }
}

#[test]
fn batch_norms_put_back_give_the_same_outputs_and_standardise_as_before() {
    for name in ["cnn", "residual"] {
        for network in all(name) {
            let before = standardised_means(&network);
            let names: Vec<String> = weights(&network)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            let (folded, norms) = network.folded().unwrap();
            let scales = folded.scale_graph().unwrap();
            let scaling = Scaling::random(&scales, 0.5, 3).unwrap();
            let rescaled = folded.rescaled(&scales, &scaling).unwrap();
            let whole = norms.put_back(&scales, &scaling).unwrap();
            let found: Vec<String> = weights(&whole).into_iter().map(|(name, _)| name).collect();
            assert_eq!(found, names);
            close(&output(&whole, name), &expected(name), 1e-5);
            for (found, expected) in standardised_means(&whole).iter().zip(&before) {
                assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0));
            }
            // batch norms multiply by nothing: folded again, the weights are the same
            let (again, _) = whole.folded().unwrap();
            for ((name, found), (_, expected)) in weights(&again).iter().zip(&weights(&rescaled)) {
                for (a, b) in found.iter().zip(expected) {
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
    for node in network.graph().nodes() {
        if let Op::BatchNorm { epsilon } = node.op {
            let [mean, variance] = [3, 4].map(|at| {
                let Op::Param(key) = network.graph().node(node.reads[at]).op else {
                    panic!("a statistic is computed")
                };
                network.values(key).unwrap()
            });
            let one = |(m, v): (&f64, &f64)| m.abs() / (v + epsilon).sqrt();
            all.extend(mean.iter().zip(&variance).map(one));
        }
    }
    assert!(!all.is_empty());
    all
}

#[test]
fn onnx_files_of_other_operations_are_read_and_rescaled() {
    let open = || NetworkFile::open(&file("parts.onnx"), &Hints::default()).unwrap();
    let network = open();
    // 6 channels through leaky ReLU, pooling and concatenation, and the 12 of product and sum
    let scales = network.scale_graph().unwrap();
    assert_eq!(scales.hidden(), 6 + 12);
    close(&output(&network, "parts"), &expected("parts"), 1e-5);
    let rescaled = rescaled(network, 1.0);
    assert_ne!(weights(&rescaled), weights(&open()));
    close(&output(&rescaled, "parts"), &expected("parts"), 1e-5);
}

#[test]
fn names_are_those_of_the_file() {
    let network = &all("residual")[1];
    let scales = network.scale_graph().unwrap();
    let first = scales.hidden_classes().next().unwrap();
    assert_eq!(scales.unit(first), "stem.weight[0]");
    let grounded: Vec<(&str, &str)> = scales.grounded().collect();
    assert_eq!(grounded, [("`gate.weight`", "sigmoid")]);
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
    let found = pickle::stored(&file(b"}"), None).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "w");
    assert_eq!(pickle::stored(&file(b""), None).unwrap(), found);
    let error = pickle::stored(&file(b"}U\x03neg\x88s"), None).unwrap_err();
    assert!(format!("{error:#}").contains("resolve_neg"), "{error:#}");
}
