//! Networks from files, wherever they were trained: safetensors, PyTorch state dicts, ONNX.
//!
//! Whatever a file is, it becomes a graph of operations with the names of its tensors ([`graph`]), and that a Burn module
//! with its scale graph ([`net`]). What is changed goes back to its place in the file.

mod entry;
mod fold;
mod graph;
mod growth;
mod known;
mod layout;
mod net;
mod onnx;
mod onnx_fold;
mod onnx_tensors;
mod op;
mod pickle;
mod reads;
pub mod runtime;
mod shapes;
mod tensors;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use gsgd::rescale::{Scaling, apply};
use gsgd::{Rejected, ScaleGraph};

pub use entry::Number;
pub use net::Net;
pub use tensors::{Format, Tensors};

use crate::models::{Arch, NETWORK, network_of};
use fold::Factor;
use graph::Graph;

/// A network and the file it is from.
pub struct NetworkFile {
    /// The network.
    pub net: Net,
    /// The file, to be written with other values.
    pub tensors: Tensors,
    /// What it is, in words.
    pub about: String,
    /// What was taken for granted where the file does not say it.
    pub guess: Option<String>,
    names: HashMap<String, String>,
}

impl NetworkFile {
    /// Reads a network. Where the file does not say what its layers are, `arch` does: an architecture's name, or the path
    /// of a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, its tensors are missing, additional, misshapen or not finite.
    pub fn open(path: &Path, arch: Option<&str>) -> Result<Self> {
        Self::from_tensors(Tensors::open(path)?, arch)
            .with_context(|| format!("in {}", path.display()))
    }

