//! The tensors of a file, by name: safetensors, PyTorch state dicts, ONNX initializers.
//!
//! The file is held as bytes, once, and values are replaced where they stand. A PyTorch file becomes safetensors
//! when it is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{DType as Computed, Element, ElementConversion, TensorData};
use half::{bf16, f16};
use pytorch_reader::{DType, PytorchReader};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use super::entry::{Added, Entry, Number, place};
use super::onnx_tensors;
use super::pickle::{self, Stored};
use crate::models::write_whole;

/// What kind of file the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    Onnx,
}

/// A file with its tensors.
#[derive(Debug, Clone)]
pub struct Tensors {
    format: Format,
    bytes: Vec<u8>,
    entries: BTreeMap<String, Entry>,
    /// What all names begin with that descriptions of layers may leave out.
    prefix: String,
    /// What is known of a PyTorch file that its tensors came from.
    origin: Origin,
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
    /// Reads a file of one of the three kinds.
    ///
    /// # Errors
    /// It cannot be read, or is none of them.
    pub fn open(path: &Path) -> Result<Self> {
        let inside = || format!("cannot read {}", path.display());
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let pytorch = || {
            let reader = PytorchReader::new(path)
                .with_context(|| format!("{} is no PyTorch file", path.display()))?;
            let stored = std::fs::read(path)
                .map_err(anyhow::Error::from)
                .and_then(|bytes| pickle::stored(&bytes))
                .context(
                    "the order of its tensors, and which of them share memory, cannot be told: load it in PyTorch and save \
                     the model's state_dict() again",
                );
            Self::of_pytorch(&reader, &stored.with_context(inside)?).with_context(inside)
        };
        if let "pt" | "pth" | "bin" | "ckpt" = extension {
            return pytorch();
        }
        let bytes = std::fs::read(path).with_context(inside)?;
        if bytes.starts_with(b"PK\x03\x04") {
            return pytorch();
        }
        match extension {
            "onnx" => Self::of_onnx(bytes).with_context(|| format!("in {}", path.display())),
            _ => Self::of_safetensors(bytes)
                .with_context(|| format!("{} is no safetensors file", path.display())),
        }
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
            format: Format::Safetensors,
            prefix: wrapper(&entries),
            origin: origin.unwrap_or_default(),
            entries,
            bytes,
        })
    }

    /// From the bytes of an ONNX file.
    ///
    /// # Errors
    /// The bytes are none, or its tensors are in other files.
    pub fn of_onnx(bytes: Vec<u8>) -> Result<Self> {
        let bytes = onnx_tensors::with_raw_tensors(bytes)?;
        Ok(Self {
            format: Format::Onnx,
            entries: onnx_tensors::entries(&bytes)?,
            prefix: String::new(),
            origin: Origin::default(),
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

    /// What kind of file it is written as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The metadata of a safetensors file under a key.
    pub fn metadata(&self, key: &str) -> Option<String> {
        if self.format != Format::Safetensors {
            return None;
        }
        let (_, header) = SafeTensors::read_metadata(&self.bytes).ok()?;
        header.metadata().as_ref()?.get(key).cloned()
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
    pub fn values<T: Element>(&self, name: &str) -> Result<Vec<T>> {
        self.in_order(name, Places::InTurn)
    }

    /// The values of a tensor of two dimensions, column after column.
    ///
    /// # Errors
    /// There is no such tensor, or it holds no floating point numbers.
    pub fn transposed<T: Element>(&self, name: &str) -> Result<Vec<T>> {
        let order = Order::Transposed.places(self.known(name)?);
        self.in_order(name, order)
    }

    fn in_order<T: Element>(&self, name: &str, order: Places) -> Result<Vec<T>> {
        let entry = self.entry(name)?;
        let bytes = &self.bytes[entry.place.clone()];
        Ok(match entry.number {
            Number::F32 => numbers(bytes, order, |b| f32::from_le_bytes(b).elem()),
            Number::F64 => numbers(bytes, order, |b| f64::from_le_bytes(b).elem()),
            Number::F16 => numbers(bytes, order, |b| f16::from_le_bytes(b).elem()),
            Number::BF16 => numbers(bytes, order, |b| bf16::from_le_bytes(b).elem()),
            Number::Other => {
                bail!("`{name}` holds no floating point numbers (F64, F32, F16 or BF16)")
            }
        })
    }

    /// Puts other values in a tensor's place.
    ///
    /// # Errors
    /// There is no such tensor, another number of values, or one that is too large for the tensor's type.
    pub fn replace<T: Element>(&mut self, name: &str, values: &[T]) -> Result<()> {
        self.put(name, values, Order::AsStored)
    }

    /// Puts computed values, of f32 or f64, in a tensor's place.
    ///
    /// # Errors
    /// As for [`replace`](Self::replace).
    pub fn replace_computed(&mut self, name: &str, data: &TensorData, order: Order) -> Result<()> {
        let unread = |e| anyhow::anyhow!("{name}: {e:?}");
        match data.dtype() {
            Computed::F64 => self.put(name, data.as_slice::<f64>().map_err(unread)?, order),
            _ => self.put(name, data.as_slice::<f32>().map_err(unread)?, order),
        }
    }

    /// Forgets the values, so that their memory is free; names and shapes stay.
    pub fn forget_values(&mut self) {
        self.bytes = Vec::new();
        self.entries
            .values_mut()
            .for_each(|entry| entry.place = 0..0);
    }

    fn put<T: Element>(&mut self, name: &str, values: &[T], order: Order) -> Result<()> {
        let entry = self.entry(name)?;
        let (number, order) = (entry.number, order.places(&entry.shape));
        let place = entry.place.clone();
        let bytes = &mut self.bytes[place];
        let fits = match number {
            Number::F32 => store(bytes, values, order, |v| v.elem::<f32>().to_le_bytes()),
            Number::F64 => store(bytes, values, order, |v| v.elem::<f64>().to_le_bytes()),
            Number::F16 => store(bytes, values, order, |v| {
                f16::from_f64(v.elem()).to_le_bytes()
            }),
            Number::BF16 => store(bytes, values, order, |v| {
                bf16::from_f64(v.elem()).to_le_bytes()
            }),
            Number::Other => false,
        };
        ensure!(fits, "`{name}` does not hold {} numbers", values.len());
        let holds = |value: f64| match number {
            Number::F32 => (value as f32).is_finite(),
            Number::F16 => f16::from_f64(value).is_finite(),
            Number::BF16 => bf16::from_f64(value).is_finite(),
            Number::F64 | Number::Other => value.is_finite(),
        };
        ensure!(
            values.iter().all(|value| holds(value.elem())),
            "a number of `{name}` becomes too large for {} (a lower --spread helps)",
            number.name()
        );
        Ok(())
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

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The folder is not writable, or the disk full.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.bytes)
    }
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

/// In which order the values of a tensor are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As in the file.
    AsStored,
    /// Column after column, of a tensor of two dimensions.
    Transposed,
}

impl Order {
    fn places(self, shape: &[usize]) -> Places {
        match (self, shape) {
            (Self::Transposed, &[rows, columns]) => Places::Across([rows, columns]),
            _ => Places::InTurn,
        }
    }
}

/// Which place in the file a value of a list has.
#[derive(Debug, Clone, Copy)]
enum Places {
    InTurn,
    /// Column after column of this many rows and columns.
    Across([usize; 2]),
}

impl Places {
    /// Calls `each(place in the list, place in the file)` for all of this many values.
    fn pairs(self, count: usize, mut each: impl FnMut(usize, usize)) {
        match self {
            Self::InTurn => (0..count).for_each(|at| each(at, at)),
            Self::Across([rows, columns]) => {
                // in blocks, so that both sides stay in the cache
                const BLOCK: usize = 32;
                for top in (0..rows).step_by(BLOCK) {
                    for left in (0..columns).step_by(BLOCK) {
                        for column in left..columns.min(left + BLOCK) {
                            for row in top..rows.min(top + BLOCK) {
                                each(column * rows + row, row * columns + column);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn numbers<T: Element, const N: usize>(
    bytes: &[u8],
    order: Places,
    number: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let (stored, _) = bytes.as_chunks::<N>();
    let mut values = vec![T::default(); stored.len()];
    order.pairs(stored.len(), |at, place| values[at] = number(stored[place]));
    values
}

fn store<T: Copy, const N: usize>(
    bytes: &mut [u8],
    values: &[T],
    order: Places,
    number: impl Fn(T) -> [u8; N],
) -> bool {
    let (places, rest) = bytes.as_chunks_mut::<N>();
    let fits = places.len() == values.len() && rest.is_empty();
    if fits {
        order.pairs(values.len(), |at, place| places[place] = number(values[at]));
    }
    fits
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
