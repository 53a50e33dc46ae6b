//! The training loop.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use gsgd::Rejected;
use gsgd::paths::{Power, path_norm};
use gsgd::rescale::{Balance, Scaling, apply, balance, imbalances};
use serde::{Deserialize, Deserializer, Serialize};

use super::batches::{self, Batch, Varied};
use super::{Best, InitName, Progress, Settings, Stepper};
use crate::data::{Dataset, Inputs};
use crate::models::{Arch, Design, Init, Net, NetworkName};

/// The images of a run.
pub struct Splits {
    /// What it trains on.
    pub train: Inputs,
    /// What is held back from training; perhaps nothing.
    pub validation: Inputs,
    /// The test images.
    pub test: Inputs,
}

/// What a run is of.
pub struct Prepared {
    /// The images.
    pub splits: Splits,
    /// What the network is.
    pub design: Design,
}

/// Figures after an epoch, a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Mean cross-entropy over all training images.
    #[serde(deserialize_with = "or_nan")]
    pub train_loss: f64,
    /// Share of training images classified wrongly.
    #[serde(deserialize_with = "or_nan")]
    pub train_error: f64,
    /// Mean cross-entropy over the images held back, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Share of the images held back that are classified wrongly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_error: Option<f64>,
    /// Mean cross-entropy over the test images.
    #[serde(deserialize_with = "or_nan")]
    pub test_loss: f64,
    /// Share of test images classified wrongly.
    #[serde(deserialize_with = "or_nan")]
    pub test_error: f64,
    /// Median over a layer's units of |log10| of the ratio of incoming to outgoing norm, by layer.
    pub imbalance: BTreeMap<String, f64>,
    /// Square root of the sum of squares of all path values; with batch norm, of the paths between batch norms.
    #[serde(deserialize_with = "or_nan")]
    pub path_norm: f64,
    /// Seconds spent in training steps so far.
    pub seconds: f64,
}

/// JSON has no NaN: it is written as null.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// All steps done.
    Done,
    /// The validation loss no longer falls.
    Early,
    /// The loss or a gradient left the finite numbers.
    Diverged(String),
    /// Somebody asked for it.
    Interrupted,
}

/// A run between two steps.
pub struct State {
    /// The weights.
    pub model: Net,
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

    /// After every epoch, with its figures.
    ///
    /// # Errors
    /// The figures cannot be written.
    fn epoch(&mut self, figures: &Epoch, progress: &Progress) -> Result<Wish>;

    /// Whether the run should end now, in the middle of an evaluation.
    fn stops(&self) -> bool;

    /// Keeps a checkpoint.
    ///
    /// # Errors
    /// It cannot be written.
    fn save(&mut self, state: &State) -> Result<()>;
}

/// A run's images and network.
///
/// # Errors
/// Network and data do not fit.
pub fn prepare(settings: &Settings, data: &Dataset) -> Result<Prepared> {
    if let NetworkName::Known(arch) = settings.arch.for_images(data) {
        check_fit(&arch, data)?;
    }
    let design = settings.design(data).context("--arch")?;
    let outputs = design.plan().context("--arch")?.outputs();
    ensure!(
        outputs >= data.classes,
        "--arch {} has {outputs} outputs, {} has {} classes",
        settings.arch,
        data.name,
        data.classes
    );
    settings.freeze.check(&design.parameters())?;
    Ok(Prepared {
        splits: splits(settings, data)?,
        design,
    })
}

/// Starting weights by the settings, rescaled or balanced as they say.
///
/// # Errors
/// A file of weights cannot be read, or is of another network.
pub fn start(settings: &Settings, design: &Design, device: &Device) -> Result<Net> {
    let scales = settings.scale_graph_config();
    let init = |init| design.init(init, scales, settings.seed, device);
    let mut model = match &settings.init {
        InitName::He => init(Init::He)?,
        &InitName::Skeleton {
            magnitude,
            random_signs,
        } => init(Init::Skeleton {
            magnitude,
            random_signs,
        })?,
        InitName::File(path) => design.load(path, device).context("--init")?,
    };
    // rescaling and balancing keep the function: batch norm and skips as they are
    let scales = model.graph()?.scales(Default::default())?;
    if settings.unbalance > 0.0 {
        let scaling =
            Scaling::random(&scales, settings.unbalance, settings.seed).context("--unbalance")?;
        model = apply(model, &scales, &scaling).map_err(|Rejected { error, .. }| error)?;
    }
    if settings.balance_first {
        let balanced = balance(model, &scales, Balance::default());
        model = balanced.map_err(|Rejected { error, .. }| error)?.0;
    }
    Ok(model)
}

