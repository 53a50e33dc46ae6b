//! Convolutional, residual and batch-normalised networks: invariance, rank, conservation, scalings.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};
use common::convnet::{ConvNet, Maker, Op, families};
use common::{Batch, close, device, grads, normal, rng, tensor, values, weights};
use gsgd::paths::{Power, basis_path_norm, enumerate, path_norm};
use gsgd::rescale::{Balance, Equivalence, Scaling, apply, balance, equivalent};
use gsgd::{
    BalancedSgd, BatchNormTreatment, Coordinates, Error, Execution, GSpaceConfig, Graph,
    GraphError, Kind, Outside, PathSgd, ScaleGraphConfig, Skeleton, SkipTreatment, verify,
};

/// Images and labels.
struct Images {
    x: Tensor<4>,
    labels: Batch,
}

impl Images {
    fn random(seed: u64, dtype: DType) -> Self {
        let mut rng = rng(seed);
        let x = (0..8 * 2 * 36).map(|_| normal(&mut rng)).collect();
        Self {
            x: tensor(x, [8, 2, 6, 6], dtype),
            labels: Batch::random(seed, 8, 1, 3, dtype),
        }
    }

    fn loss(&self, model: &ConvNet) -> Tensor<1> {
        self.labels.loss(model.forward(self.x.clone()))
    }
}

fn has_norm(model: &ConvNet) -> bool {
    !model.norms.is_empty()
}

/// Powers of two in float32, epsilon aside.
const TINY: f64 = 1e-30;

fn run(mut model: ConvNet, config: &GSpaceConfig, lr: f64, steps: u64, dtype: DType) -> ConvNet {
    let mut optim = config.init_of(&model).unwrap();
    for step in 0..steps {
        let loss = Images::random(step % 5, dtype).loss(&model);
        let gradients = grads(&model, loss);
        model = optim.step(lr, model, gradients).unwrap();
    }
    model
}

fn outputs(model: &ConvNet, dtype: DType) -> Vec<f64> {
    let x = Images::random(99, dtype).x;
    // a forward pass in training moves the running statistics, here those of a copy
    let mut all = values(model.valid().train().forward(x.clone()));
    all.extend(values(model.valid().forward(x.inner())));
    all
}

#[test]
fn powers_of_two_leave_every_bit_of_50_steps_on_every_family() {
    for coordinates in [Coordinates::Normalised, Coordinates::Norm] {
        for (name, model) in families(DType::F32, TINY) {
            for config in [GSpaceConfig::sgd(), GSpaceConfig::momentum(0.9)] {
                let config = config.with_coordinates(coordinates);
                let graph = scale_graph(&model, Default::default()).unwrap();
                let scaling = Scaling::powers_of_two(&graph, 4, 3);
                let start = model.valid().train();
                let twin = apply(start.clone(), &graph, &scaling).unwrap();
                let a = run(start, &config, 0.01, 50, DType::F32);
                let b = run(twin, &config, 0.01, 50, DType::F32);
                let (a, b) = (outputs(&a, DType::F32), outputs(&b, DType::F32));
                assert!(a.iter().all(|y| y.is_finite()), "{name}");
                assert_eq!(a, b, "{name} in {coordinates:?}");
            }
        }
    }
}

#[test]
fn sgd_is_not_invariant_on_any_family() {
    for (name, model) in families(DType::F32, TINY) {
        let graph = scale_graph(&model, Default::default()).unwrap();
        let start = model.valid().train();
        let twin = apply(start.clone(), &graph, &Scaling::powers_of_two(&graph, 4, 3)).unwrap();
        let step = |model: ConvNet| {
            let gradients = grads(&model, Images::random(0, DType::F32).loss(&model));
            outputs(
                &SgdConfig::new().init().step(0.01, model, gradients),
                DType::F32,
            )
        };
        assert_ne!(step(start), step(twin), "{name}");
    }
}

#[test]
fn arbitrary_factors_agree_in_f64() {
    for (name, model) in families(DType::F64, 1e-14) {
        let graph = scale_graph(&model, Default::default()).unwrap();
        let start = model.valid().train();
        let twin = apply(
            start.clone(),
            &graph,
            &Scaling::random(&graph, 1.0, 7).unwrap(),
        )
        .unwrap();
        for coordinates in [Coordinates::Normalised, Coordinates::Norm] {
            let config = GSpaceConfig::sgd().with_coordinates(coordinates);
            let run = |model: &ConvNet| {
                let model = run(model.valid().train(), &config, 0.01, 50, DType::F64);
                outputs(&model, DType::F64)
            };
            println!("{name} {coordinates:?}");
            close(&run(&twin), &run(&start), 1e-6);
        }
    }
}

