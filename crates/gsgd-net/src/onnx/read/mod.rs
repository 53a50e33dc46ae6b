//! From a file to a graph of operations.
//!
//! - `inputs`: the shapes of the inputs;
//! - `things`: what the names of a file stand for;
//! - `known`, `compute`: numbers that are known, as sizes are;
//! - `layers`, `norms`, `pools`, `views`, `parts`, `elements`: operations;
//! - `opaque`: all others, and the shapes of their results.

mod compute;
mod elements;
mod inputs;
mod known;
mod layers;
mod norms;
mod opaque;
mod parts;
mod pools;
mod things;
mod views;

use std::collections::{BTreeMap, HashMap, HashSet};

use gsgd_core::graph::{Graph, Op, Value};
use gsgd_core::scales::ParamKey;

use super::error::{OnnxError, invalid};
use super::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::{OnnxNetwork, ParamSource, Place};
use things::{Root, Thing};

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Shapes of inputs with their batch, by their names: for those of which the file says no sizes.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
}

/// A node and its place.
#[derive(Clone, Copy)]
struct At<'m> {
    index: usize,
    proto: &'m NodeProto,
}

impl<'m> std::ops::Deref for At<'m> {
    type Target = NodeProto;

    fn deref(&self) -> &NodeProto {
        self.proto
    }
}

/// What a node makes, in the order of its outputs.
type Made = Option<Vec<Thing>>;

struct Reader<'m> {
    file: &'m GraphProto,
    graph: Graph,
    params: Vec<ParamSource>,
    /// The tensors of the file, and those that are computed of known numbers.
    roots: Vec<Root<'m>>,
    things: HashMap<&'m str, Thing>,
    infos: HashMap<&'m str, &'m ValueInfoProto>,
    /// Sizes by their names.
    symbols: HashMap<&'m str, usize>,
    /// The version of the operations.
    opset: i64,
    /// Whether inputs may have other sizes.
    varies: bool,
    code: Code,
    /// Operations that the file defines.
    functions: HashSet<(&'m str, &'m str)>,
    /// Tensors that stay as they are, and why.
    held: HashMap<usize, String>,
    /// Tensors that are read where the graph does not show it.
    elsewhere: HashSet<usize>,
    /// The values of tensors, by the node and the place where they are read.
    reads: HashMap<(usize, usize), Value>,
    /// Slopes below zero, which never change, by their tensor.
    slopes: HashMap<usize, ParamKey>,
    /// The nodes of the file that values come from, by the first name that they give.
    origins: HashMap<Value, String>,
    /// Whether values depend on inputs.
    depends: Vec<bool>,
    notes: Vec<String>,
}

/// The nodes, by the first value that they give, and the places where they read numbers that are a part of the code.
type Code = HashSet<(String, usize)>;

/// Reads the model.
pub(super) fn read(model: &ModelProto, options: &ReadOptions) -> Result<OnnxNetwork, OnnxError> {
    let network = read_with(model, options, Code::new())?;
    let code = code(&network)?;
    match code.is_empty() {
        true => Ok(network),
        false => read_with(model, options, code),
    }
}

/// Single numbers that are written into the code and added where nothing can be rescaled, as to a variance.
fn code(network: &OnnxNetwork) -> Result<Code, OnnxError> {
    let single = |key: ParamKey| {
        let tensor = network.graph.tensor(key)?;
        let source = network.param(key)?;
        let is_single = tensor.shape.iter().all(|&size| size == 1);
        (is_single && matches!(source.place, Place::Constant(_))).then_some(source)
    };
    let keys = network.graph.params().iter().map(|param| param.key);
    if keys.filter_map(single).next().is_none() {
        return Ok(Code::new());
    }
    let scales = network.graph.scales(Default::default())?;
    let edges = scales.edges().iter();
    let ground = edges.filter(|edges| edges.heads().iter().all(|head| head.is_ground()));
    let sources = ground.filter_map(|edges| single(edges.key()));
    Ok(sources
        .map(|source| (source.reader.clone(), source.input))
        .collect())
}

