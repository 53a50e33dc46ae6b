//! One batch for every device, and the mean of the gradients that come back.

use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use burn::data::dataloader::split::split_dataloader;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn::train::train::WorkerFailure;
use burn::train::{LearnerModel, TrainLoader, TrainOutput, TrainStep, TrainingError};

type Input<M> = <M as TrainStep>::Input;
type Output<M> = <M as TrainStep>::Output;

/// The devices that train, with a share of the data for each.
pub(super) struct Devices<M: LearnerModel> {
    /// The first one, without autodiff: where gradients meet.
    main: Device,
    loaders: Vec<TrainLoader<M>>,
    /// A thread for every device, if there is more than one.
    workers: Vec<Worker<M>>,
}

impl<M: LearnerModel> Devices<M> {
    /// Splits the data among the devices, of which there is at least one.
    ///
    /// `epochs` have passed before: their shuffles are drawn again, so that those of the next epochs are the same as if the
    /// run had not been interrupted.
    pub fn new(devices: &[Device], data: TrainLoader<M>, epochs: usize) -> Self {
        let loaders = match devices {
            [device] => vec![data.to_device(device)],
            devices => split_dataloader(data, devices),
        };
        for loader in &loaders {
            skip(&**loader, epochs);
        }
        let workers = match devices {
            [_] => Vec::new(),
            devices => devices.iter().cloned().map(Worker::start).collect(),
        };
        Self {
            main: devices[0].clone().inner(),
            loaders,
            workers,
        }
    }

    /// One pass over the data.
    pub fn batches(&self) -> Batches<'_, M> {
        Batches {
            devices: self,
            iterators: self.loaders.iter().map(|loader| loader.iter()).collect(),
        }
    }

    /// The outputs of the model on a batch for every device, in the order of the batches.
    fn outputs(
        &self,
        batches: Vec<(usize, Input<M>)>,
        model: &M,
    ) -> Result<Vec<TrainOutput<Output<M>>>, TrainingError> {
        if self.workers.is_empty() {
            let outputs = batches.into_iter();
            return Ok(outputs
                .map(|(_, batch)| TrainStep::step(model, batch))
                .collect());
        }
        let begin = |(device, batch): (usize, Input<M>)| {
            // a worker that is gone is found when its answer is asked for
            self.workers[device].work.send((model.clone(), batch)).ok();
            device
        };
        let begun: Vec<usize> = batches.into_iter().map(begin).collect();
        let (mut outputs, mut failures) = (Vec::new(), Vec::new());
        // every answer is waited for, also after a failure
        for device_id in begun {
            match self.workers[device_id].done.recv() {
                Ok(Ok(output)) => outputs.push(output),
                Ok(Err(message)) => failures.push(WorkerFailure { device_id, message }),
                Err(error) => failures.push(WorkerFailure {
                    device_id,
                    message: error.to_string(),
                }),
            }
        }
        match failures.is_empty() {
            true => Ok(outputs),
            false => Err(TrainingError::Workers(failures)),
        }
    }
}

/// Draws the shuffles of so many epochs.
pub(super) fn skip<I>(loader: &dyn DataLoader<I>, epochs: usize) {
    for _ in 0..epochs {
        loader.iter();
    }
}

/// What one round of batches gave, one on every device that had one left.
pub(super) struct Round<M: LearnerModel> {
    /// The mean over the rows of all batches.
    pub grads: GradientsParams,
    pub outputs: Vec<Output<M>>,
    pub progress: Progress,
}

/// One pass over the data.
pub(super) struct Batches<'a, M: LearnerModel> {
    devices: &'a Devices<M>,
    iterators: Vec<Box<dyn DataLoaderIterator<Input<M>> + 'a>>,
}

impl<M: LearnerModel> Batches<'_, M> {
    /// The next round; nothing at the end.
    pub fn next(&mut self, model: &M) -> Result<Option<Round<M>>, TrainingError> {
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        for (device, iterator) in self.iterators.iter_mut().enumerate() {
            let before = iterator.progress().items_processed;
            if let Some(batch) = iterator.next().transpose()? {
                let after = iterator.progress().items_processed;
                batches.push((device, batch));
                rows.push(after.saturating_sub(before) as f64);
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let outputs = self.devices.outputs(batches, model)?;
        let (grads, outputs): (Vec<_>, _) = outputs
            .into_iter()
            .map(|output| (output.grads, output.item))
            .unzip();
        let progress = self.iterators.iter().map(|iterator| iterator.progress());
        let progress = progress.reduce(|a, b| {
            let processed = a.items_processed + b.items_processed;
            Progress::new(processed, a.items_total + b.items_total, a.unit)
        });
        Ok(progress.map(|progress| Round {
            grads: mean(grads, &rows, model, &self.devices.main),
            outputs,
            progress,
        }))
    }
}

/// The mean of gradients that are themselves means over so many rows. Where a loader does not tell how many, they count alike.
fn mean<M: Module>(
    mut grads: Vec<GradientsParams>,
    rows: &[f64],
    model: &M,
    device: &Device,
) -> GradientsParams {
    if grads.len() == 1 {
        return grads.remove(0);
    }
    let known = rows.iter().all(|&rows| rows > 0.0);
    let total: f64 = rows.iter().sum();
    let mut sum = GradientsAccumulator::new();
    let equal = 1.0 / grads.len() as f64;
    for (mut grads, rows) in grads.into_iter().zip(rows) {
        let mut part = Part {
            share: if known { rows / total } else { equal },
            device,
            grads: &mut grads,
            part: GradientsParams::new(),
        };
        model.visit(&mut part);
        let part = part.part;
        sum.accumulate(model, part);
    }
    sum.grads()
}

/// A share of gradients, on another device.
struct Part<'a> {
    share: f64,
    device: &'a Device,
    grads: &'a mut GradientsParams,
    part: GradientsParams,
}

impl ModuleVisitor for Part<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // a parameter in two places of the module is found once
        if let Some(gradient) = self.grads.remove::<D>(param.id) {
            let gradient = gradient.to_device(self.device).mul_scalar(self.share);
            self.part.register(param.id, gradient);
        }
    }
}

/// A thread that runs the model on one device. It ends when this is dropped.
///
/// Threads stay from step to step: devices have their queues by thread, and batch norms their statistics.
struct Worker<M: LearnerModel> {
    work: Sender<(M, Input<M>)>,
    done: Receiver<Result<TrainOutput<Output<M>>, String>>,
}

impl<M: LearnerModel> Worker<M> {
    fn start(device: Device) -> Self {
        let (work, tasks) = channel::<(M, Input<M>)>();
        let (answers, done) = channel();
        thread::spawn(move || {
            for (model, batch) in tasks {
                let step = || TrainStep::step(&model.fork(&device), batch);
                let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step));
                if answers.send(answer.map_err(message)).is_err() {
                    return;
                }
            }
        });
        Self { work, done }
    }
}

/// What a panic says.
fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => match panic.downcast_ref::<&str>() {
            Some(message) => message.to_string(),
            None => "a panic".into(),
        },
    }
}
