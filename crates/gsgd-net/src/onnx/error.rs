//! What can be wrong with an ONNX file.

use std::path::PathBuf;

use gsgd_core::GraphError;

/// What is wrong with an ONNX file, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// The bytes are no ONNX file.
    #[error("this is no ONNX file: {0}")]
    Decode(#[from] prost::DecodeError),

    /// The file contradicts itself.
    #[error("{place}: {what}")]
    Invalid {
        /// The tensor, node or value.
        place: String,
        /// What is wrong with it.
        what: String,
    },

    /// The size of an input is not known.
    #[error(
        "input `{input}` has the shape {found}: give its sizes, as in `--input-shape {input}={example}`"
    )]
    InputShape {
        /// Which input.
        input: String,
        /// The shape in the file.
        found: String,
        /// One that would do.
        example: String,
    },

    /// No result depends on an input.
    #[error("none of its results depends on its inputs: there is nothing to rescale")]
    NoResult,

    /// A value does not fit the tensor's type.
    #[error(
        "tensor `{tensor}`: {value:e} becomes infinite in {number}, whose largest number is {largest:e}"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f64,
        /// The type of its numbers.
        number: &'static str,
        /// The largest.
        largest: f64,
    },

    /// Other values than the tensor has.
    #[error("tensor `{tensor}` has {expected} values, {found} were given")]
    Count {
        /// The tensor.
        tensor: String,
        /// How many it has.
        expected: usize,
        /// How many were given.
        found: usize,
    },

    /// There is no such parameter.
    #[error("there is no parameter {key}, the file has {count}")]
    NoParam {
        /// Which.
        key: u64,
        /// How many there are.
        count: usize,
    },

    /// A batch norm cannot be folded into what it reads.
    #[error("batch norm `{norm}` cannot be folded: {why}")]
    Fold {
        /// Which.
        norm: String,
        /// Why.
        why: String,
    },

    /// An operation has no counterpart in an ONNX file.
    #[error("{operation} `{name}` cannot be written as ONNX: {why}")]
    Export {
        /// Which.
        name: String,
        /// What it is.
        operation: String,
        /// Why.
        why: String,
    },

    /// The operations do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

pub(super) fn invalid(place: impl Into<String>, what: impl Into<String>) -> OnnxError {
    OnnxError::Invalid {
        place: place.into(),
        what: what.into(),
    }
}
