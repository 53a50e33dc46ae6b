//! The method against float64 vectors made by an independent implementation (`golden/*.json`).
//!
//! Seven networks: equal, falling, rising and mixed widths, with and without biases, one to four hidden layers.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{DType, Device, Tensor};
use common::{Batch, Mlp, close, grads, linear, tensor, values, weights};
use gsgd::paths::enumerate;
use gsgd::skeleton::{Edge, SkeletonTree};
use gsgd::{Coordinates, Execution, GSpaceConfig, ScaleGraph, Skeleton};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    widths: Vec<usize>,
    lr: f64,
    x: Vec<Vec<f64>>,
    y: Vec<i64>,
    skeleton_in: Vec<Vec<[usize; 2]>>,
    skeleton_out: Vec<Vec<[usize; 2]>>,
    layers: Vec<Layer>,
    flat_w: Vec<f64>,
    logits: Vec<Vec<f64>>,
    loss: f64,
    grad: Vec<f64>,
    basis: Vec<usize>,
    v: Vec<f64>,
    #[serde(rename = "dLdv")]
    path_gradient: Vec<f64>,
    m: usize,
    #[serde(rename = "H")]
    hidden: usize,
    rank: usize,
    gsgd: std::collections::BTreeMap<usize, After>,
    sgd_w1: Vec<f64>,
    gmom10: After,
    gadam10: After,
    rescaled: Rescaled,
}

#[derive(Deserialize)]
struct Layer {
    b: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct After {
    w: Vec<f64>,
    loss: f64,
}

#[derive(Deserialize)]
struct Rescaled {
    w: Vec<f64>,
    w10: Vec<f64>,
    logits10: Vec<Vec<f64>>,
}

const FILES: [(&str, &str); 7] = [
    ("eq", include_str!("../../gsgd-core/tests/golden/eq.json")),
    (
        "eq_nobias",
        include_str!("../../gsgd-core/tests/golden/eq_nobias.json"),
    ),
    ("dec", include_str!("../../gsgd-core/tests/golden/dec.json")),
    (
        "inc_unequal",
        include_str!("../../gsgd-core/tests/golden/inc_unequal.json"),
    ),
    (
        "updown_nobias",
        include_str!("../../gsgd-core/tests/golden/updown_nobias.json"),
    ),
    (
        "deep",
        include_str!("../../gsgd-core/tests/golden/deep.json"),
    ),
    (
        "one_hidden",
        include_str!("../../gsgd-core/tests/golden/one_hidden.json"),
    ),
];

fn each(check: impl Fn(&Golden)) {
    for (name, text) in FILES {
        println!("{name}");
        check(&serde_json::from_str(text).unwrap());
    }
}

impl Golden {
    fn model(&self) -> Mlp {
        self.model_with(&self.flat_w)
    }

    /// The network with these weights: per layer the matrix row by row, then the bias.
    fn model_with(&self, flat: &[f64]) -> Mlp {
        let mut rest = flat.to_vec();
        let layers = self.widths.windows(2).zip(&self.layers).map(|(w, layer)| {
            let weight: Vec<f64> = rest.drain(..w[0] * w[1]).collect();
            let bias = layer
                .b
                .as_ref()
                .map(|_| tensor(rest.drain(..w[1]).collect(), [w[1]], DType::F64));
            linear(tensor(weight, [w[0], w[1]], DType::F64), bias)
        });
        Mlp {
            layers: layers.collect(),
        }
    }

    fn batch(&self) -> Batch {
        Batch::new(self.x.concat(), self.y.clone(), self.widths[0], DType::F64)
    }

