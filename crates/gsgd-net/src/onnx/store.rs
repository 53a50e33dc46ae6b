//! The bytes of a file, and those of tensors in files beside it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use prost::Message;
use prost::bytes::Bytes;
use tempfile::NamedTempFile;

use super::error::{OnnxError, invalid};
use super::numbers::label;
use super::proto::{
    AttributeProto, EXTERNAL, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    StringStringEntryProto, TensorProto,
};

/// Where tensors begin in a data file.
const ALIGNMENT: usize = 64;

/// What one message of protobuf can hold.
const LARGEST: usize = i32::MAX as usize;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> OnnxError {
    let path = path.to_path_buf();
    move |source| OnnxError::Io { path, source }
}

/// The model in these bytes, with the tensors that are in files in `folder`.
pub(super) fn read(bytes: Bytes, folder: &Path) -> Result<ModelProto, OnnxError> {
    let mut model = ModelProto::decode(bytes)?;
    let mut files = HashMap::new();
    each_tensor(
        &mut model,
        &mut |tensor| match tensor.data_location == Some(EXTERNAL) {
            true => fetch(tensor, folder, &mut files),
            false => Ok(()),
        },
    )?;
    Ok(model)
}

/// Reads the bytes of a tensor from another file.
fn fetch(
    tensor: &mut TensorProto,
    folder: &Path,
    files: &mut HashMap<String, (File, u64)>,
) -> Result<(), OnnxError> {
    let place = format!("tensor `{}`", label(tensor));
    let entry = |key: &str| {
        let mut entries = tensor.external_data.iter();
        let entry = entries.find(|entry| entry.key.as_deref() == Some(key))?;
        entry.value.clone()
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            invalid(
                &place,
                format!("its {key} is `{text}`, a whole number is allowed"),
            )
        }),
    };
    let location = entry("location").unwrap_or_default();
    let path = inside(folder, &location).ok_or_else(|| {
        invalid(
            &place,
            format!("it is in the file `{location}`, a file in the model's folder is allowed"),
        )
    })?;
    if !files.contains_key(&location) {
        let real = path.canonicalize().map_err(io(&path))?;
        let home = folder.canonicalize().map_err(io(folder))?;
        if !real.starts_with(home) {
            let what = format!("the file `{location}` leads to one outside of the model's folder");
            return Err(invalid(&place, what));
        }
        let file = File::open(&path).map_err(io(&path))?;
        let length = file.metadata().map_err(io(&path))?.len();
        files.insert(location.clone(), (file, length));
    }
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let Some((file, size)) = files.get_mut(&location) else {
        return Ok(());
    };
    let length = length.unwrap_or(size.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > *size) {
        let what = format!(
            "its {length} bytes from {offset} on are not in `{location}`, which has {size}"
        );
        return Err(invalid(&place, what));
    }
    let mut raw = vec![0; length as usize];
    let read = file
        .seek(SeekFrom::Start(offset))
        .and_then(|_| file.read_exact(&mut raw));
    read.map_err(io(&path))?;
    tensor.raw_data = Some(raw.into());
    Ok(())
}

/// A path in a folder, if it stays there.
fn inside(folder: &Path, location: &str) -> Option<PathBuf> {
    let location = Path::new(location);
    let mut parts = location.components();
    let stays = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (stays && location.file_name().is_some()).then(|| folder.join(location))
}

