//! The function's trajectory does not depend on how the network is scaled: powers of two leave every bit as it is.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::nn::Linear;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, SgdConfig};
use burn::tensor::{DType, Tensor};
use common::{Batch, Mlp, close, grads, values};
use gsgd::rescale::{Balance, Norm, Scaling, apply, balance};
use gsgd::skeleton::{self, SkeletonTree, largest};
use gsgd::{
    BalancedSgd, Coordinates, Execution, GSpaceConfig, Outside, PathSgd, Rejected, Skeleton,
};

const WIDTHS: [usize; 5] = [6, 16, 9, 20, 3];

/// Anything that steps a model.
type Stepper = Box<dyn FnMut(Mlp, GradientsParams) -> Mlp>;

fn stepper(config: GSpaceConfig, lr: f64) -> impl Fn(&Mlp) -> Stepper {
    move |model| {
        let mut optim = config.init_of(model).unwrap();
        Box::new(move |model, grads| optim.step(lr, model, grads).unwrap())
    }
}

/// Logits after every tenth step of 200.
fn trajectory(model: Mlp, make: &dyn Fn(&Mlp) -> Stepper, steps: usize) -> Vec<f64> {
    let mut step = make(&model);
    let mut model = Some(model);
    let mut logits = Vec::new();
    for at in 0..steps {
        // every network here has the inputs and outputs of WIDTHS
        let batch = Batch::random(at as u64 % 20, 16, WIDTHS[0], WIDTHS[4], DType::F32);
        let current = model.take().unwrap();
        let output = current.forward(batch.x.clone());
        if at % 10 == 9 || at + 1 == steps {
            logits.extend(values(output.clone()));
        }
        let grads = grads(&current, batch.loss(output));
        model = Some(step(current, grads));
    }
    logits
}

fn twins(seed: u64, bias: bool) -> (Mlp, Mlp) {
    let model = Mlp::he(seed, &WIDTHS, bias, DType::F32);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let scaling = Scaling::powers_of_two(&graph, 6, seed + 1);
    let twin = apply(model.clone(), &graph, &scaling).unwrap();
    (model, twin)
}

fn differ(make: &dyn Fn(&Mlp) -> Stepper, bias: bool) -> usize {
    let (model, twin) = twins(3, bias);
    let (a, b) = (trajectory(model, make, 200), trajectory(twin, make, 200));
    assert!(
        a.iter().all(|x| x.is_finite()),
        "the run itself must be sound"
    );
    assert!(a.last() != Some(&a[a.len() - 10]), "the network must move");
    a.iter()
        .zip(&b)
        .filter(|(a, b)| a.to_bits() != b.to_bits())
        .count()
}

#[test]
fn powers_of_two_leave_every_bit_of_g_sgd_and_g_momentum() {
    for bias in [false, true] {
        for config in [
            GSpaceConfig::sgd(),
            GSpaceConfig::sgd().with_coordinates(Coordinates::Norm),
            GSpaceConfig::sgd().with_clip_norm(0.5),
            GSpaceConfig::sgd().with_skeleton(Skeleton::Random(8)),
            GSpaceConfig::new(SgdConfig::new().init()),
            GSpaceConfig::momentum(0.9),
            GSpaceConfig::nesterov(0.9),
            GSpaceConfig::momentum(0.9).with_coordinates(Coordinates::Norm),
        ] {
            assert_eq!(differ(&stepper(config, 0.02), bias), 0);
        }
    }
}

#[test]
fn powers_of_two_leave_every_bit_of_wide_layers() {
    let widths = [6, 300, 280, 3];
    let model = Mlp::he(2, &widths, true, DType::F32);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let scaling = Scaling::powers_of_two(&graph, 6, 8);
    let twin = apply(model.clone(), &graph, &scaling).unwrap();
    for (config, lr) in [
        (GSpaceConfig::sgd(), 0.02),
        (GSpaceConfig::momentum(0.9), 0.005),
        (GSpaceConfig::adam(), 0.001),
    ] {
        let make = stepper(config, lr);
        let run = |model: &Mlp| trajectory(model.clone(), &make, 40);
        let (a, b) = (run(&model), run(&twin));
        assert!(a.iter().all(|x| x.is_finite()) && a.first() != a.last());
        assert_eq!(a, b);
    }
}

#[test]
fn powers_of_two_leave_every_bit_of_g_adam() {
    // Path values do not change, so Adam's epsilon sees the same numbers.
    for coordinates in [
        Coordinates::Plain,
        Coordinates::Normalised,
        Coordinates::Norm,
    ] {
        let config = GSpaceConfig::adam().with_coordinates(coordinates);
        assert_eq!(differ(&stepper(config, 0.003), true), 0);
    }
}

