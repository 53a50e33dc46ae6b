//! Types and shapes of values.

use prost::{Message, Oneof};

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
