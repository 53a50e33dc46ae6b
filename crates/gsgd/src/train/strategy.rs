//! The strategy, and the loop over epochs and batches.

use std::sync::{Arc, Mutex, PoisonError};

use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Device;
use burn::train::train::WorkerFailure;
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent, LearnerModel,
    LearningResult, SupervisedLearningStrategy, SupervisedTraining,
    SupervisedTrainingEventProcessor, TrainLoader, TrainStep, TrainingComponents, TrainingError,
    TrainingItem, TrainingStrategy, ValidLoader,
};

use gsgd_core::graph::Graph;

use super::Method;
use super::carrier::{self, Loaded};
use super::devices::{Devices, Round, skip};
use super::method::Optimiser;
use crate::capture::{Example, Outputs, capture};
use crate::error::{Error, Rejected};

/// A strategy for Burn's trainer that trains in the scale-invariant space, on one device or on several.
///
/// It goes through data, events, schedules, gradient accumulation, checkpoints, early stopping and interruptions as Burn's
/// own strategies do. So metrics, loggers and dashboard work as usual. (The dashboard is Burn's feature `tui`.)
///
/// **Several devices.** Each has a copy of the model and a share of the data. Its gradient counts by its number of rows, so
/// that the mean of a loss over a batch has the gradient that one device finds for all batches together. The optimiser works
/// on the first device. Gradients are added in the order of the devices: runs repeat bit for bit. (Burn's own step for
/// several devices adds them as they come, does not say whose they are, and takes the sum, not the mean.)
///
/// **Accumulated gradients** are added up, as Burn's [`grads_accumulation`](SupervisedTraining::grads_accumulation) says.
/// Batches that are left over at the end of an epoch make a step too.
///
/// **Checkpoints** hold model, optimiser and schedule, in Burn's three files. A run that is resumed goes on bit for bit:
/// the shuffles of the epochs before are drawn again.
///
/// ```
/// # use std::sync::Arc;
/// # use burn::data::{dataloader::{DataLoaderBuilder, batcher::Batcher}, dataset::InMemDataset};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor, activation::relu};
/// # use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
/// use burn::train::{SupervisedTraining, metric::LossMetric};
/// use gsgd::train::Strategy;
/// use gsgd::GSpaceConfig;
/// # #[derive(Module, Debug)]
/// # struct Net { hidden: Linear, output: Linear }
/// # impl Net {
/// #     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.output.forward(relu(self.hidden.forward(x)))
/// #     }
/// # }
/// # impl InferenceStep for Net {
/// #     type Input = Tensor<2>;
/// #     type Output = RegressionOutput;
/// #     fn step(&self, x: Tensor<2>) -> RegressionOutput {
/// #         let y = self.forward(x.clone());
/// #         RegressionOutput::new((y.clone() - x.clone()).square().mean(), y, x)
/// #     }
/// # }
/// # impl TrainStep for Net {
/// #     type Input = Tensor<2>;
/// #     type Output = RegressionOutput;
/// #     fn step(&self, x: Tensor<2>) -> TrainOutput<RegressionOutput> {
/// #         let output = InferenceStep::step(self, x);
/// #         TrainOutput::new(self, output.loss.backward(), output)
/// #     }
/// # }
/// # #[derive(Clone)]
/// # struct Rows;
/// # impl Batcher<[f32; 2], Tensor<2>> for Rows {
/// #     fn batch(&self, rows: Vec<[f32; 2]>, device: &Device) -> Tensor<2> {
/// #         let rows = rows.into_iter().map(|row| Tensor::<1>::from_floats(row, device));
/// #         Tensor::stack(rows.collect(), 0)
/// #     }
/// # }
/// # fn main() -> Result<(), gsgd::Error> {
/// # let device = Device::flex().autodiff();
/// # let model = Net {
/// #     hidden: LinearConfig::new(2, 8).init(&device),
/// #     output: LinearConfig::new(8, 2).init(&device),
/// # };
/// # let data = || {
/// #     let rows = (0..8).map(|i| [i as f32 / 8.0, 0.5]).collect();
/// #     DataLoaderBuilder::new(Rows).batch_size(4).build(InMemDataset::new(rows))
/// # };
/// # let (train, valid) = (data(), data());
/// # let directory = tempfile::tempdir().unwrap();
/// // model: TrainStep + InferenceStep; train, valid: data loaders
/// let training = SupervisedTraining::new(&directory, train, valid)
///     .metrics((LossMetric::new(),))
///     .with_default_checkpointers()
/// #   .with_application_logger(None)
///     .num_epochs(2);
/// let forward = |model: &Net, example: &mut gsgd::Example| model.forward(example.input([1, 2]));
/// let strategy = Strategy::new(GSpaceConfig::momentum(0.9), forward);
/// let result = strategy.launch(training, model, 0.05)?;
/// assert!(result.error.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # What Burn does not let it do
///
/// - A learner keeps its optimiser to itself. So [`launch`](Self::launch) or [`learner`](Self::learner) makes the learner, with
///   an optimiser that does nothing but carry the state into checkpoints.
/// - `TrainStep::optimize` and `optimize_multi` of the model are not called: they take one of Burn's optimisers.
/// - [`TrainingError`] has no place for an error of an optimiser. It is there as a failure of worker 0. [`launch`](Self::launch)
///   and [`error`](Self::error) have the [`Error`] itself.
/// - A custom strategy is not told of [`gradient_checkpointing`](SupervisedTraining::gradient_checkpointing). Give it a
///   device with that: `device.autodiff().gradient_checkpointing()`.
/// - A custom strategy has no way into Burn's distributed training, where every device has an optimiser of its own.
/// - Burn panics where a file of the checkpoint to resume from is missing or holds another model. It loads them before the
///   strategy is asked.
/// - Checkpoints have no random numbers other than by drawing shuffles again. Dropout goes on with others. So does the order
///   of batches from a loader with several threads. The best value of an early stopping begins anew.
pub struct Strategy<M> {
    method: Method,
    graph: Capture<M>,
    devices: Vec<Device>,
    loaded: Loaded,
    error: Mutex<Option<Error>>,
}