fn read_with(
    model: &ModelProto,
    options: &ReadOptions,
    code: Code,
) -> Result<OnnxNetwork, OnnxError> {
    let Some(file) = &model.graph else {
        return Err(invalid("the model", "it has no graph"));
    };
    let mut sets = model.opset_import.iter();
    let own = sets.find(|set| is_standard(set.domain.as_deref().unwrap_or_default()));
    let functions = model.functions.iter().map(|function| {
        (
            function.domain.as_deref().unwrap_or_default(),
            function.name.as_deref().unwrap_or_default(),
        )
    });
    let mut reader = Reader {
        file,
        graph: Graph::new(),
        params: Vec::new(),
        roots: Vec::new(),
        things: HashMap::new(),
        infos: HashMap::new(),
        symbols: HashMap::new(),
        opset: own.and_then(|set| set.version).unwrap_or(1),
        varies: false,
        code,
        functions: functions.collect(),
        held: HashMap::new(),
        elsewhere: HashSet::new(),
        reads: HashMap::new(),
        slopes: HashMap::new(),
        origins: HashMap::new(),
        depends: Vec::new(),
        notes: Vec::new(),
    };
    for info in file.value_info.iter().chain(&file.output) {
        reader.infos.insert(name_of(info), info);
    }
    reader.tensors()?;
    reader.inputs(options)?;
    reader.check_names()?;
    for (index, proto) in file.node.iter().enumerate() {
        reader.node(At { index, proto })?;
    }
    reader.named(model);
    reader.finish()
}

/// Whether a domain's operations are ONNX's own.
fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn name_of(info: &ValueInfoProto) -> &str {
    info.name.as_deref().unwrap_or_default()
}

