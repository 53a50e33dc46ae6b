//! A network and the file it is from.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use gsgd_core::Network;
use gsgd_core::graph::{Graph, Op};
use gsgd_core::matrix::{Dense, Matrix};
use gsgd_core::rescale::{self, Balance, Balanced, Scaling};
use gsgd_core::scales::{CoScaled, ParamKey, ScaleGraph};

use crate::arch::Arch;
use crate::number::Number;
use crate::onnx::{OnnxFile, ReadOptions};
use crate::onnx_store::OnnxStore;
use crate::store::{Format, Store};
use crate::tensors::Tensors;
use crate::{known, layout};

/// The metadata entry of a checkpoint that says which network for which images it is: `resnet:20 3x32x32`.
pub const NETWORK: &str = "network";

/// The metadata entry of a checkpoint with the layers of a network that a TOML file describes.
pub const LAYERS: &str = "layers";

/// What says more of a file than the file does.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The layers of a file without them: an architecture's name, or the path of a TOML file.
    pub arch: Option<String>,
    /// Shapes of an ONNX file's inputs, with their batch, by name.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// The key under which a PyTorch file has its state dict.
    pub key: Option<String>,
}

/// A network and the file it is from.
#[derive(Debug, Clone)]
pub struct NetworkFile {
    graph: Graph,
    pub(crate) store: Store,
    /// What it is, in words.
    pub about: String,
    /// What was taken for granted where the file does not say it.
    pub guess: Option<String>,
    /// Tensors of the file that belong to no layer.
    spare: Vec<String>,
}

impl NetworkFile {
    /// Reads a network.
    ///
    /// # Errors
    /// The file cannot be read, its tensors are missing, additional, misshapen or not finite.
    pub fn open(path: &Path, hints: &Hints) -> Result<Self> {
        let inside = || format!("in {}", path.display());
        if path
            .extension()
            .is_some_and(|extension| extension == "onnx")
        {
            if let Some(arch) = &hints.arch {
                bail!("--arch {arch}: an ONNX file says itself what its layers are");
            }
            let file = OnnxFile::open(path).with_context(inside)?;
            return Self::from_onnx(file, hints).with_context(inside);
        }
        let tensors = Tensors::open(path, hints.key.as_deref())?;
        Self::from_tensors(tensors, hints.arch.as_deref()).with_context(inside)
    }

    /// The network of an ONNX file.
    ///
    /// # Errors
    /// Nothing can be made of it.
    pub fn from_onnx(file: OnnxFile, hints: &Hints) -> Result<Self> {
        let mut options = ReadOptions {
            input_shapes: hints.input_shapes.clone(),
        };
        for (name, sizes) in &mut options.input_shapes {
            // the batch may be left out
            if file.input_rank(name) == Some(sizes.len() + 1) {
                sizes.insert(0, 1);
            }
        }
        let network = file.read(&options)?;
        let graph = network.graph.clone();
        let operations = graph.nodes().iter();
        let operations = operations
            .filter(|node| !matches!(node.op, Op::Param(_)))
            .count();
        Ok(Self {
            about: format!("ONNX graph of {operations} operations"),
            guess: None,
            spare: Vec::new(),
            graph,
            store: Store::Onnx(Box::new(OnnxStore::new(file, network))),
        })
    }

