//! Files with other numbers are the same network, and lose nothing else.

mod onnx_common;

use std::collections::HashMap;

use gsgd_core::scales::ParamKey;
use gsgd_net::onnx::proto::*;
use gsgd_net::onnx::{Fold, OnnxError, OnnxFile, OnnxNetwork, ReadOptions};
use onnx_common::*;

fn dense() -> File {
    File::new(13)
        .input("x", &[2, 3])
        .tensor("w1", &[3, 4])
        .tensor("b1", &[4])
        .node("Gemm", &["x", "w1", "b1"], "g", &[])
        .node("Relu", &["g"], "h", &[])
}

/// Other numbers for the parameters whose nodes have these names.
fn with(
    file: &OnnxFile,
    network: &OnnxNetwork,
    values: &[(&str, f64)],
) -> Result<OnnxFile, OnnxError> {
    let values: HashMap<&str, f64> = values.iter().copied().collect();
    file.replaced(network, |key| {
        let param = network.param(key)?;
        let value = *values.get(format!("{} of {}", param.name, param.node).as_str())?;
        Some(vec![value; file.values(network, key).ok()?.len()])
    })
}

fn tensor<'f>(file: &'f OnnxFile, name: &str) -> &'f TensorProto {
    let graph = file.model().graph.as_ref().unwrap();
    let mut tensors = graph.initializer.iter();
    tensors
        .find(|tensor| tensor.name.as_deref() == Some(name))
        .unwrap()
}

#[test]
fn a_tensor_of_several_layers_becomes_several() {
    // as exporters do: equal by accident, one through a shared identity, one as it lies, one transposed
    let file = dense()
        .tensor("w2", &[4, 4])
        .node("Identity", &["w2"], "same", &[])
        .node("Transpose", &["w2"], "turned", &[])
        .node("MatMul", &["h", "same"], "a1", &[])
        .node("Relu", &["a1"], "r1", &[])
        .node("MatMul", &["r1", "w2"], "a2", &[])
        .node("Relu", &["a2"], "r2", &[])
        .node("MatMul", &["r2", "turned"], "a3", &[])
        .node("Relu", &["a3"], "r3", &[])
        .node("MatMul", &["r3", "same"], "out", &[])
        .output("out");
    assert_eq!(check(&file), 16);
    let (file, network) = (file.file(), file.read());
    let new = with(
        &file,
        &network,
        &[
            ("w2 of a1", 1.0),
            ("w2 of a2", 2.0),
            ("w2 of a3", 3.0),
            ("w2 of out", 2.0),
        ],
    );
    let new = new.unwrap();
    let graph = new.model().graph.clone().unwrap();
    // 1 where it was, 2 for two readers, 3 through a transpose of its own
    assert_eq!(graph.initializer.len(), 5);
    assert_eq!(new.tensor("w2").unwrap().unwrap(), vec![1.0; 16]);
    assert_eq!(new.tensor("w2_2").unwrap().unwrap(), vec![2.0; 16]);
    assert_eq!(new.tensor("w2_3").unwrap().unwrap(), vec![3.0; 16]);
    let reads = |gives: &str| {
        let mut nodes = graph.node.iter();
        nodes
            .find(|node| node.output[0] == gives)
            .unwrap()
            .input
            .clone()
    };
    assert_eq!(reads("out"), ["r3", "w2_2"]);
    assert_eq!(reads("a2"), ["r1", "w2_2"]);
    assert_eq!(reads(&reads("a3")[1]), ["w2_3"]);
    // the same numbers for all: one tensor
    let one = with(
        &file,
        &network,
        &[
            ("w2 of a1", 5.0),
            ("w2 of a2", 5.0),
            ("w2 of a3", 5.0),
            ("w2 of out", 5.0),
        ],
    );
    let one = one.unwrap();
    assert_eq!(one.model().graph.as_ref().unwrap().initializer.len(), 3);
    // one of them alone
    let other = with(&file, &network, &[("w2 of a2", 5.0)]).unwrap();
    assert_eq!(other.tensor("w2").unwrap(), file.tensor("w2").unwrap());
    assert_eq!(other.tensor("w2_2").unwrap().unwrap(), vec![5.0; 16]);
    // nothing new, nothing changed
    assert_eq!(file.replaced(&network, |_| None).unwrap(), file);
    let same = file.replaced(&network, |key| file.values(&network, key).ok());
    assert_eq!(same.unwrap(), file);
}

