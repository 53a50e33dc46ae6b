//! How nodes are spread over devices.

use prost::{Message, Oneof};

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
