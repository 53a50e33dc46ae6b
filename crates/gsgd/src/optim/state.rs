//! Saving and loading all that a run needs to go on bit for bit.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::tensor::{Bytes, DType, Tensor, TensorData};
use burn_pack::{Reader, Writer};
use gsgd_core::Moments;
use gsgd_core::chart::{Chart, NormChart, PathChart, PathChartState};
use gsgd_core::graph::Graph;
use gsgd_core::matrix::Rule;
use gsgd_core::scales::{ParamEdges, ScaleGraph};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::GSpaceConfig;
use super::gspace::{GSpace, Inner};
use crate::error::Error;
use crate::matrix::BurnMatrix;
use crate::params;

const FORMAT: u32 = 4;

/// What a state file holds, before a checksum of it.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    /// Names and shapes of the graph's parameters.
    parameters: String,
    /// What the chart knows of the start; nothing for norm coordinates.
    chart: Option<PathChartState>,
    /// Steps taken, and the moments of every parameter.
    moments: Option<(i32, Vec<Vec<TensorData>>)>,
    /// The record of the inner optimiser.
    inner: Option<Record>,
}

/// A record of one of Burn's optimisers, in which parameters go by their ids.
#[derive(Serialize, Deserialize)]
struct Record {
    bytes: Vec<u8>,
    /// The parameters' ids, by their paths in the module.
    ids: BTreeMap<String, u64>,
}

impl GSpace {
    /// The optimiser's state: skeleton, floor reference, normalisation and the inner optimiser's state.
    ///
    /// Parameters go by their paths in the module, so that the state fits a model that was built anew. It ends in a checksum.
    ///
    /// # Errors
    /// The inner optimiser's state cannot be written.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        let graph = self.scale_graph();
        let moments = match &self.inner {
            Inner::Moments(moments, _) => {
                let data = |moment: &BurnMatrix| Tensor::from(moment.clone()).into_data();
                let of = moments.of_params().iter();
                let of = of.map(|of| of.iter().map(data).collect());
                Some((moments.time(), of.collect()))
            }
            _ => None,
        };
        let inner = match &self.inner {
            Inner::Lifted(optim) | Inner::Moments(_, optim) => {
                let bytes = optim.to_record().into_bytes().map_err(unfit)?.to_vec();
                let ids = graph.all_parameters();
                let ids = ids.map(|(key, name)| (name.into(), key.0)).collect();
                Some(Record { bytes, ids })
            }
            Inner::Descent => None,
        };
        let state = State {
            format: FORMAT,
            parameters: signature(graph),
            chart: match self.space.chart() {
                Chart::Path(chart) => Some(chart.state().clone()),
                Chart::Norm(_) => None,
            },
            moments,
            inner,
        };
        let mut bytes = postcard::to_stdvec(&state).map_err(unfit)?;
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        Ok(Bytes::from_bytes_vec(bytes))
    }

    /// Writes [`to_bytes`](Self::to_bytes) to a file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let write = || -> std::io::Result<()> {
            let mut whole = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            whole.write_all(&bytes)?;
            whole.as_file().sync_all()?;
            whole.persist(path)?;
            Ok(())
        };
        write().map_err(|error| file(path, error))
    }
}

#[allow(clippy::wrong_self_convention)]
impl GSpaceConfig {
    /// The optimiser as it was saved, for the model it was saved with (or one built anew with the same weights), and the
    /// model's graph ([`capture`](crate::capture)).
    ///
    /// # Errors
    /// The file is not such a state, or was made for another scale graph or with other coordinates.
    pub fn load<M: Module>(
        &self,
        path: impl AsRef<Path>,
        model: &M,
        graph: &Graph,
    ) -> Result<GSpace, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| file(path, error))?;
        self.from_bytes(Bytes::from_bytes_vec(bytes), model, graph)
            .map_err(|error| match error {
                Error::State { reason } => file(path, reason),
                other => other,
            })
    }

    /// As [`load`](Self::load), from [`GSpace::to_bytes`].
    ///
    /// # Errors
    /// The bytes are not such a state, or were made for another scale graph or with other coordinates.
    pub fn from_bytes<M: Module>(
        &self,
        bytes: Bytes,
        model: &M,
        graph: &Graph,
    ) -> Result<GSpace, Error> {
        self.from_renamed(bytes, model, graph, str::to_string)
    }

    /// As [`from_bytes`](Self::from_bytes), for a model whose parameters had other names when the state was made: `name_now`
    /// gives those that they have now.
    ///
    /// # Errors
    /// As there.
    pub fn from_renamed<M: Module>(
        &self,
        bytes: Bytes,
        model: &M,
        graph: &Graph,
        name_now: impl Fn(&str) -> String,
    ) -> Result<GSpace, Error> {
        let graph = self.scales(graph)?;
        let weights = params::read(model, &graph, self.execution())?;
        let state = State::read(&bytes)?.renamed(name_now);
        if state.parameters != signature(&graph) {
            return Err(unfit(format!(
                "it was saved for the parameters {}, the model has {}",
                state.parameters,
                signature(&graph)
            )));
        }
        if state.chart.is_none() != self.has_norm_coordinates() {
            return Err(unfit("it was saved with other coordinates"));
        }
        let chart = match state.chart.clone() {
            Some(chart) => {
                let chart = PathChart::from_state(&graph, chart).map_err(unfit)?;
                Chart::Path(Box::new(chart))
            }
            None => Chart::Norm(NormChart::new(&graph)),
        };
        let mut optim = self.assemble(graph, chart, self.inner().clone());
        let graph = optim.space.graph();
        match &mut optim.inner {
            Inner::Descent => {}
            Inner::Moments(moments, burn) => {
                *burn = burn.clone().load_record(state.record(graph)?);
                *moments = state.moments(moments.rule(), graph, &weights)?;
            }
            Inner::Lifted(optim) => {
                *optim = optim.clone().load_record(state.record(graph)?);
            }
        }
        Ok(optim)
    }
}