#[test]
fn the_fused_step_and_a_lifted_optimiser_agree() {
    for (name, model) in families(DType::F64, 1e-5) {
        for coordinates in [
            Coordinates::Plain,
            Coordinates::Normalised,
            Coordinates::Norm,
        ] {
            let run = |config: GSpaceConfig| {
                let config = config.with_coordinates(coordinates);
                weights(&run(model.valid().train(), &config, 1e-3, 3, DType::F64))
            };
            println!("{name} {coordinates:?}");
            let lifted = GSpaceConfig::new(SgdConfig::new().init());
            close(&run(lifted), &run(GSpaceConfig::sgd()), 1e-9);
        }
    }
}

/// The passes over the first convolution and its bias are taken before, and give, the sums of its channels.
#[test]
fn the_fused_step_and_a_lifted_optimiser_agree_on_wide_convolutions() {
    for groups in [1, 2] {
        let mut m = Maker::new(11, 2, 6, DType::F64, 1e-5);
        let a = m.conv(0, 90, 3, 2, groups);
        let a = m.relu(a);
        let b = m.conv(a, 90, 3, 2, 1);
        let b = m.relu(b);
        let b = m.mean(b);
        let model = m.end(b, 3);
        let run = |config: GSpaceConfig| {
            let model = model.valid().train();
            weights(&run(model, &config, 1e-2, 3, DType::F64))
        };
        let expected = run(GSpaceConfig::new(SgdConfig::new().init()));
        for execution in [Execution::Fused, Execution::Reference] {
            let found = run(GSpaceConfig::sgd().with_execution(execution));
            close(&found, &expected, 1e-10);
        }
    }
}

#[test]
fn the_inverse_chain_rule_is_the_derivative() {
    // Along the gradient the loss falls at the rate |dL/dv|^2.
    for (name, model) in families(DType::F64, 1e-5) {
        let images = Images::random(1, DType::F64);
        let loss = |model: &ConvNet| values(images.loss(model))[0];
        for coordinates in [Coordinates::Plain, Coordinates::Norm] {
            let config = GSpaceConfig::sgd().with_coordinates(coordinates);
            let mut optim = config.without_floor().init_of(&model).unwrap();
            let gradients = || grads(&model, images.loss(&model));
            let space = optim.path_space(&model, gradients()).unwrap();
            let squares = space.into_iter().flat_map(|(_, g)| values(g));
            let squares: f64 = squares.map(|g| g * g).sum();
            let lr = 1e-6 / squares.max(1.0);
            let forward = optim.step(lr, model.valid().train(), gradients()).unwrap();
            let rate = (loss(&model) - loss(&forward)) / lr;
            assert!(
                (rate - squares).abs() < 2e-3 * squares,
                "{name}: {rate} {squares}"
            );
        }
    }
}

#[test]
fn scalings_keep_outputs_with_batch_and_running_statistics() {
    for (name, model) in families(DType::F64, 1e-14) {
        let model = run(model, &GSpaceConfig::sgd(), 1e-3, 3, DType::F64);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let before = outputs(&model, DType::F64);
        let scaling = Scaling::random(&graph, 1.5, 2).unwrap();
        let twin = apply(model.clone(), &graph, &scaling).unwrap();
        println!("{name}");
        close(&outputs(&twin, DType::F64), &before, 1e-8);
        close(&outputs(&model, DType::F64), &before, 1e-12);

        let x = Images::random(3, DType::F64).x;
        verify(&model, &graph, |model: &ConvNet| model.forward(x.clone())).unwrap();
        let (balanced, report) = balance(twin.clone(), &graph, Balance::default()).unwrap();
        assert!(report.imbalance <= 1e-6, "{name}: {report:?}");
        close(&outputs(&balanced, DType::F64), &before, 1e-8);

        let answer = equivalent((&model, &graph), (&twin, &graph), 1e-9).unwrap();
        let Equivalence::Equivalent { scaling: found, .. } = answer else {
            panic!("{name}: {answer:?}");
        };
        close(found.factors(), scaling.factors(), 1e-9);
        for p in [Power::One, Power::Two] {
            let norm = |model: &ConvNet| path_norm(model, &graph, p).unwrap();
            close(&[norm(&twin)], &[norm(&model)], 1e-9);
        }
        let optim = GSpaceConfig::sgd().init_of(&model).unwrap();
        let tree = optim.skeleton().unwrap();
        let norm = |model: &ConvNet| basis_path_norm(model, &graph, tree).unwrap();
        close(&[norm(&twin)], &[norm(&model)], 1e-9);
        let space = GSpaceConfig::sgd()
            .with_coordinates(Coordinates::Plain)
            .init_of(&model)
            .unwrap()
            .path_space(
                &model,
                grads(&model, Images::random(1, DType::F64).loss(&model)),
            )
            .unwrap();
        let squares: f64 = space
            .into_iter()
            .flat_map(|(v, _)| values(v))
            .map(|v| v * v)
            .sum();
        close(&[norm(&model)], &[squares], 1e-9);
    }
}

