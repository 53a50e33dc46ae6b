//! What a network computes, by an ONNX runtime, and how far two networks are apart.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gsgd_core::graph::{Node, Op};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::file::NetworkFile;
use crate::number::Number;
use crate::onnx::{self, OnnxFile};
use crate::prepare;
use crate::runtime::{self, Input, Numbers};
use crate::store::Store;
use crate::tensors::Tensors;

/// Values in the largest layer of a batch of examples.
const EVALUATED: usize = 1 << 20;
/// Random examples at least.
const FEWEST: usize = 2;
/// Random examples at most.
const MOST: usize = 64;
/// Values of a batch of the fewest examples that are there at one time, at most: 2 GiB of f32 for the fewest.
const AT_ONE_TIME: usize = (2 << 30) / 4 / FEWEST;

impl NetworkFile {
    fn inputs(&self) -> impl Iterator<Item = &Node> {
        let nodes = self.graph().nodes().iter();
        nodes.filter(|node| matches!(node.op, Op::Input { .. }))
    }

    /// Whether an input takes whole numbers: it says where to look something up.
    fn is_whole(&self, input: &Node) -> bool {
        match &self.store {
            Store::Tensors { .. } => false,
            Store::Onnx(store) => prepare::input_is_whole(store.file(), &input.name),
        }
    }

    /// Random inputs, as many as take no more than a moment.
    pub fn random_inputs(&self, seed: u64) -> Vec<Input> {
        let sizes = self.graph().nodes().iter();
        let sizes = sizes.map(|node| node.shape.iter().product::<usize>());
        let largest = sizes.max().unwrap_or(1).max(1);
        // whole batches of what the file fixes
        let batch = self.inputs().filter_map(|node| node.shape.first()).max();
        let batch = batch.copied().unwrap_or(1).max(1);
        let examples = (EVALUATED / largest).clamp(FEWEST, MOST).div_ceil(batch) * batch;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let inputs = self.inputs().map(|node| {
            let shape = with_batch(&node.shape, examples);
            let count: usize = shape.iter().product();
            let numbers = match self.is_whole(node) {
                true => Numbers::Whole((0..count).map(|_| rng.random_range(0..2)).collect()),
                false => {
                    // uniform with variance 1
                    let number = |_| 12f32.sqrt() * (rng.random::<f32>() - 0.5);
                    Numbers::Float((0..count).map(number).collect())
                }
            };
            Input { shape, numbers }
        });
        inputs.collect()
    }

    /// The inputs in a safetensors file: a tensor for each input of the network, by its name or, where there is one of
    /// each, by any.
    ///
    /// # Errors
    /// The file cannot be read, or does not fit.
    pub fn inputs_from(&self, path: &Path) -> Result<Vec<Input>> {
        let file = Tensors::open(path, None)?;
        let names: Vec<&str> = file.names().collect();
        let inputs = self.inputs().map(|node| {
            let name = match names[..] {
                [only] => only,
                _ => &node.name,
            };
            let values = file.values(name)?;
            let each: usize = node.shape.iter().skip(1).product();
            ensure!(
                !values.is_empty() && values.len().is_multiple_of(each),
                "`{name}` holds {} values, an input of this network has {:?}",
                values.len(),
                &node.shape[1.min(node.shape.len())..]
            );
            let shape = with_batch(&node.shape, values.len() / each);
            let numbers = match self.is_whole(node) {
                true => Numbers::Whole(values.iter().map(|&value| value as i32).collect()),
                false => Numbers::Float(values.iter().map(|&value| value as f32).collect()),
            };
            Ok(Input { shape, numbers })
        });
        let inputs: Result<Vec<Input>> = inputs.collect();
        inputs.with_context(|| format!("in {}", path.display()))
    }