fn splits(settings: &Settings, data: &Dataset) -> Result<Splits> {
    let (train, test) = data.inputs(settings.normalise);
    let all = train.len();
    let Some((train, validation)) = train.hold_back(settings.validation) else {
        bail!(
            "--validation {} leaves none of the {all} training images of {} to train on",
            settings.validation,
            data.name
        );
    };
    Ok(Splits {
        train: train.subset(settings.train_examples.unwrap_or(usize::MAX)),
        validation,
        test,
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
        }
    }
    Ok(())
}

/// A run at its beginning: the start, of which some parameters may be frozen now.
///
/// # Errors
/// The optimiser does not suit the start.
pub fn begin(settings: &Settings, model: Net) -> Result<State> {
    let model = settings.freeze.apply(model);
    let stepper = Stepper::new(settings, &model).map_err(|error| match error {
        gsgd::Error::Core(gsgd::core::Error::Frozen { tool, name }) => {
            let error = gsgd::Error::Core(gsgd::core::Error::Frozen { tool, name });
            anyhow!("--freeze: {error}; take another --optimizer, or leave --freeze out")
        }
        other => other.into(),
    })?;
    Ok(State {
        stepper,
        model,
        progress: Progress::default(),
    })
}

impl Progress {
    /// The same for a run that goes on to step `last`: an epoch that ended in its middle, where an earlier end was, is
    /// taken up there again.
    pub fn towards(self, last: usize, per_epoch: usize) -> Self {
        match self.step < last {
            true => Self {
                epochs: self.epochs.min(self.step / per_epoch),
                ..self
            },
            false => self,
        }
    }
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
    Splits {
        train,
        validation,
        test,
    }: &Splits,
    mut state: State,
    device: &Device,
    watcher: &mut impl Watcher,
) -> Result<(State, Stop)> {
    let per_epoch = train.len().div_ceil(settings.batch);
    let last = steps(settings, train.len());
    while state.progress.step < last || state.progress.epochs * per_epoch < state.progress.step {
        let epoch = state.progress.epochs;
        if let (Some(patience), Some(best)) = (settings.early_stop, state.progress.best)
            && epoch >= best.epoch + patience
        {
            return Ok((state, Stop::Early));
        }
        let (trained, ended) = train_epoch(settings, train, state, last, device, watcher)?;
        state = trained;
        if let Some(stop) = ended {
            return Ok((state, stop));
        }
        let go_on = || !watcher.stops();
        let evaluated = |inputs| evaluate(&state.model, inputs, device, &go_on);
        let (Some(on_train), Some(on_test), Some(held_back)) =
            (evaluated(train), evaluated(test), evaluated(validation))
        else {
            watcher.save(&state)?;
            return Ok((state, Stop::Interrupted));
        };
        let held_back = (!validation.is_empty()).then_some(held_back);
        let (imbalance, path_norm) = scales(&state.model)?;
        let figures = Epoch {
            epoch: epoch + 1,
            step: state.progress.step,
            train_loss: on_train.0,
            train_error: on_train.1,
            validation_loss: held_back.map(|(loss, _)| loss),
            validation_error: held_back.map(|(_, error)| error),
            test_loss: on_test.0,
            test_error: on_test.1,
            imbalance,
            path_norm,
            seconds: state.progress.seconds,
        };
        state.progress.epochs += 1;
        let (best, whole) = (state.progress.best, (epoch + 1) * per_epoch);
        if let Some(loss) = figures.validation_loss
            && state.progress.step == whole
            && best.is_none_or(|best| loss < best.loss)
        {
            state.progress.best = Some(Best {
                epoch: epoch + 1,
                loss,
            });
        }
        let wish = watcher.epoch(&figures, &state.progress)?;
        if !figures.train_loss.is_finite() {
            let reason = format!("the training loss is {}", figures.train_loss);
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

/// Imbalance by layer, and path norm, of frozen layers too: without gradients nothing is frozen.
fn scales(model: &Net) -> Result<(BTreeMap<String, f64>, f64)> {
    let model = &model.valid();
    let scales = model.graph()?.scales(Default::default())?;
    let mut layers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (class, ratio) in scales.hidden_classes().zip(imbalances(model, &scales)?) {
        let unit = scales.unit(class);
        let layer = unit.split('[').next().unwrap_or(&unit);
        let sizes = layers.entry(layer.to_string()).or_default();
        sizes.extend(ratio.map(|ratio| ratio.log10().abs()));
    }
    let medians = layers.into_iter().filter_map(|(layer, mut sizes)| {
        sizes.retain(|size| size.is_finite());
        sizes.sort_unstable_by(f64::total_cmp);
        let median = *sizes.get(sizes.len() / 2)?;
        Some((layer, median))
    });
    let path_norm = path_norm(model, &scales, Power::Two)?.sqrt();
    Ok((medians.collect(), path_norm))
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
    let begins = epoch * train.len().div_ceil(settings.batch);
    let done = progress.step.checked_sub(begins);
    let done = done.context("epochs are counted that have no steps")? * settings.batch;
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
        let current = match stepper.step(settings.lr() * warmth, current, grads) {
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

/// Mean cross-entropy and share of wrong answers, with running statistics; `None` as soon as `go_on` says no.
fn evaluate(
    model: &Net,
    inputs: &Inputs,
    device: &Device,
    go_on: &impl Fn() -> bool,
) -> Option<(f64, f64)> {
    let device = device.clone().inner();
    let model = model.valid();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let all: Vec<usize> = (0..inputs.len()).collect();
    let (mut total, mut wrong) = (0.0, 0.0);
    for examples in all.chunks((EVALUATED / inputs.features()).clamp(16, 2000)) {
        if !go_on() {
            return None;
        }
        let (x, y) = Batch::from_examples(inputs, examples, None).on(&device);
        let logits = model.forward(x);
        let right = logits.clone().argmax(1).flatten::<1>(0, 1).equal(y.clone());
        let right: i64 = right.int().sum().into_scalar();
        wrong += (examples.len() as i64 - right) as f64;
        let mean: f64 = loss.forward(logits, y).into_scalar();
        total += mean * examples.len() as f64;
    }
    Some((total / inputs.len() as f64, wrong / inputs.len() as f64))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::data::{ImageShape, Normalise, Split};

    /// Raises a stop at one of the looks that an evaluation takes at it.
    struct Looks {
        until_stop: Cell<usize>,
        saved: Vec<Progress>,
        losses: Vec<f64>,
    }

    impl Looks {
        fn stopping_at(look: usize) -> Self {
            Self {
                until_stop: Cell::new(look),
                saved: Vec::new(),
                losses: Vec::new(),
            }
        }
    }

    impl Watcher for Looks {
        fn step(&mut self, _: &Progress) -> Wish {
            Wish::GoOn
        }

        fn epoch(&mut self, figures: &Epoch, _: &Progress) -> Result<Wish> {
            self.losses.push(figures.train_loss);
            Ok(Wish::GoOn)
        }

        fn stops(&self) -> bool {
            self.until_stop.set(self.until_stop.get().saturating_sub(1));
            self.until_stop.get() == 0
        }

        fn save(&mut self, state: &State) -> Result<()> {
            self.saved.push(state.progress);
            Ok(())
        }
    }

    #[test]
    fn a_stop_is_heard_within_an_evaluation_and_the_run_goes_on_from_there() {
        let device = Device::flex().autodiff();
        let split = |count: usize| Split {
            pixels: (0..count * 4).map(|at| (at * 37 % 256) as u16).collect(),
            labels: (0..count).map(|at| (at % 2) as u8).collect(),
        };
        let data = Dataset {
            name: "test".into(),
            shape: ImageShape::grey(2, 2),
            classes: 2,
            white: 255,
            train: Arc::new(split(5000)),
            test: Arc::new(split(10)),
            notes: Vec::new(),
        };
        let table = "arch = \"mlp:4-5-2\"\noptimizer = \"g-adam\"\nbatch = 1000\nepochs = 2\nvalidation = 10";
        let settings = Settings::from_table(&table.parse().unwrap()).unwrap();
        assert_eq!(settings.normalise, Normalise::Standard);
        let prepared = prepare(&settings, &data).unwrap();
        let begun = || {
            begin(
                &settings,
                start(&settings, &prepared.design, &device).unwrap(),
            )
            .unwrap()
        };
        let on = |state, watcher: &mut Looks| {
            run(&settings, &prepared.splits, state, &device, watcher).unwrap()
        };
        let mut whole = Looks::stopping_at(usize::MAX);
        on(begun(), &mut whole);
        // three pieces of the training images, one of the others
        for look in 1..=5 {
            let mut stopped = Looks::stopping_at(look);
            let (state, stop) = on(begun(), &mut stopped);
            assert_eq!(stop, Stop::Interrupted, "{look}");
            assert_eq!((state.progress.step, state.progress.epochs), (5, 0));
            assert_eq!(stopped.saved, [state.progress]);
            let mut after = Looks::stopping_at(usize::MAX);
            let (_, stop) = on(state, &mut after);
            assert_eq!((stop, &after.losses), (Stop::Done, &whole.losses));
        }
    }
}
