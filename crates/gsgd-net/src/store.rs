//! The file that a network's tensors stand in.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use gsgd_core::graph::{Graph, Value};
use gsgd_core::scales::ParamKey;

use crate::number::Number;
use crate::onnx_store::OnnxStore;
use crate::pairs::{Folded, Pair};
use crate::tensors::{Added, Tensors};
use crate::write::write_whole;

/// A file with its tensors, and which of them each parameter of the graph is.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// Safetensors, or PyTorch's tensors as such.
    Tensors {
        file: Tensors,
        /// The full names, by key.
        names: Vec<String>,
    },
    /// ONNX, which has the graph too.
    Onnx(Box<OnnxStore>),
}

/// What kind of file a network is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Safetensors.
    Safetensors,
    /// PyTorch's own.
    PyTorch,
    /// ONNX.
    Onnx,
}

impl Format {
    /// What a file of this name is; nothing where the name does not say.
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "onnx" => Some(Self::Onnx),
            "safetensors" => Some(Self::Safetensors),
            "pt" | "pth" | "bin" | "ckpt" => Some(Self::PyTorch),
            _ => None,
        }
    }
}

impl Store {
    /// The tensors of a file that a graph names.
    pub fn from_tensors(file: Tensors, graph: &Graph) -> Self {
        let params = graph.params().iter();
        let names = params.map(|param| file.full_name(&param.name).to_string());
        Self::Tensors {
            names: names.collect(),
            file,
        }
    }

    /// What kinds of file it can be written as.
    pub fn formats(&self) -> &'static [Format] {
        match self {
            Self::Tensors { file, .. } if file.is_pytorch() => {
                &[Format::PyTorch, Format::Safetensors]
            }
            Self::Tensors { .. } => &[Format::Safetensors],
            Self::Onnx(_) => &[Format::Onnx],
        }
    }

    /// How a parameter's numbers are stored.
    pub fn number(&self, key: ParamKey) -> Number {
        match self {
            Self::Tensors { file, names } => match names.get(key.0 as usize) {
                Some(name) => file.number(name),
                None => Number::Other,
            },
            Self::Onnx(store) => store.number(key),
        }
    }

    /// A parameter's values.
    ///
    /// # Errors
    /// They are no floating point numbers.
    pub fn values(&self, key: ParamKey) -> Result<Vec<f64>> {
        match self {
            Self::Tensors { file, names } => {
                let name = names
                    .get(key.0 as usize)
                    .context("there is no such tensor")?;
                file.values(name)
            }
            Self::Onnx(store) => store.values(key),
        }
    }

    /// Puts other values in a parameter's place.
    ///
    /// # Errors
    /// Another number of values, or one that is too large for the type.
    pub fn replace(&mut self, key: ParamKey, values: &[f64]) -> Result<()> {
        match self {
            Self::Tensors { file, names } => {
                let name = names
                    .get(key.0 as usize)
                    .context("there is no such tensor")?;
                file.replace(name, values)
            }
            Self::Onnx(store) => store.replace(key, values),
        }
    }

    /// Whether the file can be without a batch norm.
    pub fn can_fold(&self, norm: Value) -> bool {
        match self {
            Self::Tensors { .. } => true,
            Self::Onnx(store) => store.can_fold(norm),
        }
    }

    /// The file with batch norms in the layers before them; `names` has those of new biases.
    ///
    /// # Errors
    /// A number does not fit into its tensor.
    pub fn fold(
        &mut self,
        pairs: &[Pair],
        names: &BTreeMap<ParamKey, String>,
        folded: &[Folded],
    ) -> Result<()> {
        match self {
            Self::Tensors { file, names: of } => {
                let full = |key: ParamKey| of[key.0 as usize].as_str();
                let removed = pairs.iter().flat_map(|pair| pair.tensors);
                let removed: HashSet<&str> = removed.map(full).collect();
                let added = pairs.iter().zip(folded).filter_map(|(pair, folded)| {
                    let like = full(pair.weight).to_string();
                    // beside the weight, whatever all names begin with
                    let name = names.get(&pair.bias)?;
                    let short = file.short_name(&like);
                    let prefix = like.strip_suffix(short).unwrap_or("");
                    Some(Added {
                        name: format!("{prefix}{name}"),
                        length: folded.biases.len(),
                        like: like.clone(),
                    })
                });
                let added: Vec<Added> = added.collect();
                *file = file.edited(&removed, &added)?;
                let mut added = added.into_iter();
                for pair in pairs.iter().filter(|pair| names.contains_key(&pair.bias)) {
                    let at = pair.bias.0 as usize;
                    if of.len() <= at {
                        of.resize(at + 1, String::new());
                    }
                    of[at] = added.next().map(|bias| bias.name).unwrap_or_default();
                }
                for (pair, folded) in pairs.iter().zip(folded) {
                    self.replace(pair.weight, &folded.weights)?;
                    self.replace(pair.bias, &folded.biases)?;
                }
            }
            Self::Onnx(store) => store.fold(pairs, folded)?,
        }
        Ok(())
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The folder is not writable, or the disk full.
    pub fn write(&self, path: &Path) -> Result<()> {
        match self {
            Self::Tensors { file, .. } => match Format::of_name(path) {
                Some(Format::PyTorch) => write_whole(path, &file.as_pytorch()?),
                _ => write_whole(path, file.bytes()),
            },
            Self::Onnx(store) => Ok(store.written()?.write(path)?),
        }
    }
}