    /// The network of these tensors, of which `arch` says the layers where the file does not.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_tensors(tensors: Tensors, arch: Option<&str>) -> Result<Self> {
        let (mut graph, about, guess) = graph_of(&tensors, arch)?;
        for param in graph.params() {
            let found = tensors.known(&param.name)?;
            ensure!(
                found == param.shape,
                "`{}` has shape {found:?}, {about} has {:?}",
                param.name,
                param.shape
            );
        }
        let keys: BTreeMap<String, ParamKey> = graph
            .params()
            .iter()
            .map(|param| (tensors.full_name(&param.name).to_string(), param.key))
            .collect();
        for (name, other) in tensors.shared() {
            if let Some(&key) = keys.get(name) {
                let why = match name == other {
                    true => "some of its numbers are one in memory".to_string(),
                    false => format!("it shares memory with `{other}`"),
                };
                graph.hold(key, why);
            }
        }
        let spare = tensors.names().filter(|name| !keys.contains_key(*name));
        let spare: Vec<String> = spare.map(String::from).collect();
        let store = Store::from_tensors(tensors, &graph);
        Ok(Self {
            graph,
            store,
            about,
            guess,
            spare,
        })
    }

    pub(crate) fn new(graph: Graph, store: Store, about: String) -> Self {
        Self {
            graph,
            store,
            about,
            guess: None,
            spare: Vec::new(),
        }
    }

    /// Its operations. The key of a parameter is its place in [`Graph::params`], its name that of the file.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What kinds of file it can be written as.
    pub fn formats(&self) -> &'static [Format] {
        self.store.formats()
    }

    /// The scaling classes.
    ///
    /// # Errors
    /// There is no output.
    pub fn scale_graph(&self) -> Result<ScaleGraph> {
        Ok(self.graph.scales(Default::default())?)
    }

    /// Tensors of the file that belong to no layer: they stay as they are.
    pub fn spare(&self) -> &[String] {
        &self.spare
    }

    /// What stays as it is, and why.
    pub fn remarks(&self, scales: &ScaleGraph) -> Vec<String> {
        const LISTED: usize = 10;
        let held = scales.held().take(LISTED).map(|(name, why)| {
            format!("`{name}` stays as it is, and so does the scale of the units around it: {why}")
        });
        let more = scales.held().count().saturating_sub(LISTED);
        let more = (more > 0).then(|| format!("{more} more tensors stay as they are"));
        let spare = (!self.spare.is_empty()).then(|| {
            let listed = self.spare[..self.spare.len().min(LISTED)].join(", ");
            let count = self.spare.len();
            format!("{count} tensors belong to no layer and stay as they are: {listed}")
        });
        held.chain(more).chain(spare).collect()
    }

    /// Parts of the network that nothing is known of: name, kind.
    pub fn opaque(&self) -> Vec<(String, String)> {
        let nodes = self.graph.nodes().iter();
        let opaque = nodes.filter_map(|node| match &node.op {
            Op::Opaque { kind, .. } => Some((node.name.clone(), kind.clone())),
            _ => None,
        });
        opaque.collect()
    }

    /// The number type of its weights with the fewest digits.
    pub fn number(&self) -> Number {
        let numbers = self.graph.params().iter();
        let numbers = numbers.map(|param| self.store.number(param.key));
        let floats = numbers.filter(|number| *number != Number::Other);
        let coarsest = floats.max_by(|a, b| a.epsilon().total_cmp(&b.epsilon()));
        coarsest.unwrap_or(Number::F32)
    }

    /// The values of a parameter.
    ///
    /// # Errors
    /// They are no floating point numbers.
    pub fn values(&self, key: ParamKey) -> Result<Vec<f64>> {
        self.store.values(key)
    }

    /// The weights, in the order of [`ScaleGraph::edges`].
    ///
    /// # Errors
    /// A weight is not finite.
    pub fn weights(&self, scales: &ScaleGraph) -> Result<Vec<Dense<f64>>> {
        let edges = scales.edges().iter();
        let weights = edges.map(|edges| {
            let values = self.values(edges.key())?;
            ensure!(
                values.iter().all(|value| value.is_finite()),
                "`{}` holds values that are not finite",
                edges.name()
            );
            Ok(Dense::new(edges.dims(), values))
        });
        weights.collect()
    }

    /// The tensors that are scaled along with channels, in the order of [`ScaleGraph::co_scaled`]; variances with the epsilon
    /// that is added to them.
    ///
    /// # Errors
    /// They are no floating point numbers.
    pub fn co_scaled(&self, scales: &ScaleGraph) -> Result<Vec<Vec<f64>>> {
        let norms = self.norms();
        let tensors = scales.co_scaled().iter();
        let values = tensors.map(|tensor| {
            let mut values = self.values(tensor.key())?;
            if let Some(epsilon) = norms.get(&tensor.key()) {
                values.iter_mut().for_each(|value| *value += epsilon);
            }
            Ok(values)
        });
        values.collect()
    }

    /// The epsilons of batch norms, by their running variances.
    fn norms(&self) -> HashMap<ParamKey, f64> {
        let nodes = self.graph.nodes().iter();
        let norms = nodes.filter_map(|node| {
            let Op::BatchNorm { epsilon } = node.op else {
                return None;
            };
            match self.graph.node(node.reads[4]).op {
                Op::Param(key) => Some((key, epsilon)),
                _ => None,
            }
        });
        norms.collect()
    }

    /// A scaling with no factor before a batch norm so small that its variance would be negative: epsilon, which does not scale,
    /// is a part of what the batch norm divides by. Bounds are powers of two.
    fn bounded(&self, scales: &ScaleGraph, scaling: &Scaling) -> Result<Scaling> {
        let norms = self.norms();
        let mut bounded = scaling.clone();
        for tensor in scales.co_scaled() {
            let Some(epsilon) = norms.get(&tensor.key()) else {
                continue;
            };
            for (value, &class) in self.values(tensor.key())?.iter().zip(tensor.classes()) {
                let least = (epsilon / (value + epsilon)).sqrt().log2().ceil().exp2();
                if !class.is_ground() && least.is_normal() && bounded.factor(class) < least {
                    bounded.set(class, least);
                }
            }
        }
        Ok(bounded)
    }

    /// A tensor that is scaled along with its channels. Of a variance the sum with epsilon is scaled.
    pub(crate) fn scaled_along(&self, tensor: &CoScaled, scaling: &Scaling) -> Result<Vec<f64>> {
        let epsilon = self.norms().get(&tensor.key()).copied().unwrap_or(0.0);
        let values = self.values(tensor.key())?.into_iter();
        let factors = scaling.of_co_scaled(tensor);
        let scaled = values.zip(factors).map(|(value, c)| match epsilon {
            0.0 => c * value,
            _ => (c * (value + epsilon) - epsilon).max(0.0),
        });
        Ok(scaled.collect())
    }

    /// The same function with every weight multiplied by `c[head] / c[tail]`.
    ///
    /// # Errors
    /// A weight leaves the range of its type.
    pub fn rescaled(mut self, scales: &ScaleGraph, scaling: &Scaling) -> Result<Self> {
        let scaling = self.bounded(scales, scaling)?;
        let weights = self.weights(scales)?;
        let factors = scaling.of_weights(Network {
            graph: scales,
            weights: &weights,
        })?;
        let scaled = weights.into_iter().zip(&factors).zip(scales.edges());
        for ((weight, factors), edges) in scaled {
            self.store
                .replace(edges.key(), weight.scale(factors).entries())?;
        }
        for tensor in scales.co_scaled() {
            let values = self.scaled_along(tensor, &scaling)?;
            self.store.replace(tensor.key(), &values)?;
        }
        Ok(self)
    }

    /// How the network is balanced.
    ///
    /// # Errors
    /// A weight is not finite.
    pub fn balance(&self, scales: &ScaleGraph, until: Balance) -> Result<Balanced> {
        let weights = &self.weights(scales)?;
        let graph = scales;
        Ok(rescale::balance(Network { graph, weights }, until)?)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The folder is not writable, or the disk full.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.store.write(path)
    }
}

/// The graph of a file of tensors, what it is in words, and what was guessed.
fn graph_of(tensors: &Tensors, arch: Option<&str>) -> Result<(Graph, String, Option<String>)> {
    if let (None, Some(text)) = (arch, tensors.metadata(LAYERS)) {
        let graph = layout::parse(&text, tensors).context("the layers in its metadata")?;
        return Ok((graph, "layers as its metadata say".into(), None));
    }
    let (graph, about) = match arch {
        Some(file) if file.ends_with(".toml") => {
            (layout::read(Path::new(file), tensors)?, file.to_string())
        }
        Some(arch) => {
            let arch: Arch = arch.parse().map_err(anyhow::Error::msg)?;
            (known::of_arch(&arch, None, tensors)?, arch.to_string())
        }
        None => match tensors.metadata(NETWORK) {
            Some(about) => {
                let (arch, images) = known::network_of(&about)?;
                let graph = known::of_arch(&arch, Some(images), tensors)?;
                (graph, arch.to_string())
            }
            None => {
                let (graph, said) = known::by_names(tensors)?;
                let about = "dense layers with ReLUs between them (a guess)".to_string();
                return Ok((graph, about, Some(said)));
            }
        },
    };
    Ok((graph, about, None))
}
