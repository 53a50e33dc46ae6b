//! Charts on random networks: derivatives, allocation, counts, conservation.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::Module;
use burn::optim::SgdConfig;
use burn::tensor::{DType, Tensor};
use common::{Batch, Dag, Mlp, Nudge, close, grads, rng, values, weights};
use gsgd::paths::{Power, basis_path_norm, enumerate, path_norm};
use gsgd::rescale::{Balance, Scaling, apply, balance};
use gsgd::skeleton::SkeletonTree;
use gsgd::{Coordinates, Execution, GSpace, GSpaceConfig, Skeleton};
use proptest::prelude::*;
use rand::Rng;

/// Bare basis path values on this network.
fn bare(skeleton: Skeleton) -> GSpaceConfig {
    GSpaceConfig::sgd()
        .with_skeleton(skeleton)
        .with_coordinates(Coordinates::Plain)
        .without_floor()
}

fn skeletons<M: Described>(model: &M) -> Vec<Skeleton> {
    let graph = scale_graph(model, Default::default()).unwrap();
    vec![
        Skeleton::Largest,
        Skeleton::Chosen(SkeletonTree::paper(&graph)),
    ]
}

fn path_space<M: Module>(optim: &GSpace, model: &M, loss: Tensor<1>) -> Vec<(Vec<f64>, Vec<f64>)> {
    let space = optim.path_space(model, grads(model, loss)).unwrap();
    space
        .into_iter()
        .map(|(v, g)| (values(v), values(g)))
        .collect()
}

/// The loss of a network on a batch.
fn probe(model: &Dag, batch: &Batch) -> Tensor<1> {
    batch.loss(model.forward(batch.x.clone()))
}

fn batch(model: &Dag, seed: u64) -> Batch {
    Batch::random(seed, 5, model.inputs(), 2, DType::F64)
}

#[test]
fn the_inverse_chain_rule_is_the_derivative() {
    // Move one path value at a time by lifting an "optimiser" that adds h there: the loss must follow dL/dv.
    for seed in 0..12 {
        let model = Dag::random(seed, seed % 2 == 0, DType::F64);
        let batch = batch(&model, seed);
        for skeleton in skeletons(&model) {
            let optim = bare(skeleton.clone()).init_of(&model).unwrap();
            let space = path_space(&optim, &model, probe(&model, &batch));
            let mut random = rng(seed);
            for _ in 0..8 {
                let param = random.random_range(0..space.len());
                let at = random.random_range(0..space[param].0.len());
                let (v, g) = (space[param].0[at], space[param].1[at]);
                if v == 0.0 {
                    continue; // a fixed skeleton weight
                }
                let h = 1e-6 * v.abs().max(1e-3);
                let moved = |h: f64| {
                    let name = optim.scale_graph().edges()[param].name();
                    let nudge = GSpaceConfig::new(Nudge { at, h }.in_parameter(name))
                        .with_skeleton(skeleton.clone())
                        .with_coordinates(Coordinates::Plain)
                        .without_floor();
                    let mut lifted = nudge.init_of(&model).unwrap();
                    let grads = grads(&model, probe(&model, &batch));
                    let model = lifted.step(1.0, model.clone(), grads).unwrap();
                    values(probe(&model, &batch))[0]
                };
                let numerical = (moved(h) - moved(-h)) / (2.0 * h);
                let difference = (numerical - g).abs();
                assert!(
                    difference <= 1e-5 * (1.0 + g.abs()),
                    "seed {seed}: {numerical} and {g}"
                );
            }
        }
    }
}