    fn tree(&self, graph: &ScaleGraph) -> SkeletonTree {
        let weights: Vec<usize> = (0..graph.edges().len())
            .filter(|&e| !graph.edges()[e].is_bias())
            .collect();
        let edges = |pairs: &Vec<[usize; 2]>, layer: usize| -> Vec<Option<Edge>> {
            let edge = |&[tail, head]: &[usize; 2]| Edge {
                param: weights[layer],
                tail,
                head,
            };
            pairs.iter().map(edge).map(Some).collect()
        };
        SkeletonTree {
            ins: (0..)
                .zip(&self.skeleton_in)
                .flat_map(|(l, p)| edges(p, l))
                .collect(),
            outs: (1..)
                .zip(&self.skeleton_out)
                .flat_map(|(l, p)| edges(p, l))
                .collect(),
        }
    }

    fn config(&self, config: GSpaceConfig) -> GSpaceConfig {
        let tree = self.tree(&scale_graph(&self.model(), Default::default()).unwrap());
        config
            .with_skeleton(Skeleton::Chosen(tree))
            .with_coordinates(Coordinates::Plain)
            .without_floor()
    }

    /// Weights after steps of an optimiser on the same full batch.
    fn train(&self, config: &GSpaceConfig, model: Mlp, lr: f64, steps: usize) -> Mlp {
        let batch = self.batch();
        let mut optim = config.init_of(&model).unwrap();
        (0..steps).fold(model, |model, _| {
            let grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
            optim.step(lr, model, grads).unwrap()
        })
    }
}

#[test]
fn counts_rank_and_paper_skeleton() {
    each(|golden| {
        let model = golden.model();
        let graph = scale_graph(&model, Default::default()).unwrap();
        assert_eq!(graph.hidden(), golden.hidden);
        assert_eq!(graph.weights(), golden.m);
        assert_eq!(graph.basis_paths(), golden.rank);
        assert_eq!(
            graph.invariant_ratio(),
            golden.hidden as f64 / golden.m as f64
        );
        assert_eq!(enumerate(&model, &graph).unwrap().rank(), golden.rank);
        assert_eq!(SkeletonTree::paper(&graph), golden.tree(&graph));
    });
}

#[test]
fn forward_backward_and_plain_sgd() {
    each(|golden| {
        let (model, batch) = (golden.model(), golden.batch());
        let logits = model.forward(batch.x.clone());
        close(&values(logits.clone()), &golden.logits.concat(), 1e-12);
        let loss = batch.loss(logits);
        close(&values(loss.clone()), &[golden.loss], 1e-12);
        let mut sgd = burn::optim::SgdConfig::new().init();
        let stepped = sgd.step(golden.lr, model.clone(), grads(&model, loss));
        close(&weights(&stepped), &golden.sgd_w1, 1e-12);
        let moved: Vec<f64> = golden
            .flat_w
            .iter()
            .zip(&golden.grad)
            .map(|(w, g)| w - golden.lr * g)
            .collect();
        close(&weights(&stepped), &moved, 1e-12);
    });
}

#[test]
fn path_values_and_the_inverse_chain_rule() {
    each(|golden| {
        for execution in [Execution::Fused, Execution::Reference] {
            let (model, batch) = (golden.model(), golden.batch());
            let config = golden.config(GSpaceConfig::sgd()).with_execution(execution);
            let optim = config.init_of(&model).unwrap();
            let grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
            let space = optim.path_space(&model, grads).unwrap();
            let (v, g): (Vec<_>, Vec<_>) = space
                .into_iter()
                .map(|(v, g)| (values(v), values(g)))
                .unzip();
            let on_basis =
                |all: Vec<f64>| golden.basis.iter().map(|&e| all[e]).collect::<Vec<f64>>();
            close(&on_basis(v.concat()), &golden.v, 1e-12);
            close(&on_basis(g.concat()), &golden.path_gradient, 1e-10);
        }
    });
}

#[test]
fn descent_in_path_space() {
    each(|golden| {
        let fused = golden.config(GSpaceConfig::sgd());
        let lifted = golden.config(GSpaceConfig::new(burn::optim::SgdConfig::new().init()));
        for config in [
            fused.clone(),
            fused.with_execution(Execution::Reference),
            lifted.clone(),
            lifted.with_execution(Execution::Reference),
        ] {
            for (&steps, after) in &golden.gsgd {
                let model = golden.train(&config, golden.model(), golden.lr, steps);
                close(&weights(&model), &after.w, 1e-10);
                let batch = golden.batch();
                close(
                    &values(batch.loss(model.forward(batch.x.clone()))),
                    &[after.loss],
                    1e-10,
                );
            }
        }
    });
}

#[test]
fn the_rescaled_twin_follows_the_same_function() {
    each(|golden| {
        let config = golden.config(GSpaceConfig::sgd());
        let twin = golden.train(
            &config,
            golden.model_with(&golden.rescaled.w),
            golden.lr,
            10,
        );
        close(&weights(&twin), &golden.rescaled.w10, 1e-9);
        let logits = values(twin.forward(golden.batch().x));
        close(&logits, &golden.rescaled.logits10.concat(), 1e-10);
        let model = golden.train(&config, golden.model(), golden.lr, 10);
        close(&logits, &values(model.forward(golden.batch().x)), 1e-10);
    });
}

/// Heavy ball and Adam in full f64; Burn keeps their coefficients as f32.
#[derive(Clone)]
struct Exact {
    beta_1: f64,
    beta_2: Option<f64>,
}

#[derive(Clone)]
struct Moments<const D: usize> {
    first: Tensor<D>,
    second: Tensor<D>,
    time: i32,
}

impl<const D: usize> burn::optim::RecordState for Moments<D> {
    fn state_flatten(&self, _: &str, _: &mut burn::optim::StateSink) {}
    fn state_unflatten(_: &str, _: &mut burn::optim::StateSource, _: &Device) -> Option<Self> {
        None
    }
}

impl Optimizer for Exact {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        v: Tensor<D>,
        g: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let mut state = state.unwrap_or(Moments {
            first: g.zeros_like(),
            second: g.zeros_like(),
            time: 0,
        });
        state.time += 1;
        let Some(beta_2) = self.beta_2 else {
            state.first = state.first * self.beta_1 + g;
            return (v - state.first.clone() * lr, Some(state));
        };
        state.first = state.first * self.beta_1 + g.clone() * (1.0 - self.beta_1);
        state.second = state.second * beta_2 + g.clone() * g * (1.0 - beta_2);
        let first = state.first.clone() / (1.0 - self.beta_1.powi(state.time));
        let second = state.second.clone() / (1.0 - beta_2.powi(state.time));
        (v - first / (second.sqrt() + 1e-8) * lr, Some(state))
    }