impl<'m> Reader<'m> {
    /// Refuses a file in which a value is given twice, or read before it is there.
    fn check_names(&self) -> Result<(), OnnxError> {
        let mut known: HashSet<&str> = self.things.keys().copied().collect();
        for node in &self.file.node {
            let place = || format!("{} `{}`", node.op(), node.label());
            let mut reads = node.input.iter().filter(|name| !name.is_empty());
            if let Some(name) = reads.find(|name| !known.contains(name.as_str())) {
                let what = format!("it reads `{name}`, which nothing before it gives");
                return Err(invalid(place(), what));
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if !known.insert(name) {
                    let what = format!("it gives `{name}`, which is there already");
                    return Err(invalid(place(), what));
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, node: At<'m>) -> Result<(), OnnxError> {
        let made = match self.is_known(node) {
            true if node.op() == "Constant" => self.constant_node(node)?,
            true => match self.compute(node) {
                Some(made) => Some(made),
                None => self.known(node),
            },
            false => None,
        };
        let mut made = made.unwrap_or_default().into_iter();
        let mut left = Vec::new();
        for (place, name) in node.proto.output.iter().enumerate() {
            match made.next() {
                None => left.push(place),
                Some(thing) => {
                    if let Thing::Value(value) | Thing::Unknown(value) = thing {
                        let first = node.first_output().to_string();
                        self.origins.entry(value).or_insert(first);
                    }
                    self.things.insert(name, thing);
                }
            }
        }
        left.retain(|&place| !node.output[place].is_empty());
        if !left.is_empty() {
            self.opaque(node, &left)?;
        }
        self.note_reads(node);
        Ok(())
    }

    /// Notes the tensors that a node reads as numbers, rather than as values of the graph.
    fn note_reads(&mut self, node: At<'m>) {
        if let "Shape" | "Size" = node.op() {
            return;
        }
        let given = self.things.get(node.proto.first_output());
        let given = match given {
            Some(Thing::Tensor(view)) => Some(view.root),
            _ => None,
        };
        for at in 0..node.input.len() {
            if let Some(Thing::Tensor(view)) = self.thing(node, at)
                && given != Some(view.root)
                && !self.reads.contains_key(&(node.index, at))
            {
                self.elsewhere.insert(view.root);
            }
        }
    }

    /// Whether the node's operation is one of ONNX's own.
    fn is_known(&self, node: At) -> bool {
        let domain = node.domain.as_deref().unwrap_or_default();
        let own = is_standard(domain)
            || (domain == "com.microsoft" && node.op() == "SimplifiedLayerNormalization")
            || (domain == "com.microsoft" && node.op() == "Gelu");
        own && !self.functions.contains(&(domain, node.op()))
    }

    /// The node as operations of the core.
    fn known(&mut self, node: At<'m>) -> Made {
        match node.proto.op() {
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "Conv" => self.conv(node),
            "ConvTranspose" => self.conv_transpose(node),
            "BatchNormalization" => self.batch_norm(node),
            "LayerNormalization" => self.layer_norm(node, true),
            "RMSNormalization" | "SimplifiedLayerNormalization" => self.layer_norm(node, false),
            "InstanceNormalization" => self.instance_norm(node),
            "GroupNormalization" => self.group_norm(node),
            "MaxPool" | "AveragePool" => self.pool(node),
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(node),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => self.reduce(node),
            "Resize" | "Upsample" => self.resize(node),
            "Pad" => self.pad(node),
            "Identity" | "Dropout" | "Cast" | "CastLike" => self.identity(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Expand" => self.expand(node),
            "Tile" => self.tile(node),
            "DepthToSpace" | "SpaceToDepth" => self.depth_and_space(node),
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            _ => self.element_wise(node),
        }
    }

    /// Appends an operation of a node; none where it does not fit what it reads.
    fn push(&mut self, node: At, op: Op, reads: &[Value]) -> Option<Value> {
        let label = node.label();
        let value = self.graph.push(label, op, reads).ok()?;
        self.note_dependence(reads, false);
        Some(value)
    }

    /// As [`push`](Self::push), as the only result of the node.
    fn one(&mut self, node: At, op: Op, reads: &[Value]) -> Made {
        let value = self.push(node, op, reads)?;
        Some(vec![Thing::Value(value)])
    }

    fn note_dependence(&mut self, reads: &[Value], is_input: bool) {
        let mut reads = reads.iter();
        let depends = is_input || reads.any(|value| self.depends[value.index()]);
        self.depends.push(depends);
    }

    fn shape(&self, value: Value) -> &[usize] {
        &self.graph.node(value).shape
    }

    /// Tensors that are named where no node shows it stay as they are.
    fn named(&mut self, model: &'m ModelProto) {
        for annotation in &self.file.quantization_annotation {
            let own = annotation.tensor_name.as_deref();
            let others = annotation.quant_parameter_tensor_names.iter();
            let names = own
                .into_iter()
                .chain(others.filter_map(|entry| entry.value.as_deref()));
            for name in names {
                self.hold(name, "it is quantised");
            }
        }
        for training in &model.training_info {
            let graphs = [&training.initialization, &training.algorithm];
            for graph in graphs.into_iter().flatten() {
                for name in opaque::captured(graph) {
                    self.hold(name, "the file's training reads it");
                }
            }
        }
    }

    /// Keeps the tensor of this name, if it is one, as it is.
    fn hold(&mut self, name: &str, why: &str) {
        if let Some(Thing::Tensor(view)) = self.things.get(name) {
            self.elsewhere.insert(view.root);
            self.held
                .entry(view.root)
                .or_insert_with(|| why.to_string());
        }
    }

    fn finish(mut self) -> Result<OnnxNetwork, OnnxError> {
        let mut outputs = Vec::new();
        for output in &self.file.output {
            let name = name_of(output);
            match self.things.get(name) {
                Some(&(Thing::Value(value) | Thing::Unknown(value)))
                    if self.depends[value.index()] =>
                {
                    outputs.push(value);
                }
                Some(Thing::Value(_) | Thing::Unknown(_)) => {
                    let note = format!("output `{name}` depends on no input");
                    self.notes.push(note);
                    if let Some(&(Thing::Value(value) | Thing::Unknown(value))) =
                        self.things.get(name)
                    {
                        // it must stay what it is
                        self.graph.output(value);
                    }
                }
                Some(_) => self.hold(name, "it is an output itself"),
                None => {
                    let what = "nothing gives it";
                    return Err(invalid(format!("output `{name}`"), what));
                }
            }
        }
        if outputs.is_empty() {
            return Err(OnnxError::NoResult);
        }
        for value in outputs {
            self.graph.output(value);
        }
        for (key, param) in self.params.iter_mut().enumerate() {
            param.is_read_elsewhere = self.elsewhere.contains(&param.root);
            if let Some(why) = self.held.get(&param.root) {
                self.graph.hold(ParamKey(key as u64), why.clone());
            }
        }
        Ok(OnnxNetwork {
            graph: self.graph,
            params: self.params,
            notes: self.notes,
            origins: self.origins,
        })
    }
}
