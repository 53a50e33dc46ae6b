//! A convolutional network read off a list of operations.

use std::collections::HashMap;

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::MaxPool2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};
use gsgd::Graph;
use rand_chacha::ChaCha8Rng;

use super::{Described, device, linear, normal, tensor};

/// One operation; values are numbered from 0, the input, in the order in which they are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Conv { from: usize, layer: usize },
    Norm { from: usize, layer: usize },
    Relu(usize),
    MaxPool { from: usize, size: usize },
    Mean(usize),
    Flatten(usize),
    Add(usize, usize),
    Concat(usize, usize),
    Linear { from: usize, layer: usize },
}

/// The last value is the output.
#[derive(Module, Debug)]
pub struct ConvNet {
    pub convs: Vec<Conv2d>,
    pub norms: Vec<BatchNorm>,
    pub linears: Vec<Linear>,
    #[module(skip)]
    pub ops: Vec<Op>,
    /// Height times width after each operation; the input's first.
    #[module(skip)]
    pub areas: Vec<usize>,
}

/// What a value is inside the network.
#[derive(Clone)]
enum Value {
    Map(Tensor<4>),
    Features(Tensor<2>),
}

impl Value {
    fn map(&self) -> Tensor<4> {
        match self {
            Self::Map(map) => map.clone(),
            Self::Features(_) => panic!("a map is needed"),
        }
    }

    fn features(&self) -> Tensor<2> {
        match self {
            Self::Features(features) => features.clone(),
            Self::Map(_) => panic!("features are needed"),
        }
    }
}

impl ConvNet {
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut values = vec![Value::Map(x)];
        for op in &self.ops {
            values.push(match *op {
                Op::Conv { from, layer } => {
                    Value::Map(self.convs[layer].forward(values[from].map()))
                }
                Op::Norm { from, layer } => {
                    Value::Map(self.norms[layer].forward(values[from].map()))
                }
                Op::Relu(from) => match &values[from] {
                    Value::Map(x) => Value::Map(relu(x.clone())),
                    Value::Features(x) => Value::Features(relu(x.clone())),
                },
                Op::MaxPool { from, size } => {
                    let pool = MaxPool2dConfig::new([size, size]).with_strides([size, size]);
                    Value::Map(pool.init().forward(values[from].map()))
                }
                Op::Mean(from) => {
                    let mean: Tensor<3> = values[from].map().mean_dim(3).squeeze_dim(3);
                    Value::Features(mean.mean_dim(2).squeeze_dim(2))
                }
                Op::Flatten(from) => Value::Features(values[from].map().flatten(1, 3)),
                Op::Add(a, b) => Value::Map(values[a].map() + values[b].map()),
                Op::Concat(a, b) => {
                    Value::Map(Tensor::cat(vec![values[a].map(), values[b].map()], 1))
                }
                Op::Linear { from, layer } => {
                    Value::Features(self.linears[layer].forward(values[from].features()))
                }
            });
        }
        values.pop().expect("there is an input").features()
    }
}

/// A convolution with given weights `[out, in / groups, size, size]`.
pub fn conv(
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    padding: usize,
    groups: usize,
) -> Conv2d {
    let [out, of_group, height, width] = weight.dims();
    let mut conv = Conv2dConfig::new([of_group * groups, out], [height, width])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
        .with_groups(groups)
        .with_bias(false)
        .init(&device());
    conv.weight = Param::from_tensor(weight);
    conv.bias = bias.map(Param::from_tensor);
    conv
}

