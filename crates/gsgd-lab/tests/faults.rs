//! Files that were once read, changed or written wrongly (`tests/networks/faults`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rten_tensor::prelude::*;
use safetensors::{Dtype, SafeTensors};

mod common;
use common::{fails_in, folder, gsgd, works};

fn file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/networks/faults");
    folder.join(name).display().to_string()
}

/// What the program says on standard output and standard error, of a command that works.
#[track_caller]
fn said(folder: &Path, args: &[&str]) -> [String; 2] {
    let output = gsgd(folder, args);
    let texts = [&output.stdout, &output.stderr].map(|t| String::from_utf8_lossy(t).to_string());
    assert!(output.status.success(), "{args:?}: {texts:?}");
    texts
}

/// Shape and values of every tensor of f32 or f64.
type Values = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

fn values(path: &Path) -> Values {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => (data.as_chunks::<4>().0.iter())
                .map(|&b| f32::from_le_bytes(b).into())
                .collect(),
            Dtype::F64 => (data.as_chunks::<8>().0.iter())
                .map(|&b| f64::from_le_bytes(b))
                .collect(),
            _ => Vec::new(),
        };
        (name, (view.shape().to_vec(), values))
    });
    tensors.collect()
}

/// The outputs of dense layers with ReLUs between them.
fn outputs(values: &Values, layers: &[&str], x: &[f64]) -> Vec<f64> {
    let mut x = x.to_vec();
    for (at, layer) in layers.iter().enumerate() {
        if at > 0 {
            x.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let (_, weight) = &values[&format!("{layer}.weight")];
        let (_, bias) = &values[&format!("{layer}.bias")];
        let rows = weight.chunks(x.len()).zip(bias);
        x = rows
            .map(|(row, b)| b + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>())
            .collect();
    }
    x
}

fn input(features: usize, size: f64) -> Vec<f64> {
    (0..features)
        .map(|at| size * ((at * at) as f64 + 0.3).sin())
        .collect()
}

#[track_caller]
fn agree(found: &[f64], expected: &[f64], tolerance: f64) {
    let size = expected.iter().fold(0.0f64, |most, y| most.max(y.abs()));
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * size, "{found:?} {expected:?}");
    }
}

#[test]
fn layers_are_in_the_order_of_the_file() {
    let folder = folder();
    let path = folder.path();
    let original = path.join("original.safetensors");
    for (name, layers, units) in [
        ("ae.pt", &["encoder.0", "decoder"][..], 6),
        ("iho.pt", &["input", "hidden", "output"], 16),
        ("backbone_head.pt", &["model.0", "model.2", "head"], 32),
        ("body_head.pt", &["body.0", "body.2", "head"], 32),
    ] {
        let pt = file(name);
        let args = [
            "rescale",
            &pt,
            "original.safetensors",
            "--spread",
            "0",
            "--force",
        ];
        works(path, &args);
        let args = ["rescale", &pt, "out.safetensors", "--force"];
        let [out, err] = said(path, &args);
        assert!(out.contains(&format!("{units} units")), "{out}");
        // what was taken for granted is said
        assert!(
            err.contains(&layers.join(", ")) && err.contains("--arch"),
            "{err}"
        );
        let (before, after) = (values(&original), values(&path.join("out.safetensors")));
        // names come back as they were
        let names: Vec<String> = layers
            .iter()
            .flat_map(|layer| [format!("{layer}.bias"), format!("{layer}.weight")])
            .collect();
        assert!(names.iter().all(|name| after.contains_key(name)));
        assert_eq!(after.len(), names.len());
        assert_ne!(before, after);
        for size in [1.0, 100.0] {
            let x = input(before[&names[1]].0[1], size);
            agree(
                &outputs(&after, layers, &x),
                &outputs(&before, layers, &x),
                1e-5,
            );
        }
        // the new file has the order of the old one
        let [out, _] = said(path, &["equivalent", &pt, "out.safetensors"]);
        assert!(out.contains(&format!("{units} units")), "{out}");
    }
}

