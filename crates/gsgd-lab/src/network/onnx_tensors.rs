//! The tensors of an ONNX file: where they stand, and brought to where they can be replaced.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use onnx_rs::ast::{Attribute, DataLocation, DataType, Model, Node, OpType, TensorProto};

use super::entry::{Entry, Number, place};
use super::unpack::unpacked;

/// The file's contents.
pub fn parse(bytes: &[u8]) -> Result<Model<'_>> {
    let model = onnx_rs::parse(bytes).map_err(|e| anyhow::anyhow!("it is no ONNX file: {e}"))?;
    ensure!(
        model.graph.is_some(),
        "it is no ONNX file, or one without a graph"
    );
    Ok(model)
}

/// The file with every tensor of floating point numbers as raw bytes, which can be replaced where they stand.
pub fn with_raw_tensors(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut model = parse(&bytes)?;
    let graph = model.graph.as_mut().context("there is no graph")?;
    let raw: Vec<Option<Vec<u8>>> = stored(graph).map(|(_, tensor)| raw(tensor)).collect();
    if raw.iter().all(Option::is_none) {
        return Ok(bytes);
    }
    let constants = graph.node.iter_mut().filter_map(|node| {
        let is_constant = node.op_type == OpType::Constant;
        let mut attributes = node.attribute.iter_mut();
        let value = attributes.find(|attribute| is_constant && attribute.name == "value")?;
        value.t.as_mut()
    });
    for (tensor, raw) in graph.initializer.iter_mut().chain(constants).zip(&raw) {
        if let Some(raw) = raw {
            let (dims, number) = (tensor.dims().to_vec(), tensor.data_type());
            *tensor = TensorProto::from_raw(tensor.name(), dims, number, raw);
        }
    }
    Ok(unpacked(&onnx_rs::encode(&model)))
}

/// The bytes of a tensor whose numbers are listed one by one.
fn raw(tensor: &TensorProto) -> Option<Vec<u8>> {
    if tensor.as_raw().is_some() {
        return None;
    }
    Some(match tensor.data_type() {
        DataType::Float => tensor
            .as_f32()?
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        DataType::Double => tensor
            .as_f64()?
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        // their bits as whole numbers
        DataType::Float16 | DataType::Bfloat16 => tensor
            .as_i32()?
            .iter()
            .flat_map(|&x| (x as u16).to_le_bytes())
            .collect(),
        _ => return None,
    })
}

/// The tensors of a graph by name: initializers, and the values of Constant nodes.
pub fn stored<'g, 'a>(
    graph: &'g onnx_rs::ast::Graph<'a>,
) -> impl Iterator<Item = (&'a str, &'g TensorProto<'a>)> {
    let constants = graph.node.iter().filter_map(|node| {
        let value = attribute(node, "value").filter(|_| node.op_type == OpType::Constant)?;
        Some((*node.output.first()?, value.t.as_ref()?))
    });
    let initializers = graph.initializer.iter();
    initializers
        .map(|tensor| (tensor.name(), tensor))
        .chain(constants)
}

/// Where the tensors stand in the file.
pub fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let model = parse(bytes)?;
    let graph = model.graph.as_ref().context("there is no graph")?;
    let mut entries = BTreeMap::new();
    for (name, tensor) in stored(graph) {
        ensure!(
            tensor.data_location() != DataLocation::External,
            "tensor `{name}` is in another file: save the model with its tensors inside"
        );
        let number = match tensor.data_type() {
            DataType::Float => Number::F32,
            DataType::Double => Number::F64,
            DataType::Float16 => Number::F16,
            DataType::Bfloat16 => Number::BF16,
            _ => Number::Other,
        };
        let size = match number {
            Number::F64 => 8,
            Number::F32 => 4,
            Number::F16 | Number::BF16 => 2,
            Number::Other => 0,
        };
        let shape = dims(tensor)
            .with_context(|| format!("tensor `{name}` has shape {:?}", tensor.dims()))?;
        let raw = tensor.as_raw().unwrap_or_default();
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let whole = count.and_then(|count| count.checked_mul(size)) == Some(raw.len());
        ensure!(
            whole || size == 0,
            "tensor `{name}` of shape {shape:?} has {} bytes",
            raw.len()
        );
        let entry = Entry {
            shape,
            number,
            place: place(raw, bytes),
        };
        entries.insert(name.to_string(), entry);
    }
    Ok(entries)
}

fn dims(tensor: &TensorProto) -> Option<Vec<usize>> {
    let dims = tensor.dims().iter();
    dims.map(|&d| usize::try_from(d).ok()).collect()
}

/// A node's attribute of this name.
pub fn attribute<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Attribute<'a>> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}
