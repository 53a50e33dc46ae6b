//! The graphs of architectures that have a name.

use gsgd_core::GraphError;
use gsgd_core::graph::{Activation, Graph, Op, Value, Window};

use crate::arch::{Arch, Conv};
use crate::image::ImageShape;
use crate::layers::Layers;

/// What decides a network's layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Its name.
    pub arch: Arch,
    /// Biases in dense layers and, without batch norm, in convolutions.
    pub bias: bool,
    /// Batch norm behind every convolution.
    pub norm: bool,
    /// The shape of the images.
    pub shape: ImageShape,
    /// Outputs of convolutional networks.
    pub classes: usize,
}

/// Epsilon of batch norms.
const EPSILON: f64 = 1e-5;

impl Architecture {
    /// Its graph, for images one at a time: a perceptron takes `[1, features]`, the others `[1, channels, height, width]`.
    ///
    /// Dense layers are `layers.N.weight` `[outputs, inputs]`; convolutional networks have torchvision's names, `conv1`,
    /// `bn1`, `layer1.0.conv1`, ..., `fc`.
    ///
    /// # Errors
    /// The layers do not fit the images.
    pub fn graph(&self) -> Result<Graph, GraphError> {
        match &self.arch {
            Arch::Mlp(widths) => {
                let layers: Vec<String> = (0..widths.len().saturating_sub(1))
                    .map(|at| format!("layers.{at}"))
                    .collect();
                let biases = vec![self.bias; layers.len()];
                perceptron(widths, &layers, &biases)
            }
            Arch::Conv(conv) => self.convolutional(conv),
        }
    }

    fn convolutional(&self, arch: &Conv) -> Result<Graph, GraphError> {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let mut net = Layers::default();
        let mut x = net.graph.input(&[1, channels, height, width])?;
        let first = arch.stages.first().map_or(16, |stage| stage.0);
        x = self.conv(&mut net, ["conv1", "bn1"], x, first, [3, 1])?;
        x = relu(&mut net, "relu", x)?;
        for (stage, &(channels, blocks)) in arch.stages.iter().enumerate() {
            for block in 0..blocks {
                let name = |leaf: &str| format!("layer{}.{block}.{leaf}", stage + 1);
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let from = net.graph.node(x).shape[1];
                let names = [name("conv1"), name("bn1")];
                let mut y = self.conv(&mut net, names, x, channels, [3, stride])?;
                y = relu(&mut net, &name("relu1"), y)?;
                y = self.conv(&mut net, [name("conv2"), name("bn2")], y, channels, [3, 1])?;
                if arch.residual {
                    let skip = match from != channels || stride > 1 {
                        true => {
                            let names = [name("downsample.0"), name("downsample.1")];
                            self.conv(&mut net, names, x, channels, [1, stride])?
                        }
                        false => x,
                    };
                    y = net.graph.push(name("add"), Op::Add, &[y, skip])?;
                }
                x = relu(&mut net, &name("relu2"), y)?;
            }
        }
        let features = net.graph.node(x).shape[1];
        x = net.graph.global_mean(x)?;
        let op = Op::MatMul { transposed: true };
        let classes = self.classes;
        x = net.weights("fc", op, x, &[classes, features], Some(classes))?;
        net.graph.output(x);
        Ok(net.graph)
    }

    /// A square convolution that keeps the image's size at stride 1, and the batch norm behind it if there is one.
    fn conv(
        &self,
        net: &mut Layers,
        [name, norm]: [impl AsRef<str>; 2],
        x: Value,
        outputs: usize,
        [size, stride]: [usize; 2],
    ) -> Result<Value, GraphError> {
        let inputs = net.graph.node(x).shape[1];
        let window = Window::new(&[size; 2])
            .with_stride(&[stride; 2])
            .with_padding(&[size / 2; 2]);
        let bias = (self.bias && !self.norm).then_some(outputs);
        let op = Op::Conv { window, groups: 1 };
        let y = net.weights(name.as_ref(), op, x, &[outputs, inputs, size, size], bias)?;
        match self.norm {
            true => net.batch_norm(norm.as_ref(), norm.as_ref(), y, EPSILON),
            false => Ok(y),
        }
    }
}

fn relu(net: &mut Layers, name: &str, x: Value) -> Result<Value, GraphError> {
    net.graph.push(name, Op::Activation(Activation::Relu), &[x])
}

/// Dense layers with ReLUs between them, each with or without a bias.
pub(crate) fn perceptron(
    widths: &[usize],
    layers: &[String],
    biases: &[bool],
) -> Result<Graph, GraphError> {
    let mut net = Layers::default();
    let mut x = net
        .graph
        .input(&[1, widths.first().copied().unwrap_or(0)])?;
    for (at, layer) in layers.iter().enumerate() {
        if at > 0 {
            x = relu(&mut net, &format!("relu{at}"), x)?;
        }
        let &[inputs, outputs] = &[widths[at], widths[at + 1]];
        let op = Op::MatMul { transposed: true };
        let bias = biases[at].then_some(outputs);
        x = net.weights(layer, op, x, &[outputs, inputs], bias)?;
    }
    net.graph.output(x);
    Ok(net.graph)
}