/// A model's graph.
type Capture<M> = Box<dyn Fn(&M) -> Result<Graph, Error> + Send + Sync>;

impl<M: LearnerModel> Strategy<M> {
    /// A strategy on the model's own device. `forward` is an example forward pass, which says what the network is
    /// ([`capture`]).
    pub fn new<O: Outputs>(
        method: impl Into<Method>,
        forward: impl Fn(&M, &mut Example) -> O + Send + Sync + 'static,
    ) -> Self {
        Self {
            method: method.into(),
            graph: Box::new(move |model| capture(model, &forward)),
            devices: Vec::new(),
            loaded: Loaded::default(),
            error: Mutex::default(),
        }
    }

    /// The devices to train on, with autodiff or without; with none, the model's own. A batch of the loader's size goes to
    /// each of them.
    pub fn with_devices(mut self, devices: impl IntoIterator<Item = Device>) -> Self {
        self.devices = devices.into_iter().collect();
        self
    }

    /// Trains `model`, with one of Burn's schedules or a number as learning rate.
    ///
    /// # Errors
    /// The optimiser does not fit the model, refuses a step, or a checkpoint is not its own. The model is the one before the
    /// refused step, as Burn returns it, without autodiff. Errors of Burn and interruptions are in the result.
    pub fn launch(
        self,
        training: SupervisedTraining<M>,
        model: M,
        lr: impl Into<ModuleLrScheduler>,
    ) -> Result<LearningResult<M>, Rejected<M>> {
        let learner = self.learner(model, lr);
        let strategy = Arc::new(self);
        let custom = TrainingStrategy::Custom(strategy.clone());
        let result = training.with_training_strategy(custom).launch(learner);
        match strategy.error() {
            None => Ok(result),
            Some(error) => Err(Rejected::new(result.model, error)),
        }
    }

