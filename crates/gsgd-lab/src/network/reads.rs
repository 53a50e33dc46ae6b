//! Who reads the values and tensors of an ONNX graph: its nodes, the bodies of If, Loop and Scan, and its results.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, ensure};
use onnx_rs::ast::{Graph, Node, OpType};

use super::tensors::Tensors;

/// The readers of every name.
pub struct Reads<'a> {
    by_name: HashMap<&'a str, Vec<String>>,
    aliases: HashMap<&'a str, &'a str>,
}

impl<'a> Reads<'a> {
    /// Those of a graph.
    ///
    /// # Errors
    /// A node reads what nothing before it gives.
    pub fn from_graph(graph: &'a Graph<'a>, tensors: &Tensors) -> Result<Self> {
        let mut reads = Self {
            by_name: HashMap::new(),
            aliases: HashMap::new(),
        };
        let mut given: HashSet<&str> = graph.input.iter().map(|input| input.name).collect();
        given.extend(graph.initializer.iter().map(|tensor| tensor.name()));
        let sparse = graph.sparse_initializer.iter();
        given.extend(sparse.filter_map(|tensor| Some(tensor.values.as_ref()?.name())));
        for node in &graph.node {
            let label = label(node);
            for &name in node.input.iter().filter(|name| !name.is_empty()) {
                ensure!(
                    given.contains(name),
                    "{label} reads `{name}`, which is given by nothing before it"
                );
                // its size alone is no use of a tensor
                if node.op_type != OpType::Shape {
                    reads.add(name, &label);
                }
            }
            for name in inside(node) {
                reads.add(name, &format!("a body of {label}"));
            }
            if let [tensor, ..] = node.input[..]
                && renames(node)
                && tensors.shape(reads.root(tensor)).is_some()
            {
                // whoever reads the other name reads the tensor
                let root = reads.root(tensor);
                if let Some(readers) = reads.by_name.get_mut(root) {
                    readers.pop();
                }
                reads
                    .aliases
                    .extend(node.output.iter().map(|&name| (name, root)));
            }
            given.extend(&node.output);
        }
        for output in &graph.output {
            reads.add(output.name, "the results");
        }
        Ok(reads)
    }

    fn add(&mut self, name: &'a str, reader: &str) {
        let readers = self.by_name.entry(self.root(name)).or_default();
        readers.push(reader.to_string());
    }

    /// The tensor that a name is another one of, or the name.
    pub fn root(&self, name: &'a str) -> &'a str {
        self.aliases.get(name).copied().unwrap_or(name)
    }

    /// Who reads a value or a tensor, under all its names; twice who reads it twice.
    pub fn readers(&self, name: &str) -> &[String] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Whether the node gives its first input another name or shape and nothing else.
pub fn renames(node: &Node) -> bool {
    matches!(
        node.op_type,
        OpType::Identity | OpType::Unsqueeze | OpType::Squeeze
    )
}

/// How messages name a node.
pub fn label(node: &Node) -> String {
    format!("{} `{}`", node.op_type, name_of(node))
}

/// A node's name, or that of its result.
pub fn name_of<'a>(node: &Node<'a>) -> &'a str {
    match node.name {
        "" => node.output.first().copied().unwrap_or_default(),
        name => name,
    }
}

/// What the bodies of a node read, of themselves or from outside.
pub fn inside<'a>(node: &'a Node<'a>) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut left: Vec<&'a Graph<'a>> = bodies(node).collect();
    while let Some(body) = left.pop() {
        names.extend(body.output.iter().map(|output| output.name));
        for node in &body.node {
            names.extend(node.input.iter().filter(|name| !name.is_empty()));
            left.extend(bodies(node));
        }
    }
    names
}

/// The bodies of a node.
pub fn bodies<'a>(node: &'a Node<'a>) -> impl Iterator<Item = &'a Graph<'a>> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}
