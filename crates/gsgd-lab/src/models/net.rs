//! The network of a graph as a module of Burn's.

use std::sync::Arc;

use anyhow::Result;
use burn::module::{
    Content, Flag, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use flex_kernels::{add_relu, batch_norm, batch_norm_relu, conv2d, linear};
use gsgd::capture;
use gsgd::core::graph::{self, Graph, Window};

use super::operations::apply;
use super::plan::{Kept, Plan, Read, Step, Work};
use super::value::{Value, both, same};
use super::weights::Weight;

/// A network: its tensors, and a forward pass that carries out the operations of its graph.
///
/// Its parameters are called as in the graph, and in files.
#[derive(Debug, Clone)]
pub struct Net {
    weights: Vec<Weight>,
    /// Whether batch norms train, as Burn's own layers have it.
    training: Param<Flag>,
    plan: Arc<Plan>,
}

/// The share of a batch's moments that running statistics take over.
const MOMENTUM: f64 = 0.1;

impl Net {
    /// The network of a graph, with the values of each of its tensors in the graph's order.
    ///
    /// # Errors
    /// An operation cannot be trained, or `values` fails.
    pub fn new(
        graph: &Graph,
        mut values: impl FnMut(usize, &Kept) -> Result<Vec<f32>>,
        device: &Device,
    ) -> Result<Self> {
        let plan = Plan::new(graph)?;
        let weights = plan.kept().iter().enumerate();
        let weights = weights.map(|(place, kept)| {
            let values = values(place, kept)?;
            Ok(Weight::new(kept, values, device))
        });
        Ok(Self {
            weights: weights.collect::<Result<_>>()?,
            training: Param::from_bool(true),
            plan: Arc::new(plan),
        })
    }

    /// Every tensor with how it is kept, in the graph's order.
    pub fn weights(&self) -> impl Iterator<Item = (&Kept, &Weight)> {
        self.plan.kept().iter().zip(&self.weights)
    }

    /// The network with every tensor replaced by what `change` makes of it.
    ///
    /// # Errors
    /// Those of `change`.
    pub(super) fn with_weights(
        self,
        mut change: impl FnMut(&Kept, Weight) -> Result<Weight>,
    ) -> Result<Self> {
        let weights = self.plan.kept().iter().zip(self.weights);
        let weights = weights.map(|(kept, weight)| change(kept, weight));
        Ok(Self {
            weights: weights.collect::<Result<_>>()?,
            ..self
        })
    }

    /// Numbers of an example.
    pub fn features(&self) -> usize {
        self.plan.features()
    }

    /// Its operations, as the forward pass carries them out.
    ///
    /// # Errors
    /// They cannot be captured.
    pub fn graph(&self) -> Result<graph::Graph, gsgd::Error> {
        let features = self.features();
        capture(self, |net, example| {
            net.forward(example.input([1, features]))
        })
    }

    /// Outputs `[batch, outputs]` of inputs `[batch, features]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let plan = &self.plan;
        let batch = x.dims()[0];
        let of_batch = |shape: &[usize]| [&[batch], &shape[1..]].concat();
        let mut values: Vec<Option<Value>> = vec![None; plan.values];
        values[plan.input] = Some(Value::D2(x).reshape(&of_batch(&plan.input_shape)));
        for step in &plan.steps {
            let reads = step.reads.iter().map(|read| match *read {
                Read::Weight(place) => self.weights[place].value(),
                Read::Shared(place) => made(values[place].clone()),
                Read::Last(place) => made(values[place].take()),
            });
            let reads = reads.collect();
            values[step.to] = Some(self.step(step, reads, &of_batch));
        }
        let y = made(values[plan.output].take());
        y.reshape(&[batch, plan.outputs]).tensor()
    }

    fn step(
        &self,
        step: &Step,
        mut reads: Vec<Value>,
        of_batch: &impl Fn(&[usize]) -> Vec<usize>,
    ) -> Value {
        let mut next = || reads.remove(0);
        match &step.work {
            Work::Linear { weight, bias } => {
                let layer = self.linear(*weight, *bias);
                match next() {
                    Value::D2(x) => linear(&layer, x).into(),
                    x => same!(x, x => layer.forward(x)),
                }
            }
            Work::Conv2d {
                weight,
                bias,
                window,
                groups,
            } => {
                let layer = self.conv2d(*weight, *bias, window, *groups);
                conv2d(&layer, next().tensor()).into()
            }
            Work::BatchNorm { tensors, epsilon } => {
                let layer = self.batch_norm(*tensors, *epsilon);
                match next() {
                    Value::D4(x) => batch_norm(&layer, x).into(),
                    x => same!(x, x => layer.forward(x)),
                }
            }
            Work::BatchNormRelu { tensors, epsilon } => {
                let layer = self.batch_norm(*tensors, *epsilon);
                batch_norm_relu(&layer, next().tensor()).into()
            }
            Work::AddRelu => both!(next(), next(), a, b => add_relu(a, b)),
            Work::Op(graph::Op::Activation(graph::Activation::Relu)) => same!(next(), x => relu(x)),
            Work::Op(op) => match step.batched {
                true => apply(op, reads, &of_batch(&step.shape)),
                false => apply(op, reads, &step.shape),
            },
        }
    }

    fn linear(&self, weight: usize, bias: Option<usize>) -> Linear {
        Linear {
            weight: self.weights[weight].matrix(),
            bias: bias.map(|bias| self.weights[bias].vector()),
        }
    }

    fn conv2d(&self, weight: usize, bias: Option<usize>, window: &Window, groups: usize) -> Conv2d {
        let each = |list: &[usize]| [list[0], list[1]];
        let [[top, bottom], [left, right]] = [window.padding[0], window.padding[1]];
        Conv2d {
            weight: self.weights[weight].filters(),
            bias: bias.map(|bias| self.weights[bias].vector()),
            stride: each(&window.stride),
            kernel_size: each(&window.kernel),
            dilation: each(&window.dilation),
            groups,
            padding: PaddingConfig2d::Explicit(top, left, bottom, right),
        }
    }

    fn batch_norm(&self, [gamma, beta, mean, variance]: [usize; 4], epsilon: f64) -> BatchNorm {
        BatchNorm {
            gamma: self.weights[gamma].vector(),
            beta: self.weights[beta].vector(),
            training: self.training.clone(),
            running_mean: self.weights[mean].statistic(),
            running_var: self.weights[variance].statistic(),
            momentum: MOMENTUM,
            epsilon,
        }
    }
}

