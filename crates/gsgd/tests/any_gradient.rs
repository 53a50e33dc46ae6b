//! Gradients that are not those of a loss of the network's outputs: dL/dv is the derivative all the same.
//!
//! The loss here is `sum of G w` for random G, so that its gradient is G: on all weights, on those of some units, on those of
//! one parameter. A penalty, a mask and a clipped gradient are of this kind.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{DType, Tensor, TensorData};
use common::convnet::families;
use common::{Dag, Mlp, Nudge, close, grads, normal, rng, values, weights};
use gsgd::rescale::{Scaling, apply};
use gsgd::skeleton::Edge;
use gsgd::{Coordinates, Execution, GSpaceConfig, ParamEdges};
use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Which weights have a gradient that is not 0.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Where {
    Everywhere,
    /// On a few entries of every parameter that follow one another, as those of a unit do.
    SomeUnits,
    OneParameter,
}

const ALL: [Where; 3] = [Where::Everywhere, Where::SomeUnits, Where::OneParameter];

/// `sum of G w` with its second part `sum of G w^2 / 2`, so that the gradient follows the weights.
fn loss<M: Module>(model: &M, place: Where, seed: u64) -> Tensor<1> {
    struct Sum {
        rng: ChaCha8Rng,
        place: Where,
        /// Parameters until the one that is taken.
        left: usize,
        sum: Option<Tensor<1>>,
    }
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let w = param.val();
            let count = w.shape().num_elements();
            let first = self.rng.random_range(0..count);
            let length = self.rng.random_range(1..=count.min(64));
            let taken = |at: usize| match self.place {
                Where::Everywhere => true,
                Where::SomeUnits => (first..first + length).contains(&at),
                Where::OneParameter => self.left == 0,
            };
            let g = (0..count).map(|at| match taken(at) {
                true => normal(&mut self.rng),
                false => 0.0,
            });
            let g = TensorData::new(g.collect::<Vec<f64>>(), w.dims());
            let g = Tensor::<D>::from_data(g, (&w.device(), w.dtype()));
            let sum = (g.clone() * w.clone()).sum() + (g * w.clone() * w).sum() * 0.5;
            self.left = self.left.wrapping_sub(1);
            self.sum = Some(match self.sum.take() {
                Some(others) => others + sum,
                None => sum,
            });
        }
    }
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
            self.0 += 1;
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    let mut rng = rng(seed);
    let left = rng.random_range(0..count.0);
    let mut sum = Sum {
        rng,
        place,
        left,
        sum: None,
    };
    model.visit(&mut sum);
    sum.sum.unwrap()
}

/// Where an edge stands in its parameter: of a bias, a dense layer or a convolution.
fn index(edges: &ParamEdges, edge: Edge) -> usize {
    let heads = edges.heads().len();
    match edges.shape().len() {
        1 => edge.head,
        2 => edge.tail * heads + edge.head,
        _ => {
            let columns = edges.shape().iter().product::<usize>() / heads;
            edge.head * columns + edge.tail % columns
        }
    }
}