#[test]
fn other_running_statistics_are_another_function() {
    let model = families(DType::F64, 1e-5)
        .remove("plain with batch norm")
        .unwrap();
    let graph = scale_graph(&model, Default::default()).unwrap();
    let mut other = model.valid().train();
    other.norms[1].running_mean =
        burn::module::RunningState::new(tensor(vec![0.5; 4], [4], DType::F64).inner());
    let other_graph = scale_graph(&other, Default::default()).unwrap();
    let answer = equivalent((&model, &graph), (&other, &other_graph), 1e-6).unwrap();
    assert!(
        matches!(&answer, Equivalence::Different { parameter, .. } if parameter == "norms.1.running_mean"),
        "{answer:?}"
    );
}

#[test]
fn rank_is_m_minus_h_on_convolutions() {
    let mut m = Maker::new(1, 1, 4, DType::F64, 1e-5);
    let a = m.conv(0, 2, 2, 1, 1);
    let a = m.relu(a);
    let b = m.conv(a, 2, 1, 1, 1);
    let c = m.add(a, b);
    let c = m.relu(c);
    let d = m.conv(c, 2, 2, 1, 2);
    let d = m.mean(d);
    let model = m.end(d, 2);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let paths = enumerate(&model, &graph).unwrap();
    assert_eq!(paths.rank(), graph.basis_paths());
    let two: f64 = paths.values().iter().map(|v| v * v).sum();
    close(
        &[path_norm(&model, &graph, Power::Two).unwrap()],
        &[two],
        1e-12,
    );
    let x = [0.0];
    assert!(matches!(
        paths.outputs(&[&x]),
        Err(gsgd::core::Error::NotDense { .. })
    ));
}

#[test]
fn incoming_and_outgoing_sums_agree_for_every_class() {
    for (name, model) in families(DType::F64, TINY) {
        let graph = scale_graph(&model, Default::default()).unwrap();
        let gradients = grads(&model, Images::random(1, DType::F64).loss(&model));
        // u by class from the change of the loss's first order under each scaling
        let mut total = vec![0.0; graph.hidden() + 1];
        let params = common::matrices(&model, &graph, &gradients);
        for (edges, entries) in graph.edges().iter().zip(params) {
            for (tail, head, u) in entries {
                total[edges.heads()[head].index()] += u;
                total[edges.tails()[tail].index()] -= u;
            }
        }
        println!("{name}");
        close(&total[1..], &vec![0.0; graph.hidden()], 1e-10);
    }
}

#[test]
fn biases_before_batch_norm_are_left_alone_and_named() {
    let model = families(DType::F64, 1e-5)
        .remove("plain with batch norm")
        .unwrap();
    let graph = scale_graph(&model, Default::default()).unwrap();
    let biases: Vec<&str> = graph.null_biases().collect();
    assert_eq!(biases, ["convs.0.bias", "convs.1.bias", "convs.2.bias"]);
    let kinds = |kind| {
        graph
            .hidden_classes()
            .filter(|&c| graph.kind(c) == kind)
            .count()
    };
    assert_eq!(
        (
            kinds(Kind::IntoBatchNorm),
            kinds(Kind::BehindBatchNorm),
            kinds(Kind::ReachesOutput)
        ),
        (10, 7, 3)
    );
    let before = values(model.convs[1].bias.as_ref().unwrap().val());
    for config in [GSpaceConfig::sgd(), GSpaceConfig::momentum(0.9)] {
        let after = run(model.valid().train(), &config, 0.01, 5, DType::F64);
        assert_eq!(values(after.convs[1].bias.as_ref().unwrap().val()), before);
        assert_ne!(weights(&after), weights(&model));
    }
}

