//! Checkpoints: safetensors with PyTorch's names and orientation.
//!
//! Dense layers are `layers.N.weight` `[outputs, inputs]`; convolutional networks have torchvision's names, `conv1`,
//! `bn1`, `layer1.0.conv1`, ..., `fc`. A checkpoint says in its metadata which network it is of.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::{Arch, Model, ModelConfig};
use crate::data::ImageShape;

/// The metadata entry that says which network for which images it is: `resnet:20 3x32x32`.
pub const NETWORK: &str = "network";

/// The name in the file of a parameter, from its path in the module.
pub fn file_name(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('.').collect();
    if parts
        .first()
        .is_some_and(|first| ["Mlp", "Conv"].contains(first))
    {
        parts.remove(0);
    }
    let leaf = match parts.pop() {
        Some("gamma") => "weight",
        Some("beta") => "bias",
        Some(leaf) => leaf,
        None => "",
    };
    let mut name = String::new();
    let mut rest = parts.as_slice();
    if let ["stages", stage, block, inner @ ..] = rest {
        let stage = stage.parse::<usize>().map_or(0, |stage| stage + 1);
        name = format!("layer{stage}.{block}.");
        rest = inner;
    }
    name += &match rest {
        ["stem" | "first", "conv"] => "conv1".to_string(),
        ["stem" | "first", "norm"] => "bn1".into(),
        ["second", "conv"] => "conv2".into(),
        ["second", "norm"] => "bn2".into(),
        ["downsample", "conv"] => "downsample.0".into(),
        ["downsample", "norm"] => "downsample.1".into(),
        ["head"] => "fc".into(),
        other => other.join("."),
    };
    format!("{name}.{leaf}")
}

/// Where a visitor is in a module.
#[derive(Default)]
struct Place(Vec<String>);

impl Place {
    fn name(&self) -> String {
        file_name(&self.0.join("."))
    }
}

/// An f32 tensor by its name in the file, in the file's orientation; its bytes are made when they are written.
pub struct Named {
    /// Its name.
    pub name: String,
    /// The parameter's id, by which Burn's optimisers know it.
    pub id: u64,
    shape: Vec<usize>,
    bytes: Box<dyn Fn() -> Vec<u8>>,
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
            Self::Tensor(tensor) => (tensor.bytes)().into(),
            Self::Bytes(bytes, _) => (*bytes).into(),
        }
    }

    fn data_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

/// All weights and running statistics of a model.
pub fn tensors(model: &Model) -> Vec<Named> {
    struct Collect(Place, Vec<Named>);
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = match D {
                2 => param.val().transpose(),
                _ => param.val(),
            };
            self.1.push(Named {
                name: self.0.name(),
                id: param.id.val(),
                shape: tensor.dims().to_vec(),
                bytes: Box::new(move || bytes(&tensor)),
            });
        }
    }
    let mut collect = Collect(Place::default(), Vec::new());
    // running statistics of batch norms are up to date in the copy for inference
    model.valid().visit(&mut collect);
    collect.1
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

/// Writes all weights and running statistics, f32, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save(model: &Model, config: &ModelConfig, path: &Path) -> Result<()> {
    let tensors = tensors(model);
    let parts = tensors
        .iter()
        .map(|t| (t.name.as_str(), FilePart::Tensor(t)));
    // one entry: the order of several is not fixed, and equal networks should give equal files
    let about = HashMap::from([(
        NETWORK.to_string(),
        format!("{} {}", config.arch, config.shape),
    )]);
    write_parts(path, parts.collect(), about)
}

/// Writes a safetensors file, one part after the other, whole or not at all.
///
/// # Errors
/// The file cannot be written.
fn write_parts(
    path: &Path,
    parts: Vec<(&str, FilePart)>,
    about: HashMap<String, String>,
) -> Result<()> {
    move_into_place(path, |file| {
        Ok(safetensors::serialize_to_file(parts, Some(about), file)?)
    })
}

/// Writes a file whole or not at all.
///
/// # Errors
/// The folder is not writable, or the disk full.
pub fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    move_into_place(path, |file| Ok(std::fs::write(file, data)?))
}

/// Writes a file beside its place and moves it there.
///
/// # Errors
/// Those of `write`, or the file cannot be moved.
pub fn move_into_place(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> Result<()> {
        let file = temporary().tempfile_in(folder)?;
        write(file.path())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// How the names of files that are being written begin and end.
pub const TEMPORARY: [&str; 2] = [".gsgd-", ".tmp"];

/// Temporary files with the rights that files of this user have.
fn temporary() -> tempfile::Builder<'static, 'static> {
    #[allow(unused_mut)]
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY[0]).suffix(TEMPORARY[1]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Writes a text file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text.as_bytes())
}

/// The network with the weights of a checkpoint of the same config.
///
/// # Errors
/// The file cannot be read, or its tensors are missing, additional, misshapen or not finite.
pub fn load_into(model: Model, config: &ModelConfig, path: &Path) -> Result<Model> {
    let data = read(path)?;
    let file = parse(&data, path)?;
    let inside = || format!("in {}", path.display());
    if let Ok(found) = config_of(&file, &data).with_context(inside) {
        let same =
            found.arch == config.arch && found.bias == config.bias && found.norm == config.norm;
        ensure!(
            same,
            "{} holds {} {} and {}, asked for is {} {} and {}",
            path.display(),
            found.arch,
            with(found.bias, "biases"),
            with(found.norm, "batch norm"),
            config.arch,
            with(config.bias, "biases"),
            with(config.norm, "batch norm"),
        );
    }
    fill(model, &file, &[], None).with_context(inside)
}

fn with(yes: bool, what: &str) -> String {
    format!("{} {what}", if yes { "with" } else { "without" })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parse<'a>(data: &'a [u8], path: &Path) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(data)
        .with_context(|| format!("{} is no safetensors file", path.display()))
}

