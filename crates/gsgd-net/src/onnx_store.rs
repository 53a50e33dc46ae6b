//! The tensors of an ONNX file by the keys of its graph, as they will be written.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use gsgd_core::graph::Value;
use gsgd_core::scales::ParamKey;

use crate::number::Number;
use crate::onnx::proto::data_type;
use crate::onnx::{Fold, OnnxFile, OnnxNetwork, Place};
use crate::pairs::{Folded, Pair};

/// An ONNX file, the network in it, and what is to be written in place of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct OnnxStore {
    file: OnnxFile,
    network: OnnxNetwork,
    changed: BTreeMap<ParamKey, Vec<f64>>,
    folds: Vec<Away>,
    /// The batch norms that the file can be without.
    foldable: HashSet<Value>,
}

/// A batch norm that will be gone.
#[derive(Debug, Clone)]
struct Away {
    norm: Value,
    weight: ParamKey,
    bias: ParamKey,
}

impl OnnxStore {
    pub fn new(file: OnnxFile, network: OnnxNetwork) -> Self {
        let foldable = network.foldable().into_iter().map(|found| found.norm);
        Self {
            foldable: foldable.collect(),
            file,
            network,
            changed: BTreeMap::new(),
            folds: Vec::new(),
        }
    }

    /// The file as it was read.
    pub fn file(&self) -> &OnnxFile {
        &self.file
    }

    pub fn can_fold(&self, norm: Value) -> bool {
        self.foldable.contains(&norm)
    }

    pub fn number(&self, key: ParamKey) -> Number {
        // a new bias is like the weight before it
        let away = self.folds.iter().find(|away| away.bias == key);
        let param = self.network.param(key);
        let param = param.or_else(|| self.network.param(away?.weight));
        let Some(param) = param else {
            return Number::Other;
        };
        let number = match &param.place {
            Place::Computed { number, .. } => *number,
            place => self.file.number_at(place).unwrap_or(data_type::FLOAT),
        };
        match number {
            data_type::FLOAT => Number::F32,
            data_type::DOUBLE => Number::F64,
            data_type::FLOAT16 => Number::F16,
            data_type::BFLOAT16 => Number::BF16,
            _ => Number::Other,
        }
    }

    pub fn values(&self, key: ParamKey) -> Result<Vec<f64>> {
        match self.changed.get(&key) {
            Some(values) => Ok(values.clone()),
            None => Ok(self.file.values(&self.network, key)?),
        }
    }

    pub fn replace(&mut self, key: ParamKey, values: &[f64]) -> Result<()> {
        let number = self.number(key);
        let name = self.network.param(key).map(|param| param.name.clone());
        let name = || format!("`{}`", name.clone().unwrap_or_default());
        // as they will be read again
        let mut bytes = vec![0; values.len() * number.size()];
        number.write(values, &mut bytes).with_context(name)?;
        let values = number.read(&bytes).with_context(name)?;
        self.changed.insert(key, values);
        Ok(())
    }

    pub fn fold(&mut self, pairs: &[Pair], folded: &[Folded]) -> Result<()> {
        for (pair, folded) in pairs.iter().zip(folded) {
            self.folds.push(Away {
                norm: pair.norm,
                weight: pair.weight,
                bias: pair.bias,
            });
            self.replace(pair.weight, &folded.weights)?;
            self.replace(pair.bias, &folded.biases)?;
        }
        Ok(())
    }

    /// The file with all changes.
    ///
    /// # Errors
    /// A number does not fit into its tensor.
    pub fn written(&self) -> Result<OnnxFile> {
        let folds = self.folds.iter().map(|away| {
            Ok(Fold {
                norm: away.norm,
                weight: away.weight,
                weights: self.values(away.weight)?,
                bias: self.values(away.bias)?,
            })
        });
        let folds = folds.collect::<Result<Vec<Fold>>>()?;
        let values = |key| self.changed.get(&key).cloned();
        Ok(self.file.rewritten(&self.network, values, &folds)?)
    }
}