#[test]
fn a_tensor_that_others_read_stays_for_them() {
    let mut file = dense()
        .node("ReduceSum", &["b1"], "sum", &[])
        .tensor("w2", &[4, 2])
        .node("MatMul", &["h", "w2"], "m", &[])
        .node("Add", &["m", "sum"], "out", &[])
        .output("out");
    assert_eq!(check(&file), 4);
    // files of earlier versions name their tensors among their inputs
    file.model.ir_version = Some(3);
    for (name, dims) in [("w1", vec![3, 4]), ("b1", vec![4]), ("w2", vec![4, 2])] {
        let sizes: Vec<Result<i64, &str>> = dims.into_iter().map(Ok).collect();
        file.graph()
            .input
            .push(info(name, data_type::FLOAT, &sizes));
    }
    let (file, network) = (file.file(), file.read());
    let new = with(&file, &network, &[("b1 of g", 7.0)]).unwrap();
    assert_eq!(new.tensor("b1").unwrap(), file.tensor("b1").unwrap());
    let graph = new.model().graph.as_ref().unwrap();
    assert_eq!(graph.node[0].input, ["x", "w1", "b1_2"]);
    assert!(
        graph
            .input
            .iter()
            .any(|input| input.name.as_deref() == Some("b1_2"))
    );
}

#[test]
fn constants_and_numbers_that_are_computed_are_written() {
    let list = AttributeProto {
        name: Some("value_floats".into()),
        r#type: Some(attribute_type::FLOATS),
        floats: vec![1.0, 2.0, 3.0, 4.0],
        ..Default::default()
    };
    let file = dense()
        .node("Constant", &[], "list", &[list])
        .node("Mul", &["list", "list"], "squares", &[])
        .tensor("w2", &[4, 4])
        .node("Gemm", &["h", "w2", "squares"], "a", &[])
        .node("Relu", &["a"], "r", &[])
        .node(
            "Constant",
            &[],
            "w3",
            &[value_tensor(floats("", &[4, 2], &[0.5; 8]))],
        )
        .node("MatMul", &["r", "w3"], "out", &[])
        .output("out");
    assert_eq!(check(&file), 8);
    let (file, network) = (file.file(), file.read());
    let new = with(
        &file,
        &network,
        &[("squares of a", 7.0), ("w3 of out", 8.0)],
    )
    .unwrap();
    assert_eq!(new.tensor("squares_2").unwrap().unwrap(), vec![7.0; 4]);
    let again = new.read(&ReadOptions::default()).unwrap();
    let of = |name: &str| {
        let at = again
            .params
            .iter()
            .position(|param| param.name == name)
            .unwrap();
        new.values(&again, ParamKey(at as u64)).unwrap()
    };
    assert_eq!(of("w3"), vec![8.0; 8]);
}

/// A layer and a batch norm behind it: the outputs are the same folded, and the batch norm is gone.
fn folds(file: &File, expected: usize) -> OnnxFile {
    let (file, network) = (file.file(), file.read());
    let foldable = network.foldable();
    assert_eq!(foldable.len(), expected);
    let values = |key| file.values(&network, key).unwrap();
    let folds: Vec<Fold> = foldable.iter().map(|found| found.folded(values)).collect();
    let new = file.rewritten(&network, |_| None, &folds).unwrap();
    for (before, after) in outputs(&file).iter().zip(outputs(&new)) {
        assert_eq!(before.shape, after.shape);
        for (a, b) in before.data.iter().zip(&after.data) {
            // epsilon is nothing in these outputs, and something in the folded weights
            assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{a} {b}");
        }
    }
    new
}

fn norm(file: File, x: &str, y: &str, channels: i64) -> File {
    let names = ["gamma", "beta", "mean", "variance"].map(|name| format!("{y}.{name}"));
    let file = names
        .iter()
        .fold(file, |file, name| file.tensor(name, &[channels]));
    let mut reads = vec![x];
    reads.extend(names.iter().map(String::as_str));
    file.node("BatchNormalization", &reads, y, &[])
}

fn count(file: &OnnxFile, op: &str) -> usize {
    let graph = file.model().graph.as_ref().unwrap();
    graph.node.iter().filter(|node| node.op() == op).count()
}