/// What a step does to path values: exactly what the inner optimiser did.
fn values_after_step_are_the_inner_optimisers(seed: u64, bias: bool) {
    let model = Dag::random(seed, bias, DType::F64);
    let batch = batch(&model, seed);
    for skeleton in skeletons(&model) {
        for execution in [Execution::Fused, Execution::Reference] {
            let config = bare(skeleton.clone()).with_execution(execution);
            let mut optim = config.init_of(&model).unwrap();
            let before = path_space(&optim, &model, probe(&model, &batch));
            let size =
                before
                    .iter()
                    .flat_map(|(v, g)| v.iter().zip(g))
                    .fold(
                        0.0f64,
                        |a, (v, g)| {
                            if *v == 0.0 { a } else { a.max((g / v).abs()) }
                        },
                    );
            let lr = 0.1 / size.max(1e-9);
            let stepped = optim
                .step(lr, model.clone(), grads(&model, probe(&model, &batch)))
                .unwrap();
            let after = path_space(&optim, &stepped, probe(&stepped, &batch));
            for ((v, g), (moved, _)) in before.iter().zip(&after) {
                let expected: Vec<f64> = v.iter().zip(g).map(|(v, g)| v - lr * g).collect();
                close(moved, &expected, 1e-10);
            }
        }
    }
}

