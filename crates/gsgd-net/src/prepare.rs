//! ONNX files as the runtime takes them: with everything inside, attributes that the standard fills in, and further outputs.

use std::collections::HashSet;

use prost::Message;

use crate::onnx::OnnxFile;
use crate::onnx::proto::{
    AttributeProto, NodeProto, TensorProto, TypeValue, attribute_type, data_type,
};

/// The bytes of a model for the runtime; behind its outputs what functions that level out at the end read.
pub(crate) fn for_the_runtime(file: &OnnxFile) -> Vec<u8> {
    let file = file.with_outputs(&file.before_levelling());
    let mut model = file.model().clone();
    if let Some(graph) = &mut model.graph {
        let weights: Vec<(String, Vec<i64>)> = graph
            .initializer
            .iter()
            .map(|tensor| (tensor.name.clone().unwrap_or_default(), tensor.dims.clone()))
            .collect();
        for tensor in &mut graph.initializer {
            inside(tensor);
        }
        let read: HashSet<String> = graph
            .node
            .iter()
            .flat_map(|node| node.input.iter().cloned())
            .chain(graph.output.iter().filter_map(|output| output.name.clone()))
            .collect();
        for node in &mut graph.node {
            // a mask that nothing reads
            if node.op_type.as_deref() == Some("Dropout")
                && node.output.get(1).is_some_and(|mask| !read.contains(mask))
            {
                node.output.truncate(1);
            }
            let constants = node.attribute.iter_mut();
            constants
                .filter_map(|attribute| attribute.t.as_mut())
                .for_each(inside);
            let weight = node.input.get(1).and_then(|name| {
                let found = weights.iter().find(|(other, _)| other == name)?;
                Some(found.1.as_slice())
            });
            let weight = weight.map(<[i64]>::to_vec);
            complete(node, weight.as_deref());
        }
    }
    model.encode_to_vec()
}

/// A tensor that was in a file of its own, whose bytes are there.
fn inside(tensor: &mut TensorProto) {
    tensor.data_location = None;
    tensor.external_data.clear();
}

/// Fills in what the standard says of absent attributes.
fn complete(node: &mut NodeProto, weight: Option<&[i64]>) {
    if !node.domain.as_deref().unwrap_or_default().is_empty() {
        return;
    }
    match node.op_type.as_deref().unwrap_or_default() {
        // in inference it changes nothing
        "Dropout" if node.output.len() <= 1 => {
            node.op_type = Some("Identity".into());
            node.input.truncate(1);
            node.attribute.clear();
        }
        "Conv" | "ConvTranspose" => {
            let kernel = ints(node, "kernel_shape").or_else(|| Some(weight?.get(2..)?.to_vec()));
            if let Some(kernel) = kernel {
                window(node, &kernel);
            }
        }
        "MaxPool" | "AveragePool" => {
            if let Some(kernel) = ints(node, "kernel_shape") {
                window(node, &kernel);
            }
        }
        _ => {}
    }
}

/// Kernel, strides and dilations of a window.
fn window(node: &mut NodeProto, kernel: &[i64]) {
    let ones = vec![1; kernel.len()];
    let averages = node.op_type.as_deref() == Some("AveragePool");
    for (name, values) in [
        ("kernel_shape", kernel),
        ("strides", &ones),
        ("dilations", &ones),
    ] {
        // averages had none before opset 19
        let absent = averages && name == "dilations";
        if ints(node, name).is_none() && !absent {
            node.attribute.push(AttributeProto {
                name: Some(name.into()),
                r#type: Some(attribute_type::INTS),
                ints: values.to_vec(),
                ..Default::default()
            });
        }
    }
}

fn ints(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    let mut attributes = node.attribute.iter();
    let found = attributes.find(|attribute| attribute.name.as_deref() == Some(name))?;
    (!found.ints.is_empty()).then(|| found.ints.clone())
}

/// Whether an input takes whole numbers: it says where to look something up.
pub(crate) fn input_is_whole(file: &OnnxFile, name: &str) -> bool {
    let graph = file.model().graph.iter();
    let mut inputs = graph.flat_map(|graph| &graph.input);
    let found = inputs.find(|input| input.name.as_deref() == Some(name));
    let value = found.and_then(|input| input.r#type.as_ref()?.value.as_ref());
    match value {
        Some(TypeValue::TensorType(tensor)) => {
            matches!(tensor.elem_type, Some(data_type::INT64 | data_type::INT32))
        }
        _ => false,
    }
}
