//! Models, data and helpers that several test files share.
#![allow(dead_code)]

pub mod convnet;

use burn::module::{Module, Param, ParamGroup};
use burn::nn::Linear;
use burn::optim::{GradientsParams, ModuleOptimizer, Optimizer};
use burn::tensor::activation::{leaky_relu, log_softmax, relu};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use gsgd::{Error, GSpace, GSpaceConfig, Graph, ScaleGraph, ScaleGraphConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn device() -> Device {
    Device::flex().autodiff()
}

pub fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D], dtype: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&device(), dtype))
}

pub fn linear(weight: Tensor<2>, bias: Option<Tensor<1>>) -> Linear {
    Linear {
        weight: Param::from_tensor(weight),
        bias: bias.map(Param::from_tensor),
    }
}

/// A linear layer with He weights and, with a bias, small random biases.
pub fn he(rng: &mut ChaCha8Rng, inputs: usize, outputs: usize, bias: bool, dtype: DType) -> Linear {
    let mut normal =
        |n: usize, std: f64| -> Vec<f64> { (0..n).map(|_| std * self::normal(rng)).collect() };
    let weight = normal(inputs * outputs, (2.0 / inputs as f64).sqrt());
    let bias = bias.then(|| tensor(normal(outputs, 0.1), [outputs], dtype));
    linear(tensor(weight, [inputs, outputs], dtype), bias)
}

/// A standard normal number.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A network whose graph is known.
pub trait Described: Module {
    fn graph(&self) -> Graph;
}

/// The scale graph of a network.
pub fn scale_graph<M: Described>(model: &M, config: ScaleGraphConfig) -> Result<ScaleGraph, Error> {
    Ok(model.graph().scales(config)?)
}

/// Makes optimisers for networks whose graph is known.
pub trait InitOf {
    fn init_of<M: Described>(&self, model: &M) -> Result<GSpace, Error>;
}

impl InitOf for GSpaceConfig {
    fn init_of<M: Described>(&self, model: &M) -> Result<GSpace, Error> {
        self.init_graph(model, &model.graph())
    }
}

/// Multi-layer perceptron with ReLUs.
#[derive(Module, Debug)]
pub struct Mlp {
    pub layers: Vec<Linear>,
}

impl Mlp {
    pub fn he(seed: u64, widths: &[usize], bias: bool, dtype: DType) -> Self {
        let mut rng = rng(seed);
        let layers = widths
            .windows(2)
            .map(|w| he(&mut rng, w[0], w[1], bias, dtype));
        Self {
            layers: layers.collect(),
        }
    }

    pub fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = relu(x);
            }
            x = layer.forward(x);
        }
        x
    }
}

impl Described for Mlp {
    fn graph(&self) -> Graph {
        let [inputs, _] = self.layers[0].weight.dims();
        gsgd::capture(self, |mlp, example| mlp.forward(example.input([1, inputs]))).unwrap()
    }
}

/// One step of a network that is any directed acyclic graph of dense layers, adds and concatenations.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Dense layer number `layer`, then a leaky ReLU of this slope.
    Dense {
        from: usize,
        layer: usize,
        slope: f64,
    },
    Add(usize, usize),
    Concat(usize, usize),
}

/// A network read off a list of operations; value 0 is the input, value i the result of operation i - 1.
/// The last value goes through one more dense layer, the head.
#[derive(Module, Debug)]
pub struct Dag {
    pub layers: Vec<Linear>,
    pub head: Linear,
    #[module(skip)]
    pub ops: Vec<Op>,
}

impl Dag {
    /// A random graph with adds and concatenations of what fits.
    pub fn random(seed: u64, bias: bool, dtype: DType) -> Self {
        let mut rng = rng(seed);
        let inputs = rng.random_range(2..4);
        let mut widths = vec![inputs];
        let (mut ops, mut layers) = (Vec::new(), Vec::new());
        for _ in 0..rng.random_range(2..6) {
            let last = widths.len() - 1;
            let partner = (1..last).find(|&v| widths[v] == widths[last]);
            match (rng.random_range(0..3), partner) {
                (0, Some(partner)) => {
                    widths.push(widths[last]);
                    ops.push(Op::Add(partner, last));
                }
                (1, _) if last > 1 && widths[last] < 5 => {
                    let other = rng.random_range(1..last);
                    widths.push(widths[last] + widths[other]);
                    ops.push(Op::Concat(last, other));
                }
                _ => {
                    let width = match rng.random::<bool>() {
                        true if last > 0 => widths[last],
                        _ => rng.random_range(1..5),
                    };
                    ops.push(Op::Dense {
                        from: last,
                        layer: layers.len(),
                        slope: [0.0, 0.1][rng.random_range(0..2)],
                    });
                    layers.push(he(&mut rng, widths[last], width, bias, dtype));
                    widths.push(width);
                }
            }
        }
        let last = widths[widths.len() - 1];
        Self {
            layers,
            head: he(&mut rng, last, 2, bias, dtype),
            ops,
        }
    }

