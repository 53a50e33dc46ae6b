//! The training loop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use gsgd::{Balance, Rejected, Scaling, Wiring, balance};
use serde::Serialize;

use super::batches::{self, Batch, Varied};
use super::{InitName, Settings, Stepper};
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

/// What a run leaves.
pub struct Outcome {
    /// The weights at the end; of a diverged run, those before the step that failed.
    pub model: Model,
    /// Figures by epoch.
    pub epochs: Vec<Epoch>,
    /// Steps done.
    pub steps: usize,
    /// Time in training steps.
    pub time: Duration,
    /// Why it ended.
    pub stop: Stop,
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

/// Trains; `each` sees every epoch's figures and says whether to go on, `tick` every step.
///
/// # Errors
/// The optimiser does not suit the start.
pub fn run(
    settings: &Settings,
    prepared: Prepared,
    device: &Device,
    mut each: impl FnMut(&Epoch) -> Result<()>,
    mut tick: impl FnMut(usize) -> bool,
) -> Result<Outcome> {
    let Prepared {
        train, test, model, ..
    } = prepared;
    let mut stepper = Stepper::new(settings, &model)?;
    let loss = CrossEntropyLossConfig::new().init(device);
    let shuffle = (!settings.no_shuffle).then_some(settings.seed);
    let per_epoch = train.len().div_ceil(settings.batch);
    let last = settings
        .steps
        .unwrap_or(usize::MAX)
        .min(settings.epochs.saturating_mul(per_epoch));
    let mut outcome = Outcome {
        model: model.clone(),
        epochs: Vec::new(),
        steps: 0,
        time: Duration::ZERO,
        stop: Stop::Done,
    };
    let mut model = Some(model);
    for epoch in 0.. {
        if outcome.steps >= last {
            break;
        }
        let order = batches::order(train.len(), shuffle, epoch);
        let varied = Varied {
            augment: settings.augment,
            seed: settings.seed,
            epoch,
        };
        let mut ended = None;
        let mut begun = Instant::now();
        batches::each(&train, &order, settings.batch, Some(varied), |batch| {
            let Some(current) = model.take() else {
                return false;
            };
            let (x, y) = batch.on(device);
            let value = loss.forward(current.forward(x), y);
            let grads = GradientsParams::from_grads(value.backward(), &current);
            let warmth = settings
                .schedule
                .factor(outcome.steps, last, settings.warmup);
            match stepper.step(settings.lr * warmth, current, grads) {
                Ok(stepped) => model = Some(stepped),
                Err(rejected) => {
                    ended = Some(Stop::Diverged(rejected.error.to_string()));
                    model = Some(rejected.model);
                    return false;
                }
            }
            outcome.time += begun.elapsed();
            outcome.steps += 1;
            if !tick(outcome.steps) {
                ended = Some(Stop::Interrupted);
            }
            begun = Instant::now();
            ended.is_none() && outcome.steps < last
        });
        let current = model.as_ref().expect("a step gives a model back");
        if let Some(stop) = ended {
            outcome.stop = stop;
            outcome.model = current.clone();
            return Ok(outcome);
        }
        let (train_loss, train_error) = evaluate(current, &train, device);
        let (test_loss, test_error) = evaluate(current, &test, device);
        let figures = Epoch {
            epoch: epoch + 1,
            step: outcome.steps,
            train_loss,
            train_error,
            test_loss,
            test_error,
            seconds: outcome.time.as_secs_f64(),
        };
        each(&figures)?;
        outcome.epochs.push(figures);
        if !train_loss.is_finite() {
            outcome.stop = Stop::Diverged(format!("the training loss is {train_loss}"));
            break;
        }
    }
    outcome.model = model.expect("a step gives a model back");
    Ok(outcome)
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
