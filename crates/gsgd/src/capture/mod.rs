//! A module's graph of operations, from its own forward pass.
//!
//! - `operations`: from Burn's operations to those of the core.

mod operations;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use burn::backend::capture::{CaptureBackend, CapturedGraph, TensorId};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use gsgd_core::graph::{self, Graph};
use gsgd_core::scales::ParamKey;

use crate::error::Error;
use crate::names;
use crate::params::key;

/// Inputs for an example forward pass: their shapes are what counts.
///
/// Handed to the closure of [`capture`] and [`GSpaceConfig::init`](crate::GSpaceConfig::init).
#[derive(Debug)]
pub struct Example {
    device: Device,
    dtype: DType,
    /// The inputs made so far, where the forward pass is captured.
    captured: Option<Vec<TensorId>>,
    /// Where random numbers go on: the same in every forward pass, and none of the device's.
    random: u64,
}

impl Example {
    /// For a forward pass that is carried out, on this device.
    pub fn on(device: Device, dtype: DType) -> Self {
        Self {
            device,
            dtype,
            captured: None,
            random: 1,
        }
    }

    /// A random number from 0 to 1 (splitmix64, Steele et al. 2014).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An input of this shape with its batch, of one example or a few.
    pub fn input<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        if self.captured.is_none() {
            // of variance 1
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|_| 12f64.sqrt() * (self.random() - 0.5));
            let data = TensorData::new(values.collect(), shape);
            return Tensor::from_data(data, (&self.device, self.dtype));
        }
        // a tensor of the scope would be taken for a constant
        let outside = Tensor::<D>::zeros(shape, (&outside(), self.dtype));
        let x = outside.to_device(&self.device);
        self.captured.get_or_insert_default().extend(id(&x));
        x
    }

    /// An input of whole numbers below `bound`, such as places in an embedding.
    pub fn indices<const D: usize>(&mut self, shape: [usize; D], bound: usize) -> Tensor<D, Int> {
        if self.captured.is_none() {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|_| (self.random() * bound as f64) as i64);
            let data = TensorData::new(values.collect(), shape);
            return Tensor::from_data(data, &self.device);
        }
        let outside = Tensor::<D, Int>::zeros(shape, &outside());
        let x = outside.to_device(&self.device);
        let primitive = x.clone().try_into_primitive::<CaptureBackend>();
        let id = primitive.ok().map(|primitive| primitive.id());
        self.captured.get_or_insert_default().extend(id);
        x
    }
}

/// A device that computes.
fn outside() -> Device {
    Device::default()
}

/// What a forward pass may return: tensors of floating point numbers, alone or in tuples, arrays and lists.
pub trait Outputs {
    /// Calls `each` with every tensor, in order.
    fn visit(self, each: &mut dyn OutputVisitor);
}

/// Takes the tensors of [`Outputs`].
pub trait OutputVisitor {
    /// Takes the next tensor.
    fn tensor(&mut self, tensor: AnyTensor);
}

/// A tensor of any number of dimensions, flattened.
#[derive(Debug)]
pub struct AnyTensor {
    id: Option<TensorId>,
    values: Option<Tensor<1>>,
}

impl<const D: usize> Outputs for Tensor<D> {
    fn visit(self, each: &mut dyn OutputVisitor) {
        let id = id(&self);
        let values = id.is_none().then(|| {
            let length = self.dims().iter().product::<usize>();
            self.reshape([length])
        });
        each.tensor(AnyTensor { id, values });
    }
}

impl<T: Outputs> Outputs for Vec<T> {
    fn visit(self, each: &mut dyn OutputVisitor) {
        self.into_iter().for_each(|output| output.visit(each));
    }
}

impl<T: Outputs, const N: usize> Outputs for [T; N] {
    fn visit(self, each: &mut dyn OutputVisitor) {
        self.into_iter().for_each(|output| output.visit(each));
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Outputs),+> Outputs for ($($name,)+) {
            #[allow(non_snake_case)]
            fn visit(self, each: &mut dyn OutputVisitor) {
                let ($($name,)+) = self;
                $($name.visit(each);)+
            }
        }
    };
}
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);

/// All numbers of the outputs, in order.
pub(crate) fn numbers(outputs: impl Outputs) -> Vec<f64> {
    struct Numbers(Vec<f64>);
    impl OutputVisitor for Numbers {
        fn tensor(&mut self, tensor: AnyTensor) {
            if let Some(values) = tensor.values {
                self.0.extend(values.into_data().iter::<f64>());
            }
        }
    }
    let mut numbers = Numbers(Vec::new());
    outputs.visit(&mut numbers);
    numbers.0
}

