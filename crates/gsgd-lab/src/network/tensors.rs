//! The tensors of a file, by name: safetensors, PyTorch state dicts, ONNX initializers.
//!
//! The file is held as bytes, once, and values are replaced where they stand. A PyTorch file becomes safetensors as it is
//! read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use pytorch_reader::{DType, PytorchReader};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use super::fold::Folded;
use super::onnx;
use crate::models::write_whole;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    F32,
    F64,
    F16,
    BF16,
    /// No floating point number that is read here.
    Other,
}

/// Where a tensor stands in the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub shape: Vec<usize>,
    pub number: Number,
    pub place: Range<usize>,
}

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
}

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
            Self::of_pytorch(&reader).with_context(inside)
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
        let entries = entries.collect::<Result<_>>()?;
        Ok(Self {
            format: Format::Safetensors,
            entries,
            bytes,
        })
    }

    /// From the bytes of an ONNX file.
    ///
    /// # Errors
    /// The bytes are none, or its tensors are in other files.
    pub fn of_onnx(bytes: Vec<u8>) -> Result<Self> {
        let bytes = onnx::with_raw_tensors(bytes)?;
        Ok(Self {
            format: Format::Onnx,
            entries: onnx::entries(&bytes)?,
            bytes,
        })
    }

    /// As the safetensors file of a PyTorch file's tensors.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub fn of_pytorch(reader: &PytorchReader) -> Result<Self> {
        let mut found: BTreeMap<&str, &pytorch_reader::Tensor> = reader
            .tensors()
            .iter()
            .map(|(k, v)| (k.as_str(), v))
            .collect();
        // a checkpoint with more in it, or the wrapper of several devices
        for key in ["state_dict.", "model_state_dict.", "model.", "module."] {
            let inner = found
                .iter()
                .filter_map(|(name, t)| Some((name.strip_prefix(key)?, *t)));
            let inner: BTreeMap<_, _> = inner.collect();
            if !inner.is_empty() {
                found = inner;
            }
        }
        ensure!(!found.is_empty(), "there are no tensors in it");
        let views = found.into_iter().map(|(name, tensor)| {
            let data = Lazy::of(tensor)?;
            Ok((name, data))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        Self::of_safetensors(safetensors::serialize(views, None)?)
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

    /// The tensor's shape, if there is such a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The tensor's shape.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn known(&self, name: &str) -> Result<&[usize]> {
        match self.shape(name) {
            Some(shape) => Ok(shape),
            None => bail!("there is no tensor `{name}`"),
        }
    }

    /// The tensor's values in the file's order.
    ///
    /// # Errors
    /// There is no such tensor, or it holds no floating point numbers.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        self.in_order(name, Order::AsStored)
    }

    /// The values of a tensor of two dimensions, column after column.
    ///
    /// # Errors
    /// There is no such tensor, or it holds no floating point numbers.
    pub fn transposed(&self, name: &str) -> Result<Vec<f32>> {
        let order = Order::across(self.known(name)?);
        self.in_order(name, order)
    }

    fn in_order(&self, name: &str, order: Order) -> Result<Vec<f32>> {
        let Some(entry) = self.entries.get(name) else {
            bail!("there is no tensor `{name}`");
        };
        let bytes = &self.bytes[entry.place.clone()];
        Ok(match entry.number {
            Number::F32 => numbers(bytes, order, f32::from_le_bytes),
            Number::F64 => numbers(bytes, order, |b| f64::from_le_bytes(b) as f32),
            Number::F16 => numbers(bytes, order, |b| f16::from_le_bytes(b).to_f32()),
            Number::BF16 => numbers(bytes, order, |b| bf16::from_le_bytes(b).to_f32()),
            Number::Other => {
                bail!("`{name}` holds no floating point numbers (F64, F32, F16 or BF16)")
            }
        })
    }

    /// Puts other values in a tensor's place.
    ///
    /// # Errors
    /// There is no such tensor, or another number of values.
    pub fn replace(&mut self, name: &str, values: &[f32]) -> Result<()> {
        self.put(name, values, Order::AsStored)
    }

    /// Puts other values, column after column, in the place of a tensor of two dimensions.
    ///
    /// # Errors
    /// There is no such tensor, or another number of values.
    pub fn replace_transposed(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let order = Order::across(self.known(name)?);
        self.put(name, values, order)
    }

    /// Forgets the values, so that their memory is free; names and shapes stay.
    pub fn forget_values(&mut self) {
        self.bytes = Vec::new();
        self.entries
            .values_mut()
            .for_each(|entry| entry.place = 0..0);
    }

    fn put(&mut self, name: &str, values: &[f32], order: Order) -> Result<()> {
        let Some(entry) = self.entries.get(name) else {
            bail!("there is no tensor `{name}`");
        };
        let bytes = &mut self.bytes[entry.place.clone()];
        let fits = match entry.number {
            Number::F32 => store(bytes, values, order, f32::to_le_bytes),
            Number::F64 => store(bytes, values, order, |v| f64::from(v).to_le_bytes()),
            Number::F16 => store(bytes, values, order, |v| f16::from_f32(v).to_le_bytes()),
            Number::BF16 => store(bytes, values, order, |v| bf16::from_f32(v).to_le_bytes()),
            Number::Other => false,
        };
        ensure!(fits, "`{name}` does not hold {} numbers", values.len());
        Ok(())
    }

    /// The safetensors file without the tensors `removed`, and with those of folded layers in place or added.
    ///
    /// # Errors
    /// Never for a file that was read.
    pub fn edited(&self, removed: &HashSet<&str>, folded: &[Folded]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes)?;
        let file = SafeTensors::deserialize(&self.bytes)?;
        let changed = || folded.iter().flat_map(|f| [&f.weight, &f.bias]);
        let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = changed()
            .map(|(name, values)| {
                let shape = self
                    .shape(name)
                    .map_or(vec![values.len()], <[usize]>::to_vec);
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name.as_str(), shape, bytes)
            })
            .collect();
        let mut views = Vec::new();
        for (name, view) in file.tensors() {
            // counts of the batches that a norm has seen go with it
            let counter = name.strip_suffix("num_batches_tracked");
            let gone =
                counter.is_some_and(|norm| removed.contains(format!("{norm}weight").as_str()));
            let replaced = bytes.iter().any(|(other, ..)| *other == name);
            if !gone && !replaced && !removed.contains(name.as_str()) {
                views.push((name, view));
            }
        }
        for (name, shape, bytes) in &bytes {
            views.push((
                name.to_string(),
                TensorView::new(Dtype::F32, shape.clone(), bytes)?,
            ));
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

/// Where a part of `bytes` begins and ends in it.
pub fn place(part: &[u8], bytes: &[u8]) -> Range<usize> {
    // an empty part may point anywhere
    let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= bytes.len() && !part.is_empty() => start..end,
        _ => 0..0,
    }
}

/// In which order the values of a tensor are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsStored,
    /// Column after column of so many rows and columns.
    Across([usize; 2]),
}

impl Order {
    fn across(shape: &[usize]) -> Self {
        match *shape {
            [rows, columns] => Self::Across([rows, columns]),
            _ => Self::AsStored,
        }
    }

    /// Calls `each(place in the list, place in the file)` for all of so many values.
    fn pairs(self, count: usize, mut each: impl FnMut(usize, usize)) {
        match self {
            Self::AsStored => (0..count).for_each(|at| each(at, at)),
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

fn numbers<const N: usize>(
    bytes: &[u8],
    order: Order,
    number: impl Fn([u8; N]) -> f32,
) -> Vec<f32> {
    let (stored, _) = bytes.as_chunks::<N>();
    let mut values = vec![0.0; stored.len()];
    order.pairs(stored.len(), |at, place| values[at] = number(stored[place]));
    values
}

fn store<const N: usize>(
    bytes: &mut [u8],
    values: &[f32],
    order: Order,
    number: impl Fn(f32) -> [u8; N],
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
    fn of(tensor: &'a pytorch_reader::Tensor) -> Result<Self> {
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
