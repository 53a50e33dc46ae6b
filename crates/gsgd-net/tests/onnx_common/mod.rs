//! Small ONNX files made in code.

#![allow(dead_code)]

#[path = "../../../gsgd-core/tests/common/forward.rs"]
pub mod forward;

use std::collections::HashMap;

use forward::Array;
use gsgd_core::graph::{Graph, Op};
use gsgd_core::scales::{ParamKey, ScaleGraph};
use gsgd_net::onnx::proto::*;
use gsgd_net::onnx::{OnnxFile, OnnxNetwork, ReadOptions};
use prost::Message;

/// A file in the making.
#[derive(Clone)]
pub struct File {
    pub model: ModelProto,
    seed: u64,
}

/// An attribute.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::INTS),
        ints: values.to_vec(),
        ..Default::default()
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::INT),
        i: Some(value),
        ..Default::default()
    }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::FLOAT),
        f: Some(value),
        ..Default::default()
    }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::STRING),
        s: Some(value.into()),
        ..Default::default()
    }
}

pub fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(5),
        g: Some(graph),
        ..Default::default()
    }
}

pub fn value_tensor(tensor: TensorProto) -> AttributeProto {
    AttributeProto {
        name: Some("value".into()),
        r#type: Some(attribute_type::TENSOR),
        t: Some(tensor),
        ..Default::default()
    }
}

/// Sizes of an input: numbers, or names.
pub fn info(name: &str, number: i32, sizes: &[Result<i64, &str>]) -> ValueInfoProto {
    let dim = sizes.iter().map(|size| Dimension {
        value: Some(match size {
            Ok(size) => DimensionValue::DimValue(*size),
            Err(name) => DimensionValue::DimParam(name.to_string()),
        }),
        denotation: None,
    });
    let tensor = TensorType {
        elem_type: Some(number),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(tensor)),
            denotation: None,
        }),
        ..Default::default()
    }
}

