//! Saving and loading all that a run needs to go on bit for bit.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::tensor::{Bytes, DType, Tensor, TensorData};
use burn_pack::{Reader, Scalar, Writer};
use gsgd_core::Moments;
use gsgd_core::chart::{Chart, Factors, NormChart, PathChart, PathChartState};
use gsgd_core::matrix::Rule;
use gsgd_core::scales::{ParamEdges, ScaleGraph};
use tempfile::NamedTempFile;

use super::GSpaceConfig;
use super::gspace::{GSpace, Inner};
use crate::error::Error;
use crate::graph::Homogeneous;
use crate::matrix::{BurnMatrix, Execution};
use crate::params;
use crate::skeleton::{Edge, SkeletonTree};

const FORMAT: u64 = 4;
/// Bytes of the CRC-32 at the end, of all before it.
const SEAL: usize = 4;

impl GSpace {
    /// The optimiser's state: skeleton, floor reference, normalisation and the inner optimiser's state.
    ///
    /// Parameters go by their paths in the module, so that the state fits a model that was built anew. It ends in a checksum.
    ///
    /// # Errors
    /// The inner optimiser's state cannot be written.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        let mut bytes = self.writer()?.into_bytes().map_err(unfit)?;
        let seal = crc32fast::hash(&bytes).to_le_bytes();
        bytes.extend_from_byte_slice(&seal);
        Ok(bytes)
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

    fn writer(&self) -> Result<Writer, Error> {
        let mut tensors = Vec::new();
        let mut scalars = vec![("format".to_string(), Scalar::from(FORMAT))];
        let mut metadata = vec![("scale_graph".to_string(), signature(self.scale_graph()))];
        match self.space.chart() {
            Chart::Norm(_) => metadata.push(("chart".into(), "norm".into())),
            Chart::Path(chart) => {
                metadata.push(("chart".into(), "skeleton".into()));
                let PathChartState { tree, floor, sizes } = chart.state();
                tensors.push(integers("skeleton.in", &tree.ins));
                tensors.push(integers("skeleton.out", &tree.outs));
                if let Some((tau, at_start)) = floor {
                    scalars.push(("floor.tau".into(), Scalar::from(tau)));
                    tensors.push(numbers("floor.at_start", &at_start));
                }
                if let Some(Factors { tail, head }) = sizes {
                    tensors.push(numbers("normalisation.tail", &tail));
                    tensors.push(numbers("normalisation.head", &head));
                }
            }
        }
        if let Inner::Moments(moments, _) = &self.inner {
            scalars.push(("moments.time".into(), Scalar::from(moments.time() as u64)));
            for (edges, of) in self.scale_graph().edges().iter().zip(moments.of_params()) {
                for (at, moment) in of.iter().enumerate() {
                    let data = Tensor::from(moment.clone()).into_data();
                    tensors.push(pack(&format!("moments.{at}.{}", edges.name()), data));
                }
            }
        }
        if let Inner::Lifted(optim) | Inner::Moments(_, optim) = &self.inner {
            let bytes = optim.to_record().into_bytes().map_err(unfit)?;
            let len = bytes.len();
            let data = burn_pack::Tensor::new("inner".into(), DType::U8, [len], None, bytes);
            tensors.push(data);
            for (key, name) in self.scale_graph().all_parameters() {
                metadata.push((format!("parameter.{name}"), key.0.to_string()));
            }
        }
        let writer = Writer::new(tensors);
        let writer = scalars
            .iter()
            .fold(writer, |w, (key, value)| w.with_scalar(key, *value));
        Ok(metadata
            .iter()
            .fold(writer, |w, (key, value)| w.with_metadata(key, value)))
    }
}

