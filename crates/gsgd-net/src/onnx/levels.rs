//! Values before functions that level out, as further outputs: such functions hide how far their inputs are off.

use std::collections::HashMap;

use super::OnnxFile;
use super::edit::value_info;
use super::proto::{NodeProto, TypeValue, ValueInfoProto};

impl OnnxFile {
    /// The values that functions which level out read, where they give the results.
    pub fn before_levelling(&self) -> Vec<String> {
        let Some(graph) = &self.model.graph else {
            return Vec::new();
        };
        let nodes = graph.node.iter().flat_map(|node| {
            let outputs = node.output.iter();
            outputs.map(move |output| (output.as_str(), node))
        });
        let by_output: HashMap<&str, &NodeProto> = nodes.collect();
        let mut found = Vec::new();
        for output in &graph.output {
            let mut at = output.name.as_deref().unwrap_or_default();
            let mut before = None;
            // each node once at most, should the file lead in a circle
            for _ in 0..graph.node.len() {
                let Some(node) = by_output.get(at) else { break };
                let levels = match node.op() {
                    "Softmax" | "LogSoftmax" | "Sigmoid" | "HardSigmoid" | "Tanh" | "Softsign" => {
                        true
                    }
                    "Identity" | "Flatten" | "Reshape" | "Squeeze" => false,
                    _ => break,
                };
                let Some(input) = node.read(0) else { break };
                at = input;
                if levels {
                    before = Some(at);
                }
            }
            found.extend(before.filter(|name| by_output.contains_key(name)));
        }
        found.into_iter().map(str::to_string).collect()
    }

    /// The file with these values as further outputs.
    pub fn with_outputs(&self, names: &[String]) -> OnnxFile {
        let mut file = self.clone();
        let Some(graph) = &mut file.model.graph else {
            return file;
        };
        let is = |info: &&ValueInfoProto, name: &str| info.name.as_deref() == Some(name);
        let number = graph.output.iter().find_map(|output| {
            match output.r#type.as_ref()?.value.as_ref()? {
                TypeValue::TensorType(tensor) => tensor.elem_type,
                _ => None,
            }
        });
        for name in names {
            if graph.output.iter().any(|output| is(&output, name)) {
                continue;
            }
            let known = graph.value_info.iter().find(|info| is(info, name));
            let info = match known {
                Some(info) => info.clone(),
                None => value_info(name, number.unwrap_or_default(), None),
            };
            graph.output.push(info);
        }
        file
    }
}