/// Compares dL/dv of some In edges, whose sums are the matter, and of other entries with numerical derivatives.
fn check<M: Described>(
    model: &M,
    coordinates: Coordinates,
    place: Where,
    seed: u64,
    entries: usize,
) {
    let config = |inner: ModuleOptimizer| {
        GSpaceConfig::new(inner)
            .with_coordinates(coordinates)
            .without_floor()
    };
    let optim = config(SgdConfig::new().init()).init_of(model).unwrap();
    let gradients = || grads(model, loss(model, place, seed));
    let space = optim.path_space(model, gradients()).unwrap();
    let space: Vec<(Vec<f64>, Vec<f64>)> = space
        .into_iter()
        .map(|(v, g)| (values(v), values(g)))
        .collect();
    let scale = space
        .iter()
        .flat_map(|(_, g)| g)
        .fold(0.0f64, |all, g| all.max(g.abs()));
    let (graph, mut random) = (optim.scale_graph(), rng(seed));
    let mut places: Vec<(usize, usize)> = Vec::new();
    if let Some(tree) = optim.skeleton() {
        let classes: Vec<_> = graph.hidden_classes().collect();
        for _ in 0..entries {
            let class = classes[random.random_range(0..classes.len())];
            let edge = tree.in_edge(class);
            places.extend(edge.map(|edge| (edge.param, index(&graph.edges()[edge.param], edge))));
        }
    }
    for _ in 0..entries {
        let param = random.random_range(0..space.len());
        places.push((param, random.random_range(0..space[param].0.len())));
    }
    for (param, at) in places {
        let (v, g) = (space[param].0[at], space[param].1[at]);
        if v == 0.0 {
            continue; // held fixed
        }
        let name = graph.edges()[param].name().to_string();
        let h = 1e-5 * v.abs().max(1e-2);
        let moved = |h: f64| {
            let nudge = Nudge { at, h }.in_parameter(&name);
            let mut lifted = config(nudge).init_of(model).unwrap();
            let stepped = lifted.step(1.0, model.clone(), gradients()).unwrap();
            values(loss(&stepped, place, seed))[0]
        };
        let numerical = (moved(h) - moved(-h)) / (2.0 * h);
        assert!(
            (numerical - g).abs() <= 1e-5 * (scale + g.abs()),
            "{name}[{at}], {place:?}, {coordinates:?}, seed {seed}: {numerical} and {g}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn on_random_graphs(seed in 0u64..1_000_000, bias: bool, place in 0..3usize) {
        let model = Dag::random(seed, bias, DType::F64);
        check(&model, Coordinates::Plain, ALL[place], seed, 4);
        check(&model, Coordinates::Normalised, ALL[place], seed, 2);
    }

    #[test]
    fn on_random_widths(
        widths in prop::collection::vec(1usize..40, 3..6),
        bias: bool,
        place in 0..3usize,
        seed in 0u64..1_000_000,
    ) {
        let model = Mlp::he(seed, &widths, bias, DType::F64);
        check(&model, Coordinates::Plain, ALL[place], seed, 4);
    }
}

#[test]
fn on_wide_networks() {
    for widths in [[6, 300, 300, 3], [20, 300, 400, 3], [5, 1024, 64, 2100]] {
        let model = Mlp::he(4, &widths, true, DType::F64);
        for (seed, place) in ALL.into_iter().enumerate() {
            check(&model, Coordinates::Plain, place, seed as u64, 6);
        }
    }
}

#[test]
fn on_convolutions_residual_networks_and_batch_norm() {
    for (_, model) in families(DType::F64, 1e-5) {
        for (seed, place) in ALL.into_iter().enumerate() {
            for coordinates in [Coordinates::Plain, Coordinates::Norm] {
                check(&model, coordinates, place, seed as u64, 6);
            }
        }
    }
}

#[test]
fn with_frozen_layers() {
    for layer in 0..4 {
        let mut model = Mlp::he(8, &[6, 9, 7, 8, 3], true, DType::F64);
        let weight = model.layers[layer].weight.clone();
        model.layers[layer].weight = weight.set_require_grad(false);
        for (seed, place) in ALL.into_iter().enumerate() {
            check(&model, Coordinates::Plain, place, seed as u64, 8);
        }
    }
}

/// The same formulas in one pass, in tensor operations, and around Burn's optimisers.
#[test]
fn fused_and_lifted_agree() {
    let model = Mlp::he(5, &[9, 300, 280, 3], true, DType::F64);
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let lifted = [
        SgdConfig::new().init(),
        SgdConfig::new().with_momentum(Some(momentum)).init(),
        AdamConfig::new().with_epsilon(1e-8).init(),
    ];
    let fused = [
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::adam(),
    ];
    // Burn keeps momentum in f32, and corrects Adam's bias in it
    let tolerances = [1e-10, 1e-8, 1e-5];
    for place in ALL {
        for ((lifted, fused), tolerance) in lifted.iter().zip(&fused).zip(tolerances) {
            let run = |config: &GSpaceConfig| {
                let mut optim = config.init_of(&model).unwrap();
                (0..4).fold(model.clone(), |model, step| {
                    let gradients = grads(&model, loss(&model, place, step));
                    optim.step(1e-4, model, gradients).unwrap()
                })
            };
            let expected = weights(&run(&GSpaceConfig::new(lifted.clone())));
            for execution in [Execution::Fused, Execution::Reference] {
                let found = run(&fused.clone().with_execution(execution));
                close(&weights(&found), &expected, tolerance);
            }
        }
    }
}

/// A penalty's gradient is of this kind too: one that does not change under rescaling keeps every bit.
#[test]
fn powers_of_two_keep_every_bit() {
    let model = Mlp::he(6, &[9, 300, 280, 3], true, DType::F32);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let scaling = Scaling::powers_of_two(&graph, 6, 1);
    let other = apply(model.clone(), &graph, &scaling).unwrap();
    // (w / w0) of one layer, by its weights at the start: the same number in both networks
    let run = |model: Mlp| {
        let at_start = model.layers[1].weight.val().detach();
        let mut optim = GSpaceConfig::momentum(0.9).init_of(&model).unwrap();
        let mut losses = Vec::new();
        let mut model = model;
        for _ in 0..30 {
            let ratio = model.layers[1].weight.val() / at_start.clone();
            let loss = ratio.slice([10..14, 0..280]).square().sum();
            losses.push(values(loss.clone())[0]);
            let others = model.layers.iter().map(|layer| {
                let bias = layer.bias.as_ref().unwrap().val();
                layer.weight.val().sum() * 0.0 + bias.sum() * 0.0
            });
            let all = others.fold(loss, |all, zero| all + zero);
            model = optim.step(1e-7, model.clone(), grads(&model, all)).unwrap();
        }
        losses
    };
    let (ours, others) = (run(model), run(other));
    assert!(ours[29] != ours[0]);
    assert_eq!(ours, others);
}