#[test]
fn siblings_on_convolutions() {
    for (name, model) in families(DType::F32, TINY) {
        let twin = |model: &ConvNet| {
            let graph = scale_graph(model, Default::default()).unwrap();
            apply(
                model.valid().train(),
                &graph,
                &Scaling::powers_of_two(&graph, 3, 1),
            )
            .unwrap()
        };
        let other = twin(&model);
        let images = Images::random(2, DType::F32);
        let gradients = |model: &ConvNet| grads(model, images.loss(model));
        match PathSgd::init(&model.graph(), Outside::Refuse) {
            Err(error) => {
                assert!(
                    has_norm(&model)
                        && matches!(error, Error::Core(gsgd::core::Error::BatchNorm { .. })),
                    "{name}"
                )
            }
            Ok(mut optim) => {
                assert!(!has_norm(&model));
                let a = optim.step(0.1, model.clone(), gradients(&model)).unwrap();
                let mut optim = PathSgd::init(&other.graph(), Outside::Refuse).unwrap();
                let b = optim.step(0.1, other.clone(), gradients(&other)).unwrap();
                assert_eq!(outputs(&a, DType::F32), outputs(&b, DType::F32), "{name}");
            }
        }
        let balanced = |model: &ConvNet| {
            let mut optim =
                BalancedSgd::init(&model.graph(), Balance::default(), Outside::Refuse).unwrap();
            let stepped = optim
                .step(0.01, model.valid().train(), gradients(model))
                .unwrap();
            let x = Images::random(99, DType::F32).x;
            values(stepped.forward(x))
        };
        close(&balanced(&other), &balanced(&model), 1e-4);
    }
}

#[test]
fn a_forgotten_skip_and_a_forgotten_norm_are_found() {
    let models = families(DType::F64, 1e-5);
    let x = Images::random(1, DType::F64).x;
    let mut lying = models["residual"].clone();
    let honest = lying.ops.clone();
    // the graph says that the sum is its second summand
    for op in &mut lying.ops {
        if let Op::Add(_, b) = *op {
            *op = Op::Relu(b);
            break;
        }
    }
    let graph = scale_graph(&lying, Default::default()).unwrap();
    lying.ops = honest;
    let found = verify(&lying, &graph, |model: &ConvNet| model.forward(x.clone()));
    assert!(
        matches!(&found, Err(Error::Core(gsgd::core::Error::Graph(GraphError::Mismatch { layer, .. }))) if layer.starts_with("convs")),
        "{found:?}"
    );

    let mut lying = models["plain with batch norm"].clone();
    let honest = lying.ops.clone();
    for op in &mut lying.ops {
        if let Op::Norm { from, .. } = *op {
            *op = Op::Relu(from);
        }
    }
    let graph = scale_graph(&lying, Default::default()).unwrap();
    lying.ops = honest;
    let found = verify(&lying, &graph, |model: &ConvNet| model.forward(x.clone()));
    assert!(
        matches!(
            found,
            Err(Error::Core(gsgd::core::Error::Graph(
                GraphError::Mismatch { .. }
            )))
        ),
        "{found:?}"
    );
}

#[test]
fn skips_per_block_ground_the_stream() {
    let model = families(DType::F64, 1e-5).remove("residual").unwrap();
    let whole = scale_graph(&model, Default::default()).unwrap();
    let blocks = ScaleGraphConfig::new().with_skips(SkipTreatment::PerBlock);
    let blocks = scale_graph(&model, blocks).unwrap();
    // inner channels of the blocks, 4 and 4, but neither stream, 3 and 4
    assert_eq!((whole.hidden(), blocks.hidden()), (15, 8));
    let config = GSpaceConfig::sgd()
        .with_scale_graph(ScaleGraphConfig::new().with_skips(SkipTreatment::PerBlock));
    let start = model.valid().train();
    let twin = apply(
        start.clone(),
        &blocks,
        &Scaling::powers_of_two(&blocks, 4, 3),
    )
    .unwrap();
    let a = run(start, &config, 0.01, 20, DType::F64);
    let b = run(twin, &config, 0.01, 20, DType::F64);
    assert_eq!(outputs(&a, DType::F64), outputs(&b, DType::F64));
}