    fn to_device<const D: usize>(state: Moments<D>, _: &Device) -> Moments<D> {
        state
    }
}

#[test]
fn momentum_and_adam_in_path_space() {
    each(|golden| {
        let momentum = Exact {
            beta_1: 0.9,
            beta_2: None,
        };
        let adam = Exact {
            beta_1: 0.9,
            beta_2: Some(0.999),
        };
        let runs = [
            (
                GSpaceConfig::new(momentum),
                golden.lr,
                &golden.gmom10,
                1e-10,
            ),
            (
                GSpaceConfig::momentum(0.9),
                golden.lr,
                &golden.gmom10,
                1e-10,
            ),
            (GSpaceConfig::new(adam), 0.01, &golden.gadam10, 1e-9),
            (GSpaceConfig::adam(), 0.01, &golden.gadam10, 1e-7),
        ];
        for (config, lr, after, tolerance) in runs {
            for execution in [Execution::Fused, Execution::Reference] {
                let config = golden.config(config.clone().with_execution(execution));
                let model = golden.train(&config, golden.model(), lr, 10);
                close(&weights(&model), &after.w, tolerance);
                let batch = golden.batch();
                let loss = values(batch.loss(model.forward(batch.x.clone())));
                close(&loss, &[after.loss], tolerance);
            }
        }
    });
}
