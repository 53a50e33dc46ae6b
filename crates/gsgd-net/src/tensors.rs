//! The tensors of a safetensors file or a PyTorch state dict, by name.
//!
//! The file is held as bytes, once, and values are replaced where they stand. A PyTorch file becomes safetensors
//! when it is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pytorch_reader::{DType, PytorchReader};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use crate::number::{Entry, Number, place};
use crate::pickle::{self, Stored};
use crate::pytorch::Source;

/// A file with its tensors.
#[derive(Debug, Clone)]
pub struct Tensors {
    bytes: Vec<u8>,
    entries: BTreeMap<String, Entry>,
    /// What all names begin with that descriptions of layers may leave out.
    prefix: String,
    /// What is known of a PyTorch file that its tensors came from.
    origin: Origin,
    /// That file.
    source: Option<Source>,
}

/// What a PyTorch file tells beside its tensors, in a metadata entry of the safetensors file that it becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Origin {
    /// The names in its order.
    order: Vec<String>,
    /// Tensors that share memory with another, by name.
    shared: BTreeMap<String, String>,
}

/// The metadata entry.
const ORIGIN: &str = "pytorch";
/// What wrappers put before all names of a module.
const WRAPPERS: [&str; 5] = [
    "state_dict.",
    "model_state_dict.",
    "model.",
    "module.",
    "_orig_mod.",
];

impl Tensors {
    /// Reads a safetensors file, one in shards by its index (`.safetensors.index.json`), or a PyTorch file, of which `key`
    /// says where in it the state dict lies.
    ///
    /// # Errors
    /// It cannot be read, or is none of these.
    pub fn open(path: &Path, key: Option<&str>) -> Result<Self> {
        let inside = || format!("cannot read {}", path.display());
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let pytorch = || {
            let reader = PytorchReader::new(path)
                .with_context(|| format!("{} is no PyTorch file", path.display()))?;
            let bytes = std::fs::read(path).with_context(inside)?;
            let stored = pickle::stored(&bytes, key).context(
                "the order of its tensors, and which of them share memory, cannot be told: load it in PyTorch and save the \
                 model's state_dict() again",
            );
            let stored = stored.with_context(inside)?;
            let mut tensors = Self::of_pytorch(&reader, &stored).with_context(inside)?;
            tensors.source = Some(Source::new(path, &bytes, stored));
            Ok(tensors)
        };
        if let "pt" | "pth" | "bin" | "ckpt" = extension {
            return pytorch();
        }
        if extension == "json" {
            return Self::from_shards(path).with_context(inside);
        }
        let bytes = std::fs::read(path).with_context(inside)?;
        if bytes.starts_with(b"PK\x03\x04") {
            return pytorch();
        }
        if let Some(key) = key {
            bail!("--key {key}: {} is no PyTorch file", path.display());
        }
        Self::of_safetensors(bytes)
            .with_context(|| format!("{} is no safetensors file", path.display()))
    }

    /// One file of the shards that an index names, all in its folder.
    fn from_shards(index: &Path) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let text = std::fs::read_to_string(index)?;
        let Index { weight_map } =
            serde_json::from_str(&text).context("it is no index of safetensors files")?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        ensure!(!names.is_empty(), "it names no files");
        let folder = index.parent().unwrap_or(Path::new(""));
        let mut shards = Vec::new();
        for name in names {
            let plain = Path::new(name)
                .file_name()
                .is_some_and(|file| file == name.as_str());
            ensure!(plain, "`{name}` is no file in the folder of the index");
            let bytes = std::fs::read(folder.join(name));
            shards.push((
                name,
                bytes.with_context(|| format!("cannot read `{name}`"))?,
            ));
        }
        let files = shards.iter().map(|(name, bytes)| {
            SafeTensors::deserialize(bytes)
                .with_context(|| format!("`{name}` is no safetensors file"))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let views = files.iter().flat_map(|file| file.tensors());
        Self::of_safetensors(safetensors::serialize(views, None)?)
    }

    /// From the bytes of a safetensors file.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn of_safetensors(bytes: Vec<u8>) -> Result<Self> {
        let file = SafeTensors::deserialize(&bytes)?;
        let entry = |name: &str| -> Result<Entry> {
            let view = file.tensor(name)?;
            Ok(Entry {
                shape: view.shape().to_vec(),
                number: match view.dtype() {
                    Dtype::F32 => Number::F32,
                    Dtype::F64 => Number::F64,
                    Dtype::F16 => Number::F16,
                    Dtype::BF16 => Number::BF16,
                    _ => Number::Other,
                },
                place: place(view.data(), &bytes),
            })
        };
        let names = file.names();
        let entries = names
            .iter()
            .map(|name| Ok((name.to_string(), entry(name)?)));
        let entries = entries.collect::<Result<BTreeMap<_, _>>>()?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let origin = header.metadata().as_ref().and_then(|all| all.get(ORIGIN));
        let origin = origin.and_then(|text| serde_json::from_str(text).ok());
        Ok(Self {
            prefix: wrapper(&entries),
            origin: origin.unwrap_or_default(),
            source: None,
            entries,
            bytes,
        })
    }