#[test]
fn the_papers_batch_norm_is_an_approximation() {
    let model = families(DType::F64, 1e-5)
        .remove("plain with batch norm")
        .unwrap();
    let paper = ScaleGraphConfig::new().with_batch_norm(BatchNormTreatment::Paper);
    let graph = scale_graph(&model, paper).unwrap();
    assert_eq!(graph.unused().count(), 0);
    let twin = apply(
        model.valid().train(),
        &graph,
        &Scaling::random(&graph, 1.0, 7).unwrap(),
    )
    .unwrap();
    let x = Images::random(1, DType::F64).x;
    let (a, b) = (values(model.forward(x.clone())), values(twin.forward(x)));
    let worst = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(
        worst > 1e-3,
        "rescaling through batch norm as if it were not there changes the function"
    );
    // and it trains: gamma and beta in weight space, the rest in path space
    let config = GSpaceConfig::sgd()
        .with_scale_graph(paper)
        .with_skeleton(Skeleton::Largest);
    let before = values(Images::random(0, DType::F64).loss(&model))[0];
    let after = run(model.valid().train(), &config, 0.01, 40, DType::F64);
    let loss = values(Images::random(0, DType::F64).loss(&after))[0];
    assert!(loss < before, "{before} to {loss}");
    assert_ne!(
        values(after.norms[0].gamma.val()),
        values(model.norms[0].gamma.val())
    );
}

/// One-dimensional and transposed convolutions.
#[derive(Module, Debug)]
struct Others {
    up: ConvTranspose2d,
    norm: BatchNorm,
    line: Conv1d,
    head: Linear,
}

impl Others {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let y = self.norm.forward(relu(self.up.forward(x)));
        let y: Tensor<3> = y.mean_dim(3).squeeze_dim(3);
        let y = relu(self.line.forward(y));
        self.head.forward(y.flatten(1, 2))
    }
}

impl Described for Others {
    fn graph(&self) -> Graph {
        gsgd::capture(self, |net, example| {
            net.forward(example.input([1, 2, 6, 6]))
        })
        .unwrap()
    }
}

#[test]
fn transposed_and_one_dimensional_convolutions() {
    let model = Others {
        up: ConvTranspose2dConfig::new([2, 4], [3, 3])
            .with_stride([2, 2])
            .with_groups(2)
            .init(&device()),
        norm: BatchNormConfig::new(4).with_epsilon(TINY).init(&device()),
        line: Conv1dConfig::new(4, 6, 3)
            .with_groups(2)
            .with_padding(burn::nn::PaddingConfig1d::Explicit(1, 1))
            .init(&device()),
        head: LinearConfig::new(78, 3).init(&device()),
    };
    let images = Images::random(4, DType::F32);
    let graph = scale_graph(&model, Default::default()).unwrap();
    verify(&model, &graph, |model: &Others| {
        model.forward(images.x.clone())
    })
    .unwrap();
    let twin = apply(
        model.valid().train(),
        &graph,
        &Scaling::powers_of_two(&graph, 5, 2),
    )
    .unwrap();
    let run = |mut model: Others, coordinates| {
        let config = GSpaceConfig::momentum(0.9).with_coordinates(coordinates);
        let mut optim = config.init_of(&model).unwrap();
        for _ in 0..30 {
            let loss = images.labels.loss(model.forward(images.x.clone()));
            let gradients = grads(&model, loss);
            model = optim.step(0.01, model, gradients).unwrap();
        }
        values(model.forward(images.x.clone()))
    };
    for coordinates in [Coordinates::Normalised, Coordinates::Norm] {
        let start = model.valid().train();
        let before = values(start.forward(images.x.clone()));
        let after = run(start, coordinates);
        assert_ne!(after, before);
        assert_eq!(run(twin.valid().train(), coordinates), after);
    }
}

/// A one-dimensional convolution of groups with a stride, and dropout.
#[derive(Module, Debug)]
struct Strided {
    line: Conv1d,
    dropout: Dropout,
    head: Linear,
}

