//! ONNX files.
//!
//! A file is read into the core's graph of operations, from which its scaling classes follow, and written again with other
//! numbers in its tensors. What is not known becomes an operation that nothing goes through: no file is refused for an
//! operation.

mod attributes;
mod edit;
mod error;
mod export;
mod fold;
mod levels;
mod numbers;
pub mod proto;
mod read;
mod rewrite;
mod store;

use std::collections::HashMap;
use std::path::Path;

use gsgd_core::graph::{Graph, Value};
use gsgd_core::scales::ParamKey;

pub use error::OnnxError;
pub use export::{Number, export};
pub use fold::{Fold, Foldable};
pub use read::ReadOptions;

use proto::{ModelProto, TensorProto};

/// An ONNX file, with the tensors that are in files beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxFile {
    model: ModelProto,
}

/// Where the numbers of a parameter stand.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Place {
    /// In the initializer of this name.
    Initializer(String),
    /// In the node `Constant` that gives this value.
    Constant(String),
    /// Nowhere: they are computed, and a tensor may stand in their place.
    Computed {
        /// The numbers, or the one that is everywhere.
        values: Vec<f64>,
        /// Their shape.
        dims: Vec<usize>,
        /// The type of the numbers, of [`proto::data_type`].
        number: i32,
    },
}

/// A parameter of the graph in the file. A tensor that several nodes read is a parameter for each of them: whether they are
/// meant to be one cannot be told, as exporters make one of tensors that are equal by accident.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSource {
    /// The name of the tensor.
    pub name: String,
    /// Where its numbers stand.
    pub place: Place,
    /// The node that reads it.
    pub node: String,
    /// The first value that this node gives.
    reader: String,
    /// Its place among what that node reads.
    input: usize,
    /// The values between the tensor and the node: casts, transposes and other shapes.
    path: Vec<String>,
    /// The same number for the same tensor.
    root: usize,
    /// Whether something reads the tensor that is no reader of a parameter.
    is_read_elsewhere: bool,
}

/// A network that was read from a file.
#[derive(Debug, Clone)]
pub struct OnnxNetwork {
    /// Its operations. The key of a parameter is its place in `params`.
    pub graph: Graph,
    /// Where its parameters stand.
    pub params: Vec<ParamSource>,
    /// What could not be read, in words.
    pub notes: Vec<String>,
    /// The nodes of the file that values come from, by the first value that they give.
    origins: HashMap<Value, String>,
}

impl OnnxFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no ONNX file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OnnxError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| OnnxError::Io {
            path: path.into(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        Self::from_bytes(bytes, folder)
    }

    /// Reads the bytes of a file; tensors in files of their own are in `folder`.
    ///
    /// # Errors
    /// The bytes are no ONNX file, or a tensor's file cannot be read.
    pub fn from_bytes(bytes: Vec<u8>, folder: impl AsRef<Path>) -> Result<Self, OnnxError> {
        let model = store::read(bytes.into(), folder.as_ref())?;
        Ok(Self { model })
    }

    /// A model that was made.
    pub fn from_model(model: ModelProto) -> Self {
        Self { model }
    }

    /// The messages of the file. Tensors that are in files of their own have their bytes.
    pub fn model(&self) -> &ModelProto {
        &self.model
    }

    /// Writes the file, whole or not at all. Tensors that were in files of their own are written to one beside it, `.data`
    /// behind its name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), OnnxError> {
        store::write(&self.model, path.as_ref())
    }

    /// The network in the file.
    ///
    /// # Errors
    /// The file contradicts itself, the size of an input is not known, or no result depends on an input.
    pub fn read(&self, options: &ReadOptions) -> Result<OnnxNetwork, OnnxError> {
        read::read(&self.model, options)
    }

    /// The names of the tensors of floating point numbers that are initializers, and their shapes.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[i64])> {
        let graphs = self.model.graph.iter();
        let tensors = graphs.flat_map(|graph| &graph.initializer);
        let floats =
            tensors.filter(|tensor| numbers::is_float(tensor.data_type.unwrap_or_default()));
        floats.map(|tensor| (numbers::label(tensor), &tensor.dims[..]))
    }

    /// The values of the initializer of this name; none where there is none of numbers.
    ///
    /// # Errors
    /// There are more or fewer than its shape says.
    pub fn tensor(&self, name: &str) -> Result<Option<Vec<f64>>, OnnxError> {
        match self.stored(&Place::Initializer(name.into())) {
            Some(tensor) => numbers::values(tensor),
            None => Ok(None),
        }
    }

    /// The values of a parameter of the network that was read from this file.
    ///
    /// # Errors
    /// There is no such parameter.
    pub fn values(&self, network: &OnnxNetwork, key: ParamKey) -> Result<Vec<f64>, OnnxError> {
        let missing = || OnnxError::NoParam {
            key: key.0,
            count: network.params.len(),
        };
        let param = network.param(key).ok_or_else(missing)?;
        if let Place::Computed { values, dims, .. } = &param.place {
            return Ok(match values[..] {
                [value] => vec![value; dims.iter().product()],
                _ => values.clone(),
            });
        }
        if let Some(tensor) = self.stored(&param.place) {
            return numbers::values(tensor)?.ok_or_else(missing);
        }
        match &param.place {
            Place::Constant(name) => self.listed(name).ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    /// The type of the numbers at a place, of [`proto::data_type`].
    pub fn number_at(&self, place: &Place) -> Option<i32> {
        match place {
            Place::Computed { number, .. } => Some(*number),
            place => self.stored(place)?.data_type,
        }
    }

    /// The number of axes of an input, if the file says it.
    pub fn input_rank(&self, name: &str) -> Option<usize> {
        let graph = self.model.graph.as_ref()?;
        let mut inputs = graph.input.iter();
        let input = inputs.find(|input| input.name.as_deref() == Some(name))?;
        match input.r#type.as_ref()?.value.as_ref()? {
            proto::TypeValue::TensorType(tensor) => Some(tensor.shape.as_ref()?.dim.len()),
            _ => None,
        }
    }

    /// The tensor at a place.
    fn stored(&self, place: &Place) -> Option<&TensorProto> {
        let graph = self.model.graph.as_ref()?;
        match place {
            Place::Initializer(name) => {
                let mut tensors = graph.initializer.iter();
                tensors.find(|tensor| numbers::label(tensor) == name)
            }
            Place::Constant(name) => {
                let mut nodes = graph.node.iter();
                nodes
                    .find(|node| node.first_output() == name)?
                    .tensor("value")
            }
            Place::Computed { .. } => None,
        }
    }

    /// The numbers of a constant that are no tensor.
    fn listed(&self, name: &str) -> Option<Vec<f64>> {
        let mut nodes = self.model.graph.as_ref()?.node.iter();
        let node = nodes.find(|node| node.first_output() == name)?;
        if let Some(list) = node.attribute("value_floats") {
            return Some(list.floats.iter().map(|&x| f64::from(x)).collect());
        }
        node.float("value_float").map(|x| vec![x])
    }
}

impl OnnxNetwork {
    /// The name of a value's node, for messages.
    fn name_of(&self, value: Value) -> String {
        match value.index() < self.graph.nodes().len() {
            true => self.graph.node(value).name.clone(),
            false => value.index().to_string(),
        }
    }

    /// A parameter by its key.
    pub fn param(&self, key: ParamKey) -> Option<&ParamSource> {
        self.params.get(usize::try_from(key.0).ok()?)
    }
}
