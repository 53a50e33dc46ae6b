//! The training loop.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use gsgd::{Balance, Rejected, Scaling, Wiring, balance};
use serde::Serialize;

use super::batches::{self, Batch, Varied};
use super::{InitName, Progress, Settings, Stepper};
use crate::data::{Dataset, Inputs};
use crate::models::{self, Arch, Init, Model, Plan};

/// A run's data and starting weights.
pub struct Prepared {
    /// Training inputs.
    pub train: Inputs,
    /// Test inputs.
    pub test: Inputs,
    /// What the network is.
    pub plan: Plan,
    /// The start.
    pub model: Model,
}

/// Figures after an epoch, a line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Epoch {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Mean cross-entropy over all training images.
    pub train_loss: f64,
    /// Share of training images classified wrongly.
    pub train_error: f64,
    /// Mean cross-entropy over the test images.
    pub test_loss: f64,
    /// Share of test images classified wrongly.
    pub test_error: f64,
    /// Seconds spent in training steps so far.
    pub seconds: f64,
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// All steps done.
    Done,
    /// The loss or a gradient left the finite numbers.
    Diverged(String),
    /// Somebody asked for it.
    Interrupted,
}

/// A run between two steps.
pub struct State {
    /// The weights.
    pub model: Model,
    /// The optimiser.
    pub stepper: Stepper,
    /// How far it is.
    pub progress: Progress,
}

/// What a watcher wants after a step or an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    GoOn,
    /// A checkpoint, then to go on.
    Save,
    /// A checkpoint, then to end.
    Stop,
}

/// Looks on while a run goes.
pub trait Watcher {
    /// After every step.
    fn step(&mut self, progress: &Progress) -> Wish;

    /// After every epoch, with its figures; sets how much of the metrics file is written.
    ///
    /// # Errors
    /// The figures cannot be written.
    fn epoch(&mut self, figures: &Epoch, progress: &mut Progress) -> Result<Wish>;

    /// Keeps a checkpoint.
    ///
    /// # Errors
    /// It cannot be written.
    fn save(&mut self, state: &State) -> Result<()>;
}

/// Starting weights by the settings, rescaled or balanced as they say.
///
/// # Errors
/// Network and data do not fit, or a checkpoint cannot be read.
pub fn start(settings: &Settings, data: &Dataset, device: &Device) -> Result<Prepared> {
    check_fit(&settings.arch, data)?;
    let plan = settings.plan(data);
    let wiring = settings.wiring();
    let init = |init| Model::init(&plan, init, wiring, settings.seed, device);
    let mut model = match &settings.init {
        InitName::He => init(Init::He)?,
        InitName::SkeletonOne => init(Init::SkeletonOne)?,
        InitName::File(path) => {
            models::load_into(init(Init::He)?, &plan, path).context("--init")?
        }
    };
    // rescaling and balancing keep the function: batch norm and skips as they are
    let wiring = Wiring::of(&model)?;
    if settings.unbalance > 0.0 {
        let scaling =
            Scaling::random(&wiring, settings.unbalance, settings.seed).context("--unbalance")?;
        model = scaling
            .apply(model, &wiring)
            .map_err(|Rejected { error, .. }| error)?;
    }
    if settings.balance_first {
        let balanced = balance(model, &wiring, Balance::default());
        model = balanced.map_err(|Rejected { error, .. }| error)?.0;
    }
    let (train, test) = data.inputs(settings.normalise);
    Ok(Prepared {
        train: train.subset(settings.train_examples.unwrap_or(usize::MAX)),
        test,
        plan,
        model,
    })
}

fn check_fit(arch: &Arch, data: &Dataset) -> Result<()> {
    match arch {
        Arch::Conv(conv) => {
            let smallest = 1 << (conv.stages.len() - 1);
            ensure!(
                data.shape.height >= smallest && data.shape.width >= smallest,
                "--arch {arch} halves images {} times, those of {} are {}",
                conv.stages.len() - 1,
                data.name,
                data.shape
            );
        }
        Arch::Mlp(widths) => {
            ensure!(
                widths[0] == data.shape.features(),
                "--arch {arch} takes {} inputs, the images of {} have {} pixels",
                widths[0],
                data.name,
                data.shape.features()
            );
            let outputs = widths[widths.len() - 1];
            ensure!(
                outputs >= data.classes,
                "--arch {arch} has {outputs} outputs, {} has {} classes",
                data.name,
                data.classes
            );
        }
    }
    Ok(())
}

/// A run at its beginning.
///
/// # Errors
/// The optimiser does not suit the start.
pub fn begin(settings: &Settings, model: Model) -> Result<State> {
    Ok(State {
        stepper: Stepper::new(settings, &model)?,
        model,
        progress: Progress::default(),
    })
}

/// Steps in a run.
pub fn steps(settings: &Settings, examples: usize) -> usize {
    let per_epoch = examples.div_ceil(settings.batch);
    let all = settings.epochs.saturating_mul(per_epoch);
    settings.steps.unwrap_or(usize::MAX).min(all)
}

