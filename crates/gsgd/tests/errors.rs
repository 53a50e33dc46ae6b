//! Every error, reached as a user would reach it; the model comes back unchanged.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::{relu, tanh};
use burn::tensor::{DType, Tensor};
use common::{Batch, Mlp, device, grads, tensor, values, weights};
use gsgd::core::graph::Op;
use gsgd::paths::enumerate;
use gsgd::rescale::{Equivalence, Scaling, apply, equivalent};
use gsgd::skeleton::{self, SkeletonTree};
use gsgd::{
    Coordinates, Error, Execution, GSpaceConfig, Graph, GraphError, Outside, Skeleton, verify,
};

const WIDTHS: [usize; 4] = [4, 6, 5, 3];

fn mlp() -> Mlp {
    Mlp::he(1, &WIDTHS, false, DType::F32)
}

fn batch() -> Batch {
    Batch::random(1, 8, WIDTHS[0], WIDTHS[3], DType::F32)
}

fn gradients(model: &Mlp) -> GradientsParams {
    let batch = batch();
    grads(model, batch.loss(model.forward(batch.x.clone())))
}

/// A model with a skip connection and, perhaps, parameters that it does not use, in the graph as `how` says.
#[derive(Module, Debug)]
struct Skip {
    first: Linear,
    inner: Linear,
    last: Linear,
    extra: Option<Linear>,
    #[module(skip)]
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Right,
    ForgottenSkip,
    ForgottenTanh,
}