#[test]
fn batch_norms_are_folded() {
    let maps = || File::new(13).input("x", &[1, 2, 3, 3]);
    // without and with a bias, and one behind a relu, which stays
    let file = maps().tensor("c.weight", &[4, 2, 1, 1]);
    let file = norm(file.node("Conv", &["x", "c.weight"], "c", &[]), "c", "n", 4);
    let file = file.tensor("w2", &[3, 4, 1, 1]).tensor("b2", &[3]).node(
        "Conv",
        &["n", "w2", "b2"],
        "c2",
        &[],
    );
    let file = norm(file, "c2", "n2", 3).node("Relu", &["n2"], "r", &[]);
    let file = norm(file, "r", "out", 3).output("out");
    let new = folds(&file, 2);
    assert_eq!(count(&new, "BatchNormalization"), 1);
    assert_eq!(tensor(&new, "c.bias").dims, [4]);
    let graph = new.model().graph.as_ref().unwrap();
    // w, bias, w2, b2 and those of the norm that stays
    assert_eq!(graph.initializer.len(), 8);
    // groups, transposed
    let attributes = [int("group", 2)];
    let file =
        maps()
            .tensor("w", &[2, 3, 2, 2])
            .node("ConvTranspose", &["x", "w"], "c", &attributes);
    let new = folds(&norm(file, "c", "n", 6).output("n"), 1);
    assert_eq!(count(&new, "BatchNormalization"), 0);
    // matrices, with a bias as a sum, and without
    let flat = || File::new(13).input("x", &[2, 3]).tensor("w", &[3, 4]);
    let file = flat()
        .node("MatMul", &["x", "w"], "m", &[])
        .tensor("b", &[4])
        .node("Add", &["m", "b"], "a", &[]);
    let new = folds(&norm(file, "a", "n", 4).output("n"), 1);
    assert_eq!(
        (count(&new, "Add"), count(&new, "BatchNormalization")),
        (1, 0)
    );
    let file = flat().node("MatMul", &["x", "w"], "m", &[]);
    let new = folds(&norm(file, "m", "n", 4).output("n"), 1);
    assert_eq!(
        (count(&new, "Add"), count(&new, "BatchNormalization")),
        (1, 0)
    );
    let attributes = [int("transB", 1)];
    let file = File::new(13).input("x", &[2, 3]).tensor("w", &[4, 3]).node(
        "Gemm",
        &["x", "w"],
        "m",
        &attributes,
    );
    folds(&norm(file, "m", "n", 4).output("n"), 1);
    // something else reads what the batch norm reads
    let file = flat().node("MatMul", &["x", "w"], "m", &[]);
    let file = norm(file, "m", "n", 4).node("Add", &["n", "m"], "out", &[]);
    let new = folds(&file.output("out"), 0);
    assert_eq!(count(&new, "BatchNormalization"), 1);
}

#[test]
fn a_shared_weight_is_folded_for_one_layer() {
    let file = File::new(13).input("x", &[2, 3]).tensor("w", &[3, 3]).node(
        "MatMul",
        &["x", "w"],
        "m",
        &[],
    );
    let file = norm(file, "m", "n", 3).node("MatMul", &["n", "w"], "out", &[]);
    let new = folds(&file.output("out"), 1);
    assert_eq!(new.tensor("w").unwrap(), file_tensor(&new, "w"));
    let graph = new.model().graph.as_ref().unwrap();
    assert_ne!(graph.node[0].input[1], graph.node[2].input[1]);
}

fn file_tensor(file: &OnnxFile, name: &str) -> Option<Vec<f64>> {
    file.tensor(name).unwrap()
}

#[test]
fn wrong_folds_are_refused() {
    let file = File::new(13).input("x", &[2, 3]).tensor("w", &[3, 4]);
    let file = norm(file.node("MatMul", &["x", "w"], "m", &[]), "m", "n", 4).output("n");
    let (file, network) = (file.file(), file.read());
    let found = &network.foldable()[0];
    let fold = found.folded(|key| file.values(&network, key).unwrap());
    let refused = |fold: Fold| {
        let error = file.rewritten(&network, |_| None, &[fold]).unwrap_err();
        error.to_string()
    };
    let said = refused(Fold {
        weight: found.tensors[0],
        ..fold.clone()
    });
    assert!(said.contains("batch norm `n`"), "{said}");
    let said = refused(Fold {
        norm: found.layer,
        ..fold.clone()
    });
    assert!(said.contains("it follows no layer"), "{said}");
    let said = refused(Fold {
        weights: vec![1.0],
        ..fold
    });
    assert!(said.contains("has 12 values, 1 were given"), "{said}");
}

#[test]
fn outputs_before_functions_that_level_out_can_be_added() {
    let file = dense()
        .node("Softmax", &["h"], "soft", &[])
        .node("Identity", &["soft"], "out", &[])
        .output("out")
        .file();
    assert_eq!(file.before_levelling(), ["h"]);
    let more = file.with_outputs(&file.before_levelling());
    let outputs = &more.model().graph.as_ref().unwrap().output;
    assert_eq!(outputs[1].name.as_deref(), Some("h"));
    // once
    assert_eq!(more.with_outputs(&["h".into()]), more);
}