impl Strided {
    fn new(stride: usize, dropout: f64) -> Self {
        Self {
            line: Conv1dConfig::new(3, 6, 3)
                .with_groups(3)
                .with_stride(stride)
                .with_padding(burn::nn::PaddingConfig1d::Explicit(1, 1))
                .init(&device()),
            dropout: DropoutConfig::new(dropout).init(),
            head: LinearConfig::new(6, 2).init(&device()),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let y = self.dropout.forward(relu(self.line.forward(x)));
        self.head.forward(y.mean_dim(2).flatten(1, 2))
    }
}

impl Described for Strided {
    fn graph(&self) -> Graph {
        gsgd::capture(self, |net, example| net.forward(example.input([1, 3, 16]))).unwrap()
    }
}

fn lines() -> Tensor<3> {
    let mut rng = rng(3);
    let x = (0..4 * 3 * 16).map(|_| normal(&mut rng)).collect();
    tensor(x, [4, 3, 16], DType::F32)
}

/// Where this fails Burn is mended, and nothing needs to be refused any more.
#[test]
fn burns_gradient_of_a_strided_conv1d_of_groups_is_still_wrong() {
    let model = Strided::new(2, 0.0);
    let loss = |model: &Strided| model.forward(lines()).square().sum();
    let gradient = grads(&model, loss(&model)).get::<3>(model.line.weight.id);
    let gradient = values(gradient.unwrap());
    let moved = |at: usize, h: f64| {
        let mut model = model.clone();
        let shape = model.line.weight.dims();
        let mut entries = values(model.line.weight.val());
        entries[at] += h;
        let entries = tensor(entries, shape, DType::F32);
        model.line.weight = Param::initialized(model.line.weight.id, entries);
        values(loss(&model))[0]
    };
    // a unit that is never active has a gradient of zero, which is right
    let wrong = gradient.iter().enumerate().filter(|&(at, gradient)| {
        let numerical = (moved(at, 1e-2) - moved(at, -1e-2)) / 2e-2;
        (numerical - gradient).abs() > 0.1 * numerical.abs()
    });
    assert!(wrong.count() > 0);
}

#[test]
fn gradients_that_burn_computes_wrongly_are_refused() {
    let model = Strided::new(2, 0.0);
    let name = "line.weight".to_string();
    let error = GSpaceConfig::sgd().init_of(&model).err().unwrap();
    assert_eq!(error, Error::WrongGradient { name: name.clone() });
    let error = PathSgd::init(&model.graph(), Outside::Refuse)
        .err()
        .unwrap();
    assert_eq!(error, Error::WrongGradient { name });
    // rescaling needs no gradient, nor does a frozen layer, and without a stride it is right
    let graph = scale_graph(&model, Default::default()).unwrap();
    verify(&model, &graph, |model| model.forward(lines())).unwrap();
    let mut frozen = model.clone();
    frozen.line.weight = frozen.line.weight.set_require_grad(false);
    assert!(GSpaceConfig::sgd().init_of(&frozen).is_ok());
    assert!(GSpaceConfig::sgd().init_of(&Strided::new(1, 0.0)).is_ok());
}

#[test]
fn dropout_that_is_active_is_named() {
    let model = Strided::new(1, 0.5);
    let graph = scale_graph(&model, Default::default()).unwrap();
    let error = verify(&model, &graph, |model| model.forward(lines()));
    assert_eq!(
        error,
        Err(Error::Core(gsgd::core::Error::Graph(GraphError::Random)))
    );
    let x = lines().inner();
    let valid = model.valid();
    let graph = scale_graph(&valid, Default::default()).unwrap();
    verify(&valid, &graph, |model| model.forward(x.clone())).unwrap();
}

/// One batch norm behind two layers: its tensors stay, and so do the channels before and behind it.
#[test]
fn a_layer_that_is_used_twice_stays() {
    let mut model = families(DType::F64, 1e-5)
        .remove("residual with batch norm")
        .unwrap();
    let whole = scale_graph(&model, Default::default()).unwrap();
    for op in &mut model.ops {
        if let Op::Norm { layer, .. } = op
            && *layer == 2
        {
            *layer = 0;
        }
    }
    let graph = scale_graph(&model, Default::default()).unwrap();
    assert!(graph.hidden() < whole.hidden());
    let mut held: Vec<&str> = graph.held().map(|(name, _)| name).collect();
    held.sort_unstable();
    assert_eq!(
        held,
        ["beta", "gamma", "running_mean", "running_var"].map(|name| format!("norms.0.{name}"))
    );
    let x = Images::random(1, DType::F64).x;
    verify(&model, &graph, |model: &ConvNet| model.forward(x.clone())).unwrap();
}