#[test]
fn plain_coordinates_are_invariant_too() {
    let make = |model: &Mlp| -> Stepper {
        let mut optim = GSpaceConfig::momentum(0.5)
            .with_coordinates(Coordinates::Plain)
            .with_skeleton(Skeleton::Largest)
            .init_of(model)
            .unwrap();
        Box::new(move |model, grads| optim.step(1e-3, model, grads).unwrap())
    };
    assert_eq!(differ(&make, true), 0);
}

#[test]
fn the_paper_skeleton_is_invariant_from_its_own_start() {
    let model = Mlp::he(5, &WIDTHS, false, DType::F32);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let model = skeleton::set_to_one(model, &graph, &SkeletonTree::paper(&graph)).unwrap();
    let twin = apply(model.clone(), &graph, &Scaling::powers_of_two(&graph, 4, 9)).unwrap();
    let make = stepper(GSpaceConfig::sgd().with_skeleton(Skeleton::Paper), 0.01);
    let (a, b) = (trajectory(model, &make, 200), trajectory(twin, &make, 200));
    assert_eq!(a, b);
}

#[test]
fn path_sgd_is_invariant() {
    let make = |model: &Mlp| -> Stepper {
        let mut optim = PathSgd::init(&model.graph(), Outside::Refuse).unwrap();
        Box::new(move |model, grads| optim.step(0.5, model, grads).unwrap())
    };
    assert_eq!(differ(&make, true), 0);
}

#[test]
fn balanced_sgd_is_invariant() {
    let make = |model: &Mlp| -> Stepper {
        let mut optim =
            BalancedSgd::init(&model.graph(), Balance::default(), Outside::Refuse).unwrap();
        Box::new(move |model, grads| optim.step(0.05, model, grads).unwrap())
    };
    let (model, twin) = twins(4, true);
    let (a, b) = (trajectory(model, &make, 30), trajectory(twin, &make, 30));
    assert_eq!(a, b);
}

#[test]
fn balanced_sgd_is_sgd_from_the_balanced_representative() {
    let model = Mlp::he(4, &WIDTHS, true, DType::F64);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let batch = Batch::random(1, 16, WIDTHS[0], WIDTHS[4], DType::F64);
    let gradients = |model: &Mlp| grads(model, batch.loss(model.forward(batch.x.clone())));
    let mut optim = BalancedSgd::init(&model.graph(), Balance::default(), Outside::Refuse).unwrap();
    let found = optim.step(0.1, model.clone(), gradients(&model)).unwrap();
    let (balanced, report) = balance(model, &graph, Balance::default()).unwrap();
    assert!(report.imbalance <= 1e-6 && report.sweeps > 1);
    let expected = SgdConfig::new()
        .init()
        .step(0.1, balanced.clone(), gradients(&balanced));
    close(&common::weights(&found), &common::weights(&expected), 1e-10);
}

#[test]
fn largest_values_are_made_equal_on_both_sides() {
    let model = Mlp::he(4, &WIDTHS, true, DType::F64);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let until = Balance {
        norm: Norm::MaxAbs,
        ..Balance::default()
    };
    let twin = Scaling::random(&graph, 1.0, 5).unwrap();
    let twin = apply(model.clone(), &graph, &twin).unwrap();
    let x = Batch::random(1, 16, WIDTHS[0], WIDTHS[4], DType::F64).x;
    let before = values(model.forward(x.clone()));
    for start in [model, twin] {
        let (balanced, report) = balance(start, &graph, until).unwrap();
        assert!(report.imbalance <= 1e-6, "{report:?}");
        close(&values(balanced.forward(x.clone())), &before, 1e-10);
        for pair in balanced.layers.windows(2) {
            let largest = |layer: &Linear, side| -> Vec<f64> {
                let sizes = layer.weight.val().abs().max_dim(side);
                sizes.into_data().iter::<f64>().collect()
            };
            close(&largest(&pair[0], 0), &largest(&pair[1], 1), 1e-5);
        }
    }
}

#[test]
fn the_largest_skeleton_is_that_of_the_optimiser() {
    let model = Mlp::he(4, &WIDTHS, true, DType::F64);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let tree = largest(&model, &graph).unwrap();
    let optim = GSpaceConfig::sgd().init_of(&model).unwrap();
    assert_eq!(Some(&tree), optim.skeleton());
    let weights = skeleton::weights(&model, &graph, &tree).unwrap();
    assert_eq!(weights.len(), 2 * graph.hidden());
    // In edges of the first layer are the largest of their columns
    let first = model.layers[0].weight.val().abs().max_dim(0);
    let sizes: Vec<f64> = weights[..WIDTHS[1]].iter().map(|w| w.abs()).collect();
    close(
        &sizes,
        &first.into_data().iter::<f64>().collect::<Vec<_>>(),
        0.0,
    );
}