fn made(value: Option<Value>) -> Value {
    value.expect("steps are in the order in which they read each other")
}

impl Module for Net {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        let weights = self.weights.iter();
        weights.fold(devices, |devices, weight| weight.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(
            |weight| weight.fork(device),
            |training| training.fork(device),
        )
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|weight| weight.moved(device), |training| training)
    }

    fn train(self) -> Self {
        self.each(Weight::train, Module::train)
    }

    fn valid(&self) -> Self {
        Self {
            weights: self.weights.iter().map(Weight::valid).collect(),
            training: self.training.valid(),
            plan: self.plan.clone(),
        }
    }

    fn materialize(self) -> Self {
        self.each(Weight::materialize, Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (kept, weight) in self.weights() {
            visitor.enter_module(&kept.name, "Net");
            weight.visited(visitor);
            visitor.exit_module(&kept.name, "Net");
        }
        self.training.visit(visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let weights = self.plan.kept().iter().zip(self.weights);
        let weights = weights.map(|(kept, weight)| {
            mapper.enter_module(&kept.name, "Net");
            let weight = weight.mapped(mapper);
            mapper.exit_module(&kept.name, "Net");
            weight
        });
        Self {
            weights: weights.collect(),
            training: Module::map(self.training, mapper),
            plan: self.plan,
        }
    }
}

impl Net {
    fn each(
        self,
        weight: impl Fn(Weight) -> Weight,
        training: impl FnOnce(Param<Flag>) -> Param<Flag>,
    ) -> Self {
        Self {
            weights: self.weights.into_iter().map(weight).collect(),
            training: training(self.training),
            plan: self.plan,
        }
    }
}

impl ModuleDisplayDefault for Net {
    fn content(&self, content: Content) -> Option<Content> {
        let weights = self.weights();
        let listed = weights.fold(content, |content, (kept, _)| {
            content.add_formatted(&format!("{} {:?}", kept.name, kept.shape))
        });
        listed.optional()
    }
}

impl ModuleDisplay for Net {}