    pub fn inputs(&self) -> usize {
        self.layers[0].weight.val().dims()[0]
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut values = vec![x];
        for op in &self.ops {
            values.push(match op {
                Op::Dense { from, layer, slope } => {
                    let y = self.layers[*layer].forward(values[*from].clone());
                    if *slope == 0.0 {
                        relu(y)
                    } else {
                        leaky_relu(y, *slope)
                    }
                }
                Op::Add(a, b) => values[*a].clone() + values[*b].clone(),
                Op::Concat(a, b) => Tensor::cat(vec![values[*a].clone(), values[*b].clone()], 1),
            });
        }
        self.head.forward(values.pop().unwrap())
    }
}

impl Described for Dag {
    fn graph(&self) -> Graph {
        let inputs = self.inputs();
        gsgd::capture(self, |dag, example| dag.forward(example.input([1, inputs]))).unwrap()
    }
}

/// A batch of inputs and labels.
#[derive(Clone)]
pub struct Batch {
    pub x: Tensor<2>,
    pub y: Tensor<2, Int>,
}

impl Batch {
    pub fn random(seed: u64, rows: usize, inputs: usize, classes: usize, dtype: DType) -> Self {
        let mut rng = rng(seed);
        let x = (0..rows * inputs)
            .map(|_| 3.0 * rng.random::<f64>() - 1.5)
            .collect();
        let y: Vec<i64> = (0..rows)
            .map(|_| rng.random_range(0..classes as i64))
            .collect();
        Self::new(x, y, inputs, dtype)
    }

    pub fn new(x: Vec<f64>, y: Vec<i64>, inputs: usize, dtype: DType) -> Self {
        let rows = y.len();
        Self {
            x: tensor(x, [rows, inputs], dtype),
            y: Tensor::from_data(TensorData::new(y, [rows, 1]), &device()),
        }
    }

    /// Mean softmax cross-entropy.
    pub fn loss(&self, logits: Tensor<2>) -> Tensor<1> {
        log_softmax(logits, 1)
            .gather(1, self.y.clone())
            .mean()
            .neg()
    }
}

pub fn grads<M: Module>(model: &M, loss: Tensor<1>) -> GradientsParams {
    GradientsParams::from_grads(loss.backward(), model)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// All float parameters in visit order, flattened.
pub fn weights<M: Module>(model: &M) -> Vec<f64> {
    struct All(Vec<f64>);
    impl burn::module::ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(values(param.val()));
        }
    }
    let mut all = All(Vec::new());
    model.visit(&mut all);
    all.0
}

#[track_caller]
pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        let difference = (f - e).abs();
        assert!(
            difference <= tolerance * (1.0 + e.abs()),
            "entry {at}: {f:e} instead of {e:e}, apart by {difference:e}"
        );
    }
}

/// For every in the graph parameter its entries as (tail line, head line, w g).
pub fn matrices<M: Module>(
    model: &M,
    graph: &gsgd::ScaleGraph,
    grads: &GradientsParams,
) -> Vec<Vec<(usize, usize, f64)>> {
    struct Products<'a>(
        &'a GradientsParams,
        Vec<String>,
        std::collections::HashMap<String, Vec<f64>>,
    );
    impl burn::module::ModuleVisitor for Products<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.1.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.1.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(g) = self.0.get::<D>(param.id) {
                let products = values(param.val().inner() * g);
                self.2.insert(self.1.join("."), products);
            }
        }
    }
    let mut products = Products(grads, Vec::new(), Default::default());
    model.visit(&mut products);
    let entries = |edges: &gsgd::ParamEdges| {
        let u = &products.2[edges.name()];
        let (tails, heads) = (edges.tails().len(), edges.heads().len());
        let groups = tails * heads / edges.count();
        // dense weights and biases have a row per tail, convolutions a row per head
        let by_head = edges.shape().len() > 2;
        let (rows, columns) = match by_head {
            true => (heads, tails / groups),
            false => (tails, heads),
        };
        let place = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            let column = row / (rows / groups) * columns + column;
            match by_head {
                true => (column, row),
                false => (row, column),
            }
        };
        u.iter()
            .enumerate()
            .map(|(at, &u)| (place(at).0, place(at).1, u))
            .collect()
    };
    graph.edges().iter().map(entries).collect()
}

/// An "optimiser" that adds h to one entry of a parameter.
#[derive(Clone)]
pub struct Nudge {
    pub at: usize,
    pub h: f64,
}

impl Nudge {
    /// The same in the parameter of this name, all others left alone.
    pub fn in_parameter(self, name: &str) -> ModuleOptimizer {
        let still = Nudge {
            at: usize::MAX,
            h: 0.0,
        };
        let group = ParamGroup::from_predicate(name.to_string());
        ModuleOptimizer::from(still).with_group(group, self, None)
    }
}

impl Optimizer for Nudge {
    type State<const D: usize> = ();
    fn step<const D: usize>(
        &self,
        _: f64,
        v: Tensor<D>,
        _: Tensor<D>,
        _: Option<()>,
    ) -> (Tensor<D>, Option<()>) {
        let (shape, device, dtype) = (v.dims(), v.device(), v.dtype());
        let mut entries = values(v);
        if let Some(entry) = entries.get_mut(self.at) {
            *entry += self.h;
        }
        let data = TensorData::new(entries, shape);
        (Tensor::from_data(data, (&device, dtype)), Some(()))
    }
    fn to_device<const D: usize>(_: (), _: &Device) {}
}