impl GSpaceConfig {
    /// The optimiser as it was saved, for the model it was saved with (or one built anew with the same weights).
    ///
    /// # Errors
    /// The file is not such a state, or was made for another scale graph or with other coordinates.
    pub fn load<M: Module + Homogeneous>(
        &self,
        path: impl AsRef<Path>,
        model: &M,
    ) -> Result<GSpace, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| file(path, error))?;
        self.from_bytes(Bytes::from_bytes_vec(bytes), model)
            .map_err(|error| match error {
                Error::State { reason } => file(path, reason),
                other => other,
            })
    }

    /// As [`load`](Self::load), from [`GSpace::to_bytes`].
    ///
    /// # Errors
    /// The bytes are not such a state, or were made for another scale graph or with other coordinates.
    #[allow(clippy::wrong_self_convention)]
    pub fn from_bytes<M: Module + Homogeneous>(
        &self,
        bytes: Bytes,
        model: &M,
    ) -> Result<GSpace, Error> {
        let graph = self.graph(model)?;
        params::read(model, &graph, Execution::Fused)?;
        let state = State::read(unsealed(bytes)?)?;
        let saved = state
            .metadata
            .get("scale_graph")
            .cloned()
            .unwrap_or_default();
        if saved != signature(&graph) {
            return Err(unfit(format!(
                "it was saved for the parameters {saved}, the model has {}",
                signature(&graph)
            )));
        }
        let chart = state.chart(&graph)?;
        let mut optim = self.assemble(graph, chart, self.inner().clone());
        let graph = optim.space.graph();
        match &mut optim.inner {
            Inner::Descent => {}
            Inner::Moments(moments, burn) => {
                let weights = params::read(model, graph, self.execution())?;
                *burn = burn.clone().load_record(state.inner(graph)?);
                *moments = state.moments(moments.rule(), graph, &weights)?;
            }
            Inner::Lifted(optim) => {
                *optim = optim.clone().load_record(state.inner(graph)?);
            }
        }
        Ok(optim)
    }
}

/// What a state file holds before its checksum.
fn unsealed(bytes: Bytes) -> Result<Bytes, Error> {
    let damaged =
        || unfit("its checksum does not fit: it is cut off, damaged, or of an earlier version");
    let end = bytes.len().checked_sub(SEAL).ok_or_else(damaged)?;
    if crc32fast::hash(&bytes[..end]).to_le_bytes() != bytes[end..] {
        return Err(damaged());
    }
    bytes.shared().view(0, end).map_err(|_| damaged())
}

/// A state file taken apart.
struct State {
    tensors: HashMap<String, TensorData>,
    scalars: BTreeMap<String, Scalar>,
    metadata: BTreeMap<String, String>,
}

