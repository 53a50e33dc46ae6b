//! The messages of an ONNX file, all fields of them: what is read and written again loses nothing.
//!
//! Names and numbers of the fields are those of `onnx.proto`; enumerations are kept as their numbers.

use prost::bytes::Bytes;
use prost::{Message, Oneof};

/// Numbers of [`AttributeProto::type`](AttributeProto::r#type).
pub mod attribute_type {
    /// [`f`](super::AttributeProto::f).
    pub const FLOAT: i32 = 1;
    /// [`i`](super::AttributeProto::i).
    pub const INT: i32 = 2;
    /// [`s`](super::AttributeProto::s).
    pub const STRING: i32 = 3;
    /// [`t`](super::AttributeProto::t).
    pub const TENSOR: i32 = 4;
    /// [`floats`](super::AttributeProto::floats).
    pub const FLOATS: i32 = 6;
    /// [`ints`](super::AttributeProto::ints).
    pub const INTS: i32 = 7;
}

/// Numbers of [`TensorProto::data_type`].
pub mod data_type {
    /// 32 bits.
    pub const FLOAT: i32 = 1;
    /// Whole numbers from 0 to 255.
    pub const UINT8: i32 = 2;
    /// Whole numbers from -128 to 127.
    pub const INT8: i32 = 3;
    /// Whole numbers of 16 bits from 0.
    pub const UINT16: i32 = 4;
    /// Whole numbers of 16 bits.
    pub const INT16: i32 = 5;
    /// Whole numbers of 32 bits.
    pub const INT32: i32 = 6;
    /// Whole numbers of 64 bits.
    pub const INT64: i32 = 7;
    /// Text.
    pub const STRING: i32 = 8;
    /// True or false, in a byte.
    pub const BOOL: i32 = 9;
    /// IEEE 754 with 16 bits.
    pub const FLOAT16: i32 = 10;
    /// 64 bits.
    pub const DOUBLE: i32 = 11;
    /// Whole numbers of 32 bits from 0.
    pub const UINT32: i32 = 12;
    /// Whole numbers of 64 bits from 0.
    pub const UINT64: i32 = 13;
    /// The first 16 bits of a number of 32.
    pub const BFLOAT16: i32 = 16;
}

/// [`TensorProto::data_location`] of a tensor in a file of its own.
pub const EXTERNAL: i32 = 1;

/// A named attribute of a node.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// In a function, the function's attribute that it stands for.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
    /// Text for people.
    #[prost(string, optional, tag = "13")]
    pub doc_string: Option<String>,
    /// Which of the fields below counts.
    #[prost(int32, optional, tag = "20")]
    pub r#type: Option<i32>,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// A whole number.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Text.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// A graph.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// A sparse tensor.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    /// A type.
    #[prost(message, optional, tag = "14")]
    pub tp: Option<TypeProto>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Whole numbers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// Sparse tensors.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
    /// Types.
    #[prost(message, repeated, tag = "15")]
    pub type_protos: Vec<TypeProto>,
}

/// A value's name and type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Text for people.
    #[prost(string, optional, tag = "3")]
    pub doc_string: Option<String>,
    /// Named texts.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of what it reads; an empty one is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of what it gives.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// What it does.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Whose operation that is; ONNX's own where empty.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
    /// Which of several functions of one name.
    #[prost(string, optional, tag = "8")]
    pub overload: Option<String>,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Text for people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// Named texts.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// How it is spread over devices.
    #[prost(message, repeated, tag = "10")]
    pub device_configurations: Vec<NodeDeviceConfigurationProto>,
}

/// A number and a list of numbers.
#[derive(Clone, PartialEq, Message)]
pub struct IntIntListEntryProto {
    /// The number.
    #[prost(int64, optional, tag = "1")]
    pub key: Option<i64>,
    /// The list.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub value: Vec<i64>,
}

/// How a node is spread over devices.
#[derive(Clone, PartialEq, Message)]
pub struct NodeDeviceConfigurationProto {
    /// Name of the configuration.
    #[prost(string, optional, tag = "1")]
    pub configuration_id: Option<String>,
    /// How its values are.
    #[prost(message, repeated, tag = "2")]
    pub sharding_spec: Vec<ShardingSpecProto>,
    /// Its stage.
    #[prost(int32, optional, tag = "3")]
    pub pipeline_stage: Option<i32>,
}

/// How a value is spread over devices.
#[derive(Clone, PartialEq, Message)]
pub struct ShardingSpecProto {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub tensor_name: Option<String>,
    /// Over which.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub device: Vec<i64>,
    /// Groups of devices.
    #[prost(message, repeated, tag = "3")]
    pub index_to_device_group_map: Vec<IntIntListEntryProto>,
    /// Along which axes.
    #[prost(message, repeated, tag = "4")]
    pub sharded_dim: Vec<ShardedDimProto>,
}

/// An axis that is spread over devices.
#[derive(Clone, PartialEq, Message)]
pub struct ShardedDimProto {
    /// Which.
    #[prost(int64, optional, tag = "1")]
    pub axis: Option<i64>,
    /// How.
    #[prost(message, repeated, tag = "2")]
    pub simple_sharding: Vec<SimpleShardedDimProto>,
}

/// A part of an axis that is spread over devices.
#[derive(Clone, PartialEq, Message)]
pub struct SimpleShardedDimProto {
    /// Its size.
    #[prost(oneof = "SimpleShardedDim", tags = "1, 2")]
    pub dim: Option<SimpleShardedDim>,
    /// Into how many parts.
    #[prost(int64, optional, tag = "3")]
    pub num_shards: Option<i64>,
}

