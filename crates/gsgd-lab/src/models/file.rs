//! Checkpoints: safetensors with PyTorch's names and orientation.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::mlp::layer;
use super::{Arch, Mlp};

/// Writes `layers.N.weight` `[outputs, inputs]` and `layers.N.bias`, f32, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save(model: &Mlp, path: &Path) -> Result<()> {
    let bytes = |values: Vec<f32>| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut tensors = Vec::new();
    for (index, layer) in model.layers.iter().enumerate() {
        let weight = layer.weight.val().transpose();
        let shape = weight.dims().to_vec();
        tensors.push((
            format!("layers.{index}.weight"),
            shape,
            bytes(weight.into_data().iter::<f32>().collect()),
        ));
        if let Some(bias) = &layer.bias {
            let values = bytes(bias.val().into_data().iter::<f32>().collect());
            tensors.push((
                format!("layers.{index}.bias"),
                bias.val().dims().to_vec(),
                values,
            ));
        }
    }
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, shape, data)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), data)?,
            ))
        })
        .collect::<Result<_>>()?;
    write_whole(path, &safetensors::serialize(views, None)?)
}

/// Writes a file beside its place and moves it there.
///
/// # Errors
/// The folder is not writable, or the disk full.
fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(data)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a text file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text.as_bytes())
}

/// A checkpoint of this architecture.
///
/// # Errors
/// The file cannot be read, or its tensors are missing, additional, misshapen or not finite.
pub fn load(path: &Path, arch: &Arch, bias: bool, device: &Device) -> Result<Mlp> {
    let (model, found) = load_any(path, device)?;
    ensure!(
        found == *arch,
        "{} holds {found}, asked for is {arch}",
        path.display()
    );
    ensure!(
        model
            .layers
            .iter()
            .all(|layer| layer.bias.is_some() == bias),
        "{} {} biases: {} --bias",
        path.display(),
        if bias { "has no" } else { "has" },
        if bias { "leave out" } else { "add" }
    );
    Ok(model)
}

/// A checkpoint of any multi-layer perceptron with the names `layers.0.weight`, `layers.0.bias`, ...
///
/// # Errors
/// The file cannot be read, or its tensors are missing, additional, misshapen or not finite.
pub fn load_any(path: &Path, device: &Device) -> Result<(Mlp, Arch)> {
    let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&data)
        .with_context(|| format!("{} is no safetensors file", path.display()))?;
    read(&file, device).with_context(|| format!("in {}", path.display()))
}

fn read(file: &SafeTensors, device: &Device) -> Result<(Mlp, Arch)> {
    let mut names = file.names();
    let mut layers = Vec::new();
    let mut widths: Vec<usize> = Vec::new();
    loop {
        let name = format!("layers.{}.weight", layers.len());
        let Ok(view) = file.tensor(&name) else {
            break;
        };
        let &[outputs, inputs] = view.shape() else {
            bail!(
                "{name} has shape {:?}, a dense layer has [outputs, inputs]",
                view.shape()
            );
        };
        if let Some(&width) = widths.last() {
            ensure!(
                width == inputs,
                "{name} takes {inputs} features, the layer before gives {width}"
            );
        } else {
            widths.push(inputs);
        }
        widths.push(outputs);
        let values = numbers(&name, &view)?;
        let transposed = (0..inputs * outputs)
            .map(|at| values[at % outputs * inputs + at / outputs])
            .collect();
        let bias_name = format!("layers.{}.bias", layers.len());
        let bias = match file.tensor(&bias_name) {
            Ok(view) => {
                ensure!(
                    view.shape() == [outputs],
                    "{bias_name} has shape {:?}, not [{outputs}]",
                    view.shape()
                );
                Some(numbers(&bias_name, &view)?)
            }
            Err(_) => None,
        };
        names.retain(|n| *n != name && *n != bias_name);
        layers.push(layer(transposed, bias, [inputs, outputs], device));
    }
    ensure!(!layers.is_empty(), "there is no tensor `layers.0.weight`");
    ensure!(
        names.is_empty(),
        "tensors that belong to no dense layer: {}",
        names.join(", ")
    );
    Ok((Mlp { layers }, Arch { widths }))
}

fn numbers(name: &str, view: &TensorView) -> Result<Vec<f32>> {
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
