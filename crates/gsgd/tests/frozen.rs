//! Frozen parameters: they stay bit for bit, the rest trains, and what symmetry is left is used.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};
use common::{Batch, Mlp, device, grads, values, weights};
use gsgd::paths::{Power, enumerate, path_norm};
use gsgd::rescale::{Balance, Scaling, apply};
use gsgd::{BalancedSgd, Coordinates, Error, Execution, GSpaceConfig, Graph, Outside, PathSgd};

const WIDTHS: [usize; 4] = [3, 5, 4, 2];

/// Which weights and biases are frozen, as `(layer, is bias)`.
const CASES: [&[(usize, bool)]; 7] = [
    &[],
    &[(0, false)],
    &[(0, false), (0, true)],
    &[(1, false)],
    &[(1, false), (1, true)],
    &[(2, false)],
    &[(0, true), (2, true)],
];

/// H, the classes that are left, in each of these cases.
const HIDDEN: [usize; 7] = [9, 4, 4, 1, 0, 5, 4];

fn model(frozen: &[(usize, bool)], dtype: DType) -> Mlp {
    seeded(7, frozen, dtype)
}

fn seeded(seed: u64, frozen: &[(usize, bool)], dtype: DType) -> Mlp {
    let mut model = Mlp::he(seed, &WIDTHS, true, dtype);
    for &(layer, is_bias) in frozen {
        let Linear { weight, bias } = model.layers[layer].clone();
        model.layers[layer] = match is_bias {
            true => Linear {
                bias: bias.map(|bias| bias.set_require_grad(false)),
                weight,
            },
            false => Linear {
                weight: weight.set_require_grad(false),
                bias,
            },
        };
    }
    model
}

fn gradients(model: &Mlp, dtype: DType) -> GradientsParams {
    let batch = Batch::random(3, 16, WIDTHS[0], WIDTHS[3], dtype);
    grads(model, batch.loss(model.forward(batch.x.clone())))
}

/// The derivatives of a network's outputs with respect to the weights that train, a row for every output.
fn jacobian(model: &Mlp) -> Vec<Vec<f64>> {
    const INPUTS: usize = 150;
    let x = Batch::random(5, INPUTS, WIDTHS[0], WIDTHS[3], DType::F64).x;
    let outputs = (0..INPUTS).flat_map(|at| [(at, 0), (at, 1)]);
    let row = |(at, output): (usize, usize)| {
        let y = model.forward(x.clone());
        let y = y.slice([at..at + 1, output..output + 1]).sum();
        let grads = GradientsParams::from_grads(y.backward(), model);
        let mut row = Vec::new();
        for layer in &model.layers {
            row.extend(grads.get::<2>(layer.weight.id).into_iter().flat_map(values));
            let bias = layer.bias.as_ref().unwrap();
            row.extend(grads.get::<1>(bias.id).into_iter().flat_map(values));
        }
        row
    };
    outputs.map(row).collect()
}

/// The rank of a matrix, by elimination with full pivoting.
fn rank(mut rows: Vec<Vec<f64>>) -> usize {
    let columns = rows[0].len();
    let size = rows
        .iter()
        .flatten()
        .fold(0.0f64, |all, x| all.max(x.abs()));
    for rank in 0..rows.len().min(columns) {
        let places = (rank..rows.len()).flat_map(|row| (rank..columns).map(move |at| (row, at)));
        let (row, at) = places
            .max_by(|a, b| rows[a.0][a.1].abs().total_cmp(&rows[b.0][b.1].abs()))
            .unwrap();
        if rows[row][at].abs() < 1e-10 * size {
            return rank;
        }
        rows.swap(rank, row);
        rows.iter_mut().for_each(|row| row.swap(rank, at));
        let pivot = rows[rank].clone();
        for row in &mut rows[rank + 1..] {
            let factor = row[rank] / pivot[rank];
            for (x, pivot) in row.iter_mut().zip(&pivot) {
                *x -= factor * pivot;
            }
        }
    }
    rows.len().min(columns)
}