/// A size, or its name.
#[derive(Clone, PartialEq, Oneof)]
pub enum SimpleShardedDim {
    /// The size.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// Its name.
    #[prost(string, tag = "2")]
    DimParam(String),
}

/// How a model is trained.
#[derive(Clone, PartialEq, Message)]
pub struct TrainingInfoProto {
    /// The first step.
    #[prost(message, optional, tag = "1")]
    pub initialization: Option<GraphProto>,
    /// Every other.
    #[prost(message, optional, tag = "2")]
    pub algorithm: Option<GraphProto>,
    /// Which tensors the first step sets.
    #[prost(message, repeated, tag = "3")]
    pub initialization_binding: Vec<StringStringEntryProto>,
    /// Which tensors the others set.
    #[prost(message, repeated, tag = "4")]
    pub update_binding: Vec<StringStringEntryProto>,
}

/// A model: the whole file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// The version of the format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// The versions of the operations.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// What wrote it.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// Its version.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// Whose model it is.
    #[prost(string, optional, tag = "4")]
    pub domain: Option<String>,
    /// The model's version.
    #[prost(int64, optional, tag = "5")]
    pub model_version: Option<i64>,
    /// Text for people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Named texts.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// How it is trained.
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    /// Operations of its own.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
    /// Devices.
    #[prost(message, repeated, tag = "26")]
    pub configuration: Vec<DeviceConfigurationProto>,
}

/// A number of devices.
#[derive(Clone, PartialEq, Message)]
pub struct DeviceConfigurationProto {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// How many.
    #[prost(int32, optional, tag = "2")]
    pub num_devices: Option<i32>,
    /// Their names.
    #[prost(string, repeated, tag = "3")]
    pub device: Vec<String>,
}

/// A named text.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// The text.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// How a value is quantised.
#[derive(Clone, PartialEq, Message)]
pub struct TensorAnnotation {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub tensor_name: Option<String>,
    /// The tensors that say how.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}

/// Operations and tensors.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The operations, each behind those that it reads.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// The tensors.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Sparse tensors.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Text for people.
    #[prost(string, optional, tag = "10")]
    pub doc_string: Option<String>,
    /// The inputs.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// The outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of values between.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// How values are quantised.
    #[prost(message, repeated, tag = "14")]
    pub quantization_annotation: Vec<TensorAnnotation>,
    /// Named texts.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Its shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The type of its numbers, of [`data_type`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Which part of a larger one it is.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Numbers of 32 bits.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Whole numbers of up to 32 bits, and the bits of numbers of 16.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    /// Whole numbers of 64 bits.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Text for people.
    #[prost(string, optional, tag = "12")]
    pub doc_string: Option<String>,
    /// The numbers as bytes, the lowest first.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// In which file the bytes are, and where.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// Whether they are in another file: [`EXTERNAL`].
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
    /// Numbers of 64 bits.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Whole numbers from 0 of 64 bits.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Named texts.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A part of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    /// Its first place.
    #[prost(int64, optional, tag = "1")]
    pub begin: Option<i64>,
    /// The place behind its last.
    #[prost(int64, optional, tag = "2")]
    pub end: Option<i64>,
}

/// A tensor of which most is zero.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// What is not.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where that is.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// Its shape.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// Its sizes.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// A size.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// What it is, if that is known.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
    /// What it means.
    #[prost(string, optional, tag = "3")]
    pub denotation: Option<String>,
}

/// A size, or its name.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    /// The size.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// Its name.
    #[prost(string, tag = "2")]
    DimParam(String),
}

/// A type.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// What of.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 9, 8, 7")]
    pub value: Option<TypeValue>,
    /// What it means.
    #[prost(string, optional, tag = "6")]
    pub denotation: Option<String>,
}

/// Kinds of types.
#[derive(Clone, PartialEq, Oneof)]
pub enum TypeValue {
    /// A tensor.
    #[prost(message, tag = "1")]
    TensorType(TensorType),
    /// A list.
    #[prost(message, tag = "4")]
    SequenceType(Box<SequenceType>),
    /// A table.
    #[prost(message, tag = "5")]
    MapType(Box<MapType>),
    /// Something that may be left out.
    #[prost(message, tag = "9")]
    OptionalType(Box<OptionalType>),
    /// A tensor of which most is zero.
    #[prost(message, tag = "8")]
    SparseTensorType(TensorType),
    /// A type of somebody's own.
    #[prost(message, tag = "7")]
    OpaqueType(OpaqueType),
}

/// A tensor's type.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// The type of its numbers.
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A list's type.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {
    /// What of.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A table's type.
#[derive(Clone, PartialEq, Message)]
pub struct MapType {
    /// The type of its keys.
    #[prost(int32, optional, tag = "1")]
    pub key_type: Option<i32>,
    /// That of its values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// The type of something that may be left out.
#[derive(Clone, PartialEq, Message)]
pub struct OptionalType {
    /// What of.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A type of somebody's own.
#[derive(Clone, PartialEq, Message)]
pub struct OpaqueType {
    /// Whose.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

/// A version of a set of operations.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Whose; ONNX's own where empty.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// The version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// An operation made of others.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Names of what it reads.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of what it gives.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Names of its attributes.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// Attributes that may be left out.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// The operations.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// Text for people.
    #[prost(string, optional, tag = "8")]
    pub doc_string: Option<String>,
    /// The versions of the operations.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Whose it is.
    #[prost(string, optional, tag = "10")]
    pub domain: Option<String>,
    /// Which of several of one name.
    #[prost(string, optional, tag = "13")]
    pub overload: Option<String>,
    /// Types of values between.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Named texts.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}
