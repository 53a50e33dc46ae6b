//! Scale graphs, weights and helpers that several test files share.
#![allow(dead_code)]

use gsgd_core::Network;
use gsgd_core::matrix::{Dense, Real};
use gsgd_core::scales::{
    BatchNormParams, Channels, ParamKey, ScaleGraph, ScaleGraphBuilder, ScaleGraphConfig,
    WeightForm,
};
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

/// Calls of a builder with parameters named in their order: `0`, `1`, ...
pub struct Calls {
    pub builder: ScaleGraphBuilder,
    next: u64,
}

impl Calls {
    pub fn new(config: ScaleGraphConfig) -> Self {
        let names = (0..200).map(|key| (ParamKey(key), key.to_string()));
        Self {
            builder: ScaleGraphBuilder::new(config, names, []),
            next: 0,
        }
    }

    fn key(&mut self) -> ParamKey {
        self.next += 1;
        ParamKey(self.next - 1)
    }

    pub fn layer(
        &mut self,
        x: Channels,
        shape: &[usize],
        form: WeightForm,
        bias: bool,
    ) -> Channels {
        let weight = self.key();
        let bias = bias.then(|| self.key());
        self.builder.layer(x, weight, shape, form, bias)
    }

    pub fn batch_norm(&mut self, x: Channels, features: usize) -> Channels {
        let params = BatchNormParams {
            gamma: self.key(),
            beta: self.key(),
            mean: self.key(),
            variance: self.key(),
            features,
        };
        self.builder.batch_norm(x, params)
    }
}

/// Dense layers with ReLUs between them.
pub fn mlp(widths: &[usize], bias: bool) -> ScaleGraph {
    let mut calls = Calls::new(ScaleGraphConfig::new());
    let mut x = calls.builder.input(widths[0]);
    for (layer, pair) in widths.windows(2).enumerate() {
        if layer > 0 {
            x = calls.builder.relu(x);
        }
        x = calls.layer(x, pair, WeightForm::Dense, bias);
    }
    calls.builder.output(x);
    calls.builder.finish().unwrap()
}

/// Layers of every form, residual connections, concatenations, flattening and, if asked for, batch norm, in a random order.
pub fn random_graph(seed: u64, with_norms: bool) -> ScaleGraph {
    let mut rng = rng(seed);
    let mut calls = Calls::new(ScaleGraphConfig::new());
    let width = 2 * rng.random_range(1..3);
    // values that were not read yet may be read again
    let mut values = vec![(calls.builder.input(width), width, false)];
    for _ in 0..rng.random_range(2..6) {
        let at = rng.random_range(0..values.len());
        let (x, inputs, _) = values[at];
        let outputs = 2 * rng.random_range(1..4);
        let bias = rng.random();
        let (mut y, mut width) = match rng.random_range(0..5) {
            0 => (
                calls.layer(x, &[inputs, outputs], WeightForm::Dense, bias),
                outputs,
            ),
            1 => {
                let form = WeightForm::Convolution { groups: 1 };
                (calls.layer(x, &[outputs, inputs, 3], form, bias), outputs)
            }
            2 => {
                let form = WeightForm::Convolution { groups: 2 };
                let shape = [outputs, inputs / 2, 2, 2];
                (calls.layer(x, &shape, form, bias), outputs)
            }
            3 => {
                let form = WeightForm::Transposed { groups: 2 };
                let shape = [inputs, outputs / 2, 2];
                (calls.layer(x, &shape, form, bias), outputs)
            }
            _ => {
                let form = WeightForm::Convolution { groups: inputs };
                (calls.layer(x, &[inputs, 1, 3], form, bias), inputs)
            }
        };
        values[at].2 = true;
        if with_norms && rng.random_bool(0.4) {
            y = calls.batch_norm(y, width);
        }
        y = calls.builder.relu(y);
        let same = values.iter().position(|&(_, other, _)| other == width);
        if let Some(at) = same.filter(|_| rng.random_bool(0.4)) {
            let sum = calls.builder.add(y, values[at].0);
            y = calls.builder.relu(sum);
            values[at].2 = true;
        } else if rng.random_bool(0.2) {
            let at = rng.random_range(0..values.len());
            y = calls.builder.concat([y, values[at].0]);
            width += values[at].1;
            values[at].2 = true;
        } else if rng.random_bool(0.1) {
            y = calls.builder.flatten(y, 2);
            width *= 2;
        }
        values.push((y, width, false));
    }
    let left: Vec<(Channels, usize, bool)> = values.into_iter().filter(|v| !v.2).collect();
    let width = left.iter().map(|(_, width, _)| width).sum();
    let x = calls.builder.concat(left.iter().map(|(x, ..)| *x));
    let y = calls.layer(x, &[width, 2], WeightForm::Dense, true);
    calls.builder.output(y);
    calls.builder.finish().unwrap()
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
