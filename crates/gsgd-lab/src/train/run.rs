//! The training loop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use gsgd::{Balance, Rejected, Scaling, Wiring, balance};
use serde::Serialize;

use super::{InitName, Settings, Stepper, batches};
use crate::data::{Dataset, Inputs};
use crate::models::{self, Init, Mlp};

/// A run's data and starting weights.
pub struct Prepared {
    /// Training inputs.
    pub train: Inputs,
    /// Test inputs.
    pub test: Inputs,
    /// The start.
    pub model: Mlp,
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
    pub model: Mlp,
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
    let widths = &settings.arch.widths;
    ensure!(
        widths[0] == data.features,
        "--arch {} takes {} inputs, the images of {} have {} pixels",
        settings.arch,
        widths[0],
        data.name,
        data.features
    );
    ensure!(
        widths[widths.len() - 1] >= data.classes,
        "--arch {} has {} outputs, {} has {} classes",
        settings.arch,
        widths[widths.len() - 1],
        data.name,
        data.classes
    );
    let init = |init| Mlp::init(&settings.arch, settings.bias, init, settings.seed, device);
    let mut model = match &settings.init {
        InitName::He => init(Init::He)?,
        InitName::SkeletonOne => init(Init::SkeletonOne)?,
        InitName::File(path) => {
            models::load(path, &settings.arch, settings.bias, device).context("--init")?
        }
    };
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
    Ok(Prepared { train, test, model })
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
    let Prepared { train, test, model } = prepared;
    let mut stepper = Stepper::new(settings, &model)?;
    let loss = CrossEntropyLossConfig::new().init(device);
    let shuffle = (!settings.no_shuffle).then_some(settings.seed);
    let per_epoch = train.len().div_ceil(settings.batch);
    let last = settings
        .steps
        .unwrap_or(usize::MAX)
        .min(settings.epochs.saturating_mul(per_epoch));
    let mut outcome = Outcome {
        model,
        epochs: Vec::new(),
        steps: 0,
        time: Duration::ZERO,
        stop: Stop::Done,
    };
    for epoch in 0.. {
        if outcome.steps >= last {
            break;
        }
        let order = batches::order(train.len(), shuffle, epoch);
        for examples in order.chunks(settings.batch).take(last - outcome.steps) {
            let begun = Instant::now();
            let (x, y) = batches::batch(&train, examples, device);
            let value = loss.forward(outcome.model.forward(x), y);
            let grads = GradientsParams::from_grads(value.backward(), &outcome.model);
            match stepper.step(settings.lr, outcome.model, grads) {
                Ok(model) => outcome.model = model,
                Err(rejected) => {
                    outcome.stop = Stop::Diverged(rejected.error.to_string());
                    outcome.model = rejected.model;
                    return Ok(outcome);
                }
            }
            outcome.time += begun.elapsed();
            outcome.steps += 1;
            if !tick(outcome.steps) {
                outcome.stop = Stop::Interrupted;
                return Ok(outcome);
            }
        }
        let (train_loss, train_error) = evaluate(&outcome.model, &train, device);
        let (test_loss, test_error) = evaluate(&outcome.model, &test, device);
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
            return Ok(outcome);
        }
    }
    Ok(outcome)
}

/// Mean cross-entropy and share of wrong answers.
pub fn evaluate(model: &Mlp, inputs: &Inputs, device: &Device) -> (f64, f64) {
    use burn::module::Module;
    let device = device.clone().inner();
    let model = model.clone().valid();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let all: Vec<usize> = (0..inputs.len()).collect();
    let (mut total, mut wrong) = (0.0, 0.0);
    for examples in all.chunks(2000) {
        let (x, y) = batches::batch(inputs, examples, &device);
        let logits = model.forward(x);
        let right = logits.clone().argmax(1).flatten::<1>(0, 1).equal(y.clone());
        let right: i64 = right.int().sum().into_scalar();
        wrong += (examples.len() as i64 - right) as f64;
        let mean: f64 = loss.forward(logits, y).into_scalar();
        total += mean * examples.len() as f64;
    }
    (total / inputs.len() as f64, wrong / inputs.len() as f64)
}
