//! Networks made with PyTorch (`tools/networks.py`) through the commands.

use std::fs;
use std::path::{Path, PathBuf};

mod common;
use common::{elements, fails_in, folder, gsgd, works};

fn file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
    folder.join(name).display().to_string()
}

#[track_caller]
fn run(folder: &Path, args: &[&str]) -> String {
    works(folder, args)
}

fn report(folder: &Path, args: &[&str]) -> serde_json::Value {
    let mut all = vec!["inspect", "--json"];
    all.extend(args);
    serde_json::from_str(&run(folder, &all)).unwrap()
}

#[test]
fn one_network_in_three_files_is_one_function() {
    let folder = folder();
    let path = folder.path();
    let layers = file("residual.toml");
    let [pt, safetensors, onnx] =
        ["pt", "safetensors", "onnx"].map(|e| file(&format!("residual.{e}")));
    run(
        path,
        &[
            "rescale",
            &pt,
            "pt.safetensors",
            "--arch",
            &layers,
            "--seed",
            "1",
        ],
    );
    run(
        path,
        &["rescale", &onnx, "other.onnx", "--powers-of-two", "3"],
    );
    run(
        path,
        &["balance", &safetensors, "b.safetensors", "--arch", &layers],
    );
    run(path, &["balance", "other.onnx", "b.onnx"]);
    let files = [
        safetensors.as_str(),
        "pt.safetensors",
        "other.onnx",
        "b.onnx",
    ];
    for other in files {
        let said = run(
            path,
            &["equivalent", "b.safetensors", other, "--arch", &layers],
        );
        assert!(said.contains("50 units"), "{said}");
    }
    let (a, b) = (
        report(path, &["b.onnx"]),
        report(path, &["b.safetensors", "--arch", &layers]),
    );
    for key in [
        "hidden_classes",
        "classes_into_batch_norm",
        "weights",
        "shared",
        "grounded",
    ] {
        assert_eq!(a[key], b[key], "{key}");
    }
    assert_eq!(
        a["shared"],
        serde_json::json!([
            ["stem_norm.weight", "a2_norm.weight"],
            ["b2.weight", "project.weight"]
        ])
    );
    assert_eq!(
        a["grounded"],
        serde_json::json!([["`gate.weight`", "sigmoid"]])
    );
    assert!((a["path_norm_2"].as_f64().unwrap() - b["path_norm_2"].as_f64().unwrap()).abs() < 1e-4);
    // what PyTorch wrote beside the weights is still there
    let before = fs::read(&safetensors).unwrap();
    assert_eq!(
        before.len(),
        fs::metadata(path.join("b.safetensors")).unwrap().len() as usize
    );
}

