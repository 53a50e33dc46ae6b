//! Operations element by element.

use gsgd_core::graph::{Activation, Function, Op, Value};

use super::things::Thing;
use super::{At, Made, Reader};

/// Numbers beyond these are no bounds.
const NO_BOUND: f64 = 3.4e38;

/// -x, max(x, 0), -x: the smaller of a value and zero.
fn below_zero() -> Vec<Op> {
    let neg = Op::Activation(Activation::Neg);
    vec![neg.clone(), Op::Activation(Activation::Relu), neg]
}

impl<'m> Reader<'m> {
    pub(super) fn element_wise(&mut self, node: At<'m>) -> Made {
        let function = |function: Function| Some(Op::Function(function));
        let op = match node.op() {
            "Add" | "Sum" => return self.add(node),
            "Sub" | "Mul" | "Div" => return self.two(node),
            "Max" | "Min" => return self.extreme(node),
            "Clip" => return self.clip(node),
            "PRelu" => {
                let (x, slopes) = (self.value(node, 0)?, self.slopes(node, 1)?);
                return self.one(node, Op::Prelu, &[x, slopes]);
            }
            "Softmax" => return self.softmax(node),
            "Relu" => Some(Op::Activation(Activation::Relu)),
            "LeakyRelu" => {
                let slope = node.float("alpha").unwrap_or(0.01);
                Some(Op::Activation(Activation::LeakyRelu(slope)))
            }
            "Abs" => Some(Op::Activation(Activation::Abs)),
            "Neg" => Some(Op::Activation(Activation::Neg)),
            "Sigmoid" => function(Function::Sigmoid),
            "Tanh" => function(Function::Tanh),
            "Gelu" if node.text("approximate").unwrap_or("none") == "none" => {
                function(Function::Gelu)
            }
            "HardSwish" => function(Function::HardSwish),
            "HardSigmoid" => {
                let alpha = node.float("alpha").unwrap_or(0.2);
                let beta = node.float("beta").unwrap_or(0.5);
                let usual = (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5;
                usual.then_some(Op::Function(Function::HardSigmoid))
            }
            _ => None,
        };
        let x = self.value(node, 0)?;
        self.one(node, op?, &[x])
    }

    /// All values that a node reads, at least one.
    fn all(&mut self, node: At<'m>) -> Option<Vec<Value>> {
        let all = (0..node.input.len()).map(|at| self.value(node, at));
        all.collect::<Option<Vec<Value>>>()
            .filter(|all| !all.is_empty())
    }

    /// The second value of a node of the first versions, which says at which axis of the first it begins.
    fn second(&mut self, node: At<'m>) -> Option<Value> {
        let (false, Some(axis)) = (self.opset >= 7, node.int("axis")) else {
            return self.value(node, 1);
        };
        let rank = self.read_shape(node, 0)?.len();
        let mut shape = self.read_shape(node, 1)?;
        let axis = super::compute::axis_of(axis, rank)?;
        let behind = rank.checked_sub(axis + shape.len())?;
        shape.extend(std::iter::repeat_n(1, behind));
        self.value_as(node, 1, &shape)
    }

    fn add(&mut self, node: At<'m>) -> Made {
        let shapes = (0..node.input.len()).map(|at| self.read_shape(node, at));
        let shapes = shapes.collect::<Option<Vec<_>>>()?;
        let shapes: Vec<&[usize]> = shapes.iter().map(|shape| &shape[..]).collect();
        let joint = super::known::joint(&shapes);
        let mut reads = Vec::new();
        for at in 0..node.input.len() {
            let is_zero = self.is_zero(node, at);
            // zeros add nothing, where others have the shape of the sum
            let whole = |(other, shape): (usize, &&[usize])| {
                other != at && Some(shape.to_vec()) == joint && !self.is_zero(node, other)
            };
            if is_zero && shapes.iter().enumerate().any(whole) {
                continue;
            }
            reads.push(match at {
                1 => self.second(node)?,
                _ => self.value(node, at)?,
            });
        }
        match reads[..] {
            [x] => self.one(node, Op::Identity, &[x]),
            _ => self.one(node, Op::Add, &reads),
        }
    }

    fn two(&mut self, node: At<'m>) -> Made {
        let mut reads = [None; 2];
        for (at, read) in reads.iter_mut().enumerate() {
            *read = match (node.op() != "Sub" && self.is_code(node, at), at) {
                (true, _) => {
                    let shape = self.read_shape(node, at)?;
                    self.fixed(node, &shape)
                }
                (false, 0) => self.value(node, 0),
                (false, _) => self.second(node),
            };
        }
        let reads = [reads[0]?, reads[1]?];
        let op = match node.op() {
            "Sub" => Op::Sub,
            "Mul" => Op::Mul,
            _ => Op::Div,
        };
        self.one(node, op, &reads)
    }

    /// The largest or smallest of values: max(x, y) = relu(x - y) + y.
    fn extreme(&mut self, node: At<'m>) -> Made {
        let is_max = node.op() == "Max";
        let zero = (0..node.input.len()).find(|&at| {
            let numbers = self.numbers(node, at);
            numbers.is_some_and(|numbers| numbers.everywhere() == Some(0.0))
        });
        if let (2, Some(zero)) = (node.input.len(), zero) {
            let (x, zeros) = (1 - zero, self.read_shape(node, zero)?);
            let x = self.value(node, x)?;
            let joint = super::known::joint(&[self.shape(x), &zeros])?;
            let ops = match is_max {
                true => vec![Op::Activation(Activation::Relu)],
                false => below_zero(),
            };
            let y = self.chain(node, ops, x)?;
            return match self.shape(y) == joint {
                true => Some(vec![Thing::Value(y)]),
                false => self.one(node, Op::Expand { shape: joint }, &[y]),
            };
        }
        let all = self.all(node)?;
        let mut rest = all.into_iter();
        let mut x = rest.next()?;
        for y in rest {
            let relu = Op::Activation(Activation::Relu);
            x = match is_max {
                true => {
                    let over = self.push(node, Op::Sub, &[x, y])?;
                    let over = self.push(node, relu, &[over])?;
                    self.push(node, Op::Add, &[over, y])?
                }
                false => {
                    // min(x, y) = y - relu(y - x)
                    let over = self.push(node, Op::Sub, &[y, x])?;
                    let over = self.push(node, relu, &[over])?;
                    self.push(node, Op::Sub, &[y, over])?
                }
            };
        }
        Some(vec![Thing::Value(x)])
    }

    fn clip(&mut self, node: At<'m>) -> Made {
        let bound = |at: usize, name: &str| match node.proto.read(at) {
            Some(_) => self.numbers(node, at)?.single().map(Some),
            None => Some(node.float(name)),
        };
        let (min, max) = (bound(1, "min")?, bound(2, "max")?);
        let min = min.filter(|&min| min > -NO_BOUND);
        let max = max.filter(|&max| max < NO_BOUND);
        let ops = match (min, max) {
            (None, None) => vec![Op::Identity],
            (Some(0.0), None) => vec![Op::Activation(Activation::Relu)],
            (None, Some(0.0)) => below_zero(),
            (Some(0.0), Some(6.0)) => vec![Op::Function(Function::Relu6)],
            _ => return None,
        };
        let x = self.value(node, 0)?;
        let y = self.chain(node, ops, x)?;
        Some(vec![Thing::Value(y)])
    }

    fn softmax(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let shape = self.shape(x).to_vec();
        let usual = if self.opset < 13 { 1 } else { -1 };
        let axis = super::compute::axis_of(node.int("axis").unwrap_or(usual), shape.len())?;
        if self.opset >= 13 || axis + 1 == shape.len() {
            return self.one(node, Op::Softmax { axis }, &[x]);
        }
        // over everything from the axis on
        let [front, behind] = [&shape[..axis], &shape[axis..]].map(|part| part.iter().product());
        let flat = Op::Reshape {
            shape: vec![front, behind],
        };
        let ops = vec![flat, Op::Softmax { axis: 1 }, Op::Reshape { shape }];
        let y = self.chain(node, ops, x)?;
        Some(vec![Thing::Value(y)])
    }
}