    /// The results of these inputs, as the file would be written; behind them what functions that level out at the end read,
    /// as a softmax does: they hide how far their inputs are off.
    ///
    /// # Errors
    /// The file asks for too much memory, or cannot be computed.
    pub fn outputs(&self, inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
        let (values, layer) = self.most_values();
        ensure!(
            values <= AT_ONE_TIME,
            "{values} values of an example are there at one time in layer `{layer}`, {AT_ONE_TIME} are allowed"
        );
        let model = match &self.store {
            Store::Onnx(store) => prepare::for_the_runtime(&store.written()?),
            Store::Tensors { .. } => {
                prepare::for_the_runtime(&self.exported(onnx::Number::Float32)?)
            }
        };
        runtime::outputs(&model, inputs)
    }

    /// Writes the network as an ONNX file, in f32 or, where it has any, f64.
    ///
    /// # Errors
    /// It has an operation that is not known, or the file cannot be written.
    pub fn export(&self, path: &Path) -> Result<()> {
        let number = match self.number() {
            Number::F64 => onnx::Number::Float64,
            _ => onnx::Number::Float32,
        };
        Ok(self.exported(number)?.write(path)?)
    }

    fn exported(&self, number: onnx::Number) -> Result<OnnxFile> {
        let mut all = HashMap::new();
        for param in self.graph().params() {
            all.insert(param.key, self.values(param.key)?);
        }
        let values = |key| all.get(&key).cloned().unwrap_or_default();
        Ok(onnx::export(self.graph(), values, number)?)
    }

    /// The most values of the graph's batch that are there at one time, and the layer in which they are.
    fn most_values(&self) -> (usize, &str) {
        let graph = self.graph();
        let (mut left, mut there, mut most) = (graph.readers(), 0usize, (0, ""));
        let size = |node: &Node| match node.op {
            Op::Param(_) | Op::Constant { .. } => 0,
            _ => node.shape.iter().product::<usize>(),
        };
        for node in graph.nodes() {
            there = there.saturating_add(size(node));
            if there > most.0 {
                most = (there, &node.name);
            }
            for read in &node.reads {
                left[read.index()] -= 1;
                if left[read.index()] == 0 {
                    there -= size(graph.node(*read));
                }
            }
        }
        most
    }
}

fn with_batch(shape: &[usize], examples: usize) -> Vec<usize> {
    match shape {
        [] => vec![examples],
        [_, rest @ ..] => [&[examples], rest].concat(),
    }
}

/// How far outputs are off.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The largest difference of an output relative to the largest value there, each batch of inputs and each output by
    /// itself.
    pub share: f64,
    /// The difference.
    pub largest: f64,
    /// The largest value.
    pub size: f64,
}

impl Difference {
    /// That of outputs before and after, by the inputs that they are of. Outputs that were not finite before tell nothing;
    /// none at all where none were.
    pub fn between(before: &[Vec<f32>], after: &[Vec<f32>]) -> Option<Self> {
        let mut found: Option<Self> = None;
        for (before, after) in before.iter().zip(after) {
            let size = before.iter().fold(0.0f64, |most, &y| match y.is_nan() {
                true => f64::NAN,
                false => most.max(f64::from(y.abs())),
            });
            if !size.is_finite() {
                continue;
            }
            let pairs = before.iter().zip(after);
            let largest = pairs.fold(0.0f64, |most, (&a, &b)| {
                let difference = (f64::from(a) - f64::from(b)).abs();
                if difference.is_nan() {
                    f64::INFINITY
                } else {
                    most.max(difference)
                }
            });
            let share = match largest {
                0.0 => 0.0,
                _ if largest.is_finite() => largest / size,
                _ => f64::INFINITY,
            };
            if found.as_ref().is_none_or(|found| share > found.share) {
                found = Some(Self {
                    share,
                    largest,
                    size,
                });
            }
        }
        found
    }
}

/// Inputs with every number multiplied.
pub fn times(inputs: &[Input], factor: f32) -> Vec<Input> {
    let times = |input: &Input| Input {
        numbers: match &input.numbers {
            Numbers::Float(values) => Numbers::Float(values.iter().map(|x| x * factor).collect()),
            whole @ Numbers::Whole(_) => whole.clone(),
        },
        shape: input.shape.clone(),
    };
    inputs.iter().map(times).collect()
}
