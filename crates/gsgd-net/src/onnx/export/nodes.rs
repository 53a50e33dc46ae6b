//! Operations as nodes.

use gsgd_core::graph::{Activation, Function, Node, Op, Pooling, Reduction, Value, Window};

use super::super::error::OnnxError;
use super::super::proto::{AttributeProto, data_type};
use super::batch::Batch;
use super::{Writer, dims, float, int, ints};

/// Attributes of a window; its kernel is the weight's.
fn window(window: &Window) -> Vec<AttributeProto> {
    let before = window.padding.iter().map(|pads| pads[0]);
    let after = window.padding.iter().map(|pads| pads[1]);
    vec![
        ints("kernel_shape", window.kernel.iter().copied()),
        ints("strides", window.stride.iter().copied()),
        ints("dilations", window.dilation.iter().copied()),
        ints("pads", before.chain(after)),
    ]
}

impl Writer<'_> {
    /// Writes an operation; the name of its result.
    pub(super) fn node(&mut self, value: Value) -> Result<String, OnnxError> {
        let graph = self.graph;
        let node = graph.node(value);
        let names: Vec<String> = node
            .reads
            .iter()
            .map(|read| self.values[read.index()].clone())
            .collect();
        let reads: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(match &node.op {
            Op::Input { .. } => {
                let name = self.fresh(match node.name.as_str() {
                    "" => "input",
                    name => name,
                });
                let number = if self.is_place(value) {
                    data_type::INT64
                } else {
                    self.number
                };
                let info = self.info(&name, value, number);
                self.file.input.push(info);
                name
            }
            Op::Constant { .. } => {
                let why = "the graph does not say which numbers these are";
                return Err(self.fail(node, why));
            }
            Op::Opaque { .. } => return Err(self.fail(node, "nothing is known of it")),
            Op::Resample { .. } => {
                let why = "the graph says the shape of its result, but not how it is computed";
                return Err(self.fail(node, why));
            }
            Op::Param(_) => return Err(self.fail(node, "it is written as a tensor")),
            Op::MatMul { transposed } => self.matmul(node, &reads, *transposed),
            Op::Conv { window: of, groups } => {
                let mut attributes = window(of);
                attributes.push(int("group", *groups as i64));
                let bias = self.flat(node, &reads, 2);
                self.layer("Conv", &reads, bias, attributes)
            }
            Op::ConvTranspose {
                window: of,
                groups,
                output_padding,
            } => {
                let mut attributes = window(of);
                attributes.push(int("group", *groups as i64));
                attributes.push(ints("output_padding", output_padding.iter().copied()));
                let bias = self.flat(node, &reads, 2);
                self.layer("ConvTranspose", &reads, bias, attributes)
            }
            Op::BatchNorm { epsilon } => {
                if node.shape.len() < 2 {
                    return Err(self.fail(node, "it has no axis of channels behind the batch"));
                }
                let mut all = vec![reads[0].to_string()];
                for at in 1..5 {
                    all.extend(self.flat(node, &reads, at));
                }
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                self.emit("BatchNormalization", &all, vec![float("epsilon", *epsilon)])
            }
            Op::Activation(Activation::Relu) => self.emit("Relu", &reads, Vec::new()),
            Op::Activation(Activation::LeakyRelu(slope)) => {
                self.emit("LeakyRelu", &reads, vec![float("alpha", *slope)])
            }
            Op::Activation(Activation::Abs) => self.emit("Abs", &reads, Vec::new()),
            Op::Activation(Activation::Neg) => self.emit("Neg", &reads, Vec::new()),
            Op::Prelu => self.prelu(node, &reads),
            Op::Pool {
                pooling,
                window: of,
            } => self.pool(node, &reads, pooling, of)?,
            Op::Reduce {
                reduction,
                axes,
                keep,
            } => self.reduce(&reads, *reduction, axes, *keep),
            Op::Add => match reads[..] {
                [_] => self.emit("Identity", &reads, Vec::new()),
                [_, _] => self.emit("Add", &reads, Vec::new()),
                _ => self.emit("Sum", &reads, Vec::new()),
            },
            Op::Sub => self.emit("Sub", &reads, Vec::new()),
            Op::Mul => self.emit("Mul", &reads, Vec::new()),
            Op::Div => self.emit("Div", &reads, Vec::new()),
            Op::Concat { axis } => self.emit("Concat", &reads, vec![int("axis", *axis as i64)]),
            Op::Slice {
                axis,
                start,
                step,
                count,
            } => {
                let (start, step) = (*start as i64, *step as i64);
                // a place before the first is beyond all
                let end = match start + step * *count as i64 {
                    end if end < 0 => i64::MIN,
                    end => end,
                };
                let lists = [[start], [end], [*axis as i64], [step]];
                let lists = lists.map(|list| self.whole(&list));
                let [starts, ends, axes, steps] = &lists;
                self.emit("Slice", &[reads[0], starts, ends, axes, steps], Vec::new())
            }
            Op::Select { axis, places } => {
                let places = self.whole(&dims(places));
                let axis = int("axis", *axis as i64);
                self.emit("Gather", &[reads[0], &places], vec![axis])
            }
            Op::Gather { axis, .. } => match reads[..] {
                [_, _] => self.emit("Gather", &reads, vec![int("axis", *axis as i64)]),
                _ => return Err(self.fail(node, "the graph does not say which places")),
            },
            Op::Reshape { shape } => {
                let mut shape = dims(shape);
                if let Batch::At(axis) = self.batch[value.index()] {
                    shape[axis] = -1;
                }
                let shape = self.whole(&shape);
                self.emit("Reshape", &[reads[0], &shape], Vec::new())
            }
            Op::Transpose { order } => {
                let order = ints("perm", order.iter().copied());
                self.emit("Transpose", &reads, vec![order])
            }
            Op::Expand { shape } => {
                let mut shape = dims(shape);
                if let Batch::At(axis) = self.batch[value.index()] {
                    shape[axis] = 1;
                }
                let shape = self.whole(&shape);
                self.emit("Expand", &[reads[0], &shape], Vec::new())
            }
            Op::Identity => self.emit("Identity", &reads, Vec::new()),
            Op::Function(function) => self.function(*function, reads[0])?,
            Op::Softmax { axis } => self.emit("Softmax", &reads, vec![int("axis", *axis as i64)]),
            Op::Normalise {
                axes,
                groups,
                centred,
                epsilon,
            } => match groups {
                None => self.normalise(reads[0], axes, *centred, *epsilon)?,
                Some(groups) => {
                    // groups of channels with all that is behind them in one axis
                    let mut shape = dims(&node.shape);
                    if let Batch::At(axis) = self.batch[value.index()] {
                        shape[axis] = -1;
                    }
                    let rest: i64 = dims(&node.shape)[1..].iter().product();
                    let cut = [shape[0], *groups as i64, rest / *groups as i64];
                    let cut = self.whole(&cut);
                    let x = self.emit("Reshape", &[reads[0], &cut], Vec::new());
                    let y = self.normalise(&x, &[2], *centred, *epsilon)?;
                    let shape = self.whole(&shape);
                    self.emit("Reshape", &[&y, &shape], Vec::new())
                }
            },
        })
    }

    /// Whether an input is read as places alone.
    fn is_place(&self, input: Value) -> bool {
        let mut read = false;
        for node in self.graph.nodes() {
            for (at, &value) in node.reads.iter().enumerate() {
                if value == input {
                    if !matches!(node.op, Op::Gather { .. }) || at != 1 {
                        return false;
                    }
                    read = true;
                }
            }
        }
        read
    }

    /// What a node reads at a place, in one axis.
    fn flat(&mut self, node: &Node, reads: &[&str], at: usize) -> Option<String> {
        let name = reads.get(at)?;
        if self.shape(node.reads[at]).len() == 1 {
            return Some(name.to_string());
        }
        let all = self.whole(&[-1]);
        Some(self.emit("Reshape", &[name, &all], Vec::new()))
    }

    fn layer(
        &mut self,
        op: &str,
        reads: &[&str],
        bias: Option<String>,
        attributes: Vec<AttributeProto>,
    ) -> String {
        match bias {
            Some(bias) => self.emit(op, &[reads[0], reads[1], &bias], attributes),
            None => self.emit(op, &reads[..2], attributes),
        }
    }

    fn matmul(&mut self, node: &Node, reads: &[&str], transposed: bool) -> String {
        let ranks = [0, 1].map(|at| self.shape(node.reads[at]).len());
        if ranks == [2, 2] {
            let attributes = vec![int("transB", i64::from(transposed))];
            return self.emit("Gemm", reads, attributes);
        }
        let mut second = reads[1].to_string();
        if transposed {
            let mut order: Vec<usize> = (0..ranks[1]).collect();
            order.swap(ranks[1] - 2, ranks[1] - 1);
            second = self.emit("Transpose", &[&second], vec![ints("perm", order)]);
        }
        let y = self.emit("MatMul", &[reads[0], &second], Vec::new());
        match reads.get(2) {
            Some(bias) => self.emit("Add", &[&y, bias], Vec::new()),
            None => y,
        }
    }

    fn prelu(&mut self, node: &Node, reads: &[&str]) -> String {
        let slopes: usize = self.shape(node.reads[1]).iter().product();
        let rank = node.shape.len();
        let channels = node.shape.get(1).or(node.shape.first()).copied();
        let shape = match slopes {
            1 => vec![1],
            _ if Some(slopes) == channels => {
                let mut shape = vec![1; rank.saturating_sub(1).max(1)];
                shape[0] = slopes as i64;
                shape
            }
            _ => return self.emit("PRelu", reads, Vec::new()),
        };
        let shape = self.whole(&shape);
        let slopes = self.emit("Reshape", &[reads[1], &shape], Vec::new());
        self.emit("PRelu", &[reads[0], &slopes], Vec::new())
    }

    fn pool(
        &mut self,
        node: &Node,
        reads: &[&str],
        pooling: &Pooling,
        of: &Window,
    ) -> Result<String, OnnxError> {
        let mut attributes = window(of);
        attributes.push(int("ceil_mode", i64::from(of.ceil)));
        Ok(match pooling {
            Pooling::Max => self.emit("MaxPool", reads, attributes),
            Pooling::Mean { counts_padding } => {
                if of.dilation.iter().any(|&step| step != 1) {
                    return Err(self.fail(node, "a mean has neighbouring taps"));
                }
                attributes.retain(|attribute| attribute.name.as_deref() != Some("dilations"));
                attributes.push(int("count_include_pad", i64::from(*counts_padding)));
                self.emit("AveragePool", reads, attributes)
            }
        })
    }

    fn reduce(
        &mut self,
        reads: &[&str],
        reduction: Reduction,
        axes: &[usize],
        keep: bool,
    ) -> String {
        let keep = int("keepdims", i64::from(keep));
        let op = match reduction {
            _ if axes.is_empty() => return self.emit("Identity", reads, Vec::new()),
            Reduction::Sum => {
                let axes = self.whole(&dims(axes));
                return self.emit("ReduceSum", &[reads[0], &axes], vec![keep]);
            }
            Reduction::Max => "ReduceMax",
            Reduction::Min => "ReduceMin",
            Reduction::Mean => "ReduceMean",
        };
        self.emit(op, reads, vec![ints("axes", axes.iter().copied()), keep])
    }

    fn function(&mut self, function: Function, x: &str) -> Result<String, OnnxError> {
        Ok(match function {
            Function::Sigmoid => self.emit("Sigmoid", &[x], Vec::new()),
            Function::Tanh => self.emit("Tanh", &[x], Vec::new()),
            Function::HardSwish => self.emit("HardSwish", &[x], Vec::new()),
            Function::HardSigmoid => {
                let attributes = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
                self.emit("HardSigmoid", &[x], attributes)
            }
            Function::Silu => {
                let gate = self.emit("Sigmoid", &[x], Vec::new());
                self.emit("Mul", &[x, &gate], Vec::new())
            }
            Function::Relu6 => {
                let (least, most) = (self.single(0.0)?, self.single(6.0)?);
                self.emit("Clip", &[x, &least, &most], Vec::new())
            }
            Function::Gelu => {
                // x / 2 (1 + erf(x / sqrt 2))
                let [root, one, two] = [
                    self.single(std::f64::consts::SQRT_2)?,
                    self.single(1.0)?,
                    self.single(2.0)?,
                ];
                let y = self.emit("Div", &[x, &root], Vec::new());
                let y = self.emit("Erf", &[&y], Vec::new());
                let y = self.emit("Add", &[&y, &one], Vec::new());
                let y = self.emit("Mul", &[x, &y], Vec::new());
                self.emit("Div", &[&y, &two], Vec::new())
            }
        })
    }

    /// x divided by the root of the mean of its squares, after its mean is taken away if it is centred.
    fn normalise(
        &mut self,
        x: &str,
        axes: &[usize],
        centred: bool,
        epsilon: f64,
    ) -> Result<String, OnnxError> {
        let mut x = x.to_string();
        if centred {
            let mean = self.reduce(&[&x], Reduction::Mean, axes, true);
            x = self.emit("Sub", &[&x, &mean], Vec::new());
        }
        let square = self.emit("Mul", &[&x, &x], Vec::new());
        let variance = self.reduce(&[&square], Reduction::Mean, axes, true);
        let epsilon = self.single(epsilon)?;
        let sum = self.emit("Add", &[&variance, &epsilon], Vec::new());
        let root = self.emit("Sqrt", &[&sum], Vec::new());
        Ok(self.emit("Div", &[&x, &root], Vec::new()))
    }
}
