//! A network as the list of its operations, with the tensors of each by name.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::op::{Function, Op};
use super::shapes;
use super::tensors::Tensors;

/// A value of the network and how it is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name, unique.
    pub name: String,
    /// What is done.
    pub op: Op,
    /// To which values, by their place in [`Graph::nodes`].
    pub from: Vec<usize>,
    /// Shape of the result without the batch: `[features]` or `[channels, height, width]`.
    pub shape: Vec<usize>,
}

/// Operations in an order in which they can be carried out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// All values.
    pub nodes: Vec<Node>,
    /// The places of the results.
    pub outputs: Vec<usize>,
    /// Tensors that something beside their layer reads, by the full name, with what does: they stay as they are.
    pub held: BTreeMap<String, String>,
    /// Channels of all values.
    channels: usize,
}

/// Values of one example in a layer at most.
const LARGEST: usize = 1 << 25;
/// Channels of all layers together at most: what a class for each takes is a few times as many bytes.
const CHANNELS: usize = 1 << 27;

impl Graph {
    /// A graph without operations, in which these tensors will be held.
    pub fn holding(held: BTreeMap<String, String>) -> Self {
        Self {
            held,
            ..Self::default()
        }
    }

    /// Appends an operation, if it fits, and returns its place.
    ///
    /// # Errors
    /// Shapes that do not fit, tensors that are missing; with the node's name.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        op: Op,
        from: Vec<usize>,
        tensors: &Tensors,
    ) -> Result<usize> {
        let name = name.into();
        let read: Vec<&[usize]> = from
            .iter()
            .map(|&at| self.nodes[at].shape.as_slice())
            .collect();
        let shape =
            shapes::result(&op, &read, tensors).with_context(|| format!("layer `{name}`"))?;
        let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        ensure!(
            !shape.is_empty() && size.is_some_and(|size| (1..=LARGEST).contains(&size)),
            "layer `{name}` gives {shape:?}, values between 1 and {LARGEST} are allowed"
        );
        self.channels = self.channels.saturating_add(shape[0]);
        ensure!(
            self.channels <= CHANNELS,
            "with layer `{name}` there are more than {CHANNELS} channels in all layers together"
        );
        self.nodes.push(Node {
            name,
            op,
            from,
            shape,
        });
        Ok(self.nodes.len() - 1)
    }

    /// The inputs' shapes.
    pub fn inputs(&self) -> impl Iterator<Item = &[usize]> {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Input { shape } => Some(shape.as_slice()),
            _ => None,
        })
    }

    /// The operations that nothing is known of: name, kind.
    pub fn opaque(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Opaque { kind, .. } => Some((node.name.as_str(), kind.as_str())),
            _ => None,
        })
    }

    /// What the last function that levels out reads, where such functions give the value at `at`: they hide how far their
    /// inputs are off.
    pub fn before_levelling(&self, mut at: usize) -> Option<usize> {
        let mut before = None;
        loop {
            let node = &self.nodes[at];
            let levels = match &node.op {
                Op::Function {
                    function: Function::Softmax | Function::Sigmoid | Function::Tanh,
                } => true,
                Op::Flatten {} | Op::Identity {} => false,
                _ => return before,
            };
            at = *node.from.first()?;
            if levels {
                before = Some(at);
            }
        }
    }

    /// How often each value is read, once more if it is a result.
    pub fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.nodes.len()];
        let reads = self.nodes.iter().flat_map(|node| &node.from);
        for &at in reads.chain(&self.outputs) {
            readers[at] += 1;
        }
        readers
    }

    /// Holds the tensors that several layers use, and those that share memory with another.
    pub fn hold_shared(&mut self, tensors: &Tensors) {
        let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in &self.nodes {
            for tensor in node.op.changing() {
                let users = users.entry(tensors.full_name(tensor)).or_default();
                users.push(&node.name);
            }
        }
        let mut held = BTreeMap::new();
        for (name, other) in tensors.shared() {
            if users.contains_key(name) {
                let why = match name == other {
                    true => "some of its numbers are one in memory".to_string(),
                    false => format!("it shares memory with `{other}`"),
                };
                held.insert(name.to_string(), why);
            }
        }
        for (name, mut users) in users.into_iter().filter(|(_, users)| users.len() > 1) {
            users.dedup();
            let why = match users[..] {
                [only] => format!("`{only}` uses it more than once"),
                _ => format!("`{}` use it", users.join("` and `")),
            };
            held.insert(name.to_string(), why);
        }
        self.held.append(&mut held);
    }
}
