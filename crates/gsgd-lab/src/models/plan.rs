//! The steps of a forward pass, found once when a network is made: what is computed together, and where a value is read for
//! the last time.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use gsgd::core::graph::{Activation, Graph, Node, Op, Value, Window};
use gsgd::core::scales::ParamKey;

use super::batch::{batched, check};
use super::value::MOST_AXES;

/// How a tensor of the graph is kept in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its shape in the graph and in files.
    pub shape: Vec<usize>,
    /// Whether it trains.
    pub trains: bool,
    /// As what.
    pub form: Form,
}

/// The form of a tensor in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As in the graph.
    Same,
    /// A dense layer's weight `[outputs, inputs]` as `[inputs, outputs]`.
    Turned,
    /// A running statistic, which follows the batches.
    Statistic,
}

/// A step: what is done, with what, and where the result goes.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub work: Work,
    pub reads: Vec<Read>,
    pub to: usize,
    /// The shape of the result for one example.
    pub shape: Vec<usize>,
    /// Whether its first axis is the batch.
    pub batched: bool,
}

/// What a step does; weights go by their places.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Linear {
        weight: usize,
        bias: Option<usize>,
    },
    Conv2d {
        weight: usize,
        bias: Option<usize>,
        window: Window,
        groups: usize,
    },
    BatchNorm {
        tensors: [usize; 4],
        epsilon: f64,
    },
    BatchNormRelu {
        tensors: [usize; 4],
        epsilon: f64,
    },
    AddRelu,
    Op(Op),
}

/// Where a step reads a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Read {
    /// A weight.
    Weight(usize),
    /// A value that is read again.
    Shared(usize),
    /// A value that is read for the last time.
    Last(usize),
}

/// A network's steps.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) kept: Vec<Kept>,
    pub(super) input: usize,
    /// The shape of an example with a batch of 1.
    pub(super) input_shape: Vec<usize>,
    pub(super) steps: Vec<Step>,
    pub(super) output: usize,
    /// Values of a forward pass.
    pub(super) values: usize,
    /// Numbers in the output for an example.
    pub(super) outputs: usize,
}

impl Plan {
    /// Of a graph with a batch of 1, one input and one output.
    ///
    /// # Errors
    /// An operation cannot be carried out, or not for a batch of several examples; with its name and the node's.
    pub fn new(graph: &Graph) -> Result<Self> {
        let planner = Planner::new(graph);
        let (input, output) = planner.ends()?;
        let mut steps = planner.steps()?;
        mark_last_reads(&mut steps, output.index());
        let input_shape = graph.node(input).shape.clone();
        Ok(Self {
            kept: planner.kept()?,
            input: input.index(),
            input_shape,
            steps,
            output: output.index(),
            values: graph.nodes().len(),
            outputs: graph.node(output).shape.iter().product(),
        })
    }

    /// How every tensor of the graph is kept, in the graph's order.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// The shape of an example.
    pub fn input(&self) -> &[usize] {
        &self.input_shape[1..]
    }

    /// Numbers of an example.
    pub fn features(&self) -> usize {
        self.input_shape.iter().product()
    }