#[test]
fn largest_values_are_balanced_and_batch_norms_folded() {
    let folder = folder();
    let path = folder.path();
    let args = ["balance", "--target", "max-abs", "--batch-norm", "fold"];
    let cnn = file("cnn.onnx");
    let said = run(path, &[&args[..], &[&cnn, "m.onnx"]].concat());
    assert!(said.contains("2 batch norms folded"), "{said}");
    let (before, after) = (report(path, &[&cnn]), report(path, &["m.onnx"]));
    assert_eq!(before["classes_into_batch_norm"], 14);
    assert_eq!(after["classes_into_batch_norm"], 0);
    assert_eq!(after["hidden_classes"], 22);
    // the same function, balanced by other means
    run(
        path,
        &["rescale", "m.onnx", "r.onnx", "--powers-of-two", "2"],
    );
    run(
        path,
        &["balance", "r.onnx", "again.onnx", "--target", "max-abs"],
    );
    let tensors = |name: &str| {
        let said = report(path, &[name]);
        let layers = said["layers"].as_array().unwrap().clone();
        layers
            .iter()
            .map(|l| l["int8_error"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    for (a, b) in tensors("m.onnx").iter().zip(tensors("again.onnx")) {
        assert!((a - b).abs() < 1e-3 * a, "{a} {b}");
    }
}

#[test]
fn batch_norms_put_back_leave_a_positive_scaling_of_the_same_file() {
    let folder = folder();
    let path = folder.path();
    let put_back = ["--batch-norm", "unfold"];
    for name in ["cnn", "residual"] {
        let (onnx, layers) = (file(&format!("{name}.onnx")), file(&format!("{name}.toml")));
        let pt = file(&format!("{name}.pt"));
        let said = run(
            path,
            &[&["balance", &onnx, "u.onnx", "--force"], &put_back[..]].concat(),
        );
        assert!(said.contains("batch norms folded and put back"), "{said}");
        let args = [
            "rescale",
            &pt,
            "u.safetensors",
            "--arch",
            &layers,
            "--force",
        ];
        run(path, &[&args[..], &put_back].concat());
        // running statistics and all
        for other in ["u.onnx", "u.safetensors"] {
            let said = run(
                path,
                &[
                    "equivalent",
                    &onnx,
                    other,
                    "--arch",
                    &layers,
                    "--tolerance",
                    "1e-3",
                ],
            );
            assert!(said.contains("one function"), "{said}");
        }
    }
}

#[test]
fn drawings_and_pages_are_whole() {
    let folder = folder();
    let path = folder.path();
    let cnn = file("residual.onnx");
    run(
        path,
        &["inspect", &cnn, "--draw", "n.svg", "--html", "n.html"],
    );
    let svg = fs::read_to_string(path.join("n.svg")).unwrap();
    let boxes = elements(&svg).iter().filter(|e| e.name == "rect").count();
    assert_eq!(boxes, 1 + 9);
    assert!(svg.contains("50 classes in 5 streams"));
    let page = fs::read_to_string(path.join("n.html")).unwrap();
    let rows = elements(&page);
    assert!(rows.iter().any(|e| e.name == "svg") && !page.contains("NaN"));

    // every unit of a narrow network, a few of a wide one
    let circles = |widths: &str| {
        let name = format!("mlp:4-{widths}-3");
        let steps = ["--steps", "1", "--save-init"];
        let train = [
            "train", "--data", "tiny", "--arch", &name, "--quiet", "--force", "--out", "t",
        ];
        run(path, &[&train[..], &steps[..]].concat());
        run(path, &["inspect", "t/init.safetensors", "--draw", "t.svg"]);
        let svg = fs::read_to_string(path.join("t.svg")).unwrap();
        elements(&svg).iter().filter(|e| e.name == "circle").count()
    };
    common::tiny_set(&path.join("tiny"));
    assert_eq!(circles("3-3"), 4 + 3 + 3 + 3);
    let wide = circles("500-500");
    assert!((4 + 3 + 2 * 5..=4 + 3 + 2 * 10).contains(&wide), "{wide}");
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = folder();
    let path = folder.path();
    let (cnn, layers) = (file("cnn.pt"), file("cnn.toml"));
    fails_in(path, &["inspect", &cnn], &["cnn.pt", "--arch"]);
    fails_in(
        path,
        &["inspect", &cnn, "--arch", "resnet:20"],
        &["cnn.pt", "conv1.weight"],
    );
    let residual = file("residual.onnx");
    fails_in(
        path,
        &["inspect", &residual, "--arch", "resnet:20"],
        &["--arch", "ONNX"],
    );
    let args = ["rescale", &cnn, "x.onnx", "--arch", &layers];
    fails_in(path, &args, &["x.onnx", "safetensors"]);
    fails_in(
        path,
        &["rescale", &residual, "x.safetensors"],
        &["x.safetensors", ".onnx"],
    );
    fails_in(
        path,
        &["equivalent", &file("mlp.pt"), &residual],
        &["mlp.pt"],
    );
    let text = fs::read_to_string(&layers).unwrap();
    let broken = |old: &str, new: &str, says: &[&str]| {
        assert!(text.contains(old), "{old}");
        fs::write(path.join("broken.toml"), text.replacen(old, new, 1)).unwrap();
        fails_in(path, &["inspect", &cnn, "--arch", "broken.toml"], says);
    };
    broken(
        "padding = 1",
        "paddding = 1",
        &["broken.toml", "conv1", "paddding"],
    );
    broken("\"max-pool\"", "\"max-pol\"", &["broken.toml", "max-pol"]);
    broken("name = \"bn1\"", "name = \"bn7\"", &["bn7", "bn7.weight"]);
    broken(
        "groups = 4",
        "groups = 3",
        &["conv2", "3 groups", "[1, 8, 12, 12]"],
    );
    broken("size = 2", "size = 20", &["window of [20, 20]", "[6, 6]"]);
    broken(
        "[3, 12, 12]",
        "[3, 12]",
        &["conv1", "window of [3, 3]", "[1, 3, 12]"],
    );
    broken("kind = \"flatten\"", "kind = \"relu\"", &["fc", "flatten"]);
    broken(
        "kind = \"relu\"",
        "kind = \"add\"\nfrom = [\"bn1\", \"later\"]",
        &["later"],
    );
    // nothing was written
    assert!(!path.join("x.onnx").exists());
}

#[test]
fn networks_that_are_no_positive_scaling_of_one_another_are_told_apart() {
    let folder = folder();
    let path = folder.path();
    let mlp = fs::read(file("mlp.safetensors")).unwrap();
    let flipped = {
        // sign of a hidden unit's incoming and outgoing weights
        let mut bytes = mlp.clone();
        let start = mlp.as_ptr() as usize;
        let file = safetensors::SafeTensors::deserialize(&mlp).unwrap();
        let at = |name: &str| file.tensor(name).unwrap().data().as_ptr() as usize - start;
        let row = (0..12).map(|i| at("fc1.weight") + 4 * (3 * 12 + i));
        let column = (0..9).map(|o| at("fc2.weight") + 4 * (16 * o + 3));
        row.chain(column).for_each(|at| bytes[at + 3] ^= 0x80);
        bytes
    };
    fs::write(path.join("flipped.safetensors"), flipped).unwrap();
    let output = gsgd(
        path,
        &["equivalent", &file("mlp.pt"), "flipped.safetensors"],
    );
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("fc1.weight[3]"), "{said}");
}