impl Skip {
    fn new(how: How) -> Self {
        let layer = |i, o| LinearConfig::new(i, o).init(&device());
        Self {
            first: layer(4, 6),
            inner: layer(6, 6),
            last: layer(6, 3),
            extra: None,
            how,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = relu(self.first.forward(x));
        let z = relu(self.inner.forward(y.clone()));
        let z = if self.how == How::ForgottenTanh {
            tanh(z)
        } else {
            z
        };
        self.last.forward(y + z)
    }

    /// What is recorded.
    fn described(&self, x: Tensor<2>) -> Tensor<2> {
        let y = relu(self.first.forward(x));
        let z = relu(self.inner.forward(y.clone()));
        self.last.forward(match self.how {
            How::ForgottenSkip => z,
            How::Right | How::ForgottenTanh => y + z,
        })
    }
}

impl Described for Skip {
    fn graph(&self) -> Graph {
        gsgd::capture(self, |model, example| {
            model.described(example.input([1, 4]))
        })
        .unwrap()
    }
}

#[test]
fn forward_passes_that_cannot_be_captured_say_why() {
    let model = Skip::new(How::Right);
    let refused = |forward: &dyn Fn(&Skip, &mut gsgd::Example) -> Tensor<2>| {
        let error = gsgd::capture(&model, forward).err().unwrap();
        assert!(matches!(error, Error::Capture { .. }), "{error}");
        error.to_string()
    };
    // numbers are read
    refused(&|model, example| {
        let y = model.forward(example.input([1, 4]));
        let sum: f32 = y.clone().sum().into_scalar();
        y * sum
    });
    // an input of the wrong width
    assert!(refused(&|model, example| model.forward(example.input([1, 5]))).contains('5'));
    // and the next one is captured
    let graph = model.graph().scales(Default::default()).unwrap();
    assert_eq!(graph.hidden(), 6);
}

#[test]
fn a_graph_by_hand_is_that_of_the_forward_pass() {
    let model = mlp();
    let mut graph = gsgd::declared(&model).unwrap();
    let keys: Vec<_> = graph.params().iter().map(|param| param.key).collect();
    let mut y = graph.input(&[1, WIDTHS[0]]).unwrap();
    for (at, key) in keys.into_iter().enumerate() {
        if at > 0 {
            y = graph.relu(y).unwrap();
        }
        let weight = graph.push("", Op::Param(key), &[]).unwrap();
        y = graph.dense(y, weight, None).unwrap();
    }
    graph.output(y);
    let by_hand = GSpaceConfig::momentum(0.9)
        .init_graph(&model, &graph)
        .unwrap();
    let captured = GSpaceConfig::momentum(0.9)
        .init(&model, |model, example| {
            model.forward(example.input([1, WIDTHS[0]]))
        })
        .unwrap();
    let step = |mut optim: gsgd::GSpace| {
        let moved = optim.step(0.1, model.clone(), gradients(&model)).unwrap();
        weights(&moved)
    };
    assert_eq!(by_hand.scale_graph().hidden(), 11);
    assert_eq!(step(by_hand), step(captured));
}

#[test]
fn an_optimiser_is_refused_where_its_graph_is_not_the_forward_pass() {
    let model = Skip::new(How::ForgottenTanh);
    let calls = std::cell::Cell::new(0);
    // recorded as one function, carried out as another
    let error = GSpaceConfig::sgd().init(&model, |model, example| {
        calls.set(calls.get() + 1);
        let x = example.input([8, 4]);
        match calls.get() {
            1 => model.described(x),
            _ => model.forward(x),
        }
    });
    let error = error.err().unwrap();
    assert!(
        matches!(
            error,
            Error::Core(gsgd::core::Error::Graph(GraphError::Mismatch { .. }))
        ),
        "{error}"
    );
}

#[test]
fn verify_names_the_layer_where_graph_and_model_part() {
    let x = batch().x;
    let verify = |how| {
        let model = Skip::new(how);
        let graph = scale_graph(&model, Default::default()).unwrap();
        verify(&model, &graph, |model| model.forward(x.clone()))
    };
    assert_eq!(verify(How::Right), Ok(()));
    for how in [How::ForgottenSkip, How::ForgottenTanh] {
        match verify(how) {
            Err(Error::Core(gsgd::core::Error::Graph(GraphError::Mismatch { layer, .. }))) => {
                assert_eq!(layer, "first.weight")
            }
            other => panic!("{how:?}: {other:?}"),
        }
    }
}

#[test]
fn parameters_outside_the_graph_are_refused_or_stepped_in_weight_space() {
    let mut model = Skip::new(How::Right);
    model.extra = Some(LinearConfig::new(3, 3).init(&device()));
    let error = GSpaceConfig::sgd().init_of(&model).err().unwrap();
    assert_eq!(
        error,
        Error::Outside {
            names: vec!["extra.weight".into(), "extra.bias".into()]
        }
    );

    for config in [GSpaceConfig::sgd(), GSpaceConfig::momentum(0.0)] {
        let mut optim = config
            .with_outside(Outside::WeightSpace)
            .init_of(&model)
            .unwrap();
        let extra = model.extra.as_ref().unwrap();
        let loss = |model: &Skip| {
            let y = model.forward(batch().x);
            batch().loss(model.extra.as_ref().unwrap().forward(y))
        };
        let grads_of = grads(&model, loss(&model));
        let gradient = grads_of.get::<2>(extra.weight.id).unwrap();
        let expected = extra.weight.val().inner() - gradient * 0.1;
        let stepped = optim.step(0.1, model.clone(), grads_of).unwrap();
        let found = stepped.extra.as_ref().unwrap().weight.val().inner();
        common::close(&common::values(found), &common::values(expected), 1e-6);

        // and never skipped in silence
        let y = batch().loss(model.forward(batch().x));
        let error = optim
            .step(0.1, model.clone(), grads(&model, y))
            .unwrap_err()
            .error;
        assert_eq!(
            error,
            Error::MissingGradient {
                name: "extra.weight".into()
            }
        );
    }
}

#[test]
fn refused_steps_give_the_model_back() {
    for config in [
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::sgd().with_coordinates(Coordinates::Norm),
        GSpaceConfig::sgd().with_execution(Execution::Reference),
    ] {
        let model = mlp();
        let before = weights(&model);
        let mut optim = config.init_of(&model).unwrap();

        let missing = optim
            .step(0.1, model.clone(), GradientsParams::new())
            .unwrap_err();
        assert!(
            matches!(missing.error, Error::MissingGradient { .. }),
            "{}",
            missing.error
        );
        assert_eq!(weights(&missing.model), before);

        for bad in [f64::NAN, f64::INFINITY] {
            for layer in 0..3 {
                let mut grads = gradients(&model);
                let id = model.layers[layer].weight.id;
                let gradient = grads.remove::<2>(id).unwrap();
                grads.register::<2>(id, gradient * bad);
                let refused = optim.step(0.1, model.clone(), grads).unwrap_err();
                assert_eq!(
                    refused.error,
                    Error::Core(gsgd::core::Error::NonFiniteGradient {
                        name: format!("layers.{layer}.weight")
                    })
                );
                assert_eq!(weights(&refused.model), before);
            }
        }

        for lr in [f64::NAN, f64::INFINITY, -0.1] {
            let refused = optim
                .step(lr, model.clone(), gradients(&model))
                .unwrap_err();
            assert!(matches!(refused.error, Error::LearningRate { .. }));
            assert_eq!(weights(&refused.model), before);
        }

        let other = mlp();
        let refused = optim
            .step(0.1, other.clone(), gradients(&other))
            .unwrap_err();
        assert!(
            matches!(refused.error, Error::MissingParameter { .. }),
            "{}",
            refused.error
        );

        let mut wider = model.clone();
        let id = wider.layers[1].weight.id;
        wider.layers[1].weight = Param::initialized(id, tensor(vec![0.5; 42], [6, 7], DType::F32));
        let refused = optim.step(0.1, wider, gradients(&model)).unwrap_err();
        assert!(matches!(refused.error, Error::ShapeChanged { .. }));

        // and the optimiser still works
        assert!(optim.step(0.1, model.clone(), gradients(&model)).is_ok());
    }
}

/// Also where only single entries of a parameter are read before the step.
#[test]
fn what_is_not_finite_is_found_wherever_it_is() {
    let model = Mlp::he(3, &[6, 300, 280, 3], false, DType::F32);
    let batch = Batch::random(1, 8, 6, 3, DType::F32);
    let before = weights(&model);
    for config in [
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::adam(),
        GSpaceConfig::sgd().with_clip_norm(1.0),
    ] {
        let mut optim = config.init_of(&model).unwrap();
        for layer in 0..3 {
            let mut grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
            let weight = &model.layers[layer].weight;
            let gradient = grads.remove::<2>(weight.id).unwrap();
            let shape = gradient.dims();
            let mut entries = values(gradient);
            let last = entries.len() - 7;
            entries[last] = f64::NAN;
            grads.register::<2>(weight.id, tensor(entries, shape, DType::F32).inner());
            let refused = optim.step(0.1, model.clone(), grads).unwrap_err();
            let name = format!("layers.{layer}.weight");
            assert_eq!(
                refused.error,
                Error::Core(gsgd::core::Error::NonFiniteGradient { name })
            );
            assert_eq!(weights(&refused.model), before);
        }
        let moved = grads(&model, batch.loss(model.forward(batch.x.clone())));
        assert!(optim.step(0.1, model.clone(), moved).is_ok());
    }
}

/// The model with one weight replaced.
fn with_weight(model: &Mlp, layer: usize, at: usize, value: f64) -> Mlp {
    let mut model = model.clone();
    let weight = model.layers[layer].weight.val();
    let shape = weight.dims();
    let mut values = common::values(weight);
    values[at] = value;
    let id = model.layers[layer].weight.id;
    model.layers[layer].weight =
        Param::initialized(id, tensor(values, shape, DType::F32).require_grad());
    model
}

#[test]
fn weights_the_coordinates_cannot_hold() {
    let paper = GSpaceConfig::sgd().with_skeleton(Skeleton::Paper);
    let zero = with_weight(&mlp(), 0, 0, 0.0);
    assert!(matches!(
        paper.init_of(&zero).err(),
        Some(Error::Core(gsgd::core::Error::ZeroSkeleton {
            tail: 0,
            head: 0,
            ..
        }))
    ));
    let tiny = with_weight(&mlp(), 0, 0, 1e-5);
    assert!(matches!(
        paper.init_of(&tiny).err(),
        Some(Error::Core(gsgd::core::Error::TinySkeleton { .. }))
    ));
    assert!(GSpaceConfig::sgd().init_of(&tiny).is_ok());
    let broken = with_weight(&mlp(), 1, 3, f64::NAN);
    assert!(matches!(
        GSpaceConfig::sgd().init_of(&broken).err(),
        Some(Error::Core(gsgd::core::Error::NonFiniteWeight { .. }))
    ));

    let mut dead = mlp();
    for row in 0..4 {
        dead = with_weight(&dead, 0, row * 6 + 2, 0.0);
    }
    let norm = GSpaceConfig::sgd().with_coordinates(Coordinates::Norm);
    assert!(
        matches!(norm.init_of(&dead).err(), Some(Error::Core(gsgd::core::Error::DeadUnit { unit })) if unit == "layers.0.weight[2]")
    );

    let model = mlp();
    let graph = scale_graph(&model, Default::default()).unwrap();
    let far = Scaling::new(&graph, &[1e-60; 11]).unwrap();
    assert!(matches!(
        apply(model.clone(), &graph, &far).map_err(|r| r.error),
        Err(Error::Core(gsgd::core::Error::OutOfRange { .. }))
    ));
}

#[test]
fn layers_without_features() {
    let model = Mlp {
        layers: vec![
            common::linear(tensor(Vec::new(), [4, 0], DType::F32), None),
            common::linear(tensor(Vec::new(), [0, 3], DType::F32), None),
        ],
    };
    let error = gsgd::declared(&model).unwrap_err();
    assert!(
        matches!(&error, Error::Core(gsgd::core::Error::Graph(GraphError::Empty { layer })) if layer == "layers.0.weight"),
        "{error}"
    );
}

#[test]
fn skeletons_of_another_network() {
    let model = mlp();
    let graph = scale_graph(&model, Default::default()).unwrap();
    let right = SkeletonTree::paper(&graph);
    let refused = |change: &dyn Fn(&mut SkeletonTree)| {
        let mut tree = right.clone();
        change(&mut tree);
        let config = GSpaceConfig::sgd().with_skeleton(Skeleton::Chosen(tree.clone()));
        let refused = skeleton::set_to_one(model.clone(), &graph, &tree).unwrap_err();
        assert!(matches!(
            refused.error,
            Error::Core(gsgd::core::Error::Skeleton { .. })
        ));
        matches!(
            config.init_of(&model).err(),
            Some(Error::Core(gsgd::core::Error::Skeleton { .. }))
        )
    };
    assert!(refused(&|tree| _ = tree.ins.pop()));
    assert!(refused(&|tree| tree.ins[2] = None));
    assert!(refused(&|tree| tree.ins.swap(0, 1)));
    assert!(refused(&|tree| tree.outs.swap(0, 1)));
    assert!(refused(&|tree| tree.outs[3].as_mut().unwrap().head = 99));
}

#[test]
fn a_step_into_a_pole_is_refused_without_the_floor() {
    let model = mlp();
    let mut huge = gradients(&model);
    for layer in &model.layers {
        let g = huge.remove::<2>(layer.weight.id).unwrap();
        huge.register::<2>(layer.weight.id, g * 1e20);
    }
    let mut optim = GSpaceConfig::sgd().without_floor().init_of(&model).unwrap();
    let refused = optim.step(f64::MAX, model.clone(), huge).unwrap_err();
    assert!(
        matches!(
            refused.error,
            Error::Core(gsgd::core::Error::Singular { .. })
        ),
        "{}",
        refused.error
    );
    assert_eq!(weights(&refused.model), weights(&model));
    let mut lifted = GSpaceConfig::momentum(0.9)
        .without_floor()
        .init_of(&model)
        .unwrap();
    let refused = lifted
        .step(1e300, model.clone(), gradients(&model))
        .unwrap_err();
    assert_eq!(weights(&refused.model), weights(&model));
}

#[test]
fn settings_out_of_range() {
    let setting = |config: GSpaceConfig| config.init_of(&mlp()).err();
    for tau in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(
            setting(GSpaceConfig::sgd().with_floor(tau)),
            Some(Error::Core(gsgd::core::Error::Setting { .. }))
        ));
    }
    for norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            setting(GSpaceConfig::sgd().with_clip_norm(norm)),
            Some(Error::Core(gsgd::core::Error::Setting { .. }))
        ));
    }
    for momentum in [-0.1, 1.0, 1.5, f64::NAN] {
        for config in [GSpaceConfig::momentum, GSpaceConfig::nesterov] {
            assert!(matches!(
                setting(config(momentum)),
                Some(Error::Core(gsgd::core::Error::Setting { .. }))
            ));
        }
    }
    let graph = scale_graph(&mlp(), Default::default()).unwrap();
    assert!(matches!(
        Scaling::random(&graph, f64::NAN, 0),
        Err(gsgd::core::Error::Setting { .. })
    ));
    assert!(matches!(
        Scaling::new(&graph, &[1.0]),
        Err(gsgd::core::Error::Scaling { .. })
    ));
    assert!(matches!(
        Scaling::new(&graph, &[-1.0; 11]),
        Err(gsgd::core::Error::Scaling { .. })
    ));
}

