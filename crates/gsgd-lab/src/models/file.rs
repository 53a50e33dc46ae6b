//! Checkpoints: safetensors with PyTorch's names and orientation, f32. A checkpoint says in its metadata which network it
//! is of.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use gsgd_net::file::NetworkFile;
use gsgd_net::tensors::Tensors;
use safetensors::tensor::{Dtype, View};

use super::net::Net;
use super::plan::{Form, Kept};
use super::value::{Value, any};

pub use gsgd_net::file::NETWORK;
pub use gsgd_net::write::{TEMPORARY, move_into_place, write_whole};

/// An f32 tensor by its name in the file, in the file's orientation; its bytes are made when they are written.
pub struct Named {
    /// Its name.
    pub name: String,
    /// The parameter's id, by which Burn's optimisers know it.
    pub id: u64,
    shape: Vec<usize>,
    tensor: Value,
}

/// What a file is made of.
pub enum FilePart<'a> {
    /// A tensor of a model.
    Tensor(&'a Named),
    /// Bytes that mean something to someone else, with their number as the shape.
    Bytes(&'a [u8], [usize; 1]),
}

impl View for FilePart<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Tensor(_) => Dtype::F32,
            Self::Bytes(..) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => &tensor.shape,
            Self::Bytes(_, shape) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Tensor(tensor) => any!(&tensor.tensor, x => bytes(x)).into(),
            Self::Bytes(bytes, _) => (*bytes).into(),
        }
    }

    fn data_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

/// All weights and running statistics of a network.
pub fn tensors(net: &Net) -> Vec<Named> {
    struct Id(Option<ParamId>);
    impl ModuleVisitor for Id {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 = Some(param.id);
        }
    }
    // running statistics of batch norms are up to date in the copy for inference
    let net = net.valid();
    let named = net.weights().map(|(kept, weight)| {
        let mut id = Id(None);
        weight.visited(&mut id);
        let value = weight.value();
        Named {
            name: kept.name.clone(),
            id: id.0.map_or(0, |id| id.val()),
            shape: kept.shape.clone(),
            tensor: match kept.form {
                Form::Turned => value.transpose(),
                Form::Same | Form::Statistic => value,
            },
        }
    });
    named.collect()
}

/// f32, little-endian; a few rows at a time, so that no second copy of a large tensor is made.
fn bytes<const D: usize>(tensor: &Tensor<D>) -> Vec<u8> {
    const AT_A_TIME: usize = 1 << 18;
    let (rows, count) = (tensor.dims()[0], tensor.shape().num_elements());
    let step = (AT_A_TIME * rows / count.max(1)).max(1);
    let mut bytes = Vec::with_capacity(count * size_of::<f32>());
    for start in (0..rows).step_by(step) {
        let some = tensor.clone().slice(start..rows.min(start + step));
        let values = some.into_data();
        bytes.extend(values.iter::<f32>().flat_map(f32::to_le_bytes));
    }
    bytes
}

/// Writes all weights and running statistics, f32, whole or not at all, with an entry of metadata.
///
/// # Errors
/// The file cannot be written.
pub fn save(net: &Net, about: (&str, &str), path: &Path) -> Result<()> {
    let tensors = tensors(net);
    let parts = tensors
        .iter()
        .map(|t| (t.name.as_str(), FilePart::Tensor(t)));
    let parts: Vec<_> = parts.collect();
    // one entry: the order of several is not fixed, and equal networks should give equal files
    let about = HashMap::from([(about.0.to_string(), about.1.to_string())]);
    move_into_place(path, |file| {
        Ok(safetensors::serialize_to_file(parts, Some(about), file)?)
    })
}

/// Writes a text file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text.as_bytes())
}

/// A file that a network's tensors are taken from.
pub trait Source {
    /// The name in the file of a tensor, which may be given without what all names begin with.
    fn full_name(&self, name: &str) -> String;

    /// The names of all tensors of floating point numbers.
    fn names(&self) -> Vec<String>;

    /// A tensor's shape and values.
    ///
    /// # Errors
    /// There is no such tensor, or it holds no floating point numbers.
    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)>;
}

impl Source for Tensors {
    fn full_name(&self, name: &str) -> String {
        self.full_name(name).to_string()
    }

    fn names(&self) -> Vec<String> {
        self.names().map(String::from).collect()
    }

    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        Ok((self.known(name)?.to_vec(), self.values(name)?))
    }
}

impl Source for NetworkFile {
    fn full_name(&self, name: &str) -> String {
        name.to_string()
    }

    fn names(&self) -> Vec<String> {
        let params = self.graph().params().iter();
        params.map(|param| param.name.clone()).collect()
    }

    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        let mut params = self.graph().params().iter();
        let param = params.find(|param| param.name == name);
        let param = param.with_context(|| format!("there is no tensor `{name}`"))?;
        Ok((param.shape.clone(), self.values(param.key)?))
    }
}

/// The network with every tensor replaced by the file's and, where they are given, every parameter's id.
///
/// # Errors
/// Tensors are missing, misshapen, not finite or additional.
pub fn fill(net: Net, file: &impl Source, ids: Option<&HashMap<String, u64>>) -> Result<Net> {
    let mut taken = HashSet::new();
    let net = net.with_weights(|kept, weight| {
        taken.insert(file.full_name(&kept.name));
        let values = numbers(file, kept)?;
        let id = ids.and_then(|ids| ids.get(&kept.name));
        Ok(weight.with_values(kept, values, id.map(|&id| ParamId::from(id))))
    })?;
    let left = file.names().into_iter().filter(|name| {
        let counter = name.ends_with("num_batches_tracked");
        !counter && !taken.contains(name)
    });
    let left: Vec<String> = left.collect();
    match &left[..] {
        [] => Ok(net),
        left => bail!("tensors that belong to no layer: {}", left.join(", ")),
    }
}

/// The values of a tensor.
fn numbers(file: &impl Source, kept: &Kept) -> Result<Vec<f32>> {
    let name = &kept.name;
    let (shape, values) = file.tensor(name)?;
    ensure!(
        shape == kept.shape,
        "`{name}` has shape {shape:?}, not {:?}",
        kept.shape
    );
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    ensure!(
        values.iter().all(|value| value.is_finite()),
        "`{name}` holds values that are not finite, or too large for f32"
    );
    Ok(values)
}