impl State {
    fn read(bytes: Bytes) -> Result<Self, Error> {
        let reader = Reader::from_bytes(bytes).map_err(unfit)?;
        let scalars = reader.scalars().clone();
        let metadata = reader.metadata().clone();
        let format = scalars.get("format").copied();
        if format != Some(Scalar::from(FORMAT)) {
            return Err(unfit(format!(
                "format {format:?}, this version reads {FORMAT}"
            )));
        }
        let mut tensors = HashMap::new();
        for tensor in reader.into_tensors().map_err(unfit)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(unfit)?;
            tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
        }
        Ok(Self {
            tensors,
            scalars,
            metadata,
        })
    }

    fn chart(&self, graph: &ScaleGraph) -> Result<Chart, Error> {
        match self.metadata.get("chart").map(String::as_str) {
            Some("norm") => return Ok(Chart::Norm(NormChart::new(graph))),
            Some("skeleton") => {}
            other => return Err(unfit(format!("unknown coordinates {other:?}"))),
        }
        let tree = SkeletonTree {
            ins: self.edges("skeleton.in")?,
            outs: self.edges("skeleton.out")?,
        };
        let floor = self.scalars.get("floor.tau").map(|tau| {
            let tau = f64::try_from(*tau).map_err(|_| unfit("floor.tau is no number"))?;
            Ok::<_, Error>((tau, self.numbers("floor.at_start")?))
        });
        let sized = self.tensors.contains_key("normalisation.tail");
        let sizes = sized.then(|| {
            Ok::<_, Error>(Factors {
                tail: self.numbers("normalisation.tail")?,
                head: self.numbers("normalisation.head")?,
            })
        });
        let state = PathChartState {
            tree,
            floor: floor.transpose()?,
            sizes: sizes.transpose()?,
        };
        let chart = PathChart::from_state(graph, state)?;
        Ok(Chart::Path(Box::new(chart)))
    }

    fn tensor(&self, name: &str) -> Result<&TensorData, Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| unfit(format!("`{name}` is missing")))
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>, Error> {
        let data = self.tensor(name)?;
        match data.dtype() {
            DType::F64 => Ok(data.iter::<f64>().collect()),
            other => Err(unfit(format!("`{name}` holds {other:?}"))),
        }
    }

    fn edges(&self, name: &str) -> Result<Vec<Option<Edge>>, Error> {
        let data = self.tensor(name)?;
        if data.dtype() != DType::I64 {
            return Err(unfit(format!("`{name}` holds {:?}", data.dtype())));
        }
        let values: Vec<i64> = data.iter::<i64>().collect();
        let edge = |e: &[i64]| {
            let index = |i: usize| usize::try_from(e[i]).ok();
            Some(Edge {
                param: index(0)?,
                tail: index(1)?,
                head: index(2)?,
            })
        };
        Ok(values.chunks_exact(3).map(edge).collect())
    }

    /// The moments of every parameter, like its weights.
    fn moments(
        &self,
        rule: Rule,
        graph: &ScaleGraph,
        weights: &[BurnMatrix],
    ) -> Result<Moments<BurnMatrix>, Error> {
        let time = self.scalars.get("moments.time");
        let time = time.and_then(|time| u64::try_from(*time).ok());
        let time = time.and_then(|time| i32::try_from(time).ok());
        let time = time.ok_or_else(|| unfit("it holds no moments"))?;
        if time == 0 {
            return Ok(Moments::new(rule));
        }
        let moment = |at: usize, name: &str, w: &BurnMatrix| {
            let name = format!("moments.{at}.{name}");
            let data = self.tensor(&name)?;
            let like = Tensor::from(w.clone());
            if data.dtype() != like.dtype() || data.shape().to_vec() != like.dims() {
                return Err(unfit(format!(
                    "`{name}` holds {:?} {:?}",
                    data.dtype(),
                    data.shape()
                )));
            }
            let moment = Tensor::<2>::from_data(data.clone(), (&like.device(), like.dtype()));
            Ok(BurnMatrix::new(moment, like.dims(), w.execution()))
        };
        let all = graph.edges().iter().zip(weights).map(|(edges, w)| {
            let moments = 0..rule.moments();
            moments.map(|at| moment(at, edges.name(), w)).collect()
        });
        let all = all.collect::<Result<_, Error>>()?;
        Ok(Moments::saved(rule, time, all))
    }

    /// The inner optimiser's record, with the ids of the present model's parameters.
    fn inner(&self, graph: &ScaleGraph) -> Result<OptimizerRecord, Error> {
        let data = self
            .tensors
            .get("inner")
            .ok_or_else(|| unfit("it holds no state of an inner optimiser"))?;
        let reader =
            Reader::from_bytes(Bytes::from_bytes_vec(data.as_bytes().to_vec())).map_err(unfit)?;
        let mut present = HashMap::new();
        for (key, name) in graph.all_parameters() {
            if let Some(saved) = self.metadata.get(&format!("parameter.{name}")) {
                present.insert(saved.clone(), key.0);
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

/// A row `[edges, tail, head]` per class, -1 where it has no such edge.
fn integers(name: &str, edges: &[Option<Edge>]) -> burn_pack::Tensor {
    let flat = edges
        .iter()
        .flat_map(|edge| edge.map_or([-1; 3], |e| [e.param as i64, e.tail as i64, e.head as i64]));
    pack(
        name,
        TensorData::new(flat.collect::<Vec<_>>(), [edges.len(), 3]),
    )
}

fn numbers(name: &str, values: &[f64]) -> burn_pack::Tensor {
    pack(name, TensorData::new(values.to_vec(), [values.len()]))
}

fn pack(name: &str, data: TensorData) -> burn_pack::Tensor {
    let (bytes, shape, dtype) = data.into_parts();
    burn_pack::Tensor::new(name.into(), dtype, shape, None, bytes)
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