/// The function depends on m' - H' numbers, to first order: as many as there are basis paths over the weights that train.
#[test]
fn basis_paths_are_the_rank_over_the_weights_that_train() {
    // a network without units that are always or never active: those depend on fewer numbers still
    let rank_of = |seed: u64| rank(jacobian(&seeded(seed, &[], DType::F64)));
    let seed = (0..100).find(|&seed| rank_of(seed) == 15 + 5 + 20 + 4 + 8 + 2 - 9);
    let seed = seed.expect("there is one of full rank");
    for (frozen, hidden) in CASES.into_iter().zip(HIDDEN) {
        let model = seeded(seed, frozen, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        assert_eq!(graph.hidden(), hidden, "{frozen:?}");
        assert_eq!(graph.frozen().count(), frozen.len());
        let rows = jacobian(&model);
        assert_eq!(graph.weights(), rows[0].len(), "m' of {frozen:?}");
        assert_eq!(rank(rows), graph.basis_paths(), "{frozen:?}");
    }
}

fn optimisers() -> Vec<GSpaceConfig> {
    vec![
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::adam(),
        GSpaceConfig::adam().with_execution(Execution::Reference),
        GSpaceConfig::new(AdamConfig::new().init()),
        GSpaceConfig::sgd().with_coordinates(Coordinates::Norm),
    ]
}

#[test]
fn frozen_weights_stay_and_the_others_train() {
    for frozen in CASES {
        let start = model(frozen, DType::F32);
        let batch = Batch::random(3, 16, WIDTHS[0], WIDTHS[3], DType::F32);
        let loss = |model: &Mlp| values(batch.loss(model.forward(batch.x.clone())))[0];
        for config in optimisers() {
            let mut optim = config.init_of(&start).unwrap();
            let end = (0..20).fold(start.clone(), |model, _| {
                let gradients = gradients(&model, DType::F32);
                optim.step(0.01, model, gradients).unwrap()
            });
            assert!(loss(&end) < loss(&start), "{frozen:?}");
            for (layer, (before, after)) in start.layers.iter().zip(&end.layers).enumerate() {
                let stays = values(before.weight.val()) == values(after.weight.val());
                assert_eq!(
                    stays,
                    frozen.contains(&(layer, false)),
                    "{frozen:?} {layer}"
                );
                let bias = |linear: &Linear| values(linear.bias.as_ref().unwrap().val());
                let stays = bias(before) == bias(after);
                assert_eq!(stays, frozen.contains(&(layer, true)), "{frozen:?} {layer}");
            }
        }
    }
}

#[test]
fn powers_of_two_leave_every_bit() {
    for frozen in CASES {
        let start = model(frozen, DType::F32);
        let graph = scale_graph(&start, Default::default()).unwrap();
        let scaling = Scaling::powers_of_two(&graph, 8, 3);
        let other = apply(start.clone(), &graph, &scaling).unwrap();
        let moved = weights(&start) != weights(&other);
        assert_eq!(moved, graph.hidden() > 0, "{frozen:?}");
        for config in optimisers() {
            let run = |model: &Mlp| {
                let mut optim = config.init_of(model).unwrap();
                let end = (0..30).fold(model.clone(), |model, _| {
                    let gradients = gradients(&model, DType::F32);
                    optim.step(0.01, model, gradients).unwrap()
                });
                let x = Batch::random(9, 8, WIDTHS[0], WIDTHS[3], DType::F32).x;
                values(end.forward(x))
            };
            assert_eq!(run(&start), run(&other), "{frozen:?}");
        }
        let until = Balance::default();
        let mut balanced = BalancedSgd::init(&start.graph(), until, Outside::Refuse).unwrap();
        let gradients = gradients(&start, DType::F32);
        assert!(balanced.step(0.01, start, gradients).is_ok());
    }
}

#[test]
fn what_is_frozen_is_known_from_the_start() {
    let start = model(CASES[3], DType::F32);
    let mut optim = GSpaceConfig::momentum(0.9).init_of(&start).unwrap();
    let mut thawed = start.clone();
    let weight = thawed.layers[1].weight.clone();
    thawed.layers[1].weight = weight.set_require_grad(true);
    let all = gradients(&thawed, DType::F32);
    let error = optim.step(0.01, thawed.clone(), all).unwrap_err().error;
    let name = "layers.1.weight".to_string();
    assert_eq!(error, Error::Unfrozen { name: name.clone() });

    let mut optim = GSpaceConfig::momentum(0.9).init_of(&thawed).unwrap();
    let fewer = gradients(&start, DType::F32);
    let error = optim.step(0.01, start.clone(), fewer).unwrap_err().error;
    assert_eq!(error, Error::MissingGradient { name: name.clone() });

    // what needs all weights says so; without gradients nothing is frozen
    let graph = scale_graph(&start, Default::default()).unwrap();
    let refused = |tool, found| {
        assert_eq!(
            found,
            Error::Core(gsgd::core::Error::Frozen {
                tool,
                name: name.clone()
            })
        )
    };
    refused(
        "the path norm",
        path_norm(&start, &graph, Power::One).unwrap_err(),
    );
    refused("enumerating paths", enumerate(&start, &graph).unwrap_err());
    refused(
        "Path-SGD",
        PathSgd::init(&start.graph(), Outside::Refuse).unwrap_err(),
    );
    let valid = start.valid();
    let graph = scale_graph(&valid, Default::default()).unwrap();
    assert_eq!((graph.hidden(), graph.frozen().count()), (9, 0));
    assert!(path_norm(&valid, &graph, Power::One).unwrap() > 0.0);
}

/// A convolution of groups, batch norm and a dense layer.
#[derive(Module, Debug)]
struct Net {
    first: Conv2d,
    depthwise: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

impl Net {
    fn new() -> Self {
        Self {
            first: Conv2dConfig::new([2, 4], [3, 3]).init(&device()),
            depthwise: Conv2dConfig::new([4, 4], [3, 3])
                .with_groups(4)
                .init(&device()),
            norm: BatchNormConfig::new(4).init(&device()),
            head: LinearConfig::new(4, 3).init(&device()),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let y = relu(self.first.forward(x));
        let y = relu(self.norm.forward(self.depthwise.forward(y)));
        self.head.forward(y.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

impl Described for Net {
    fn graph(&self) -> Graph {
        gsgd::capture(self, |net, example| {
            net.forward(example.input([1, 2, 8, 8]))
        })
        .unwrap()
    }
}

#[test]
fn groups_are_tied_apart_and_gamma_grounds_its_channel() {
    let mut model = Net::new();
    let hidden = |model: &Net| scale_graph(model, Default::default()).unwrap().hidden();
    assert_eq!(hidden(&model), 12);
    // each group ties its own input to its own output; the bias before batch norm has no effect
    model.depthwise.weight = model.depthwise.weight.set_require_grad(false);
    assert_eq!(hidden(&model), 8);
    model.norm.gamma = model.norm.gamma.set_require_grad(false);
    assert_eq!(hidden(&model), 4);
    let x = Tensor::<4>::random([6, 2, 8, 8], burn::tensor::Distribution::Default, &device());
    let loss = |model: &Net| model.forward(x.clone()).square().mean();
    for config in optimisers() {
        let mut optim = config.init_of(&model).unwrap();
        let before = values(loss(&model))[0];
        let end = (0..20).fold(model.clone(), |model, _| {
            let gradients = grads(&model, loss(&model));
            optim.step(0.01, model, gradients).unwrap()
        });
        assert!(values(loss(&end))[0] < before);
        let weight = |net: &Net| values(net.depthwise.weight.val());
        assert_eq!(weight(&end), weight(&model));
    }
}
