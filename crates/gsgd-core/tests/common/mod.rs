//! Scale graphs, weights and helpers that several test files share.
#![allow(dead_code)]

pub mod forward;

use gsgd_core::Network;
use gsgd_core::graph::{Graph, Op, Value, Window};
use gsgd_core::matrix::{Dense, Real};
use gsgd_core::scales::{ScaleGraph, ScaleGraphConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A standard normal number.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let near = (found - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(near, "at {at}: {found}, not {expected}");
    }
}

/// A graph whose parameters are named in their order: `0`, `1`, ...
#[derive(Default)]
pub struct Net {
    pub graph: Graph,
}

impl Net {
    pub fn param(&mut self, shape: &[usize]) -> Value {
        let name = self.graph.params().len().to_string();
        self.graph.param(&name, shape).unwrap()
    }

    pub fn layer(&mut self, op: Op, x: Value, shape: &[usize], bias: Option<usize>) -> Value {
        let weight = self.param(shape);
        let bias = bias.map(|outputs| self.param(&[outputs]));
        self.graph.layer(op, x, weight, bias).unwrap()
    }

    pub fn dense(&mut self, x: Value, shape: [usize; 2], bias: bool) -> Value {
        let op = Op::MatMul { transposed: false };
        self.layer(op, x, &shape, bias.then_some(shape[1]))
    }

    pub fn push(&mut self, op: Op, reads: &[Value]) -> Value {
        self.graph.push("", op, reads).unwrap()
    }

    pub fn relu(&mut self, x: Value) -> Value {
        self.graph.relu(x).unwrap()
    }

    pub fn batch_norm(&mut self, x: Value, features: usize) -> Value {
        let tensors = std::array::from_fn(|_| self.param(&[features]));
        self.graph.batch_norm(x, tensors, 1e-5).unwrap()
    }

    pub fn scales(&self) -> ScaleGraph {
        self.graph.scales(ScaleGraphConfig::new()).unwrap()
    }
}

/// Dense layers with ReLUs between them.
pub fn mlp(widths: &[usize], bias: bool) -> ScaleGraph {
    let mut net = Net::default();
    let mut x = net.graph.input(&[1, widths[0]]).unwrap();
    for (layer, pair) in widths.windows(2).enumerate() {
        if layer > 0 {
            x = net.relu(x);
        }
        x = net.dense(x, [pair[0], pair[1]], bias);
    }
    net.graph.output(x);
    net.scales()
}

/// A window over maps of 4 x 4 that keeps their size.
fn window(kernel: [usize; 2]) -> Window {
    let padding = |size: usize| [size / 2, size - 1 - size / 2];
    Window {
        padding: kernel.map(padding).to_vec(),
        ..Window::new(&kernel)
    }
}

/// Layers of every form, residual connections, concatenations, reshaping and, if asked for, batch norm, in a random order.
pub fn random_graph(seed: u64, with_norms: bool) -> ScaleGraph {
    random_net(seed, with_norms).scales()
}