impl State {
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let damaged =
            || unfit("its checksum does not fit: it is cut off, damaged, or of an earlier version");
        let (whole, seal) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32fast::hash(whole).to_le_bytes() != *seal {
            return Err(damaged());
        }
        let state: Self = postcard::from_bytes(whole).map_err(unfit)?;
        match state.format {
            FORMAT => Ok(state),
            other => Err(unfit(format!(
                "format {other}, this version reads {FORMAT}"
            ))),
        }
    }

    /// With the names that parameters have now.
    fn renamed(mut self, name_now: impl Fn(&str) -> String) -> Self {
        let parameters =
            self.parameters
                .split("; ")
                .map(|parameter| match parameter.split_once(' ') {
                    Some((name, shape)) => format!("{} {shape}", name_now(name)),
                    None => parameter.to_string(),
                });
        self.parameters = parameters.collect::<Vec<_>>().join("; ");
        if let Some(record) = &mut self.inner {
            let ids = std::mem::take(&mut record.ids).into_iter();
            record.ids = ids.map(|(name, id)| (name_now(&name), id)).collect();
        }
        self
    }

    /// The moments of every parameter, like its weights.
    fn moments(
        &self,
        rule: Rule,
        graph: &ScaleGraph,
        weights: &[BurnMatrix],
    ) -> Result<Moments<BurnMatrix>, Error> {
        let saved = self.moments.as_ref();
        let (time, of) = saved.ok_or_else(|| unfit("it holds no moments"))?;
        match *time {
            0 => return Ok(Moments::new(rule)),
            1.. => {}
            _ => return Err(unfit(format!("it was saved after {time} steps"))),
        }
        let moment = |data: &TensorData, edges: &ParamEdges, w: &BurnMatrix| {
            let like = Tensor::from(w.clone());
            if data.dtype() != like.dtype() || data.shape().to_vec() != like.dims() {
                let (name, shape) = (edges.name(), data.shape());
                let found = format!("moments of `{name}` are {:?} {shape:?}", data.dtype());
                return Err(unfit(found));
            }
            let moment = Tensor::<2>::from_data(data.clone(), (&like.device(), like.dtype()));
            Ok(BurnMatrix::new(moment, like.dims(), w.execution()))
        };
        if of.len() != weights.len() || of.iter().any(|of| of.len() != rule.moments()) {
            return Err(unfit("its moments are those of another rule"));
        }
        let params = of.iter().zip(graph.edges()).zip(weights);
        let all = params.map(|((of, edges), w)| {
            let moments = of.iter().map(|data| moment(data, edges, w));
            moments.collect::<Result<Vec<_>, Error>>()
        });
        Ok(Moments::saved(rule, *time, all.collect::<Result<_, _>>()?))
    }

    /// The inner optimiser's record, with the ids of the present model's parameters.
    fn record(&self, graph: &ScaleGraph) -> Result<OptimizerRecord, Error> {
        let record = self.inner.as_ref();
        let Record { bytes, ids } =
            record.ok_or_else(|| unfit("it holds no state of an inner optimiser"))?;
        let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes.clone())).map_err(unfit)?;
        let mut present = HashMap::new();
        for (key, name) in graph.all_parameters() {
            if let Some(saved) = ids.get(name) {
                present.insert(saved.to_string(), key.0);
            }
        }
        let renamed = |name: &str| {
            let (id, field) = name.split_once('.').unwrap_or((name, ""));
            let id = *present
                .get(id)
                .ok_or_else(|| unfit(format!("`{name}` belongs to no parameter of the model")))?;
            let name = match field {
                "" => id.to_string(),
                field => format!("{id}.{field}"),
            };
            Ok::<_, Error>((id, name))
        };
        let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
        let mut tensors = Vec::new();
        for tensor in reader.into_tensors().map_err(unfit)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(unfit)?;
            if dtype.is_float() && dtype != DType::F32 {
                return Err(unfit(format!(
                    "it holds an optimiser's state in {dtype:?}, and Burn restores such states in f32"
                )));
            }
            let (id, name) = renamed(&name)?;
            tensors.push(burn_pack::Tensor::new(name, dtype, shape, Some(id), bytes));
        }
        let mut writer = Writer::new(tensors);
        for (key, value) in &scalars {
            writer = writer.with_scalar(&renamed(key)?.1, *value);
        }
        for (key, value) in &metadata {
            writer = writer.with_metadata(&renamed(key)?.1, value);
        }
        let bytes = writer.into_bytes().map_err(unfit)?;
        OptimizerRecord::from_bytes(bytes).map_err(unfit)
    }
}

/// Names and shapes of the graph's parameters.
fn signature(graph: &ScaleGraph) -> String {
    let parameter = |edges: &ParamEdges| format!("{} {:?}", edges.name(), edges.shape());
    let parameters: Vec<String> = graph.edges().iter().map(parameter).collect();
    parameters.join("; ")
}

fn unfit(reason: impl std::fmt::Display) -> Error {
    Error::State {
        reason: reason.to_string(),
    }
}

fn file(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::File {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}