    /// Numbers in the output for an example.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// A node as messages name it.
pub(super) fn named(node: &Node) -> String {
    match node.name.as_str() {
        "" => format!("a `{}`", node.op.name()),
        name => format!("`{name}`, a `{}`", node.op.name()),
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    /// The values that the output depends on.
    live: Vec<bool>,
    readers: Vec<usize>,
    batched: Vec<bool>,
    /// The place of every tensor.
    places: HashMap<ParamKey, usize>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph) -> Self {
        let nodes = graph.nodes();
        let mut live = vec![false; nodes.len()];
        graph
            .outputs()
            .iter()
            .for_each(|value| live[value.index()] = true);
        // what a live value reads comes before it
        for at in (0..nodes.len()).rev() {
            if live[at] {
                nodes[at]
                    .reads
                    .iter()
                    .for_each(|value| live[value.index()] = true);
            }
        }
        let params = graph.params().iter().enumerate();
        Self {
            graph,
            live,
            readers: graph.readers(),
            batched: batched(graph),
            places: params.map(|(at, param)| (param.key, at)).collect(),
        }
    }

    fn node(&self, value: Value) -> &Node {
        self.graph.node(value)
    }

    /// The live values with their nodes.
    fn all(&self) -> impl Iterator<Item = (Value, &Node)> {
        let values = self.graph.values().zip(self.graph.nodes());
        values.filter(|(value, _)| self.live[value.index()])
    }

    /// The only input and the only output.
    fn ends(&self) -> Result<(Value, Value)> {
        let is_input = |node: &Node| matches!(node.op, Op::Input { .. });
        let inputs: Vec<Value> = self
            .all()
            .filter(|(_, node)| is_input(node))
            .map(|(value, _)| value)
            .collect();
        let (&[input], &[output]) = (&inputs[..], self.graph.outputs()) else {
            bail!(
                "the network has {} inputs and {} outputs; one of each is trained",
                inputs.len(),
                self.graph.outputs().len()
            );
        };
        for (value, what) in [(input, "input"), (output, "output")] {
            let shape = &self.node(value).shape;
            ensure!(
                shape.first() == Some(&1) && self.batched[value.index()],
                "the network's {what} has shape {shape:?}; the first axis is the batch, of 1"
            );
        }
        let shape = &self.node(output).shape;
        ensure!(
            shape.len() >= 2 && shape[2..].iter().all(|&size| size == 1),
            "the network's output has shape {shape:?}; [1, CLASSES] is trained: flatten what comes before the last layer"
        );
        Ok((input, output))
    }

    /// The tensor that a value is, if it is one.
    fn place(&self, value: Value) -> Option<usize> {
        match self.node(value).op {
            Op::Param(key) => self.places.get(&key).copied(),
            _ => None,
        }
    }

    /// The same, if it has this many axes.
    fn place_of(&self, value: Value, axes: usize) -> Option<usize> {
        let place = self.place(value)?;
        (self.graph.params()[place].shape.len() == axes).then_some(place)
    }

    /// A dense layer: weight and bias.
    fn linear(&self, node: &Node) -> Option<(usize, Option<usize>)> {
        let &[x, weight, ref bias @ ..] = &node.reads[..] else {
            return None;
        };
        let fits = matches!(node.op, Op::MatMul { .. }) && self.node(x).shape.len() >= 2;
        let weight = self.place_of(weight, 2).filter(|_| fits)?;
        match bias {
            [] => Some((weight, None)),
            &[bias] => Some((weight, Some(self.place_of(bias, 1)?))),
            _ => None,
        }
    }

    /// The weights of dense layers that are kept as `[inputs, outputs]`: all that reads them are such layers.
    fn turned(&self) -> Vec<bool> {
        let count = self.graph.params().len();
        let (mut layers, mut others) = (vec![false; count], vec![false; count]);
        for (_, node) in self.all() {
            let turns = matches!(node.op, Op::MatMul { transposed: true });
            let weight = self
                .linear(node)
                .filter(|_| turns)
                .map(|(weight, _)| weight);
            for (at, &value) in node.reads.iter().enumerate() {
                if let Some(place) = self.place(value) {
                    match at == 1 && weight == Some(place) {
                        true => layers[place] = true,
                        false => others[place] = true,
                    }
                }
            }
        }
        layers
            .iter()
            .zip(&others)
            .map(|(layer, other)| *layer && !other)
            .collect()
    }

    fn kept(&self) -> Result<Vec<Kept>> {
        let statistics = statistics(self.graph);
        let turned = self.turned();
        let params = self.graph.params().iter().enumerate();
        params
            .map(|(at, param)| {
                let axes = param.shape.len();
                ensure!(
                    axes <= MOST_AXES,
                    "`{}` has {axes} axes; {MOST_AXES} at most are trained",
                    param.name
                );
                Ok(Kept {
                    name: param.name.clone(),
                    shape: param.shape.clone(),
                    trains: param.trains,
                    form: match (statistics[at], turned[at]) {
                        (true, _) => Form::Statistic,
                        (_, true) => Form::Turned,
                        _ => Form::Same,
                    },
                })
            })
            .collect()
    }

    /// The steps in order, every value shared.
    fn steps(&self) -> Result<Vec<Step>> {
        let turned = self.turned();
        let mut steps = Vec::new();
        for (value, node) in self.all() {
            let at = value.index();
            if matches!(node.op, Op::Input { .. } | Op::Param(_)) || self.goes_into_relu(value) {
                continue;
            }
            let context = || format!("it cannot be trained: {}", named(node));
            check(self.graph, node, &self.batched, self.batched[at]).with_context(context)?;
            let before = self.relus_own(node);
            let work = self.work(node, before, &turned).with_context(context)?;
            let reads = match (before, &work) {
                (Some(own), _) => &own.reads,
                (None, _) => &node.reads,
            };
            let reads = match work {
                // the rest are its own tensors
                Work::Linear { .. } | Work::Conv2d { .. } => &reads[..1],
                Work::BatchNorm { .. } | Work::BatchNormRelu { .. } => &reads[..1],
                Work::AddRelu | Work::Op(_) => &reads[..],
            };
            let read = |&value: &Value| match self.place(value) {
                Some(place) => Read::Weight(place),
                None => Read::Shared(value.index()),
            };
            steps.push(Step {
                reads: reads.iter().map(read).collect(),
                work,
                to: at,
                shape: match node.shape.is_empty() {
                    true => vec![1],
                    false => node.shape.clone(),
                },
                batched: self.batched[at],
            });
        }
        Ok(steps)
    }

    /// Whether a value is computed together with the ReLU behind it, which alone reads it.
    fn goes_into_relu(&self, value: Value) -> bool {
        let mut relus = self.all().filter(|(_, node)| node.reads == [value]);
        relus.any(|(_, node)| self.relus_own(node).is_some())
    }

    /// The batch norm or the sum that a ReLU is computed with.
    fn relus_own(&self, node: &Node) -> Option<&Node> {
        let (Op::Activation(Activation::Relu), &[before]) = (&node.op, &node.reads[..]) else {
            return None;
        };
        let own = self.node(before);
        let fits = match own.op {
            Op::BatchNorm { .. } => own.shape.len() == 4,
            Op::Add => own.reads.len() == 2,
            _ => false,
        };
        (fits && self.readers[before.index()] == 1).then_some(own)
    }

    fn work(&self, node: &Node, before: Option<&Node>, turned: &[bool]) -> Result<Work> {
        let own = before.unwrap_or(node);
        Ok(match (&own.op, before) {
            (Op::BatchNorm { epsilon }, before) => {
                let tensors = self.of_batch_norm(own)?;
                let epsilon = *epsilon;
                match before {
                    Some(_) => Work::BatchNormRelu { tensors, epsilon },
                    None => Work::BatchNorm { tensors, epsilon },
                }
            }
            (Op::Add, Some(_)) => Work::AddRelu,
            (Op::MatMul { transposed }, _) => match self.linear(own) {
                Some((weight, bias)) if *transposed == turned[weight] => {
                    Work::Linear { weight, bias }
                }
                _ => Work::Op(own.op.clone()),
            },
            (Op::Conv { window, groups }, _) => match self.conv2d(own) {
                Some((weight, bias)) => Work::Conv2d {
                    weight,
                    bias,
                    window: window.clone(),
                    groups: *groups,
                },
                None => Work::Op(own.op.clone()),
            },
            (op, _) => Work::Op(op.clone()),
        })
    }

    fn conv2d(&self, node: &Node) -> Option<(usize, Option<usize>)> {
        let &[_, weight, ref bias @ ..] = &node.reads[..] else {
            return None;
        };
        let weight = self.place_of(weight, 4)?;
        match bias {
            [] => Some((weight, None)),
            &[bias] => Some((weight, Some(self.place_of(bias, 1)?))),
            _ => None,
        }
    }

    fn of_batch_norm(&self, node: &Node) -> Result<[usize; 4]> {
        let mut tensors = [0; 4];
        for (tensor, &value) in tensors.iter_mut().zip(&node.reads[1..]) {
            *tensor = self.place_of(value, 1).context(
                "gamma, beta, running mean and running variance have to be tensors of the network with one axis",
            )?;
        }
        ensure!(
            node.shape.len() >= 2,
            "it normalises {:?}, which has no axis of channels",
            node.shape
        );
        Ok(tensors)
    }
}

/// The tensors of a graph that are running statistics.
pub fn statistics(graph: &Graph) -> Vec<bool> {
    let norms = graph.nodes().iter();
    let norms = norms.filter(|node| matches!(node.op, Op::BatchNorm { .. }));
    let keys: Vec<ParamKey> = norms
        .flat_map(|node| &node.reads[3..])
        .filter_map(|&value| match graph.node(value).op {
            Op::Param(key) => Some(key),
            _ => None,
        })
        .collect();
    let params = graph.params().iter();
    params.map(|param| keys.contains(&param.key)).collect()
}

/// Marks the last step that reads a value, so that it has it alone.
fn mark_last_reads(steps: &mut [Step], output: usize) {
    let mut seen = std::collections::HashSet::from([output]);
    for step in steps.iter_mut().rev() {
        for read in step.reads.iter_mut().rev() {
            if let Read::Shared(place) = *read
                && seen.insert(place)
            {
                *read = Read::Last(place);
            }
        }
    }
}