fn rank_is_m_minus_h<M: Described>(model: &M) {
    let graph = scale_graph(model, Default::default()).unwrap();
    let paths = enumerate(model, &graph).unwrap();
    assert_eq!(paths.rank(), graph.basis_paths());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_follow_the_inner_optimiser_on_random_graphs(seed in 0u64..1_000_000, bias: bool) {
        values_after_step_are_the_inner_optimisers(seed, bias);
    }

    #[test]
    fn rank_over_random_widths(widths in prop::collection::vec(1usize..5, 2..6), bias: bool) {
        rank_is_m_minus_h(&Mlp::he(1, &widths, bias, DType::F64));
    }

    #[test]
    fn rank_over_random_graphs(seed in 0u64..1_000_000, bias: bool) {
        rank_is_m_minus_h(&Dag::random(seed, bias, DType::F64));
    }

    #[test]
    fn equation_1_of_the_paper_and_the_norms(seed in 0u64..1_000_000, bias: bool) {
        let model = Dag::random(seed, bias, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let paths = enumerate(&model, &graph).unwrap();
        let batch = batch(&model, seed);
        let x = values(batch.x.clone());
        let outputs: Vec<f64> = x
            .chunks(model.inputs())
            .flat_map(|x| paths.outputs(&[x]).unwrap())
            .collect();
        close(&outputs, &values(model.forward(batch.x.clone())), 1e-12);

        let v = paths.values();
        let one: f64 = v.iter().map(|v| v.abs()).sum();
        let two: f64 = v.iter().map(|v| v * v).sum();
        close(&[path_norm(&model, &graph, Power::One).unwrap()], &[one], 1e-12);
        close(&[path_norm(&model, &graph, Power::Two).unwrap()], &[two], 1e-12);
    }

    #[test]
    fn basis_path_norm_and_values_are_invariant(seed in 0u64..1_000_000, bias: bool) {
        let model = Dag::random(seed, bias, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let batch = batch(&model, seed);
        let optim = bare(Skeleton::Largest).init_of(&model).unwrap();
        let tree: SkeletonTree = optim.skeleton().unwrap().clone();
        let space = path_space(&optim, &model, probe(&model, &batch));
        let squares: f64 = space.iter().flat_map(|(v, _)| v).map(|v| v * v).sum();
        close(&[basis_path_norm(&model, &graph, &tree).unwrap()], &[squares], 1e-10);

        let twin = apply(model.clone(), &graph, &Scaling::random(&graph, 2.0, seed).unwrap()).unwrap();
        let optim = bare(Skeleton::Largest).init_of(&twin).unwrap();
        prop_assert_eq!(optim.skeleton().unwrap(), &tree);
        for (a, b) in space.iter().zip(path_space(&optim, &twin, probe(&twin, &batch))) {
            close(&b.0, &a.0, 1e-9);
            close(&b.1, &a.1, 1e-9);
        }
    }

    #[test]
    fn incoming_and_outgoing_sums_agree_for_every_class(seed in 0u64..1_000_000, bias: bool) {
        let model = Dag::random(seed, bias, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let batch = batch(&model, seed);
        let gradients = grads(&model, probe(&model, &batch));
        let (mut incoming, mut outgoing) = (vec![0.0; graph.hidden() + 1], vec![0.0; graph.hidden() + 1]);
        let flat = FlatGradients::of(&model, gradients);
        let w = by_name(&model);
        for edges in graph.edges() {
            let columns = edges.heads().len();
            for (at, (w, g)) in w[edges.name()].iter().zip(&flat.0[edges.name()]).enumerate() {
                incoming[edges.heads()[at % columns].index()] += w * g;
                outgoing[edges.tails()[at / columns].index()] += w * g;
            }
        }
        close(&incoming[1..], &outgoing[1..], 1e-12);
    }
}

/// Gradients and values by parameter name.
struct FlatGradients(std::collections::HashMap<String, Vec<f64>>);

impl FlatGradients {
    fn of<M: Module>(model: &M, grads: burn::optim::GradientsParams) -> Self {
        let mut named = Named {
            path: Vec::new(),
            grads: Some(grads),
            found: Default::default(),
        };
        model.visit(&mut named);
        Self(named.found)
    }
}

fn by_name<M: Module>(model: &M) -> std::collections::HashMap<String, Vec<f64>> {
    let mut named = Named {
        path: Vec::new(),
        grads: None,
        found: Default::default(),
    };
    model.visit(&mut named);
    named.found
}

struct Named {
    path: Vec<String>,
    grads: Option<burn::optim::GradientsParams>,
    found: std::collections::HashMap<String, Vec<f64>>,
}

impl burn::module::ModuleVisitor for Named {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        let tensor = match &self.grads {
            Some(grads) => grads.get::<D>(param.id).unwrap(),
            None => param.val(),
        };
        self.found.insert(self.path.join("."), values(tensor));
    }
}

#[test]
fn norm_coordinates_lie_on_spheres_and_the_gradient_is_their_tangent() {
    for seed in 0..20 {
        let model = Dag::random(seed, seed % 2 == 0, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let batch = batch(&model, seed);
        let config = GSpaceConfig::sgd().with_coordinates(Coordinates::Norm);
        let mut optim = config.init_of(&model).unwrap();
        let space = path_space(&optim, &model, probe(&model, &batch));
        let (mut size, mut slope) = (vec![0.0; graph.hidden() + 1], vec![0.0; graph.hidden() + 1]);
        for (edges, (v, g)) in graph.edges().iter().zip(&space) {
            for (at, (v, g)) in v.iter().zip(g).enumerate() {
                let head = edges.heads()[at % edges.heads().len()].index();
                size[head] += 0.5 * v * v;
                slope[head] += v * g;
            }
        }
        // Streams that are written again later have further edges outside their sphere.
        let written_once = graph.hidden_classes().filter(|c| {
            let names = graph
                .edges()
                .iter()
                .filter(|e| !e.is_bias() && e.heads().contains(c));
            names.count() == 1
        });
        for class in written_once {
            close(&[size[class.index()]], &[1.0], 1e-12);
            close(&[slope[class.index()]], &[0.0], 1e-10);
        }

        // Descent along the gradient lowers the loss at the rate |gradient|^2.
        let squares: f64 = space.iter().flat_map(|(_, g)| g).map(|g| g * g).sum();
        let lr = 1e-5 / (1.0 + squares);
        let before = values(probe(&model, &batch))[0];
        let stepped = optim
            .step(lr, model.clone(), grads(&model, probe(&model, &batch)))
            .unwrap();
        let after = values(probe(&stepped, &batch))[0];
        close(&[(before - after) / lr], &[squares], 1e-3);

        // The fused step and a lifted optimiser agree.
        let mut lifted = GSpaceConfig::new(SgdConfig::new().init())
            .with_coordinates(Coordinates::Norm)
            .init_of(&model)
            .unwrap();
        for lr in [0.01, 0.5] {
            let gradients = || grads(&model, probe(&model, &batch));
            let a = optim.step(lr, model.clone(), gradients()).unwrap();
            let b = lifted.step(lr, model.clone(), gradients()).unwrap();
            close(&weights(&a), &weights(&b), 1e-11);
        }
    }
}

#[test]
fn fused_and_lifted_agree_with_floor_and_normalisation() {
    for seed in 0..20 {
        let model = Dag::random(seed, seed % 2 == 1, DType::F64);
        let batch = batch(&model, seed);
        let gradients = |model: &Dag| grads(model, probe(model, &batch));
        for lr in [0.01, 0.3, 2.0] {
            let all = [
                GSpaceConfig::sgd(),
                GSpaceConfig::sgd().with_execution(Execution::Reference),
                GSpaceConfig::new(SgdConfig::new().init()),
                GSpaceConfig::new(SgdConfig::new().init()).with_execution(Execution::Reference),
            ]
            .map(|config| {
                let mut optim = config.init_of(&model).unwrap();
                (0..3).fold(model.clone(), |model, _| {
                    let gradients = gradients(&model);
                    optim.step(lr, model, gradients).unwrap()
                })
            });
            for other in &all[1..] {
                close(&weights(other), &weights(&all[0]), 1e-8);
            }
        }
    }
}

#[test]
fn weight_decay_in_path_space_is_the_gradient_of_the_basis_path_norm() {
    let model = Dag::random(4, true, DType::F64);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let batch = batch(&model, 4);
    let decay = burn::optim::decay::WeightDecayConfig::new(0.1);
    let optim = SgdConfig::new().with_weight_decay(Some(decay)).init();
    let with = |config: GSpaceConfig| {
        let config = config
            .with_skeleton(Skeleton::Largest)
            .with_coordinates(Coordinates::Plain)
            .without_floor();
        let mut optim = config.init_of(&model).unwrap();
        let stepped = optim
            .step(1e-3, model.clone(), grads(&model, probe(&model, &batch)))
            .unwrap();
        let tree = optim.skeleton().unwrap().clone();
        (
            basis_path_norm(&stepped, &graph, &tree).unwrap(),
            path_space(&optim, &stepped, probe(&stepped, &batch)),
        )
    };
    let (plain_norm, plain) = with(GSpaceConfig::sgd());
    let (decayed_norm, decayed) = with(GSpaceConfig::new(optim));
    assert!(decayed_norm < plain_norm);
    let start = bare(Skeleton::Largest).init_of(&model).unwrap();
    let start = path_space(&start, &model, probe(&model, &batch));
    for ((v, _), ((plain, _), (decayed, _))) in start.iter().zip(plain.iter().zip(&decayed)) {
        let expected: Vec<f64> = v
            .iter()
            .zip(plain)
            .map(|(v, p)| p - 1e-3 * 0.1 * v)
            .collect();
        close(decayed, &expected, 1e-8);
    }
}

#[test]
fn the_clip_norm_bounds_the_step_in_path_space() {
    let model = Dag::random(7, true, DType::F64);
    let batch = batch(&model, 7);
    let config = bare(Skeleton::Largest).with_clip_norm(0.01);
    let mut optim = config.init_of(&model).unwrap();
    let before = path_space(&optim, &model, probe(&model, &batch));
    let stepped = optim
        .step(1.0, model.clone(), grads(&model, probe(&model, &batch)))
        .unwrap();
    let after = path_space(&optim, &stepped, probe(&stepped, &batch));
    let moved: f64 = before
        .iter()
        .zip(&after)
        .flat_map(|((a, _), (b, _))| a.iter().zip(b))
        .map(|(a, b)| (a - b) * (a - b))
        .sum();
    close(&[moved.sqrt()], &[0.01], 1e-6);
}

/// Relative to the skeleton paths of the balanced network, path values are its weights, up to sign.
#[test]
fn normalised_values_are_the_weights_of_the_balanced_network() {
    for seed in 0..6 {
        let model = Dag::random(seed, seed % 2 == 0, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let scaling = Scaling::random(&graph, 1.0, seed).unwrap();
        let rescaled = apply(model.clone(), &graph, &scaling).unwrap();
        let (balanced, _) = balance(rescaled.clone(), &graph, Balance::default()).unwrap();
        let balanced = by_name(&balanced);
        let optim = GSpaceConfig::sgd().init_of(&rescaled).unwrap();
        let space = path_space(&optim, &rescaled, probe(&rescaled, &batch(&model, seed)));
        for (edges, (v, _)) in graph.edges().iter().zip(space) {
            for (v, w) in v.iter().zip(&balanced[edges.name()]) {
                // held entries have no coordinate
                assert!(
                    *v == 0.0 || (v.abs() - w.abs()).abs() < 1e-4 * w.abs(),
                    "{v} {w}"
                );
            }
        }
    }
}
