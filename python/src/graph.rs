//! Graphs of operations.

use gsgd_core::graph::{Activation, Function, Op, Param, Pooling, Reduction, Value, Window};
use gsgd_core::scales::ParamKey;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::refused;
use crate::scales::Scales;

/// Operations in an order in which they can be carried out, and the tensors that they read.
#[pyclass]
#[derive(Default)]
pub struct Graph {
    inner: gsgd_core::graph::Graph,
}

/// The arguments of an operation by name.
struct Args<'a, 'py>(&'a Bound<'py, PyDict>);

impl<'py> Args<'_, 'py> {
    fn get<T: for<'a> FromPyObject<'a, 'py>>(&self, name: &str) -> PyResult<T> {
        match self.0.get_item(name)? {
            Some(value) => value
                .extract()
                .map_err(|_| refused(format!("`{name}` is of another type"))),
            None => Err(refused(format!("`{name}` is missing"))),
        }
    }

    fn window(&self) -> PyResult<Window> {
        let pads: Vec<usize> = self.get("padding")?;
        Ok(Window {
            kernel: self.get("kernel")?,
            stride: self.get("stride")?,
            padding: pads.into_iter().map(|pad| [pad, pad]).collect(),
            dilation: self.get("dilation")?,
            ceil: self.get("ceil")?,
        })
    }
}

fn reduction(name: &str) -> PyResult<Reduction> {
    Ok(match name {
        "max" => Reduction::Max,
        "min" => Reduction::Min,
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        _ => return Err(refused(format!("`{name}` is no reduction"))),
    })
}

fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sigmoid" => Function::Sigmoid,
        "tanh" => Function::Tanh,
        "gelu" => Function::Gelu,
        "silu" => Function::Silu,
        "relu6" => Function::Relu6,
        "hard-sigmoid" => Function::HardSigmoid,
        "hard-swish" => Function::HardSwish,
        _ => return None,
    })
}

fn op(kind: &str, args: &Args) -> PyResult<Op> {
    Ok(match kind {
        "input" => Op::Input {
            shape: args.get("shape")?,
        },
        "param" => Op::Param(ParamKey(args.get("key")?)),
        "constant" => Op::Constant {
            shape: args.get("shape")?,
        },
        "matmul" => Op::MatMul {
            transposed: args.get("transposed")?,
        },
        "conv" => Op::Conv {
            window: args.window()?,
            groups: args.get("groups")?,
        },
        "conv-transpose" => Op::ConvTranspose {
            window: args.window()?,
            groups: args.get("groups")?,
            output_padding: args.get("output_padding")?,
        },
        "batch-norm" => Op::BatchNorm {
            epsilon: args.get("epsilon")?,
        },
        "relu" => Op::Activation(Activation::Relu),
        "leaky-relu" => Op::Activation(Activation::LeakyRelu(args.get("slope")?)),
        "abs" => Op::Activation(Activation::Abs),
        "neg" => Op::Activation(Activation::Neg),
        "prelu" => Op::Prelu,
        "max-pool" => Op::Pool {
            pooling: Pooling::Max,
            window: args.window()?,
        },
        "avg-pool" => Op::Pool {
            pooling: Pooling::Mean {
                counts_padding: true,
            },
            window: args.window()?,
        },
        "reduce" => Op::Reduce {
            reduction: reduction(&args.get::<String>("reduction")?)?,
            axes: args.get("axes")?,
            keep: args.get("keep")?,
        },
        "resample" => Op::Resample {
            kind: args.get("name")?,
            shape: args.get("shape")?,
        },
        "add" => Op::Add,
        "sub" => Op::Sub,
        "mul" => Op::Mul,
        "div" => Op::Div,
        "concat" => Op::Concat {
            axis: args.get("axis")?,
        },
        "slice" => Op::Slice {
            axis: args.get("axis")?,
            start: args.get("start")?,
            step: args.get("step")?,
            count: args.get("count")?,
        },
        "gather" => Op::Gather {
            axis: args.get("axis")?,
            shape: args.get("shape")?,
        },
        "reshape" => Op::Reshape {
            shape: args.get("shape")?,
        },
        "transpose" => Op::Transpose {
            order: args.get("order")?,
        },
        "expand" => Op::Expand {
            shape: args.get("shape")?,
        },
        "identity" => Op::Identity,
        "softmax" => Op::Softmax {
            axis: args.get("axis")?,
        },
        "normalise" => Op::Normalise {
            axes: args.get("axes")?,
            groups: args.get("groups")?,
            centred: args.get("centred")?,
            epsilon: args.get("epsilon")?,
        },
        "opaque" => Op::Opaque {
            kind: args.get("name")?,
            shape: args.get("shape")?,
        },
        other => match function(other) {
            Some(function) => Op::Function(function),
            None => return Err(refused(format!("`{other}` is no operation"))),
        },
    })
}

#[pymethods]
impl Graph {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes in a tensor; its key.
    fn declare(&mut self, name: String, shape: Vec<usize>, trains: bool) -> PyResult<u64> {
        let key = self.inner.params().len() as u64;
        let param = Param {
            key: ParamKey(key),
            name,
            shape,
            trains,
        };
        self.inner.declare(param).map_err(refused)?;
        Ok(key)
    }

    /// Keeps a tensor from being rescaled, and says why.
    fn hold(&mut self, key: u64, why: String) {
        self.inner.hold(ParamKey(key), why);
    }

    /// Appends an operation; the place of its result.
    fn push(
        &mut self,
        name: String,
        kind: &str,
        args: &Bound<'_, PyDict>,
        reads: Vec<usize>,
    ) -> PyResult<usize> {
        let op = op(kind, &Args(args))?;
        let reads = self.values(&reads)?;
        let value = self.inner.push(name, op, &reads).map_err(refused)?;
        Ok(value.index())
    }

    /// The shape of a value.
    fn shape(&self, value: usize) -> PyResult<Vec<usize>> {
        let value = self.values(&[value])?[0];
        Ok(self.inner.node(value).shape.clone())
    }

    /// Marks a value as an output.
    fn output(&mut self, value: usize) -> PyResult<()> {
        let value = self.values(&[value])?[0];
        self.inner.output(value);
        Ok(())
    }

    /// The scaling classes.
    fn scales(&self) -> PyResult<Scales> {
        let inner = self.inner.scales(Default::default()).map_err(refused)?;
        Ok(Scales { inner })
    }
}

impl Graph {
    fn values(&self, places: &[usize]) -> PyResult<Vec<Value>> {
        let all: Vec<Value> = self.inner.values().collect();
        let value = |&at: &usize| all.get(at).copied();
        let values: Option<Vec<Value>> = places.iter().map(value).collect();
        values.ok_or_else(|| refused(format!("there are {} values", all.len())))
    }
}