    /// The network of these tensors, of which `arch` says the layers where the file does not.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_tensors(tensors: Tensors, arch: Option<&str>) -> Result<Self> {
        let (graph, about, guess) = graph_of(&tensors, arch)?;
        Ok(Self {
            guess,
            ..Self::new(graph, tensors, about)?
        })
    }

    fn new(graph: Graph, tensors: Tensors, about: String) -> Result<Self> {
        let net = Net::new(&graph, &tensors)?;
        Ok(Self {
            names: net.names(),
            net,
            tensors,
            about,
            guess: None,
        })
    }

    /// Tensors that stay as they are since something beside their layer reads them: name, and what does.
    pub fn held(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let held = self.net.graph().held.iter();
        held.map(|(name, why)| (name.as_str(), why.as_str()))
    }

    /// What stays as it is, and why.
    pub fn remarks(&self) -> Vec<String> {
        const LISTED: usize = 10;
        let held = self.held().take(LISTED).map(|(name, why)| {
            format!("`{name}` stays as it is, and so does the scale of the units around it: {why}")
        });
        let more = self.held().len().saturating_sub(LISTED);
        let more = (more > 0).then(|| format!("{more} more tensors stay as they are"));
        held.chain(more).collect()
    }

    /// The number type of its weights with the fewest digits.
    pub fn number(&self) -> Number {
        let graph = self.net.graph();
        let used = graph.nodes.iter().flat_map(|node| node.op.changing());
        let numbers = used.map(|name| self.tensors.number(name));
        let coarsest = numbers.max_by(|a, b| a.epsilon().total_cmp(&b.epsilon()));
        coarsest.unwrap_or(Number::F32)
    }

    /// The scaling classes.
    ///
    /// # Errors
    /// The layers do not fit together, by the names of the file.
    pub fn scale_graph(&self) -> Result<ScaleGraph> {
        self.net.scale_graph()
    }

    /// The tensor's name in the file for a parameter's, or that of a unit `parameter[index]`.
    pub fn name(&self, path: &str) -> String {
        let (parameter, unit) = path.split_at(path.find('[').unwrap_or(path.len()));
        match self.names.get(parameter) {
            Some(name) => format!("{name}{unit}"),
            None => path.into(),
        }
    }

    /// A message with the file's names.
    pub fn named(&self, message: &str) -> String {
        with_names(&self.names, message)
    }

    /// Parts of the network that no scaling goes through: name, kind.
    pub fn opaque(&self) -> Vec<(String, String)> {
        let opaque = self.net.graph().opaque();
        opaque
            .map(|(name, kind)| (name.into(), kind.into()))
            .collect()
    }

    /// Random inputs, as many as take no more than a moment, each `[examples, values]`.
    pub fn random_inputs(&self, seed: u64) -> Vec<Tensor<2>> {
        use rand::{Rng, SeedableRng};
        let graph = self.net.graph();
        let sizes = graph
            .nodes
            .iter()
            .map(|node| node.shape.iter().product::<usize>());
        let largest = sizes.max().unwrap_or(1).max(1);
        let examples = (EVALUATED / largest).clamp(FEWEST, 64);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let inputs = graph.inputs().map(|shape| {
            let features: usize = shape.iter().product();
            // uniform with variance 1
            let values: Vec<f32> = (0..examples * features)
                .map(|_| 12f32.sqrt() * (rng.random::<f32>() - 0.5))
                .collect();
            Tensor::from_data(
                TensorData::new(values, [examples, features]),
                (&Device::flex(), self.net.dtype()),
            )
        });
        inputs.collect()
    }

    /// The inputs in a safetensors file: a tensor for each input of the network, by its name or, where there is one of
    /// each, by any.
    ///
    /// # Errors
    /// The file cannot be read, or does not fit.
    pub fn inputs_from(&self, path: &Path) -> Result<Vec<Tensor<2>>> {
        let file = Tensors::open(path)?;
        let names: Vec<&str> = file.names().collect();
        let nodes = self.net.graph().nodes.iter();
        let nodes = nodes.filter(|node| matches!(node.op, op::Op::Input { .. }));
        let inputs = nodes.map(|node| {
            let name = match names[..] {
                [only] => only,
                _ => &node.name,
            };
            let values: Vec<f64> = file.values(name)?;
            let features: usize = node.shape.iter().product();
            ensure!(
                !values.is_empty() && values.len().is_multiple_of(features),
                "`{name}` holds {} values, an input of this network has {:?}",
                values.len(),
                node.shape
            );
            let shape = [values.len() / features, features];
            Ok(Tensor::from_data(
                TensorData::new(values, shape),
                (&Device::flex(), self.net.dtype()),
            ))
        });
        let inputs: Result<Vec<_>> = inputs.collect();
        inputs.with_context(|| format!("in {}", path.display()))
    }

    /// The results of these inputs; behind them what functions that level out at the end read, as a softmax does. Those of
    /// an ONNX file are computed by an ONNX runtime from the file as it would be written.
    ///
    /// # Errors
    /// An operation that cannot be computed.
    pub fn outputs(&self, inputs: &[Tensor<2>]) -> Result<Vec<Tensor<2>>> {
        let (values, layer) = self.net.most_values();
        ensure!(
            values <= AT_ONE_TIME,
            "{values} values of an example are there at one time in layer `{layer}`, {AT_ONE_TIME} are allowed"
        );
        match self.tensors.format() {
            Format::Safetensors => self.net.outputs(inputs),
            Format::Onnx => {
                let shapes = self.net.graph().inputs();
                let inputs = inputs.iter().zip(shapes).map(|(x, shape)| runtime::Input {
                    shape: [&x.dims()[..1], shape].concat(),
                    values: x.clone().into_data().iter::<f32>().collect(),
                });
                let inputs: Vec<runtime::Input> = inputs.collect();
                let outputs = runtime::outputs(self.tensors.bytes(), &inputs)?.into_iter();
                let row = |values: Vec<f32>| TensorData::new(values.clone(), [1, values.len()]);
                let outputs = outputs.map(|values| Tensor::from_data(row(values), &Device::flex()));
                Ok(outputs.collect())
            }
        }
    }

    /// The network as `change` makes it, read back from what would be written, and what else it found.
    ///
    /// # Errors
    /// Those of `change`, and a weight that does not fit into the type of its tensor.
    pub fn changed<T>(
        self,
        change: impl FnOnce(Net, &ScaleGraph) -> Result<(Net, T)>,
    ) -> Result<(Self, T)> {
        let scales = self.scale_graph()?;
        let Self {
            net,
            mut tensors,
            about,
            names,
            ..
        } = self;
        // handed over, so that weights are changed in their place
        let (net, found) = change(net, &scales)
            .map_err(|error| anyhow::anyhow!("{}", with_names(&names, &format!("{error:#}"))))?;
        let graph = net.graph().clone();
        net.tensors(|name, values, order| tensors.replace_computed(name, &values, order))?;
        drop(net);
        Ok((Self::new(graph, tensors, about)?, found))
    }

    /// The network to be looked at only: the file's bytes are let go.
    pub fn without_file(mut self) -> Self {
        self.tensors.forget_values();
        self
    }

    /// The same function with batch norms folded into the layers before them, and what puts them back.
    ///
    /// # Errors
    /// There is a batch norm that cannot be folded.
    pub fn folded(self) -> Result<(Self, FoldedNorms)> {
        let graph = self.net.graph().clone();
        let (without, tensors) = fold::fold(&graph, &self.tensors, Factor::Function)?;
        let norms = FoldedNorms {
            graph,
            tensors: self.tensors,
        };
        Ok((Self::new(without, tensors, self.about)?, norms))
    }
}

