//! stub
use crate::number::Number;
use anyhow::Result;
use gsgd_core::graph::{Graph, Value};
use gsgd_core::scales::ParamKey;
use std::collections::BTreeMap;
use std::path::Path;
#[derive(Debug, Clone)]
pub struct OnnxFile;
#[derive(Debug, Clone)]
pub struct OnnxNetwork {
    pub graph: Graph,
}
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    pub input_shapes: BTreeMap<String, Vec<usize>>,
}
impl OnnxFile {
    pub fn open(_: &Path) -> Result<Self> {
        anyhow::bail!("stub")
    }
    pub fn from_bytes(_: Vec<u8>, _: Option<&Path>) -> Result<Self> {
        anyhow::bail!("stub")
    }
    pub fn read(&self, _: &ReadOptions) -> Result<OnnxNetwork> {
        anyhow::bail!("stub")
    }
    pub fn write(&self, _: &Path) -> Result<()> {
        anyhow::bail!("stub")
    }
    pub fn number(&self, _: &OnnxNetwork, _: ParamKey) -> Number {
        Number::F32
    }
    pub fn values(&self, _: &OnnxNetwork, _: ParamKey) -> Result<Vec<f64>> {
        anyhow::bail!("stub")
    }
    pub fn replace(&mut self, _: &mut OnnxNetwork, _: ParamKey, _: &[f64]) -> Result<()> {
        anyhow::bail!("stub")
    }
    pub fn fold(
        &mut self,
        _: &mut OnnxNetwork,
        _: Value,
        _: ParamKey,
        _: ParamKey,
        _: &[f64],
        _: &[f64],
    ) -> Result<()> {
        anyhow::bail!("stub")
    }
    pub fn input_is_whole(&self, _: &str) -> bool {
        false
    }
    pub fn for_the_runtime(&self) -> Result<Vec<u8>> {
        anyhow::bail!("stub")
    }
}
pub fn export(_: &Graph, _: impl Fn(ParamKey) -> Result<Vec<f64>>, _: Number) -> Result<OnnxFile> {
    anyhow::bail!("stub")
}