/// Writes a model, and the tensors that are to be in another file to one beside it; whole or not at all.
pub(super) fn write(model: &ModelProto, path: &Path) -> Result<(), OnnxError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().map(|name| name.to_string_lossy());
    let data_name = format!("{}.data", name.unwrap_or_default());
    let data_path = folder.join(&data_name);
    let mut model = model.clone();
    if model.encoded_len() > LARGEST {
        let graph = model.graph.iter_mut();
        for tensor in graph.flat_map(|graph| &mut graph.initializer) {
            if tensor
                .raw_data
                .as_ref()
                .is_some_and(|raw| raw.len() >= 1024)
            {
                tensor.data_location = Some(EXTERNAL);
            }
        }
    }
    let mut data: Option<NamedTempFile> = None;
    let mut end = 0usize;
    each_tensor(&mut model, &mut |tensor| {
        if tensor.data_location != Some(EXTERNAL) {
            return Ok(());
        }
        let raw = tensor.raw_data.take().unwrap_or_default();
        let file = match &mut data {
            Some(file) => file,
            none => none.insert(temporary(folder).map_err(io(folder))?),
        };
        let gap = end.next_multiple_of(ALIGNMENT) - end;
        let written = file
            .write_all(&[0; ALIGNMENT][..gap])
            .and_then(|()| file.write_all(&raw));
        written.map_err(io(&data_path))?;
        end += gap;
        tensor.external_data = [
            ("location", data_name.clone()),
            ("offset", end.to_string()),
            ("length", raw.len().to_string()),
        ]
        .map(|(key, value)| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value),
        })
        .into();
        end += raw.len();
        Ok(())
    })?;
    if model.encoded_len() > LARGEST {
        let what = format!(
            "it would have {} bytes, {LARGEST} are allowed",
            model.encoded_len()
        );
        return Err(invalid(path.display().to_string(), what));
    }
    let mut file = temporary(folder).map_err(io(folder))?;
    file.write_all(&model.encode_to_vec()).map_err(io(path))?;
    if let Some(data) = data {
        persist(data, &data_path)?;
    }
    persist(file, path)
}

fn persist(file: NamedTempFile, path: &Path) -> Result<(), OnnxError> {
    let failed = io(path);
    file.as_file().sync_all().map_err(io(path))?;
    match file.persist(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error.error)),
    }
}

/// A file in the folder under another name, with the permissions that the system gives to new files.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666))
    };
    builder.tempfile_in(folder)
}

type Visit<'v> = &'v mut dyn FnMut(&mut TensorProto) -> Result<(), OnnxError>;

/// Calls `visit` with every tensor of a model, those in bodies and functions included. Messages nest less deeply than the
/// decoder's limit, and so do these calls.
fn each_tensor(model: &mut ModelProto, visit: Visit) -> Result<(), OnnxError> {
    for graph in model.graph.iter_mut() {
        in_graph(graph, visit)?;
    }
    for training in &mut model.training_info {
        let graphs = [&mut training.initialization, &mut training.algorithm];
        for graph in graphs.into_iter().flatten() {
            in_graph(graph, visit)?;
        }
    }
    for function in &mut model.functions {
        in_attributes(&mut function.attribute_proto, visit)?;
        in_nodes(&mut function.node, visit)?;
    }
    Ok(())
}

fn in_graph(graph: &mut GraphProto, visit: Visit) -> Result<(), OnnxError> {
    graph.initializer.iter_mut().try_for_each(&mut *visit)?;
    for sparse in &mut graph.sparse_initializer {
        in_sparse(sparse, visit)?;
    }
    in_nodes(&mut graph.node, visit)
}

fn in_nodes(nodes: &mut [NodeProto], visit: Visit) -> Result<(), OnnxError> {
    let mut nodes = nodes.iter_mut();
    nodes.try_for_each(|node| in_attributes(&mut node.attribute, visit))
}

fn in_attributes(attributes: &mut [AttributeProto], visit: Visit) -> Result<(), OnnxError> {
    for attribute in attributes {
        let tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
        tensors.into_iter().try_for_each(&mut *visit)?;
        let sparse = attribute.sparse_tensor.iter_mut();
        for sparse in sparse.chain(&mut attribute.sparse_tensors) {
            in_sparse(sparse, visit)?;
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            in_graph(graph, visit)?;
        }
    }
    Ok(())
}

fn in_sparse(sparse: &mut SparseTensorProto, visit: Visit) -> Result<(), OnnxError> {
    let tensors = [&mut sparse.values, &mut sparse.indices];
    tensors.into_iter().flatten().try_for_each(visit)
}