    /// A learner for this strategy, for those who call [`SupervisedTraining::launch`] themselves. It takes one at a time.
    pub fn learner(&self, model: M, lr: impl Into<ModuleLrScheduler>) -> Learner<M> {
        self.loaded.take();
        Learner::new(model, carrier::optimizer(self.loaded.clone()), lr)
    }

    /// Why the last training was stopped, if that was not Burn's doing.
    pub fn error(&self) -> Option<Error> {
        let error = self.error.lock();
        error.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<Error>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn fail(&self, error: Error, interrupter: &Interrupter) {
        interrupter.fail(TrainingError::Workers(vec![WorkerFailure {
            device_id: 0,
            message: error.to_string(),
        }]));
        self.set_error(Some(error));
    }

    /// The devices to train on, at least one, with autodiff.
    fn devices_for(&self, model: &M) -> Vec<Device> {
        let devices = match self.devices.is_empty() {
            true => model.devices().into_iter().take(1).collect(),
            false => self.devices.clone(),
        };
        let devices = match devices.is_empty() {
            true => vec![Device::default()],
            false => devices,
        };
        let devices = devices
            .into_iter()
            .map(|device| match device.is_autodiff() {
                true => device,
                false => device.autodiff(),
            });
        devices.collect()
    }

    /// The optimiser for the learner's model, at its start or from the checkpoint that the learner was loaded from.
    fn optimiser(&self, learner: &mut Learner<M>, resumes: bool) -> Result<Optimiser, Error> {
        let loaded = self.loaded.take();
        learner.load_optim(carrier::record(vec![0])?);
        if self.loaded.take().is_none() {
            return Err(Error::Learner);
        }
        let model = learner.model();
        match (resumes, loaded) {
            (false, _) => self.method.init(&model, &(self.graph)(&model)?),
            (true, Some(state)) => self.method.resume(&model, &(self.graph)(&model)?, state),
            (true, None) => Err(Error::State {
                reason: "the checkpoint is one of another optimiser".into(),
            }),
        }
    }
}

impl<M: LearnerModel> SupervisedLearningStrategy<M> for Strategy<M> {
    fn fit(
        &self,
        components: TrainingComponents<M>,
        mut learner: Learner<M>,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let TrainingComponents {
            mut checkpointer,
            mut early_stopping,
            event_processor: events,
            event_store: store,
            interrupter,
            ..
        } = components;
        self.set_error(None);
        let devices = self.devices_for(&learner.model());
        learner.fork(&devices[0]);
        let resumes = components.checkpoint.is_some() && checkpointer.is_some();
        let optimiser = match self.optimiser(&mut learner, resumes) {
            Ok(optimiser) => optimiser,
            Err(error) => {
                self.fail(error, &interrupter);
                return (learner.model(), events);
            }
        };
        let (items, valid_items) = (train.num_items(), valid.num_items());
        let passed = starting_epoch.saturating_sub(1);
        let valid = valid.to_device(&devices[0].clone().inner());
        skip(&*valid, passed);
        let devices = Devices::new(&devices, train, passed);
        let mut model = learner.model();
        let mut run = Run {
            strategy: self,
            learner,
            optimiser,
            accumulation: components.grad_accumulation.unwrap_or(1),
            events,
            interrupter,
        };
        for epoch in starting_epoch..=components.num_epochs {
            run.train_event(LearnerEvent::StartSplit {
                epoch_number: epoch,
                total_items: items,
            });
            model = run.train(model, &devices);
            run.train_event(LearnerEvent::EndSplit(epoch));
            if run.interrupter.should_stop() {
                break;
            }
            run.valid_event(LearnerEvent::StartSplit {
                epoch_number: epoch,
                total_items: valid_items,
            });
            run.validate(&model, &valid);
            run.valid_event(LearnerEvent::EndSplit(epoch));
            run.train_event(LearnerEvent::EndEpoch(epoch));
            if checkpointer.is_some() || early_stopping.is_some() {
                let flushed = run.events.flush();
                run.interrupter.fail_on_error(flushed);
            }
            if run.interrupter.should_stop() {
                break;
            }
            if let Some(checkpointer) = &mut checkpointer {
                match run.record(&model) {
                    Ok(()) => checkpointer.checkpoint(&run.learner, epoch, &store),
                    Err(error) => {
                        self.fail(error, &run.interrupter);
                        break;
                    }
                }
            }
            let stops = early_stopping.as_mut();
            if stops.is_some_and(|early| early.should_stop(epoch, &store)) {
                break;
            }
        }
        (model, run.events)
    }
}

/// What stays from epoch to epoch, besides the model.
struct Run<'a, M: LearnerModel> {
    strategy: &'a Strategy<M>,
    /// Has the schedule. Model and optimiser are put there for checkpoints.
    learner: Learner<M>,
    optimiser: Optimiser,
    /// Rounds of batches to a step.
    accumulation: usize,
    events: SupervisedTrainingEventProcessor<M>,
    interrupter: Interrupter,
}