/// Batch norms that were folded.
pub struct FoldedNorms {
    graph: Graph,
    tensors: Tensors,
}

impl FoldedNorms {
    /// How many.
    pub fn count(&self) -> usize {
        let ops = self.graph.nodes.iter().map(|node| &node.op);
        ops.filter(|op| matches!(op, op::Op::BatchNorm { .. }))
            .count()
    }

    /// The file as it was, with its batch norms, with the weights of `folded`, which is the folded network rescaled by
    /// `scaling`. Running statistics are those of these weights, so that training may go on.
    ///
    /// # Errors
    /// A number does not fit into its tensor.
    pub fn put_back(self, folded: NetworkFile, scaling: &Scaling) -> Result<NetworkFile> {
        let scales = folded.scale_graph()?;
        let biases = scales.edges().iter().filter(|edges| edges.is_bias());
        let scaled = biases.map(|edges| {
            let factors = edges.heads().iter().map(|&head| scaling.factor(head));
            (folded.name(edges.name()), factors.collect())
        });
        let (scaled, about, mut tensors) = (scaled.collect(), folded.about, self.tensors);
        drop(folded.net);
        let (without, weights) = fold::fold(&self.graph, &tensors, Factor::Weights)?;
        let (weights, ()) =
            NetworkFile::new(without, weights, String::new())?.changed(|net, scales| {
                let rescaled = apply(net, scales, scaling);
                Ok((rescaled.map_err(|Rejected { error, .. }| error)?, ()))
            })?;
        fold::unfold(&self.graph, &mut tensors, &weights.tensors, &scaled)?;
        NetworkFile::new(self.graph, tensors, about)
    }
}

/// A message with the file's names in place of the module's paths.
fn with_names(names: &HashMap<String, String>, message: &str) -> String {
    let mut words: Vec<(&String, &String)> = names.iter().collect();
    // `weights.1` is the beginning of `weights.12`
    words.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    let rename = |text: String, (path, name): (&String, &String)| text.replace(path, name);
    words.into_iter().fold(message.to_string(), rename)
}

/// Values in the largest layer of a batch of examples.
const EVALUATED: usize = 1 << 20;
/// Random examples at least.
const FEWEST: usize = 2;
/// Values that are there at one time at most, of one example: 2 GiB of f64 for the fewest.
const AT_ONE_TIME: usize = (2 << 30) / 8 / FEWEST;

/// The graph of a file, what it is in words, and what was guessed.
fn graph_of(tensors: &Tensors, arch: Option<&str>) -> Result<(Graph, String, Option<String>)> {
    let mut guess = None;
    let (mut graph, about) = match (tensors.format(), arch) {
        (Format::Onnx, None) => {
            let graph = onnx::graph(tensors)?;
            let about = format!("ONNX graph of {} operations", graph.nodes.len());
            (graph, about)
        }
        (Format::Onnx, Some(arch)) => {
            bail!("--arch {arch}: an ONNX file says itself what its layers are")
        }
        (_, Some(file)) if file.ends_with(".toml") => {
            (layout::read(Path::new(file), tensors)?, file.to_string())
        }
        (_, Some(arch)) => {
            let arch: Arch = arch.parse().map_err(anyhow::Error::msg)?;
            (known::of_arch(&arch, None, tensors)?, arch.to_string())
        }
        (_, None) => match tensors.metadata(NETWORK) {
            Some(about) => {
                let (arch, images) = network_of(&about)?;
                (
                    known::of_arch(&arch, Some(images), tensors)?,
                    arch.to_string(),
                )
            }
            None => {
                let (graph, said) = known::by_names(tensors)?;
                guess = Some(said);
                (
                    graph,
                    "dense layers with ReLUs between them (a guess)".into(),
                )
            }
        },
    };
    graph.hold_shared(tensors);
    if tensors.format() == Format::Safetensors {
        let used = graph.nodes.iter().flat_map(|node| node.op.tensors());
        let used: HashSet<&str> = used.map(|name| tensors.full_name(name)).collect();
        let spare: Vec<&str> = tensors
            .names()
            .filter(|name| !used.contains(name))
            .collect();
        ensure!(
            spare.is_empty(),
            "tensors that belong to no layer: {}",
            spare.join(", ")
        );
    }
    Ok((graph, about, guess))
}