pub fn node(op: &str, reads: &[&str], gives: &[&str], attributes: &[AttributeProto]) -> NodeProto {
    NodeProto {
        input: reads.iter().map(|name| name.to_string()).collect(),
        output: gives.iter().map(|name| name.to_string()).collect(),
        op_type: Some(op.into()),
        attribute: attributes.to_vec(),
        ..Default::default()
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(data_type::FLOAT),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn wholes(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(data_type::INT64),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

impl File {
    /// An empty file with operations of this version.
    pub fn new(opset: i64) -> Self {
        Self {
            model: ModelProto {
                ir_version: Some(8),
                opset_import: vec![OperatorSetIdProto {
                    domain: None,
                    version: Some(opset),
                }],
                graph: Some(GraphProto::default()),
                ..Default::default()
            },
            seed: 1,
        }
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.get_or_insert_default()
    }

    pub fn input(mut self, name: &str, shape: &[i64]) -> Self {
        let sizes: Vec<Result<i64, &str>> = shape.iter().map(|&size| Ok(size)).collect();
        self.graph()
            .input
            .push(info(name, data_type::FLOAT, &sizes));
        self
    }

    /// A tensor of random positive numbers around 1.
    pub fn tensor(mut self, name: &str, dims: &[i64]) -> Self {
        let count = dims.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..count)
            .map(|_| {
                self.seed = self
                    .seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                0.5 + (self.seed >> 40) as f32 / (1u64 << 24) as f32
            })
            .collect();
        self.graph().initializer.push(floats(name, dims, &values));
        self
    }

    pub fn whole(mut self, name: &str, values: &[i64]) -> Self {
        self.graph().initializer.push(wholes(name, values));
        self
    }

    pub fn single(mut self, name: &str, value: f32) -> Self {
        self.graph().initializer.push(floats(name, &[], &[value]));
        self
    }

    pub fn node(
        mut self,
        op: &str,
        reads: &[&str],
        gives: &str,
        attributes: &[AttributeProto],
    ) -> Self {
        self.graph()
            .node
            .push(node(op, reads, &[gives], attributes));
        self
    }

    pub fn nodes(
        mut self,
        op: &str,
        reads: &[&str],
        gives: &[&str],
        attributes: &[AttributeProto],
    ) -> Self {
        self.graph().node.push(node(op, reads, gives, attributes));
        self
    }

    pub fn output(mut self, name: &str) -> Self {
        let output = ValueInfoProto {
            name: Some(name.into()),
            ..Default::default()
        };
        self.graph().output.push(output);
        self
    }

    pub fn file(&self) -> OnnxFile {
        OnnxFile::from_bytes(self.model.encode_to_vec(), ".").unwrap()
    }

    pub fn read(&self) -> OnnxNetwork {
        self.file().read(&ReadOptions::default()).unwrap()
    }

    pub fn scales(&self) -> ScaleGraph {
        self.read().graph.scales(Default::default()).unwrap()
    }

    /// The message of the error that reading gives.
    pub fn error(&self) -> String {
        let read = self.file().read(&ReadOptions::default());
        read.map(|network| network.params.len())
            .unwrap_err()
            .to_string()
    }
}

/// The outputs of a file's network for some input.
pub fn outputs(file: &OnnxFile) -> Vec<Array> {
    let network = file.read(&ReadOptions::default()).unwrap();
    let params = params(file, &network);
    let nodes = network.graph.nodes().iter();
    let inputs: Vec<Array> = nodes
        .filter(|node| matches!(node.op, Op::Input { .. }))
        .map(|node| {
            let mut seed = 0.3f64;
            Array::from_fn(&node.shape, |_| {
                seed = (seed * 97.0).fract();
                seed - 0.4
            })
        })
        .collect();
    forward::outputs(&without_epsilon(&network.graph), &params, &inputs)
}

pub fn params(file: &OnnxFile, network: &OnnxNetwork) -> HashMap<ParamKey, Array> {
    let params = network.graph.params().iter();
    params
        .map(|param| {
            let array = Array {
                shape: param.shape.clone(),
                data: file.values(network, param.key).unwrap(),
            };
            (param.key, array)
        })
        .collect()
}

/// Rescaling is exact but for what batch norms add to variances.
fn without_epsilon(graph: &Graph) -> Graph {
    let mut new = Graph::new();
    for param in graph.params() {
        new.declare(param.clone()).unwrap();
    }
    for node in graph.nodes() {
        let op = match &node.op {
            Op::BatchNorm { .. } => Op::BatchNorm { epsilon: 0.0 },
            op => op.clone(),
        };
        new.push(&node.name, op, &node.reads).unwrap();
    }
    graph.outputs().iter().for_each(|&value| new.output(value));
    new
}

/// The file with every class multiplied by another power of two.
pub fn rescaled(file: &OnnxFile) -> OnnxFile {
    let network = file.read(&ReadOptions::default()).unwrap();
    let scales = network.graph.scales(Default::default()).unwrap();
    let mut factors: Vec<f64> = scales
        .classes()
        .enumerate()
        .map(|(at, _)| f64::powi(2.0, (at * 7 % 5) as i32 - 2))
        .collect();
    factors[0] = 1.0;
    let mut values = params(file, &network);
    for edges in scales.edges() {
        let array = values.get_mut(&edges.key()).unwrap();
        for (t, tail) in edges.tails().iter().enumerate() {
            for (h, head) in edges.heads().iter().enumerate() {
                if let Some(at) = edges.flat(t, h) {
                    array.data[at] *= factors[head.index()] / factors[tail.index()];
                }
            }
        }
    }
    for tensor in scales.co_scaled() {
        let array = values.get_mut(&tensor.key()).unwrap();
        for (value, class) in array.data.iter_mut().zip(tensor.classes()) {
            *value *= factors[class.index()].powi(tensor.power());
        }
    }
    let new = file.replaced(&network, |key| Some(values.get(&key)?.data.clone()));
    new.unwrap()
}

/// Rescales the file, and expects the same outputs bit for bit; its hidden classes.
pub fn check(file: &File) -> usize {
    let file = file.file();
    let new = rescaled(&file);
    assert_eq!(outputs(&file), outputs(&new));
    let network = file.read(&ReadOptions::default()).unwrap();
    network.graph.scales(Default::default()).unwrap().hidden()
}