fn ids(outputs: impl Outputs) -> Vec<TensorId> {
    struct Ids(Vec<TensorId>);
    impl OutputVisitor for Ids {
        fn tensor(&mut self, tensor: AnyTensor) {
            self.0.extend(tensor.id);
        }
    }
    let mut ids = Ids(Vec::new());
    outputs.visit(&mut ids);
    ids.0
}

/// What the capture knows a tensor by; nothing of a tensor on another device.
fn id<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    let primitive = tensor.clone().try_into_primitive::<CaptureBackend>();
    primitive.ok().map(|primitive| primitive.id())
}

/// The device that captures, which takes one forward pass at a time.
static DEVICE: Mutex<Option<Device>> = Mutex::new(None);

/// The graph of a module, from an example forward pass.
///
/// The pass is recorded, not carried out: it may not read the numbers of a tensor. Batch norms are recorded as in
/// evaluation, dropout leaves nothing. Operations that are not known are in the graph as
/// [`Op::Opaque`](gsgd_core::graph::Op): no scaling goes through them.
///
/// ```
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor, activation::relu}};
/// # #[derive(Module, Debug)]
/// # struct Net { hidden: Linear, output: Linear }
/// # impl Net {
/// #     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.output.forward(relu(self.hidden.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let net = Net {
/// #     hidden: LinearConfig::new(3, 5).init(&device),
/// #     output: LinearConfig::new(5, 2).init(&device),
/// # };
/// let graph = gsgd::capture(&net, |net, example| net.forward(example.input([1, 3])))?;
/// let scales = graph.scales(Default::default())?;
/// println!("{} weights, {} hidden classes", scales.weights(), scales.hidden());
/// assert_eq!((scales.weights(), scales.hidden()), (32, 5));
/// # Ok::<(), gsgd::Error>(())
/// ```
///
/// # Errors
/// The forward pass reads numbers or panics, its outputs depend on no input or parameter, or two parameters are one.
pub fn capture<M: Module, O: Outputs>(
    model: &M,
    forward: impl FnOnce(&M, &mut Example) -> O,
) -> Result<Graph, Error> {
    let mut graph = declared(model)?;
    let mut place = DEVICE.lock().unwrap_or_else(|error| error.into_inner());
    let device = place.get_or_insert_with(Device::capture).clone();
    let mut params = Params::default();
    let dtype = names::dtype(model);
    let pass = || {
        device.capture_scope(|scope| {
            let model = model.clone().valid().to_device(&device);
            model.visit(&mut params);
            let mut example = Example {
                device: device.clone(),
                dtype,
                captured: Some(Vec::new()),
                random: 1,
            };
            let outputs = ids(forward(&model, &mut example));
            scope.complete(example.captured.unwrap_or_default(), outputs)
        })
    };
    let captured: CapturedGraph = match catch_unwind(AssertUnwindSafe(pass)) {
        Ok(Ok(captured)) => captured,
        Ok(Err(error)) => return Err(refused(error.to_string())),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            return Err(refused(said.unwrap_or("it panicked").to_string()));
        }
    };
    operations::add(&mut graph, &captured, &params.found)?;
    Ok(graph)
}

fn refused(reason: String) -> Error {
    Error::Capture { reason }
}

/// A graph with the tensors of a module and no operations yet: for one that cannot be captured and is built by hand.
///
/// # Errors
/// A parameter has no elements.
pub fn declared<M: Module>(model: &M) -> Result<Graph, Error> {
    let frozen = names::frozen(model);
    let mut graph = Graph::new();
    for (id, name, shape) in names::shapes(model) {
        // in two places of the module, it is one
        if graph.tensor(key(id)).is_some() {
            continue;
        }
        graph.declare(graph::Param {
            key: key(id),
            name,
            shape,
            trains: !frozen.contains(&id),
        })?;
    }
    Ok(graph)
}

/// The parameters of a module that is captured.
#[derive(Default)]
struct Params {
    found: HashMap<TensorId, ParamKey>,
}

impl ModuleVisitor for Params {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(id) = id(&param.val()) {
            self.found.insert(id, key(param.id));
        }
    }
}

/// The parameters whose gradients Burn computes wrongly, by name.
pub(crate) fn miscomputed(graph: &Graph) -> Vec<String> {
    let nodes = graph.nodes().iter();
    let wrong = nodes.filter_map(|node| match &node.op {
        graph::Op::Conv { window, groups }
            if *groups > 1 && window.stride.len() == 1 && window.stride[0] > 1 =>
        {
            match graph.node(*node.reads.get(1)?).op {
                graph::Op::Param(key) => graph.tensor(key),
                _ => None,
            }
        }
        _ => None,
    });
    let trains = wrong.filter(|param| param.trains);
    trains.map(|param| param.name.clone()).collect()
}