impl<M: LearnerModel> Run<'_, M> {
    /// One epoch of training.
    fn train(&mut self, mut model: M, devices: &Devices<M>) -> M {
        let mut batches = devices.batches();
        let mut sum = GradientsAccumulator::new();
        let (mut rounds, mut iteration) = (0, 0);
        loop {
            let Round {
                grads,
                outputs,
                progress,
            } = match batches.next(&model) {
                Ok(Some(round)) => round,
                Ok(None) => break,
                Err(error) => {
                    self.interrupter.fail(error);
                    return model;
                }
            };
            sum.accumulate(&model, grads);
            rounds += 1;
            if rounds >= self.accumulation || progress.is_completed() {
                model = self.step(model, sum.grads());
                rounds = 0;
            }
            for output in outputs {
                iteration += 1;
                let (at, lr) = (progress.clone(), self.learner.lr_current());
                let item = TrainingItem::new(output, at, Some(iteration), Some(lr));
                self.train_event(LearnerEvent::ProcessedItem(item));
            }
            if self.interrupter.should_stop() {
                return model;
            }
        }
        match rounds {
            0 => model,
            // a loader that does not tell when it is through
            _ => self.step(model, sum.grads()),
        }
    }

    fn step(&mut self, model: M, grads: GradientsParams) -> M {
        self.learner.lr_step();
        let lr = self.learner.lr_current();
        match self.optimiser.step(lr, model, grads) {
            Ok(model) => model,
            Err(rejected) => {
                self.strategy.fail(rejected.error, &self.interrupter);
                rejected.model
            }
        }
    }

    /// One epoch of validation.
    fn validate(&mut self, model: &M, data: &ValidLoader<M>) {
        let model = model.valid();
        let mut iterator = data.iter();
        let mut iteration = 0;
        while let Some(batch) = iterator.next() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return self.interrupter.fail(error),
            };
            iteration += 1;
            let output = InferenceStep::step(&model, batch);
            let item = TrainingItem::new(output, iterator.progress(), Some(iteration), None);
            self.valid_event(LearnerEvent::ProcessedItem(item));
            if self.interrupter.should_stop() {
                return;
            }
        }
    }

    /// Puts model and optimiser where a checkpoint takes them from.
    fn record(&mut self, model: &M) -> Result<(), Error> {
        let state = self.optimiser.state()?;
        self.learner.load_optim(carrier::record(state)?);
        self.strategy.loaded.take();
        self.learner.load_model(model.clone().into_record());
        Ok(())
    }

    fn train_event(&mut self, event: LearnerEvent<<M as TrainStep>::Output>) {
        let processed = self.events.process_train(event);
        self.interrupter.fail_on_error(processed);
    }

    fn valid_event(&mut self, event: LearnerEvent<<M as InferenceStep>::Output>) {
        let processed = self.events.process_valid(event);
        self.interrupter.fail_on_error(processed);
    }
}