#[test]
fn an_order_that_only_names_tell_is_refused_where_shapes_allow_another() {
    let folder = folder();
    let path = folder.path();
    for command in ["inspect", "rescale", "balance"] {
        let ae = file("ae.safetensors");
        let args = [
            &[command, &ae][..],
            &["out.safetensors"][..usize::from(command != "inspect")],
        ];
        let says = [
            "ae.safetensors",
            "--arch",
            "encoder.0, decoder",
            "decoder, encoder.0",
        ];
        fails_in(path, &args.concat(), &says);
    }
    assert!(!path.join("out.safetensors").exists());
    let layers = "input = [12]\n[[layers]]\nname = \"encoder.0\"\nkind = \"linear\"\n[[layers]]\nkind = \"relu\"\n[[layers]]\n\
                  name = \"decoder\"\nkind = \"linear\"\n";
    fs::write(path.join("ae.toml"), layers).unwrap();
    let ae = file("ae.safetensors");
    let [_, err] = said(
        path,
        &["rescale", &ae, "out.safetensors", "--arch", "ae.toml"],
    );
    assert_eq!(err, "");
}

/// A safetensors file of dense layers: name, outputs, inputs.
fn dense_file(path: &Path, layers: &[(&str, usize, usize)]) {
    let layers = layers.iter().map(|&(name, outputs, inputs)| {
        let bytes = (0..outputs * inputs).flat_map(|at| (at as f32).sin().to_le_bytes());
        (
            format!("{name}.weight"),
            vec![outputs, inputs],
            bytes.collect::<Vec<u8>>(),
        )
    });
    let layers: Vec<_> = layers.collect();
    let views = layers.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name, view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn numbers_in_names_are_an_order_in_a_list_only() {
    let folder = folder();
    let path = folder.path();
    let net = path.join("net.safetensors");
    // fc1 and fc2 fit in both orders, and nothing says that fc1 is the first
    dense_file(&net, &[("fc1", 8, 8), ("fc2", 8, 8), ("fc3", 3, 8)]);
    for command in [&["inspect"][..], &["rescale", "out.safetensors"]] {
        let args = [&[command[0], "net.safetensors"], &command[1..]].concat();
        let says = ["--arch", "several orders", "fc1, fc2, fc3", "fc2, fc1, fc3"];
        fails_in(path, &args, &says);
    }
    let says = ["TOML", "fc2, fc1, fc3"];
    let arch = ["inspect", "net.safetensors", "--arch", "mlp:8-8-8-3"];
    fails_in(path, &arch, &says);
    // the members of a list come one after the other
    dense_file(&net, &[("net.0", 8, 8), ("net.2", 8, 8), ("net.10", 3, 8)]);
    let [_, err] = said(path, &["inspect", "net.safetensors"]);
    assert!(err.contains("net.0, net.2, net.10"), "{err}");
    // and one order is no guess
    dense_file(&net, &[("fc2", 8, 8), ("fc1", 8, 5), ("fc3", 3, 8)]);
    let [_, err] = said(path, &["inspect", "net.safetensors"]);
    assert!(err.contains("fc1, fc2, fc3"), "{err}");
}

#[test]
fn tensors_that_share_memory_stay_equal() {
    let folder = folder();
    let path = folder.path();
    let tied = file("tied.pt");
    for command in ["rescale", "balance"] {
        let [_, err] = said(path, &[command, &tied, "out.safetensors", "--force"]);
        assert!(err.contains("shares memory with `fc1.weight`"), "{err}");
        let after = values(&path.join("out.safetensors"));
        assert_eq!(after["fc1.weight"], after["fc2.weight"]);
        // and of the new file as well
        let args = [command, "out.safetensors", "again.safetensors", "--force"];
        let [_, err] = said(path, &args);
        assert!(err.contains("shares memory"), "{err}");
        let again = values(&path.join("again.safetensors"));
        assert_eq!(again["fc1.weight"], again["fc2.weight"]);
    }
    let report = works(path, &["inspect", &tied]);
    assert!(report.contains("stay as they are"), "{report}");
}

/// The results of an ONNX file for inputs of a size.
fn results(path: &Path, size: f32) -> Vec<Vec<f32>> {
    let model = rten::Model::load_file(path).unwrap();
    let id = model.input_ids()[0];
    let dims = model.node_info(id).unwrap().shape().unwrap();
    let dims = dims.iter().map(|dim| match dim {
        rten::Dimension::Fixed(size) => *size,
        rten::Dimension::Symbolic(_) => 2,
    });
    let dims: Vec<usize> = dims.collect();
    let values = input(dims.iter().product(), size.into());
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    let x = rten_tensor::NdTensor::<f32, 1>::from_data([values.len()], values);
    let x = x.into_dyn().into_shape(dims.as_slice());
    let outputs = model.run(vec![(id, x.into())], model.output_ids(), None);
    let values = outputs.unwrap().into_iter().map(|output| {
        let output: rten_tensor::Tensor<f32> = output.try_into().unwrap();
        output.to_vec()
    });
    values.collect()
}

#[test]
fn whatever_else_reads_a_value_or_a_tensor_of_an_onnx_file_reads_what_it_did() {
    let folder = folder();
    let path = folder.path();
    for (name, units, says) in [
        ("if2_hidden.onnx", 0, "none of its units"),
        ("if2_weight.onnx", 0, "the body of `z` reads it"),
        // whoever else reads a weight keeps it, and the layer has its own
        ("weight_elsewhere.onnx", 16, ""),
        ("weight_elsewhere_rare.onnx", 16, ""),
        ("tied_transpose.onnx", 16, ""),
        ("weight_reaches_output.onnx", 11, ""),
        ("conv_bias_in_Constant.onnx", 11, ""),
        ("bn_shares_stats.onnx", 17, ""),
        ("shared_prelu_slope.onnx", 17, ""),
    ] {
        let onnx = file(name);
        for command in ["rescale", "balance"] {
            let [_, err] = said(path, &[command, &onnx, "out.onnx", "--force"]);
            assert!(err.contains(says), "{name}: {err}");
            let report = works(path, &["inspect", "--json", &onnx]);
            let report: serde_json::Value = serde_json::from_str(&report).unwrap();
            assert_eq!(report["hidden_classes"], units, "{name}");
            for size in [1.0, 100.0, 1e4] {
                let before = results(Path::new(&onnx), size);
                let after = results(&path.join("out.onnx"), size);
                for (a, b) in after.iter().zip(&before) {
                    let [a, b] = [a, b].map(|y| y.iter().map(|&y| y.into()).collect::<Vec<f64>>());
                    agree(&a, &b, 1e-4);
                }
            }
            let [out, _] = said(path, &["equivalent", &onnx, "out.onnx"]);
            assert!(out.contains("one function"), "{name}: {out}");
        }
    }
}

/// The number types of the floating point tensors of a file.
fn types(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let mut types: Vec<String> = match path.extension().unwrap() == "onnx" {
        true => {
            let model = onnx_rs::parse(&bytes).unwrap();
            let tensors = &model.graph.as_ref().unwrap().initializer;
            tensors
                .iter()
                .map(|t| format!("{:?}", t.data_type()))
                .collect()
        }
        false => {
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let types = file.tensors().into_iter();
            types
                .map(|(_, view)| format!("{:?}", view.dtype()))
                .collect()
        }
    };
    types.retain(|name| name != "I64");
    types.sort();
    types.dedup();
    types
}

#[test]
fn files_keep_their_number_type() {
    let folder = folder();
    let path = folder.path();
    let layers = file("cb.toml");
    for (name, out, number, arch) in [
        ("conv_bn_fp16.onnx", "out.onnx", "Float16", None),
        ("half.onnx", "out.onnx", "Float16", None),
        ("cb16.safetensors", "out.safetensors", "F16", Some(&layers)),
        ("bf16.safetensors", "out.safetensors", "BF16", None),
        ("f64real.safetensors", "out.safetensors", "F64", None),
    ] {
        let (from, arch) = (file(name), arch.map_or(vec![], |arch| vec!["--arch", arch]));
        for command in ["rescale", "balance"] {
            for norms in ["keep", "fold", "unfold"] {
                let args = [command, &from, out, "--force", "--batch-norm", norms];
                works(path, &[&args, &arch[..]].concat());
                assert_eq!(types(&path.join(out)), [number], "{name} {norms}");
                if norms == "keep" {
                    let args = ["equivalent", &from, out];
                    let said = works(path, &[&args, &arch[..]].concat());
                    assert!(said.contains("one function"), "{name}: {said}");
                }
            }
        }
    }
}

#[test]
fn f64_keeps_its_digits() {
    let folder = folder();
    let path = folder.path();
    let f64real = file("f64real.safetensors");
    let (before, layers) = (values(Path::new(&f64real)), ["0", "2"]);
    let x = input(before["0.weight"].0[1], 1.0);
    for command in ["rescale", "balance"] {
        works(path, &[command, &f64real, "out.safetensors", "--force"]);
        let after = values(&path.join("out.safetensors"));
        assert_ne!(before, after);
        agree(
            &outputs(&after, &layers, &x),
            &outputs(&before, &layers, &x),
            1e-14,
        );
    }
    let args = [
        "rescale",
        &f64real,
        "out.safetensors",
        "--force",
        "--powers-of-two",
        "4",
    ];
    works(path, &args);
    let after = values(&path.join("out.safetensors"));
    for (name, (_, values)) in &before {
        for (a, b) in after[name].1.iter().zip(values) {
            let mantissa = |x: f64| x.to_bits() & ((1 << 52) - 1);
            assert_eq!(mantissa(*a), mantissa(*b), "{name}");
        }
    }
}

#[test]
fn a_difference_that_rounding_does_not_explain_is_not_to_be_allowed() {
    let folder = folder();
    let path = folder.path();
    let half = file("half.onnx");
    let args = ["rescale", &half, "out.onnx", "--differ", "1e-9"];
    fails_in(
        path,
        &args,
        &["--differ", "allows it", "Nothing was written"],
    );
    // epsilon does not scale, and changes no output however small channels become
    let norms = PathBuf::from(file("")).with_file_name("cnn.onnx");
    let norms = norms.display().to_string();
    said(path, &["rescale", &norms, "norms.onnx", "--spread", "3"]);
    for size in [1.0, 100.0] {
        let before = results(Path::new(&norms), size);
        let after = results(&path.join("norms.onnx"), size);
        for (a, b) in after.iter().zip(&before) {
            let [a, b] = [a, b].map(|y| y.iter().map(|&y| y.into()).collect::<Vec<f64>>());
            agree(&a, &b, 1e-4);
        }
    }
    // a number type has an end
    let half = file("conv_bn_fp16.onnx");
    let args = ["rescale", &half, "out.onnx", "--spread", "3"];
    fails_in(path, &args, &["`V`", "f16", "--spread"]);
    assert!(!path.join("out.onnx").exists());
}

/// A safetensors file with other values.
fn changed(from: &str, to: &Path, change: impl Fn(&str, &mut [f32])) {
    let bytes = fs::read(from).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let chunks = view.data().as_chunks::<4>().0.iter();
        let mut values: Vec<f32> = chunks.map(|&b| f32::from_le_bytes(b)).collect();
        change(&name, &mut values);
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        (name, view.shape().to_vec(), bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn zeros_are_shown_and_compared() {
    let folder = folder();
    let path = folder.path();
    let mlp = PathBuf::from(file("")).with_file_name("mlp.safetensors");
    let mlp = mlp.display().to_string();
    // units 3 and 4 of the first layer, the latter with a bias, and 2 of the second, which nothing reads either
    changed(
        &mlp,
        &path.join("dead.safetensors"),
        |name, values| match name {
            "fc1.weight" => values[3 * 12..5 * 12].fill(0.0),
            "fc1.bias" => values[3] = 0.0,
            "fc2.weight" => values[2 * 16..3 * 16].fill(0.0),
            "fc2.bias" => values[2] = 0.0,
            "fc3.weight" => values.iter_mut().skip(2).step_by(9).for_each(|w| *w = 0.0),
            _ => {}
        },
    );
    changed(&mlp, &path.join("last.safetensors"), |name, values| {
        if name.starts_with("fc3") {
            values.fill(0.0);
        }
    });
    for name in ["dead.safetensors", "last.safetensors"] {
        let args = ["inspect", name, "--html", "n.html", "--draw", "n.svg"];
        let [report, _] = said(path, &args);
        assert!(report.contains("dead units"), "{report}");
        assert!(
            !report.contains("batch norm") && !report.contains("Largest"),
            "{report}"
        );
        for command in ["rescale", "balance"] {
            works(path, &[command, name, "out.safetensors", "--force"]);
            let [out, _] = said(path, &["equivalent", name, "out.safetensors"]);
            assert!(out.contains("25 units"), "{out}");
        }
    }
    // what reads a dead unit is compared all the same
    let dead = path.join("dead.safetensors").display().to_string();
    changed(&dead, &path.join("other.safetensors"), |name, values| {
        if name == "fc2.weight" {
            values[3] *= 2.0;
        }
    });
    let args = ["equivalent", "dead.safetensors", "other.safetensors"];
    assert_eq!(gsgd(path, &args).status.code(), Some(1));
}

#[test]
fn a_gamma_of_zero_is_shown_and_left_alone() {
    let folder = folder();
    let path = folder.path();
    let (cb, layers) = (file("cb.pt"), file("cb.toml"));
    let arch = ["--arch", layers.as_str()];
    let args = ["inspect", &cb, "--html", "n.html", "--draw", "n.svg"];
    let [report, _] = said(path, &[&args, &arch[..]].concat());
    assert!(
        report.contains("bn1.weight") && report.contains("path norm"),
        "{report}"
    );
    assert!(!report.contains("Largest"), "{report}");
    let args = ["rescale", &cb, "before.safetensors", "--spread", "0"];
    works(path, &[&args, &arch[..]].concat());
    let before = values(&path.join("before.safetensors"));
    let zeros: Vec<(String, usize)> = ["bn1", "bn2"]
        .iter()
        .flat_map(|norm| {
            let gammas = before[&format!("{norm}.weight")].1.iter().enumerate();
            let zeros = gammas.filter(|(_, gamma)| **gamma == 0.0);
            let zeros: Vec<_> = zeros.map(|(at, _)| (norm.to_string(), at)).collect();
            zeros
        })
        .collect();
    assert!(!zeros.is_empty());
    for command in ["rescale", "balance"] {
        let args = [
            command,
            &cb,
            "out.safetensors",
            "--force",
            "--batch-norm",
            "unfold",
        ];
        works(path, &[&args, &arch[..]].concat());
        let after = values(&path.join("out.safetensors"));
        for (norm, channel) in &zeros {
            assert_eq!(after[&format!("{norm}.weight")].1[*channel], 0.0);
            let weight = &after[&format!("{}.weight", norm.replace("bn", "conv"))].1;
            let row = &weight[channel * weight.len() / 8..(channel + 1) * weight.len() / 8];
            assert!(row.iter().any(|w| w.abs() > 1e-6), "{row:?}");
        }
    }
}

#[test]
fn batch_norms_put_back_keep_the_signs_of_gamma() {
    let folder = folder();
    let path = folder.path();
    // both have gammas below zero
    let (half, cb) = (file("conv_bn_fp16.onnx"), file("cb.pt"));
    let layers = ["--arch", &file("cb.toml")].map(str::to_string);
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    for (from, out, arch) in [
        (&half, "out.onnx", &[][..]),
        (&cb, "out.safetensors", &layers),
    ] {
        for command in ["rescale", "balance"] {
            let args = [command, from, out, "--force", "--batch-norm", "unfold"];
            works(path, &[&args, arch].concat());
            // running variances of small channels lose digits in f16
            let args = ["equivalent", from, out, "--tolerance", "1e-2"];
            let said = works(path, &[&args, arch].concat());
            assert!(said.contains("one function"), "{from}: {said}");
        }
    }
}

#[test]
fn batch_norms_of_one_tensor_are_folded_each_with_its_own() {
    let folder = folder();
    let path = folder.path();
    let shared = file("bn_shares_stats.onnx");
    let args = ["balance", &shared, "out.onnx", "--force"];
    let [_, err] = said(path, &args);
    assert_eq!(err, "");
    let [_, err] = said(path, &[&args[..], &["--batch-norm", "fold"]].concat());
    assert_eq!(err, "");
}

#[test]
fn memory_that_a_few_numbers_ask_for_is_refused() {
    let folder = folder();
    let path = folder.path();
    for name in ["expand", "tile", "pad", "resize"] {
        let giant = file(&format!("giant_{name}.onnx"));
        let says = [&giant, "the ONNX runtime"];
        fails_in(path, &["rescale", &giant, "out.onnx"], &says);
    }
    // only the size of what these make is read: it takes no memory
    for name in ["constant", "range"] {
        let giant = file(&format!("giant_{name}.onnx"));
        said(path, &["rescale", &giant, &format!("{name}.onnx")]);
    }
    // a size that is known only when the file computes it
    let giant = file("giant_outer.onnx");
    let says = ["giant_outer.onnx", "the ONNX runtime", "memory"];
    fails_in(path, &["rescale", &giant, "out.onnx"], &says);
    let layers = |channels: &str, many: usize| {
        let relus = "[[layers]]\nkind = \"relu\"\n".repeat(many);
        let text =
            format!("input = [{channels}]\n{relus}[[layers]]\nname = \"fc1\"\nkind = \"linear\"\n");
        fs::write(path.join("n.toml"), text).unwrap();
    };
    let mlp = PathBuf::from(file("")).with_file_name("mlp.safetensors");
    let mlp = mlp.display().to_string();
    for (channels, many, says) in [
        ("9000000000000000000", 1, "elements"),
        ("33554432", 100, "`fc1`"),
        ("4294967296, 4294967296, 4", 1, "elements"),
    ] {
        layers(channels, many);
        fails_in(
            path,
            &["inspect", &mlp, "--arch", "n.toml"],
            &["mlp.safetensors", says],
        );
    }
    assert!(!path.join("out.onnx").exists());
}

#[test]
fn a_description_of_many_layers_is_read_in_linear_time() {
    let folder = folder();
    let path = folder.path();
    let mut text = String::from("input = [2]\n");
    for at in 0..60_000 {
        let from = match at {
            0 => "input".to_string(),
            _ => format!("r{}", at - 1),
        };
        text += &format!("[[layers]]\nname = \"r{at}\"\nkind = \"relu\"\nfrom = \"{from}\"\n");
    }
    text += "[[layers]]\nname = \"fc\"\nkind = \"linear\"\n";
    fs::write(path.join("n.toml"), text).unwrap();
    let numbers: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1, 2], &numbers).unwrap();
    let bytes = safetensors::serialize([("fc.weight", view)], None).unwrap();
    fs::write(path.join("n.safetensors"), bytes).unwrap();
    let start = std::time::Instant::now();
    works(path, &["inspect", "n.safetensors", "--arch", "n.toml"]);
    // a tenth of a second; 8 s when layers were looked up one by one
    assert!(start.elapsed().as_secs_f64() < 4.0, "{:?}", start.elapsed());
}

#[test]
fn names_in_files_do_not_steer_a_terminal() {
    let folder = folder();
    let path = folder.path();
    let mlp = PathBuf::from(file("")).with_file_name("mlp.safetensors");
    let bytes = fs::read(mlp).unwrap();
    let original = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = |others: &[&str]| {
        let tensors = original.tensors().into_iter();
        let tensors = tensors.filter(|(name, _)| !others.contains(&name.as_str()));
        let tensors = tensors.map(|(name, view)| (name.replace("fc", "\u{1b}[31m\nfc"), view));
        safetensors::serialize(tensors, None).unwrap()
    };
    fs::write(path.join("a.safetensors"), renamed(&[])).unwrap();
    fs::write(path.join("b.safetensors"), renamed(&["fc2.weight"])).unwrap();
    let flipped = {
        let mut bytes = renamed(&[]);
        *bytes.last_mut().unwrap() ^= 0x80;
        bytes
    };
    fs::write(path.join("c.safetensors"), flipped).unwrap();
    let all = [
        "inspect a.safetensors --html n.html --draw n.svg",
        "inspect b.safetensors",
        "balance a.safetensors o.safetensors",
        "rescale a.safetensors o.safetensors --force",
        "equivalent a.safetensors c.safetensors",
        "inspect a.safetensors --json",
    ];
    for command in all {
        let args: Vec<&str> = command.split(' ').collect();
        let output = gsgd(path, &args);
        let said = [output.stdout, output.stderr].concat();
        assert!(
            !said.contains(&0x1b),
            "{command}: {}",
            String::from_utf8_lossy(&said)
        );
        assert!(String::from_utf8_lossy(&said).contains("fc"), "{command}");
    }
    for page in ["n.html", "n.svg"] {
        assert!(
            !fs::read(path.join(page)).unwrap().contains(&0x1b),
            "{page}"
        );
    }
}