/// A batch norm with given gamma and beta, in their type of number.
pub fn norm(gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> BatchNorm {
    let features = gamma.dims()[0];
    let mut norm = BatchNormConfig::new(features)
        .with_epsilon(epsilon)
        .init(&device());
    norm.running_mean = RunningState::new(Tensor::zeros_like(&gamma.clone().detach()));
    norm.running_var = RunningState::new(Tensor::ones_like(&gamma.clone().detach()));
    norm.gamma = Param::from_tensor(gamma);
    norm.beta = Param::from_tensor(beta);
    norm
}

/// Puts random networks together, operation by operation.
pub struct Maker {
    rng: ChaCha8Rng,
    dtype: DType,
    epsilon: f64,
    net: ConvNet,
    channels: Vec<usize>,
}

impl Maker {
    pub fn new(seed: u64, channels: usize, side: usize, dtype: DType, epsilon: f64) -> Self {
        Self {
            rng: super::rng(seed),
            dtype,
            epsilon,
            net: ConvNet {
                convs: Vec::new(),
                norms: Vec::new(),
                linears: Vec::new(),
                ops: Vec::new(),
                areas: vec![side * side],
            },
            channels: vec![channels],
        }
    }

    fn push(&mut self, op: Op, channels: usize, area: usize) -> usize {
        self.net.ops.push(op);
        self.net.areas.push(area);
        self.channels.push(channels);
        self.channels.len() - 1
    }

    fn random(&mut self, count: usize, mean: f64, std: f64) -> Vec<f64> {
        let values = (0..count).map(|_| mean + std * normal(&mut self.rng));
        values.collect()
    }

    /// A convolution `size` x `size` that keeps the side at stride 1, with bias.
    pub fn conv(
        &mut self,
        from: usize,
        out: usize,
        size: usize,
        stride: usize,
        groups: usize,
    ) -> usize {
        let of_group = self.channels[from] / groups;
        let fan_in = of_group * size * size;
        let weight = self.random(out * fan_in, 0.0, (2.0 / fan_in as f64).sqrt());
        let bias = self.random(out, 0.0, 0.1);
        let weight = tensor(weight, [out, of_group, size, size], self.dtype);
        let bias = tensor(bias, [out], self.dtype);
        self.net
            .convs
            .push(conv(weight, Some(bias), stride, size / 2, groups));
        let side = self.net.areas[from].isqrt().div_ceil(stride);
        let layer = self.net.convs.len() - 1;
        self.push(Op::Conv { from, layer }, out, side * side)
    }

    pub fn norm(&mut self, from: usize) -> usize {
        let features = self.channels[from];
        let gamma = tensor(self.random(features, 1.0, 0.2), [features], self.dtype);
        let beta = tensor(self.random(features, 0.1, 0.2), [features], self.dtype);
        self.net.norms.push(norm(gamma, beta, self.epsilon));
        let layer = self.net.norms.len() - 1;
        self.push(Op::Norm { from, layer }, features, self.net.areas[from])
    }

    pub fn relu(&mut self, from: usize) -> usize {
        self.push(Op::Relu(from), self.channels[from], self.net.areas[from])
    }

    pub fn max_pool(&mut self, from: usize) -> usize {
        let side = self.net.areas[from].isqrt() / 2;
        self.push(
            Op::MaxPool { from, size: 2 },
            self.channels[from],
            side * side,
        )
    }

    pub fn add(&mut self, a: usize, b: usize) -> usize {
        self.push(Op::Add(a, b), self.channels[a], self.net.areas[a])
    }

    pub fn concat(&mut self, a: usize, b: usize) -> usize {
        let channels = self.channels[a] + self.channels[b];
        self.push(Op::Concat(a, b), channels, self.net.areas[a])
    }

    pub fn flatten(&mut self, from: usize) -> usize {
        let features = self.channels[from] * self.net.areas[from];
        self.push(Op::Flatten(from), features, 1)
    }

    pub fn mean(&mut self, from: usize) -> usize {
        self.push(Op::Mean(from), self.channels[from], 1)
    }

    /// The network, ended by a dense layer with bias.
    pub fn end(mut self, from: usize, outputs: usize) -> ConvNet {
        let inputs = self.channels[from];
        let weight = self.random(inputs * outputs, 0.0, (2.0 / inputs as f64).sqrt());
        let bias = self.random(outputs, 0.0, 0.1);
        let weight = tensor(weight, [inputs, outputs], self.dtype);
        let bias = tensor(bias, [outputs], self.dtype);
        self.net.linears.push(linear(weight, Some(bias)));
        self.push(Op::Linear { from, layer: 0 }, outputs, 1);
        self.net
    }
}

/// Every network family at a small size, by name.
pub fn families(dtype: DType, epsilon: f64) -> HashMap<&'static str, ConvNet> {
    let make = |seed| Maker::new(seed, 2, 6, dtype, epsilon);
    let plain = || {
        let mut m = make(1);
        let a = m.conv(0, 3, 3, 1, 1);
        let a = m.relu(a);
        let b = m.conv(a, 4, 3, 1, 1);
        let b = m.relu(b);
        let b = m.max_pool(b);
        let c = m.conv(b, 2, 3, 1, 1);
        let c = m.relu(c);
        let c = m.flatten(c);
        m.end(c, 3)
    };
    let depthwise = || {
        let mut m = make(2);
        let a = m.conv(0, 4, 3, 1, 1);
        let a = m.relu(a);
        let b = m.conv(a, 4, 3, 1, 4);
        let b = m.relu(b);
        let c = m.conv(b, 2, 1, 1, 2);
        let c = m.relu(c);
        let d = m.concat(a, c);
        let e = m.conv(d, 4, 3, 2, 2);
        let e = m.relu(e);
        let e = m.mean(e);
        m.end(e, 3)
    };
    let residual = |with_norm: bool| {
        let mut m = make(3);
        let layer = |m: &mut Maker, from, out, size, stride| {
            let y = m.conv(from, out, size, stride, 1);
            if with_norm { m.norm(y) } else { y }
        };
        let a = layer(&mut m, 0, 3, 3, 1);
        let a = m.relu(a);
        let b = layer(&mut m, a, 4, 3, 1);
        let b = m.relu(b);
        let b = layer(&mut m, b, 3, 3, 1);
        let s = m.add(a, b);
        let s = m.relu(s);
        let c = layer(&mut m, s, 4, 3, 2);
        let c = m.relu(c);
        let c = layer(&mut m, c, 4, 3, 1);
        let p = layer(&mut m, s, 4, 1, 2);
        let t = m.add(c, p);
        let t = m.relu(t);
        let t = m.mean(t);
        m.end(t, 3)
    };
    let plain_norm = || {
        let mut m = make(4);
        let mut a = 0;
        for out in [3, 4, 3] {
            a = m.conv(a, out, 3, 1, 1);
            a = m.norm(a);
            a = m.relu(a);
        }
        let a = m.mean(a);
        m.end(a, 3)
    };
    // batch norm before the convolution, the stream read by batch norms and adds alone
    let preactivation = || {
        let mut m = make(5);
        let mut s = m.conv(0, 3, 3, 1, 1);
        for _ in 0..2 {
            let a = m.norm(s);
            let a = m.relu(a);
            let a = m.conv(a, 3, 3, 1, 1);
            s = m.add(s, a);
        }
        let y = m.norm(s);
        let y = m.relu(y);
        let y = m.mean(y);
        m.end(y, 3)
    };
    HashMap::from([
        ("plain", plain()),
        ("depthwise and concat", depthwise()),
        ("residual", residual(false)),
        ("residual with batch norm", residual(true)),
        ("plain with batch norm", plain_norm()),
        ("pre-activation", preactivation()),
    ])
}

impl Described for ConvNet {
    fn graph(&self) -> Graph {
        let conv = &self.convs[0];
        let channels = conv.weight.dims()[1] * conv.groups;
        let side = self.areas[0].isqrt();
        let shape = [1, channels, side, side];
        gsgd::capture(self, |net, example| net.forward(example.input(shape))).unwrap()
    }
}