/// Trains from where `state` is to the end. The state that comes back is the last good one.
///
/// # Errors
/// The watcher cannot write.
pub fn run(
    settings: &Settings,
    (train, test): (&Inputs, &Inputs),
    mut state: State,
    device: &Device,
    watcher: &mut impl Watcher,
) -> Result<(State, Stop)> {
    let per_epoch = train.len().div_ceil(settings.batch);
    let last = steps(settings, train.len());
    while state.progress.step < last || state.progress.epochs * per_epoch < state.progress.step {
        let epoch = state.progress.epochs;
        let (trained, ended) = train_epoch(settings, train, state, last, device, watcher)?;
        state = trained;
        if let Some(stop) = ended {
            return Ok((state, stop));
        }
        let (train_loss, train_error) = evaluate(&state.model, train, device);
        let (test_loss, test_error) = evaluate(&state.model, test, device);
        let figures = Epoch {
            epoch: epoch + 1,
            step: state.progress.step,
            train_loss,
            train_error,
            test_loss,
            test_error,
            seconds: state.progress.seconds,
        };
        state.progress.epochs += 1;
        let wish = watcher.epoch(&figures, &mut state.progress)?;
        if !train_loss.is_finite() {
            let reason = format!("the training loss is {train_loss}");
            return Ok((state, Stop::Diverged(reason)));
        }
        if wish != Wish::GoOn {
            watcher.save(&state)?;
        }
        if wish == Wish::Stop && state.progress.step < last {
            return Ok((state, Stop::Interrupted));
        }
    }
    Ok((state, Stop::Done))
}

/// The steps of an epoch that are left.
fn train_epoch(
    settings: &Settings,
    train: &Inputs,
    state: State,
    last: usize,
    device: &Device,
    watcher: &mut impl Watcher,
) -> Result<(State, Option<Stop>)> {
    let State {
        model,
        mut stepper,
        mut progress,
    } = state;
    let epoch = progress.epochs;
    let loss = CrossEntropyLossConfig::new().init(device);
    let shuffle = (!settings.no_shuffle).then_some(settings.seed);
    let order = batches::order(train.len(), shuffle, epoch);
    let done = (progress.step - epoch * train.len().div_ceil(settings.batch)) * settings.batch;
    let varied = Varied {
        augment: settings.augment,
        seed: settings.seed,
        epoch,
    };
    let mut model = Some(model);
    let mut ended: Result<Option<Stop>> = Ok(None);
    let mut begun = Instant::now();
    let left = &order[done.min(order.len())..];
    batches::each(train, left, settings.batch, varied, |batch| {
        if progress.step >= last {
            return false;
        }
        let Some(current) = model.take() else {
            return false;
        };
        let (x, y) = batch.on(device);
        let value = loss.forward(current.forward(x), y);
        let grads = GradientsParams::from_grads(value.backward(), &current);
        let warmth = settings
            .schedule
            .factor(progress.step, last, settings.warmup);
        let current = match stepper.step(settings.lr * warmth, current, grads) {
            Ok(stepped) => stepped,
            Err(rejected) => {
                ended = Ok(Some(Stop::Diverged(rejected.error.to_string())));
                model = Some(rejected.model);
                return false;
            }
        };
        progress.step += 1;
        progress.seconds += begun.elapsed().as_secs_f64();
        let wish = watcher.step(&progress);
        if wish == Wish::GoOn {
            model = Some(current);
        } else {
            // the state is put together for the watcher and taken apart again
            let state = State {
                model: current,
                stepper: stepper.clone(),
                progress,
            };
            let saved = watcher.save(&state);
            model = Some(state.model);
            ended = saved.map(|()| (wish == Wish::Stop).then_some(Stop::Interrupted));
        }
        begun = Instant::now();
        matches!(ended, Ok(None)) && progress.step < last
    });
    let state = State {
        model: model.expect("a step gives a model back"),
        stepper,
        progress,
    };
    Ok((state, ended?))
}

/// Values of a batch in evaluation.
const EVALUATED: usize = 100_000;

/// Mean cross-entropy and share of wrong answers, with running statistics.
pub fn evaluate(model: &Model, inputs: &Inputs, device: &Device) -> (f64, f64) {
    let device = device.clone().inner();
    let model = model.valid();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let all: Vec<usize> = (0..inputs.len()).collect();
    let (mut total, mut wrong) = (0.0, 0.0);
    for examples in all.chunks((EVALUATED / inputs.features()).clamp(100, 2000)) {
        let (x, y) = Batch::of(inputs, examples, None).on(&device);
        let logits = model.forward(x);
        let right = logits.clone().argmax(1).flatten::<1>(0, 1).equal(y.clone());
        let right: i64 = right.int().sum().into_scalar();
        wrong += (examples.len() as i64 - right) as f64;
        let mean: f64 = loss.forward(logits, y).into_scalar();
        total += mean * examples.len() as f64;
    }
    (total / inputs.len() as f64, wrong / inputs.len() as f64)
}
