//! Changes to the nodes and tensors of a graph.

use std::collections::{HashMap, HashSet};

use super::error::{OnnxError, invalid};
use super::numbers::{self, label};
use super::proto::{
    Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto,
    TensorType, TypeProto, TypeValue, ValueInfoProto,
};

/// Files of earlier versions name their tensors among their inputs.
const TENSORS_ARE_NO_INPUTS: i64 = 4;

/// A model that is being changed.
pub(super) struct Editor {
    pub model: ModelProto,
    /// All names in it.
    names: HashSet<String>,
    /// Nodes that are to stand before the one that gives a value.
    before: HashMap<String, Vec<NodeProto>>,
}

impl Editor {
    pub fn new(model: &ModelProto) -> Self {
        let mut names = HashSet::new();
        if let Some(graph) = &model.graph {
            collect(graph, &mut names);
        }
        Self {
            model: model.clone(),
            names,
            before: HashMap::new(),
        }
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.get_or_insert_default()
    }

    /// A name that nothing has, like this one.
    pub fn name(&mut self, like: &str) -> String {
        let mut name = like.to_string();
        let mut count = 1;
        while self.names.contains(&name) {
            count += 1;
            name = format!("{like}_{count}");
        }
        self.names.insert(name.clone());
        name
    }

    /// A further tensor.
    pub fn add(&mut self, tensor: TensorProto) {
        let is_input = self.model.ir_version.unwrap_or(0) < TENSORS_ARE_NO_INPUTS;
        let info = value_info(
            label(&tensor),
            tensor.data_type.unwrap_or(0),
            Some(&tensor.dims),
        );
        let graph = self.graph();
        if is_input {
            graph.input.push(info);
        }
        graph.initializer.push(tensor);
    }

    /// The node that gives a value.
    pub fn giving(&mut self, value: &str) -> Result<&mut NodeProto, OnnxError> {
        let nodes = &mut self.graph().node;
        let mut found = nodes
            .iter_mut()
            .filter(|node| node.output.iter().any(|output| output == value));
        found.next().ok_or_else(|| {
            invalid(
                format!("value `{value}`"),
                "no node gives it: is this the file that the network was read from?",
            )
        })
    }

    /// Lets a node read a tensor in place of another that it reads through a path of nodes, which other nodes keep.
    pub fn rewire(
        &mut self,
        reader: &str,
        at: usize,
        path: &[String],
        tensor: &str,
    ) -> Result<(), OnnxError> {
        let mut nodes = Vec::new();
        for value in path {
            nodes.push(self.giving(value)?.clone());
        }
        let mut read = tensor.to_string();
        if nodes.iter().any(|node| node.op() != "Identity") {
            for mut node in nodes {
                let given = self.name(&format!("{tensor}_{}", node.op().to_lowercase()));
                if let Some(first) = node.input.first_mut() {
                    *first = std::mem::replace(&mut read, given.clone());
                }
                node.output = vec![given];
                if let Some(name) = &node.name {
                    let name = name.clone();
                    node.name = Some(self.name(&name));
                }
                self.before.entry(reader.into()).or_default().push(node);
            }
        }
        let node = self.giving(reader)?;
        let name = node.label().to_string();
        match node.input.get_mut(at) {
            Some(input) => {
                *input = read;
                Ok(())
            }
            None => Err(invalid(
                format!("node `{name}`"),
                format!("it reads nothing at place {at}"),
            )),
        }
    }

    /// Gives a value the name of another, which nothing gives any more.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), OnnxError> {
        let node = self.giving(from)?;
        for output in &mut node.output {
            if output == from {
                *output = to.into();
            }
        }
        let graph = self.graph();
        for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if input == from {
                *input = to.into();
            }
        }
        graph
            .value_info
            .retain(|info| info.name.as_deref() != Some(from));
        if let Some(nodes) = self.before.remove(from) {
            self.before.entry(to.into()).or_default().extend(nodes);
        }
        Ok(())
    }

    /// Whether a value is read by a node, a body or as an output.
    pub fn is_read(&self, value: &str) -> bool {
        let Some(graph) = &self.model.graph else {
            return false;
        };
        let by_node = |node: &NodeProto| {
            node.input.iter().any(|name| name == value)
                || node.bodies().any(|body| mentions(body, value))
        };
        let waiting = self.before.values().flatten();
        graph.node.iter().chain(waiting).any(by_node)
            || graph
                .output
                .iter()
                .any(|output| output.name.as_deref() == Some(value))
    }

    /// Takes away what gives this value, and what that alone reads, where nothing reads it any more.
    pub fn sweep(&mut self, value: &str) {
        let mut open = vec![value.to_string()];
        while let Some(value) = open.pop() {
            if value.is_empty() || self.is_read(&value) {
                continue;
            }
            let graph = self.graph();
            let before = graph.initializer.len();
            graph.initializer.retain(|tensor| label(tensor) != value);
            if graph.initializer.len() < before {
                graph
                    .input
                    .retain(|input| input.name.as_deref() != Some(&value));
                continue;
            }
            let only = |node: &NodeProto| node.output.len() == 1 && node.output[0] == value;
            if let Some(at) = graph.node.iter().position(only) {
                open.extend(graph.node.remove(at).input);
            }
        }
    }

    /// The changed model.
    pub fn finish(mut self) -> ModelProto {
        let mut before = std::mem::take(&mut self.before);
        let graph = self.graph();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in graph.node.drain(..) {
            for output in &node.output {
                nodes.extend(before.remove(output).into_iter().flatten());
            }
            nodes.push(node);
        }
        graph.node = nodes;
        self.model
    }
}

/// Whether a body reads a value of this name, or has one of its own.
fn mentions(body: &GraphProto, value: &str) -> bool {
    let mut nodes = body.node.iter();
    nodes.any(|node| {
        node.input.iter().any(|name| name == value)
            || node.bodies().any(|body| mentions(body, value))
    }) || body
        .output
        .iter()
        .any(|output| output.name.as_deref() == Some(value))
}

fn collect(graph: &GraphProto, names: &mut HashSet<String>) {
    let infos = graph.input.iter().chain(&graph.output);
    names.extend(
        infos
            .chain(&graph.value_info)
            .filter_map(|info| info.name.clone()),
    );
    names.extend(
        graph
            .initializer
            .iter()
            .map(|tensor| label(tensor).to_string()),
    );
    for node in &graph.node {
        names.extend(node.name.clone());
        names.extend(node.input.iter().chain(&node.output).cloned());
        node.bodies().for_each(|body| collect(body, names));
    }
}

/// The name and type of a tensor.
pub(super) fn value_info(name: &str, number: i32, dims: Option<&[i64]>) -> ValueInfoProto {
    let shape = dims.map(|dims| TensorShapeProto {
        dim: dims
            .iter()
            .map(|&dim| Dimension {
                value: Some(DimensionValue::DimValue(dim)),
                denotation: None,
            })
            .collect(),
    });
    let tensor = TensorType {
        elem_type: Some(number),
        shape,
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(tensor)),
            denotation: None,
        }),
        ..Default::default()
    }
}

/// A tensor with other values, in its own type.
pub(super) fn like(
    tensor: &TensorProto,
    name: &str,
    values: &[f64],
) -> Result<TensorProto, OnnxError> {
    let mut new = TensorProto {
        name: Some(name.into()),
        dims: tensor.dims.clone(),
        data_type: tensor.data_type,
        data_location: tensor.data_location,
        ..Default::default()
    };
    numbers::replace(&mut new, values)?;
    Ok(new)
}