/// The operations of a random graph; all values are maps of 4 x 4, or half as high with twice the channels.
pub fn random_net(seed: u64, with_norms: bool) -> Net {
    let mut rng = rng(seed);
    let mut net = Net::default();
    let width = 2 * rng.random_range(1..3);
    // values that were not read yet may be read again
    let input = net.graph.input(&[2, width, 4, 4]).unwrap();
    let mut values = vec![(input, false)];
    for _ in 0..rng.random_range(2..6) {
        let at = rng.random_range(0..values.len());
        let x = values[at].0;
        let shape = net.graph.node(x).shape.clone();
        let inputs = shape[1];
        let outputs = 2 * rng.random_range(1..4);
        let bias = rng.random_bool(0.5);
        let bias = |outputs: usize| bias.then_some(outputs);
        let conv = |kernel: [usize; 2], groups: usize| Op::Conv {
            window: window(kernel),
            groups,
        };
        let mut y = match rng.random_range(0..5) {
            0 => {
                let order = vec![0, 2, 3, 1];
                let y = net.push(Op::Transpose { order }, &[x]);
                let op = Op::MatMul { transposed: false };
                let y = net.layer(op, y, &[inputs, outputs], bias(outputs));
                let order = vec![0, 3, 1, 2];
                net.push(Op::Transpose { order }, &[y])
            }
            1 => net.layer(conv([3, 1], 1), x, &[outputs, inputs, 3, 1], bias(outputs)),
            2 => {
                let shape = [outputs, inputs / 2, 2, 2];
                net.layer(conv([2, 2], 2), x, &shape, bias(outputs))
            }
            3 => {
                let op = Op::ConvTranspose {
                    window: Window {
                        padding: vec![[0, 1], [0, 0]],
                        ..Window::new(&[2, 1])
                    },
                    groups: 2,
                    output_padding: vec![0, 0],
                };
                net.layer(op, x, &[inputs, outputs / 2, 2, 1], bias(outputs))
            }
            _ => net.layer(conv([1, 3], inputs), x, &[inputs, 1, 1, 3], bias(inputs)),
        };
        values[at].1 = true;
        if with_norms && rng.random_bool(0.4) {
            let features = net.graph.node(y).shape[1];
            y = net.batch_norm(y, features);
        }
        y = net.relu(y);
        let shape = net.graph.node(y).shape.clone();
        let same = values
            .iter()
            .position(|&(other, _)| net.graph.node(other).shape == shape);
        if let Some(at) = same.filter(|_| rng.random_bool(0.4)) {
            let sum = net.push(Op::Add, &[y, values[at].0]);
            y = net.relu(sum);
            values[at].1 = true;
        } else if rng.random_bool(0.2) {
            let height = |value: Value| net.graph.node(value).shape[2];
            let fit: Vec<usize> = (0..values.len())
                .filter(|&at| height(values[at].0) == height(y))
                .collect();
            if !fit.is_empty() {
                let at = fit[rng.random_range(0..fit.len())];
                y = net.push(Op::Concat { axis: 1 }, &[y, values[at].0]);
                values[at].1 = true;
            }
        } else if rng.random_bool(0.1) && shape[2] == 4 {
            let shape = vec![shape[0], 2 * shape[1], 2, 4];
            y = net.push(Op::Reshape { shape }, &[y]);
        }
        values.push((y, false));
    }
    let left = values.into_iter().filter(|value| !value.1);
    let means: Vec<Value> = left
        .map(|(value, _)| net.graph.global_mean(value).unwrap())
        .collect();
    let x = net.push(Op::Concat { axis: 1 }, &means);
    let width = net.graph.node(x).shape[1];
    let y = net.dense(x, [width, 2], true);
    net.graph.output(y);
    net
}

/// Weights of a graph: normal, none near 0, so that every skeleton has values to divide by.
pub fn weights<E: Real>(graph: &ScaleGraph, seed: u64) -> Vec<Dense<E>> {
    let mut rng = rng(seed);
    let mut number = || {
        let number = 0.7 * normal(&mut rng);
        number + 0.2 * number.signum()
    };
    filled(graph, |_| number())
}

/// A normal gradient of every weight.
pub fn gradients<E: Real>(graph: &ScaleGraph, seed: u64) -> Vec<Dense<E>> {
    let mut rng = rng(seed);
    filled(graph, |_| normal(&mut rng))
}

/// Matrices of a graph's parameters, filled with numbers in order.
pub fn filled<E: Real>(graph: &ScaleGraph, mut number: impl FnMut(usize) -> f64) -> Vec<Dense<E>> {
    let params = graph.edges().iter().enumerate();
    params
        .map(|(param, edges)| {
            let [rows, columns] = edges.dims();
            let values = (0..rows * columns).map(|_| E::from_f64(number(param)));
            Dense::new([rows, columns], values.collect())
        })
        .collect()
}

pub fn network<'a, M>(graph: &'a ScaleGraph, weights: &'a [M]) -> Network<'a, M> {
    Network { graph, weights }
}

/// All entries, one parameter after the other.
pub fn flat<E: Real>(matrices: &[Dense<E>]) -> Vec<f64> {
    let all = matrices.iter().flat_map(|matrix| matrix.entries());
    all.map(|x| x.to_f64()).collect()
}
