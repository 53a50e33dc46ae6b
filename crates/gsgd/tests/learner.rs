//! Burn's trainer with the strategy: the same numbers as a loop by hand, on several devices and after a resume; and what can
//! go wrong.

mod common;

use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor};
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::metric::{LearningRateMetric, LossMetric};
use burn::train::{
    InferenceStep, Interrupter, Learner, RegressionOutput, SupervisedTraining, TrainOutput,
    TrainStep, TrainingError, TrainingStrategy,
};
use common::{Described, InitOf, device, he, rng, weights};
use gsgd::rescale::Balance;
use gsgd::train::{Method, Strategy};
use gsgd::{BalancedSgd, Coordinates, Error, GSpaceConfig, Outside, PathSgd};
use rand::Rng;

#[derive(Module, Debug)]
struct Net {
    first: Linear,
    norm: Option<BatchNorm>,
    second: Linear,
    output: Linear,
}

impl Net {
    fn new(seed: u64, normed: bool) -> Self {
        let rng = &mut rng(seed);
        Self {
            first: he(rng, 3, 8, true, DType::F32),
            norm: normed.then(|| BatchNormConfig::new(8).init(&device())),
            second: he(rng, 8, 6, true, DType::F32),
            output: he(rng, 6, 1, true, DType::F32),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut x = self.first.forward(x);
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        self.output.forward(relu(self.second.forward(relu(x))))
    }
}

impl Described for Net {
    fn graph(&self) -> gsgd::Graph {
        gsgd::capture(self, example).unwrap()
    }
}

fn example(net: &Net, example: &mut gsgd::Example) -> Tensor<2> {
    net.forward(example.input([1, 3]))
}

impl InferenceStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, Batch { x, y, panics }: Batch) -> RegressionOutput {
        assert!(!panics, "told to");
        let found = self.forward(x);
        RegressionOutput::new((found.clone() - y.clone()).square().mean(), found, y)
    }
}