    /// As the safetensors file of a PyTorch file's tensors, of which `stored` tells more.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub fn of_pytorch(reader: &PytorchReader, stored: &[Stored]) -> Result<Self> {
        ensure!(!stored.is_empty(), "there are no tensors in it");
        let views = stored.iter().map(|tensor| {
            let found = reader.get(&tensor.path);
            let found = found.with_context(|| format!("`{}` is not there", tensor.name))?;
            Ok((tensor.name.as_str(), Lazy::new(found)?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let shared = stored
            .iter()
            .filter_map(|tensor| Some((tensor.name.clone(), tensor.shares.clone()?)));
        let origin = Origin {
            order: stored.iter().map(|tensor| tensor.name.clone()).collect(),
            shared: shared.collect(),
        };
        let about = HashMap::from([(ORIGIN.to_string(), serde_json::to_string(&origin)?)]);
        Self::of_safetensors(safetensors::serialize(views, Some(about))?)
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The metadata of a safetensors file under a key.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).ok()?;
        header.metadata().as_ref()?.get(key).cloned()
    }

    /// Whether the tensors came from a PyTorch file that can be written again.
    pub fn is_pytorch(&self) -> bool {
        self.source.is_some()
    }

    /// The PyTorch file that the tensors came from, with the present values and all else as it was.
    ///
    /// # Errors
    /// They came from none, or from one that is not written: the old format, tensors that are views of others, a file that
    /// has changed since.
    pub fn as_pytorch(&self) -> Result<Vec<u8>> {
        let source = self.source.as_ref();
        let source = source.context("its tensors are not those of one PyTorch file")?;
        source.with(|name| {
            let entry = self.entries.get(name)?;
            let bytes = &self.bytes[entry.place.clone()];
            Some((entry.shape.iter().product(), bytes))
        })
    }

    /// The names of all tensors of floating point numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let floats = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.number != Number::Other);
        floats.map(|(name, _)| name.as_str())
    }

    /// Names in the order of the file that the tensors came from, if it has one.
    pub fn order(&self) -> &[String] {
        &self.origin.order
    }

    /// Tensors that share memory with another in the file that they came from: name and other name.
    pub fn shared(&self) -> impl Iterator<Item = (&str, &str)> {
        let shared = self.origin.shared.iter();
        shared.map(|(name, other)| (name.as_str(), other.as_str()))
    }

    /// The name in the file of a tensor, which may be given without what all names begin with.
    pub fn full_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.find(name).map_or(name, |(full, _)| full)
    }