#[test]
fn fused_moments_are_those_of_the_lifted_optimiser() {
    let heavy_ball = |nesterov| {
        let momentum = MomentumConfig::new()
            .with_momentum(0.9)
            .with_dampening(0.0)
            .with_nesterov(nesterov);
        let burn = SgdConfig::new().with_momentum(Some(momentum));
        GSpaceConfig::new(burn.init())
    };
    let adam = AdamConfig::new().with_beta_1(0.9).with_beta_2(0.999);
    let adam = GSpaceConfig::new(adam.with_epsilon(1e-8).init());
    // Burn keeps its momentum and 1 - beta in f32
    for (fused, lifted, tolerance) in [
        (GSpaceConfig::momentum(0.9), heavy_ball(false), 1e-8),
        (GSpaceConfig::nesterov(0.9), heavy_ball(true), 1e-8),
        (GSpaceConfig::adam(), adam, 1e-6),
    ] {
        for execution in [Execution::Fused, Execution::Reference] {
            let run = |config: GSpaceConfig| {
                let model = Mlp::he(4, &WIDTHS, true, DType::F64);
                let mut optim = config.with_execution(execution).init_of(&model).unwrap();
                let model = (0..10).fold(model, |model, at| {
                    let batch = Batch::random(at, 16, WIDTHS[0], WIDTHS[4], DType::F64);
                    let grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
                    optim.step(0.01, model, grads).unwrap()
                });
                common::weights(&model)
            };
            close(&run(fused.clone()), &run(lifted.clone()), tolerance);
        }
    }
}

#[test]
fn weight_space_optimisers_are_not_invariant() {
    let sgd = |_: &Mlp| -> Stepper {
        let mut optim = SgdConfig::new().init();
        Box::new(move |model, grads| optim.step(1e-4, model, grads))
    };
    assert!(differ(&sgd, false) > 0);
    let adam = |_: &Mlp| -> Stepper {
        let mut optim = AdamConfig::new().init();
        Box::new(move |model, grads| optim.step(1e-4, model, grads))
    };
    assert!(differ(&adam, false) > 0);
}

#[test]
fn arbitrary_factors_agree_to_rounding_over_a_short_run() {
    let model = Mlp::he(8, &WIDTHS, true, DType::F64);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let twin = apply(
        model.clone(),
        &graph,
        &Scaling::random(&graph, 2.0, 1).unwrap(),
    )
    .unwrap();
    let run = |model: Mlp, config: GSpaceConfig| {
        let mut optim = config.init_of(&model).unwrap();
        let batch = Batch::random(1, 16, WIDTHS[0], WIDTHS[4], DType::F64);
        let model = (0..50).fold(model, |model, _| {
            let grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
            optim.step(0.02, model, grads).unwrap()
        });
        values(model.forward(batch.x.clone()))
    };
    for config in [
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::adam(),
        GSpaceConfig::sgd().with_coordinates(Coordinates::Norm),
    ] {
        close(
            &run(twin.clone(), config.clone()),
            &run(model.clone(), config),
            1e-8,
        );
    }
}

#[test]
fn a_large_lr_stays_finite_with_the_floor() {
    let run = |model: Mlp, config: GSpaceConfig| {
        let mut optim = config.init_of(&model).unwrap();
        let mut model = model;
        for at in 0..2000 {
            let batch = Batch::random(at % 50, 16, 8, 3, DType::F32);
            let grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
            model = optim
                .step(1.0, model, grads)
                .map_err(|Rejected { error, .. }| error)
                .unwrap();
        }
        let batch = Batch::random(0, 16, 8, 3, DType::F32);
        let loss: f64 = values(batch.loss(model.forward(batch.x.clone())))[0];
        assert!(loss.is_finite());
        loss
    };
    let he = Mlp::he(2, &[8, 32, 32, 3], false, DType::F32);
    run(he.clone(), GSpaceConfig::sgd());
    run(
        he.clone(),
        GSpaceConfig::sgd().with_coordinates(Coordinates::Norm),
    );
    let graph = scale_graph(&he, Default::default()).unwrap();
    let ones = skeleton::set_to_one(he, &graph, &SkeletonTree::paper(&graph)).unwrap();
    run(ones, GSpaceConfig::sgd().with_skeleton(Skeleton::Paper));
}

#[test]
fn no_memory_is_shared_between_a_model_and_its_past() {
    let (model, _) = twins(6, true);
    let before = common::weights(&model);
    let mut optim = GSpaceConfig::sgd().init_of(&model).unwrap();
    let batch = Batch::random(1, 4, WIDTHS[0], WIDTHS[4], DType::F32);
    let loss: Tensor<1> = batch.loss(model.forward(batch.x.clone()));
    let stepped = optim.step(0.1, model.clone(), grads(&model, loss)).unwrap();
    assert_eq!(common::weights(&model), before);
    assert_ne!(common::weights(&stepped), before);
}