#[test]
fn networks_too_large_or_with_a_ground_inside_for_exact_paths() {
    let large = Mlp::he(1, &[100, 100, 100, 100], false, DType::F32);
    let graph = scale_graph(&large, Default::default()).unwrap();
    assert!(matches!(
        enumerate(&large, &graph),
        Err(Error::Core(gsgd::core::Error::TooManyPaths {
            paths: 100_000_000,
            ..
        }))
    ));
    let model = mlp();
    let graph = scale_graph(&model, Default::default()).unwrap();
    let paths = enumerate(&model, &graph).unwrap();
    assert!(matches!(
        paths.outputs(&[&[1.0]]),
        Err(gsgd::core::Error::Input { .. })
    ));

    #[derive(Module, Debug)]
    struct Tanh {
        first: Linear,
        last: Linear,
    }
    impl Described for Tanh {
        fn graph(&self) -> Graph {
            gsgd::capture(self, |model, example| {
                let y = tanh(model.first.forward(example.input([1, 2])));
                model.last.forward(y)
            })
            .unwrap()
        }
    }
    let model = Tanh {
        first: LinearConfig::new(2, 3).init(&device()),
        last: LinearConfig::new(3, 2).init(&device()),
    };
    let graph = scale_graph(&model, Default::default()).unwrap();
    assert_eq!(graph.hidden(), 0);
    assert_eq!(
        graph.grounded().collect::<Vec<_>>(),
        [("a sum with `first.weight`", "tanh")]
    );
    assert!(matches!(
        enumerate(&model, &graph),
        Err(Error::Core(gsgd::core::Error::Grounded))
    ));
    // Without hidden classes G-SGD is SGD.
    assert!(GSpaceConfig::sgd().init_of(&model).is_ok());
}