/// The architecture and the images that a file's metadata entry [`NETWORK`] tells of.
///
/// # Errors
/// It tells of none.
pub fn network_of(about: &str) -> Result<(Arch, ImageShape)> {
    let wrong = || anyhow::anyhow!("its metadata `{NETWORK}` make no sense: `{about}`");
    let (arch, shape) = about.split_once(' ').ok_or_else(wrong)?;
    let shape = shape.parse::<ImageShape>().map_err(anyhow::Error::msg)?;
    Ok((arch.parse().map_err(anyhow::Error::msg)?, shape))
}

/// Which network a file is of: by its metadata or, without, a multi-layer perceptron by its shapes.
fn config_of(file: &SafeTensors, data: &[u8]) -> Result<ModelConfig> {
    let (_, header) = SafeTensors::read_metadata(data)?;
    let about = header.metadata().as_ref().and_then(|m| m.get(NETWORK));
    let (arch, shape) = match about {
        Some(about) => network_of(about)?,
        None => {
            let widths = mlp_of(file)?;
            let shape = ImageShape::flat(widths[0]);
            // the parser knows the limits
            let text = Arch::Mlp(widths).to_string();
            (text.parse().map_err(anyhow::Error::msg)?, shape)
        }
    };
    Ok(ModelConfig {
        bias: has(file, &["layers.0.bias", "conv1.bias"]),
        norm: has(file, &["bn1.weight"]),
        classes: file.tensor("fc.weight").map_or(0, |fc| fc.shape()[0]),
        shape,
        arch,
    })
}

fn has(file: &SafeTensors, names: &[&str]) -> bool {
    names.iter().any(|name| file.tensor(name).is_ok())
}

fn mlp_of(file: &SafeTensors) -> Result<Vec<usize>> {
    let mut widths: Vec<usize> = Vec::new();
    for index in 0.. {
        let name = format!("layers.{index}.weight");
        let Ok(view) = file.tensor(&name) else {
            break;
        };
        let &[outputs, inputs] = view.shape() else {
            bail!(
                "{name} has shape {:?}, a dense layer has [outputs, inputs]",
                view.shape()
            );
        };
        match widths.last() {
            Some(&width) => ensure!(
                width == inputs,
                "{name} takes {inputs} features, the layer before gives {width}"
            ),
            None => widths.push(inputs),
        }
        widths.push(outputs);
    }
    ensure!(
        !widths.is_empty(),
        "there is no tensor `layers.0.weight`, and no metadata say which network it is"
    );
    Ok(widths)
}

/// The model with every tensor replaced by the file's and, where they are given, every parameter's id.
///
/// # Errors
/// Tensors are missing, misshapen, not finite or, unless they are among `others`, additional.
pub fn fill(
    model: Model,
    file: &SafeTensors,
    others: &[&str],
    ids: Option<&HashMap<String, u64>>,
) -> Result<Model> {
    struct Fill<'a> {
        place: Place,
        file: &'a SafeTensors<'a>,
        left: Vec<&'a str>,
        ids: Option<&'a HashMap<String, u64>>,
        error: Option<anyhow::Error>,
    }
    impl ModuleMapper for Fill<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.place.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.place.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.place.name();
            self.left.retain(|left| *left != name);
            let (id, tensor, mapper) = param.consume();
            let (device, shape) = (tensor.device(), tensor.dims());
            let filled = match numbers(self.file, &name, &shape) {
                Ok(values) => {
                    let mut stored = shape;
                    if D == 2 {
                        stored.reverse();
                    }
                    let data = TensorData::new(values, stored);
                    let filled = Tensor::<D>::from_data(data, &device);
                    let filled = if D == 2 { filled.transpose() } else { filled };
                    // a transposed view would not be one block of memory
                    let values = filled.into_data().convert::<f32>();
                    let filled = Tensor::<D>::from_data(values, &device);
                    filled.set_require_grad(tensor.is_require_grad())
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    tensor
                }
            };
            let saved = self.ids.and_then(|ids| ids.get(&name).copied());
            Param::from_mapped_value(saved.map_or(id, ParamId::from), filled, mapper)
        }
    }
    let mut fill = Fill {
        place: Place::default(),
        file,
        left: file.names(),
        ids,
        error: None,
    };
    let model = model.map(&mut fill);
    if let Some(error) = fill.error {
        return Err(error);
    }
    fill.left
        .retain(|name| !name.ends_with("num_batches_tracked") && !others.contains(name));
    ensure!(
        fill.left.is_empty(),
        "tensors that belong to no layer: {}",
        fill.left.join(", ")
    );
    Ok(model)
}

/// The values of a tensor whose shape in the module is `shape`.
fn numbers(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let view = file
        .tensor(name)
        .map_err(|_| anyhow::anyhow!("there is no tensor `{name}`"))?;
    let mut expected = shape.to_vec();
    if expected.len() == 2 {
        expected.reverse();
    }
    ensure!(
        view.shape() == expected,
        "{name} has shape {:?}, not {expected:?}",
        view.shape()
    );
    ensure!(
        view.dtype() == Dtype::F32,
        "{name} holds {:?}, only F32 is read",
        view.dtype()
    );
    let (chunks, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = chunks
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    ensure!(
        values.iter().all(|v| v.is_finite()),
        "{name} holds values that are not finite"
    );
    Ok(values)
}
