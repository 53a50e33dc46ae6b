//! Starting weights that depend on the seed alone.

use gsgd::core::graph::{Graph, Op, Value};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plan::{Form, Kept};
use super::weights::turned;

/// The starting weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with variance 2 / inputs of a unit (He et al. 2015), biases 0.
    He,
    /// The same, then every weight of the paper's skeleton set: 1 in its experiments.
    Skeleton {
        /// To plus or minus this.
        magnitude: f64,
        /// Whether signs are drawn; else all are plus.
        random_signs: bool,
    },
}

/// What a tensor starts as.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// Normal numbers of this deviation.
    Normal(f64),
    /// One number everywhere.
    Equal(f32),
}

/// Starting weights by what reads them first: normal with variance 2 / inputs of a unit in products and convolutions, gains,
/// gammas and variances 1, slopes of PReLUs 0.25, tables of embeddings normal, all else 0.
pub(super) struct He {
    starts: Vec<Start>,
    rng: ChaCha8Rng,
}

impl He {
    /// For the tensors of a graph.
    pub fn new(graph: &Graph, seed: u64) -> Self {
        let readers = Readers::new(graph);
        let params = graph.params().iter();
        let starts = params.map(|param| {
            let mut values = graph.values();
            let value = values.find(|&value| graph.node(value).op == Op::Param(param.key));
            value.map_or(Start::Equal(0.0), |value| readers.start(value))
        });
        Self {
            starts: starts.collect(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The values of the tensor at this place, in the file's order; to be asked for one after the other.
    pub fn values(&mut self, place: usize, kept: &Kept) -> Vec<f32> {
        let count = kept.shape.iter().product();
        let deviation = match self.starts[place] {
            Start::Equal(number) => return vec![number; count],
            Start::Normal(deviation) => deviation,
        };
        let drawn = (0..count).map(|_| (deviation * normal(&mut self.rng)) as f32);
        let drawn = drawn.collect::<Vec<f32>>();
        match (kept.form, &kept.shape[..]) {
            // drawn as it lies in memory
            (Form::Turned, &[_, inputs]) => turned(&drawn, inputs),
            _ => drawn,
        }
    }
}

/// Who reads the values of a graph.
struct Readers<'a> {
    graph: &'a Graph,
    /// Reader and place among what it reads, by value.
    of: Vec<Vec<(Value, usize)>>,
}

impl<'a> Readers<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut of = vec![Vec::new(); graph.nodes().len()];
        for (reader, node) in graph.values().zip(graph.nodes()) {
            for (place, value) in node.reads.iter().enumerate() {
                of[value.index()].push((reader, place));
            }
        }
        Self { graph, of }
    }

    /// What a tensor, or a view of one, starts as.
    fn start(&self, value: Value) -> Start {
        let Some(&(reader, place)) = self.of[value.index()].first() else {
            return Start::Equal(0.0);
        };
        let shape = &self.graph.node(value).shape;
        let size = |sizes: &[usize]| sizes.iter().product::<usize>() as f64;
        let he = |inputs: f64| Start::Normal((2.0 / inputs.max(1.0)).sqrt());
        let from_behind = |at: usize| {
            let axis = shape.len().checked_sub(at);
            axis.map_or(1.0, |axis| shape[axis] as f64)
        };
        match (&self.graph.node(reader).op, place) {
            (Op::MatMul { transposed: true }, 1) | (Op::MatMul { .. }, 0) => he(from_behind(1)),
            (Op::MatMul { transposed: false }, 1) => he(from_behind(2)),
            (Op::Conv { .. }, 1) => he(size(&shape[1..])),
            (Op::ConvTranspose { window, groups, .. }, 1) => {
                // a unit meets every stride-th tap
                let taps = size(&shape[2..]) / size(&window.stride);
                he(shape[0] as f64 / *groups as f64 * taps)
            }
            (Op::BatchNorm { .. }, 1 | 4) | (Op::Mul, _) | (Op::Div, 1) => Start::Equal(1.0),
            (Op::Prelu, 1) => Start::Equal(0.25),
            (Op::Gather { .. }, 0) => Start::Normal(1.0),
            (
                Op::Reshape { .. }
                | Op::Transpose { .. }
                | Op::Expand { .. }
                | Op::Slice { .. }
                | Op::Select { .. }
                | Op::Identity,
                _,
            ) => self.start(reader),
            _ => Start::Equal(0.0),
        }
    }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