#[test]
fn equivalence_finds_the_scaling_or_the_unit() {
    let model = mlp();
    let graph = scale_graph(&model, Default::default()).unwrap();
    let scaling = Scaling::random(&graph, 1.0, 3).unwrap();
    let twin = apply(model.clone(), &graph, &scaling).unwrap();
    match equivalent((&model, &graph), (&twin, &graph), 1e-5).unwrap() {
        Equivalence::Equivalent { scaling: found, .. } => {
            common::close(found.factors(), scaling.factors(), 1e-4)
        }
        other => panic!("{other:?}"),
    }
    let value = common::values(model.layers[1].weight.val())[7];
    for changed in [value + 0.1, -value] {
        let changed = with_weight(&model, 1, 7, changed);
        match equivalent((&model, &graph), (&changed, &graph), 1e-5).unwrap() {
            Equivalence::Different { unit, .. } => assert_eq!(unit, "layers.1.weight[2]"),
            other => panic!("{other:?}"),
        }
    }
    let other = Mlp::he(1, &[4, 6, 4, 3], false, DType::F32);
    let other_graph = scale_graph(&other, Default::default()).unwrap();
    let error = equivalent((&model, &graph), (&other, &other_graph), 1e-5).unwrap_err();
    assert!(matches!(
        error,
        Error::Core(gsgd::core::Error::Incomparable { .. })
    ));
}

/// A module may hold one parameter in two places, as a clone of a layer.
#[test]
fn a_parameter_in_two_places_is_rescaled_in_both() {
    #[derive(Module, Debug)]
    struct Twin {
        first: Linear,
        second: Linear,
        copy: Linear,
    }
    impl Described for Twin {
        fn graph(&self) -> Graph {
            gsgd::capture(self, |model, example| {
                let y = relu(model.first.forward(example.input([1, 3])));
                model.second.forward(y)
            })
            .unwrap()
        }
    }
    let first = LinearConfig::new(3, 4).init(&device());
    let model = Twin {
        copy: first.clone(),
        first,
        second: LinearConfig::new(4, 2).init(&device()),
    };
    let graph = scale_graph(&model, Default::default()).unwrap();
    let scaling = Scaling::powers_of_two(&graph, 3, 1);
    let twin = apply(model.clone(), &graph, &scaling).unwrap();
    let [first, copy] = [&twin.first, &twin.copy].map(|layer| values(layer.weight.val()));
    assert_eq!(first, copy);
    assert_ne!(first, values(model.first.weight.val()));
}