    /// A full name without what all names begin with.
    pub fn short_name<'a>(&self, full: &'a str) -> &'a str {
        full.strip_prefix(&self.prefix).unwrap_or(full)
    }

    fn find(&self, name: &str) -> Option<(&str, &Entry)> {
        let found = self.entries.get_key_value(name);
        let found = found.or_else(|| match self.prefix.as_str() {
            "" => None,
            prefix => self.entries.get_key_value(&format!("{prefix}{name}")),
        });
        found.map(|(name, entry)| (name.as_str(), entry))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        match self.find(name) {
            Some((_, entry)) => Ok(entry),
            None => bail!("there is no tensor `{name}`"),
        }
    }

    /// The tensor's shape, if there is such a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.find(name).map(|(_, entry)| entry.shape.as_slice())
    }

    /// How the tensor's numbers are stored.
    pub fn number(&self, name: &str) -> Number {
        self.find(name)
            .map_or(Number::Other, |(_, entry)| entry.number)
    }

    /// The tensor's shape.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn known(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.entry(name)?.shape)
    }

    /// The tensor's values in the file's order.
    ///
    /// # Errors
    /// There is no such tensor, or it holds no floating point numbers.
    pub fn values(&self, name: &str) -> Result<Vec<f64>> {
        let entry = self.entry(name)?;
        match entry.number.read(&self.bytes[entry.place.clone()]) {
            Some(values) => Ok(values),
            None => bail!("`{name}` holds no floating point numbers (F64, F32, F16 or BF16)"),
        }
    }

    /// Puts other values in a tensor's place.
    ///
    /// # Errors
    /// There is no such tensor, another number of values, or one that is too large for the tensor's type.
    pub fn replace(&mut self, name: &str, values: &[f64]) -> Result<()> {
        let entry = self.entry(name)?;
        let (number, place) = (entry.number, entry.place.clone());
        number
            .write(values, &mut self.bytes[place])
            .with_context(|| format!("`{name}`"))
    }

    /// Forgets the values, so that their memory is free; names and shapes stay.
    pub fn forget_values(&mut self) {
        self.bytes = Vec::new();
        self.entries
            .values_mut()
            .for_each(|entry| entry.place = 0..0);
    }

    /// The safetensors file without the tensors `removed`, and with room for biases: name, length, and the tensor whose
    /// numbers they are like.
    ///
    /// # Errors
    /// Never for a file that was read.
    pub fn edited(&self, removed: &HashSet<&str>, added: &[Added]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes)?;
        let file = SafeTensors::deserialize(&self.bytes)?;
        let mut views = Vec::new();
        for (name, view) in file.tensors() {
            // counts of the batches that a norm has seen go with it
            let counter = name.strip_suffix("num_batches_tracked");
            let gone =
                counter.is_some_and(|norm| removed.contains(format!("{norm}weight").as_str()));
            if !gone && !removed.contains(name.as_str()) {
                views.push((name, view));
            }
        }
        let zeros = added.iter().map(|bias| {
            let dtype = file.tensor(&bias.like)?.dtype();
            Ok((dtype, vec![0; bias.length * dtype.bitsize() / 8]))
        });
        let zeros = zeros.collect::<Result<Vec<(Dtype, Vec<u8>)>>>()?;
        for (bias, (dtype, zeros)) in added.iter().zip(&zeros) {
            let view = TensorView::new(*dtype, vec![bias.length], zeros)?;
            views.push((bias.name.clone(), view));
        }
        Self::of_safetensors(safetensors::serialize(views, header.metadata().clone())?)
    }
}

/// A bias that a file has no room for yet.
#[derive(Debug, Clone)]
pub struct Added {
    /// Its name.
    pub name: String,
    /// How many numbers it has.
    pub length: usize,
    /// The tensor whose numbers they are like.
    pub like: String,
}

/// What all names begin with, as far as wrappers of modules put it there.
fn wrapper(entries: &BTreeMap<String, Entry>) -> String {
    let mut prefix = String::new();
    let all = |prefix: &str| entries.keys().all(|name| name.starts_with(prefix));
    while let Some(next) = WRAPPERS
        .iter()
        .map(|wrapper| format!("{prefix}{wrapper}"))
        .find(|longer| !entries.is_empty() && all(longer))
    {
        prefix = next;
    }
    prefix
}

/// A PyTorch tensor that is read when it is written.
struct Lazy<'a> {
    tensor: &'a pytorch_reader::Tensor,
    dtype: Dtype,
}

impl<'a> Lazy<'a> {
    fn new(tensor: &'a pytorch_reader::Tensor) -> Result<Self> {
        // corrupt data is found here, where it can be reported
        let length = tensor.read()?.len();
        ensure!(length == tensor.byte_len(), "`{}` is cut off", tensor.name);
        let dtype = match tensor.dtype() {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I64 => Dtype::I64,
            DType::I32 => Dtype::I32,
            DType::I16 => Dtype::I16,
            DType::I8 => Dtype::I8,
            DType::U64 => Dtype::U64,
            DType::U32 => Dtype::U32,
            DType::U16 => Dtype::U16,
            DType::U8 => Dtype::U8,
            DType::Bool => Dtype::BOOL,
        };
        Ok(Self { tensor, dtype })
    }
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.tensor.read().unwrap_or_default())
    }
    fn data_len(&self) -> usize {
        self.tensor.byte_len()
    }
}