impl TrainStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
        let output = InferenceStep::step(self, batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

/// Inputs `[rows, 3]` and targets `[rows, 1]`.
#[derive(Clone, Debug)]
struct Batch {
    x: Tensor<2>,
    y: Tensor<2>,
    panics: bool,
}

/// Three inputs and a target.
type Row = [f32; 4];

/// Targets that make something happen.
const STOPS: f32 = 100.0;
const PANICS: f32 = -100.0;

fn rows(seed: u64, count: usize) -> Vec<Row> {
    let rng = &mut rng(seed);
    let row = |_| {
        let [a, b, c]: [f32; 3] = std::array::from_fn(|_| 2.0 * rng.random::<f32>() - 1.0);
        [a, b, c, (a - b).abs() + c]
    };
    (0..count).map(row).collect()
}

#[derive(Clone, Default)]
struct Rows(Interrupter);

impl Batcher<Row, Batch> for Rows {
    fn batch(&self, rows: Vec<Row>, device: &Device) -> Batch {
        if rows.iter().any(|row| row[3] == STOPS) {
            self.0.stop(Some("enough"));
        }
        let panics = rows.iter().any(|row| row[3] == PANICS);
        let count = rows.len();
        let numbers = Tensor::<1>::from_floats(rows.as_flattened(), device).reshape([count, 4]);
        Batch {
            x: numbers.clone().narrow(1, 0, 3),
            y: numbers.narrow(1, 3, 1),
            panics,
        }
    }
}

fn loader(rows: Vec<Row>, batch: usize, shuffle: Option<u64>) -> Arc<dyn DataLoader<Batch>> {
    let loader = DataLoaderBuilder::new(Rows::default()).batch_size(batch);
    let loader = match shuffle {
        Some(seed) => loader.shuffle(seed),
        None => loader,
    };
    loader.build(InMemDataset::new(rows))
}

fn training(
    folder: &Path,
    train: Arc<dyn DataLoader<Batch>>,
    epochs: usize,
) -> SupervisedTraining<Net> {
    SupervisedTraining::new(folder, train, loader(rows(99, 6), 4, None))
        .metrics((LossMetric::new(), LearningRateMetric::new()))
        .with_application_logger(None)
        .with_checkpointing_strategy(KeepLastNCheckpoints::new(2))
        .num_epochs(epochs)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn schedule() -> ModuleLrScheduler {
    LinearLrSchedulerConfig::new(0.05, 0.005, 14)
        .init()
        .unwrap()
}

fn configs() -> Vec<GSpaceConfig> {
    vec![
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::adam(),
        GSpaceConfig::adam().with_coordinates(Coordinates::Norm),
        GSpaceConfig::new(AdamWConfig::new().with_weight_decay(1e-3).init()),
    ]
}

/// What training without a trainer gives: batches as they are, so many to a step.
fn by_hand(
    model: Net,
    batches: &[Vec<Row>],
    to_a_step: usize,
    mut step: impl FnMut(ModuleLearningRate, Net, GradientsParams) -> Net,
    epochs: usize,
) -> Net {
    let mut lr = schedule();
    let epochs = (0..epochs).flat_map(|_| batches.chunks(to_a_step));
    epochs.fold(model, |model, batches| {
        let mut sum = GradientsAccumulator::new();
        for batch in batches {
            let batch = Rows::default().batch(batch.clone(), &device());
            sum.accumulate(&model, TrainStep::step(&model, batch).grads);
        }
        step(lr.step(), model, sum.grads())
    })
}

fn batches(rows: &[Row], size: usize) -> Vec<Vec<Row>> {
    rows.chunks(size).map(<[Row]>::to_vec).collect()
}

#[test]
fn the_trainer_gives_what_a_loop_by_hand_gives() {
    let rows = rows(0, 22);
    for config in configs() {
        for to_a_step in [1, 2] {
            let (folder, model) = (folder(), Net::new(1, true));
            // the trainer shares running statistics with clones of its model
            let twin = model.valid().train();
            let mut training = training(folder.path(), loader(rows.clone(), 5, None), 3);
            if to_a_step > 1 {
                training = training.grads_accumulation(to_a_step);
            }
            let strategy = Strategy::new(config.clone(), example);
            let result = strategy.launch(training, model, schedule()).unwrap();
            assert!(result.error.is_none() && result.interrupted.is_none());

            let mut optim = config.init_of(&twin).unwrap();
            let step = |lr, model, grads| optim.step::<Net>(lr, model, grads).unwrap();
            let twin = by_hand(twin, &batches(&rows, 5), to_a_step, step, 3);
            assert_eq!(weights(&result.model), weights(&twin.valid()));
        }
    }
}

#[test]
fn every_method_can_be_trained_with() {
    let rows = rows(0, 22);
    let until = Balance::default();
    let outside = Outside::Refuse;
    let model = Net::new(1, false);
    let by_path_sgd = {
        let mut optim = PathSgd::init(&model.graph(), outside).unwrap();
        let step = |lr, model, grads| optim.step::<Net>(lr, model, grads).unwrap();
        by_hand(model.clone(), &batches(&rows, 5), 1, step, 2)
    };
    let by_balanced = {
        let mut optim = BalancedSgd::init(&model.graph(), until, outside).unwrap();
        let step = |lr, model, grads| optim.step::<Net>(lr, model, grads).unwrap();
        by_hand(model.clone(), &batches(&rows, 5), 1, step, 2)
    };
    for (method, expected) in [
        (Method::PathSgd(outside), by_path_sgd),
        (Method::BalancedSgd(until, outside), by_balanced),
    ] {
        let folder = folder();
        let training = training(folder.path(), loader(rows.clone(), 5, None), 2);
        let result = Strategy::new(method, example).launch(training, model.clone(), schedule());
        assert_eq!(weights(&result.unwrap().model), weights(&expected));
    }
}

/// Also where the last batches are of different sizes, and with several batches to a step.
#[test]
fn two_devices_give_the_numbers_of_one() {
    let rows = rows(0, 21);
    // what two devices see together, as the rows are split into 10 and 11
    let (left, right) = rows.split_at(10);
    let pairs = left.chunks(4).zip(right.chunks(4));
    let together: Vec<Row> = pairs.flat_map(|(a, b)| [a, b].concat()).collect();
    for config in configs() {
        for to_a_step in [1, 2] {
            let run = |rows: &[Row], batch, devices: usize| {
                let folder = folder();
                let training = training(folder.path(), loader(rows.to_vec(), batch, None), 3)
                    .grads_accumulation(to_a_step);
                let strategy = Strategy::new(config.clone(), example);
                let strategy = strategy.with_devices(vec![Device::flex(); devices]);
                let result = strategy.launch(training, Net::new(1, false), schedule());
                weights(&result.unwrap().model)
            };
            let (one, two) = (run(&together, 8, 1), run(&rows, 4, 2));
            let start = weights(&Net::new(1, false));
            assert!(one.iter().zip(&start).any(|(a, b)| (a - b).abs() > 1e-2));
            for (a, b) in one.iter().zip(&two) {
                assert!((a - b).abs() < 2e-5 * (1.0 + a.abs()), "{a} {b}");
            }
        }
    }
}

/// With shuffled data, a schedule and, after the interruption, a model built anew.
#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let methods = configs().into_iter().map(Method::from);
    for method in methods.chain([Method::BalancedSgd(Balance::default(), Outside::Refuse)]) {
        for devices in [1, 2] {
            let run = |folder: &Path, seed, epochs, from: Option<usize>| {
                let data = loader(rows(0, 21), 4, Some(7));
                let mut training = training(folder, data, epochs).with_default_checkpointers();
                if let Some(epoch) = from {
                    training = training.checkpoint(epoch);
                }
                let strategy = Strategy::new(method.clone(), example);
                let strategy = strategy.with_devices(vec![Device::flex(); devices]);
                let result = strategy.launch(training, Net::new(seed, true), schedule());
                let result = result.unwrap();
                assert!(result.error.is_none());
                weights(&result.model)
            };
            let (through, interrupted) = (folder(), folder());
            let expected = run(through.path(), 1, 5, None);
            let half = run(interrupted.path(), 1, 2, None);
            assert_ne!(half, expected);
            assert_eq!(run(interrupted.path(), 2, 5, Some(2)), expected);
        }
    }
}

#[test]
fn checkpoints_of_other_optimisers_are_refused() {
    let folder = folder();
    let data = || loader(rows(0, 8), 4, None);
    let start = || training(folder.path(), data(), 1).with_default_checkpointers();
    let resumed = |method: Method| {
        let training = training(folder.path(), data(), 2).with_default_checkpointers();
        let strategy = Strategy::new(method, example);
        let result = strategy.launch(training.checkpoint(1), Net::new(1, false), 0.01);
        match result {
            Err(rejected) => rejected.error,
            Ok(_) => panic!("this checkpoint must be refused"),
        }
    };
    let model = Net::new(1, false);
    let g_sgd = Strategy::new(GSpaceConfig::sgd(), example);
    g_sgd.launch(start(), model.clone(), 0.01).unwrap();
    let error = resumed(Method::PathSgd(Outside::Refuse));
    assert!(
        matches!(&error, Error::State { reason } if reason.contains("another method")),
        "{error}"
    );
    let error = resumed(GSpaceConfig::momentum(0.9).into());
    assert!(matches!(error, Error::State { .. }), "{error}");
    start().launch(Learner::new(model, AdamWConfig::new().init(), 0.01));
    let error = resumed(GSpaceConfig::sgd().into());
    assert!(
        matches!(&error, Error::State { reason } if reason.contains("another optimiser")),
        "{error}"
    );
}

/// An optimiser that the user gave to the learner would not be used.
#[test]
fn learners_with_another_optimiser_are_refused() {
    let folder = folder();
    let strategy = Arc::new(Strategy::new(GSpaceConfig::sgd(), example));
    let launch = |learner| {
        let custom = TrainingStrategy::Custom(strategy.clone());
        let training = training(folder.path(), loader(rows(0, 8), 4, None), 1);
        training.with_training_strategy(custom).launch(learner)
    };
    let model = Net::new(1, false);
    let before = weights(&model);
    let result = launch(Learner::new(model.clone(), SgdConfig::new().init(), 0.01));
    assert_eq!(strategy.error(), Some(Error::Learner));
    let message = result.error.unwrap().to_string();
    assert!(message.contains("Strategy::learner"), "{message}");
    assert_eq!(weights(&result.model), before);

    let result = launch(strategy.learner(model, 0.01));
    assert_eq!(strategy.error(), None);
    assert!(result.error.is_none());
    assert_ne!(weights(&result.model), before);
}

#[test]
fn a_refused_step_ends_the_run_with_the_model_before_it() {
    let mut data = rows(0, 12);
    let good = batches(&data, 4)[..2].to_vec();
    data[9][0] = f32::NAN;
    let (folder, model) = (folder(), Net::new(1, false));
    let mut optim = GSpaceConfig::sgd().init_of(&model).unwrap();
    let step = |lr, model, grads| optim.step::<Net>(lr, model, grads).unwrap();
    let expected = by_hand(model.clone(), &good, 1, step, 1);
    let training = training(folder.path(), loader(data, 4, None), 3);
    let result = Strategy::new(GSpaceConfig::sgd(), example).launch(training, model, schedule());
    let Err(rejected) = result else {
        panic!("this step must be refused");
    };
    let non_finite = gsgd::core::Error::NonFiniteGradient {
        name: "first.weight".into(),
    };
    assert_eq!(rejected.error, non_finite.into());
    assert_eq!(weights(&rejected.model), weights(&expected));
}

#[test]
fn settings_out_of_range_end_the_run_before_its_first_step() {
    let (folder, model) = (folder(), Net::new(1, false));
    let config = GSpaceConfig::sgd().with_floor(2.0);
    let expected = config.init_of(&model).err().unwrap();
    let training = training(folder.path(), loader(rows(0, 8), 4, None), 1);
    let result = Strategy::new(config, example).launch(training, model.clone(), 0.01);
    let rejected = result.err().expect("a floor above 1");
    assert_eq!(rejected.error, expected);
    assert_eq!(weights(&rejected.model), weights(&model));
}

#[test]
fn a_worker_that_panics_is_an_error_with_its_device() {
    let mut data = rows(0, 16);
    data[13][3] = PANICS;
    let folder = folder();
    let training = training(folder.path(), loader(data, 4, None), 1);
    let strategy =
        Strategy::new(GSpaceConfig::sgd(), example).with_devices(vec![Device::flex(); 2]);
    let result = strategy.launch(training, Net::new(1, false), 0.01).unwrap();
    match &*result.error.expect("a worker panicked") {
        TrainingError::Workers(failures) => {
            assert_eq!(failures.len(), 1);
            assert_eq!(failures[0].device_id, 1);
            assert!(failures[0].message.contains("told to"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_interrupted_run_ends_after_its_step() {
    let mut data = rows(0, 12);
    data[5][3] = STOPS;
    let (folder, model) = (folder(), Net::new(1, false));
    let mut optim = GSpaceConfig::adam().init_of(&model).unwrap();
    let step = |lr, model, grads| optim.step::<Net>(lr, model, grads).unwrap();
    let expected = by_hand(model.clone(), &batches(&data, 4)[..2], 1, step, 1);
    let interrupter = Interrupter::new();
    let batcher = Rows(interrupter.clone());
    let loader = DataLoaderBuilder::new(batcher).batch_size(4);
    let training = training(folder.path(), loader.build(InMemDataset::new(data)), 3)
        .with_interrupter(interrupter);
    let result = Strategy::new(GSpaceConfig::adam(), example).launch(training, model, schedule());
    let result = result.unwrap();
    let reason = result.interrupted.expect("it was told to stop").reason;
    assert_eq!(reason.as_deref(), Some("enough"));
    assert_eq!(weights(&result.model), weights(&expected));
}

#[test]
fn metrics_are_told_of_every_batch() {
    for (devices, per_epoch) in [(1, 6), (2, 6)] {
        let folder = folder();
        let training = training(folder.path(), loader(rows(0, 21), 4, None), 2);
        let strategy = Strategy::new(GSpaceConfig::sgd(), example);
        let strategy = strategy.with_devices(vec![Device::flex(); devices]);
        let result = strategy.launch(training, Net::new(1, false), schedule());
        assert!(result.unwrap().error.is_none());
        for (split, lines) in [("train", per_epoch), ("valid", 2)] {
            for epoch in 1..=2 {
                let file = format!("{split}/epoch-{epoch}/Loss.log");
                let text = std::fs::read_to_string(folder.path().join(&file)).unwrap();
                let batches = text.lines().filter(|line| !line.ends_with("final"));
                assert_eq!(batches.count(), lines, "{file}");
            }
        }
    }
}
