//! Files as people have them: shards, state dicts inside others, tensors beside the layers.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

mod common;
use common::{fails_in, folder, gsgd};

fn file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
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

#[test]
fn safetensors_in_shards_are_read_by_their_index() {
    let folder = folder();
    let bytes = fs::read(file("mlp.safetensors")).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    for (at, (name, view)) in whole.tensors().into_iter().enumerate() {
        let shard = format!("model-0000{}.safetensors", at % 2);
        map.insert(name.clone(), shard.clone().into());
        let path = folder.path().join(&shard);
        let before = fs::read(&path).unwrap_or_default();
        let others = match before.is_empty() {
            true => Vec::new(),
            false => SafeTensors::deserialize(&before).unwrap().tensors(),
        };
        let all = others.into_iter().chain([(name, view)]);
        fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    let path = folder.path().join("model.safetensors.index.json");
    fs::write(&path, index.to_string()).unwrap();
    let args = ["rescale", "model.safetensors.index.json", "one.safetensors"];
    let args = [&args[..], &["--arch", "mlp:12-16-9-4"]].concat();
    said(folder.path(), &args);
    let whole = file("mlp.safetensors");
    let args = [
        "equivalent",
        &whole,
        "one.safetensors",
        "--arch",
        "mlp:12-16-9-4",
    ];
    let [answer, _] = said(folder.path(), &args);
    assert!(answer.contains("25 units"), "{answer}");
    // a shard elsewhere is none of its files
    let index = serde_json::json!({ "weight_map": { "a": "../model-00000.safetensors" } });
    fs::write(&path, index.to_string()).unwrap();
    let args = ["inspect", "model.safetensors.index.json"];
    fails_in(
        folder.path(),
        &args,
        &["is no file in the folder of the index"],
    );
}

#[test]
fn a_pytorch_file_is_written_as_one_with_all_else_in_it() {
    let folder = folder();
    let source = file("faults/net_key.pt");
    // what lies beside the state dict has no layers
    fails_in(folder.path(), &["inspect", &source], &["--arch"]);
    let args = ["inspect", &source, "--key", "model"];
    fails_in(folder.path(), &args, &["`model`", "`net`, `optimizer`"]);
    let args = [
        "rescale", &source, "out.pt", "--key", "net", "--spread", "1",
    ];
    let [answer, _] = said(folder.path(), &args);
    assert!(answer.contains("16 units rescaled"), "{answer}");
    let args = ["equivalent", &source, "out.pt", "--key", "net"];
    let [answer, _] = said(folder.path(), &args);
    assert!(answer.contains("one function: 16 units"), "{answer}");
    // the same entries, of which memory alone has changed
    let [before, after] = [Path::new(&source), &folder.path().join("out.pt")].map(entries);
    let names = |entries: &[(String, Vec<u8>)]| -> Vec<String> {
        entries.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&before), names(&after));
    let mut changed = 0;
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        match name.contains("/data/") {
            true => changed += usize::from(before != after),
            false => assert_eq!(before, after, "{name}"),
        }
    }
    assert_eq!(changed, 4 - 1, "all but the last bias");
    let args = ["rescale", &source, "out.onnx", "--key", "net"];
    fails_in(folder.path(), &args, &["only ONNX files as .onnx"]);
}

/// The entries of a zip file whose parts are not compressed, by the headers before them.
fn entries(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut entry = archive.by_index(at).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.name().unwrap().to_string(), bytes)
        })
        .collect()
}

#[test]
fn tensors_beside_the_layers_stay_and_are_named() {
    let folder = folder();
    let source = file("faults/buffers.safetensors");
    // a guess takes no tensor for granted
    fails_in(folder.path(), &["inspect", &source], &["`mean`", "--arch"]);
    let args = [
        "rescale",
        &source,
        "out.safetensors",
        "--arch",
        "mlp:12-16-4",
    ];
    let [answer, remarks] = said(folder.path(), &args);
    assert!(answer.contains("16 units rescaled"), "{answer}");
    assert!(remarks.contains("mean, std"), "{remarks}");
    let [before, after] = [Path::new(&source), &folder.path().join("out.safetensors")]
        .map(|path| fs::read(path).unwrap());
    let [before, after] = [&before, &after].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for name in ["mean", "std"] {
        let view = before.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32);
        assert_eq!(view.data(), after.tensor(name).unwrap().data());
    }
}
