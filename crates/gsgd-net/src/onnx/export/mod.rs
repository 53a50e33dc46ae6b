//! A graph of the core as an ONNX file.
//!
//! - `batch`: where the batch is in every value, so that it may have any size;
//! - `nodes`: operations as nodes.

mod batch;
mod nodes;

use std::collections::{HashMap, HashSet};

use gsgd_core::graph::{Graph, Node, Op, Value};
use gsgd_core::scales::ParamKey;

use super::OnnxFile;
use super::edit::value_info;
use super::error::OnnxError;
use super::numbers;
use super::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TypeValue, ValueInfoProto, attribute_type, data_type,
};
use batch::Batch;

/// The version of the operations that are written.
const OPSET: i64 = 17;

/// The version of the format that came with them.
const IR_VERSION: i64 = 8;

/// A type of floating point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Number {
    /// IEEE 754 with 16 bits.
    Float16,
    /// The first 16 bits of a number of 32.
    BFloat16,
    /// 32 bits.
    #[default]
    Float32,
    /// 64 bits.
    Float64,
}

impl Number {
    /// Its number in a file, of [`data_type`].
    pub fn data_type(self) -> i32 {
        match self {
            Self::Float16 => data_type::FLOAT16,
            Self::BFloat16 => data_type::BFLOAT16,
            Self::Float32 => data_type::FLOAT,
            Self::Float64 => data_type::DOUBLE,
        }
    }
}

struct Writer<'g> {
    graph: &'g Graph,
    number: i32,
    file: GraphProto,
    names: HashSet<String>,
    /// The names of values that are written, by their place.
    values: Vec<String>,
    params: HashMap<ParamKey, String>,
    batch: Vec<Batch>,
}

/// A graph as a file, with these values of its parameters. The batch may have any size where operations allow that.
///
/// # Errors
/// An operation has no counterpart, such as one of which nothing is known; a parameter has another number of values; or one
/// becomes infinite in this type of numbers.
pub fn export(
    graph: &Graph,
    values: impl Fn(ParamKey) -> Vec<f64>,
    number: Number,
) -> Result<OnnxFile, OnnxError> {
    let mut writer = Writer {
        graph,
        number: number.data_type(),
        file: GraphProto {
            name: Some("network".into()),
            ..Default::default()
        },
        names: HashSet::new(),
        values: Vec::new(),
        params: HashMap::new(),
        batch: batch::of(graph),
    };
    for value in graph.values() {
        let name = match &graph.node(value).op {
            Op::Param(key) => writer.param(*key, &values)?,
            _ => writer.node(value)?,
        };
        writer.values.push(name);
    }
    for &value in graph.outputs() {
        // an output is given by a node, and once
        let name = writer.fresh("output");
        let read = writer.values[value.index()].clone();
        writer.emit_to("Identity", &[&read], &name, Vec::new());
        let info = writer.info(&name, value, writer.number);
        writer.file.output.push(info);
    }
    Ok(OnnxFile::from_model(ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some(env!("CARGO_PKG_NAME").into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
        graph: Some(writer.file),
        ..Default::default()
    }))
}

fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&size| size as i64).collect()
}

/// A whole number as an attribute.
fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::INT),
        i: Some(value),
        ..Default::default()
    }
}

/// A number.
fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::FLOAT),
        f: Some(value as f32),
        ..Default::default()
    }
}

/// Whole numbers.
fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::INTS),
        ints: values.into_iter().map(|value| value as i64).collect(),
        ..Default::default()
    }
}

impl Writer<'_> {
    /// A name that nothing has, like this one.
    fn fresh(&mut self, like: &str) -> String {
        let mut name = like.to_string();
        let mut count = 1;
        while name.is_empty() || !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{like}_{count}");
        }
        name
    }

    fn shape(&self, value: Value) -> &[usize] {
        &self.graph.node(value).shape
    }

    fn fail(&self, node: &Node, why: impl Into<String>) -> OnnxError {
        OnnxError::Export {
            name: node.name.clone(),
            operation: node.op.name().to_string(),
            why: why.into(),
        }
    }

    /// A value's name and type.
    fn info(&self, name: &str, value: Value, number: i32) -> ValueInfoProto {
        let mut info = value_info(name, number, Some(&dims(self.shape(value))));
        if let Some(TypeValue::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|of| of.value.as_mut())
            && let Batch::At(axis) = self.batch[value.index()]
            && let Some(shape) = &mut tensor.shape
        {
            shape.dim[axis].value = Some(DimensionValue::DimParam("batch".into()));
        }
        info
    }

    fn param(
        &mut self,
        key: ParamKey,
        values: &impl Fn(ParamKey) -> Vec<f64>,
    ) -> Result<String, OnnxError> {
        if let Some(name) = self.params.get(&key) {
            return Ok(name.clone());
        }
        let Some(param) = self.graph.tensor(key) else {
            return Err(OnnxError::NoParam {
                key: key.0,
                count: self.graph.params().len(),
            });
        };
        let (own, shape) = (param.name.clone(), param.shape.clone());
        let values = values(key);
        let expected = shape.iter().product();
        if values.len() != expected {
            return Err(OnnxError::Count {
                tensor: own,
                expected,
                found: values.len(),
            });
        }
        let name = self.fresh(&own);
        let tensor = numbers::tensor(&name, &shape, self.number, &values)?;
        self.file.initializer.push(tensor);
        self.params.insert(key, name.clone());
        Ok(name)
    }

    /// Whole numbers as a tensor.
    fn whole(&mut self, values: &[i64]) -> String {
        let name = self.fresh("numbers");
        self.file.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: vec![values.len() as i64],
            data_type: Some(data_type::INT64),
            int64_data: values.to_vec(),
            ..Default::default()
        });
        name
    }

    /// A number that is a part of the code.
    fn single(&mut self, value: f64) -> Result<String, OnnxError> {
        let tensor = numbers::tensor("", &[], self.number, &[value])?;
        let attribute = AttributeProto {
            name: Some("value".into()),
            r#type: Some(attribute_type::TENSOR),
            t: Some(TensorProto {
                name: None,
                ..tensor
            }),
            ..Default::default()
        };
        Ok(self.emit("Constant", &[], vec![attribute]))
    }

    /// A node, and the name of what it gives.
    fn emit(&mut self, op: &str, reads: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(&op.to_lowercase());
        self.emit_to(op, reads, &name, attributes);
        name
    }

    fn emit_to(&mut self, op: &str, reads: &[&str], name: &str, attributes: Vec<AttributeProto>) {
        self.file.node.push(NodeProto {
            input: reads.iter().map(|name| name.to_string()).collect(),
            output: vec![name.into()],
            name: Some(name.into()),
            op_type: Some(op.into()),
            attribute: attributes,
            ..Default::default()
        });
    }
}
