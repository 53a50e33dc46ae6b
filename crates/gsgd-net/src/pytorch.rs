//! Writing a PyTorch file: the one that tensors were read from, with other numbers in its memory and all else as it was.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::pickle::Stored;

/// Where memory begins in PyTorch's files.
const ALIGNMENT: u16 = 64;

/// A PyTorch file that tensors were read from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    path: PathBuf,
    checksum: u32,
    tensors: Vec<Stored>,
}

impl Source {
    /// The file of these bytes.
    pub fn new(path: &Path, bytes: &[u8], tensors: Vec<Stored>) -> Self {
        Self {
            path: path.to_path_buf(),
            checksum: crc32fast::hash(bytes),
            tensors,
        }
    }

    /// The file's bytes with the tensors that `values` gives: how many numbers, and their bytes.
    ///
    /// # Errors
    /// It is not written: the old format, tensors that are views of others, a file that has changed since.
    pub fn with<'v>(&self, values: impl Fn(&str) -> Option<(usize, &'v [u8])>) -> Result<Vec<u8>> {
        let path = self.path.display();
        let bytes = std::fs::read(&self.path).with_context(|| format!("cannot read {path}"))?;
        ensure!(
            crc32fast::hash(&bytes) == self.checksum,
            "{path} has changed since it was read"
        );
        ensure!(
            bytes.starts_with(b"PK\x03\x04"),
            "{path} is in the format from before PyTorch 1.6, which is not written"
        );
        let mut by_storage: BTreeMap<&str, Vec<Placed>> = BTreeMap::new();
        for tensor in &self.tensors {
            let values = values(&tensor.name);
            let (count, values) =
                values.with_context(|| format!("`{}` is not there", tensor.name))?;
            if count == 0 {
                continue;
            }
            let start = tensor.start.with_context(|| {
                format!("`{}` is a view of other memory in {path}", tensor.name)
            })?;
            let all = by_storage.entry(&tensor.storage).or_default();
            all.push((start, values.len() / count, values));
        }
        let mut archive = ZipArchive::new(Cursor::new(&bytes))?;
        let mut writer = ZipWriter::new(Cursor::new(Vec::with_capacity(bytes.len())));
        for at in 0..archive.len() {
            let name = archive.by_index_raw(at)?.name()?.to_string();
            if name.ends_with("/byteorder") {
                let mut order = String::new();
                archive.by_index(at)?.read_to_string(&mut order)?;
                ensure!(
                    order.trim() == "little",
                    "{path} has its bytes in {order} order"
                );
            }
            let key = name.split_once("/data/").map(|(_, key)| key);
            let Some(tensors) = key.and_then(|key| by_storage.remove(key)) else {
                writer.raw_copy_file(archive.by_index_raw(at)?)?;
                continue;
            };
            let mut memory = Vec::new();
            archive.by_index(at)?.read_to_end(&mut memory)?;
            put(&mut memory, &tensors).with_context(|| format!("`{name}` in {path}"))?;
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .with_alignment(ALIGNMENT)
                .large_file(memory.len() >= u32::MAX as usize);
            writer.start_file(name, options)?;
            writer.write_all(&memory)?;
        }
        ensure!(by_storage.is_empty(), "{path} lacks some of its memory");
        Ok(writer.finish()?.into_inner())
    }
}

/// A tensor's first number in a piece of memory, the bytes of a number, and all of them.
type Placed<'v> = (u64, usize, &'v [u8]);

/// Puts tensors, by their first numbers and the bytes of a number, into their places in a piece of memory.
fn put(memory: &mut [u8], tensors: &[Placed]) -> Result<()> {
    for &(start, size, values) in tensors {
        let from = usize::try_from(start)?.checked_mul(size);
        let place = from.and_then(|from| Some(from..from.checked_add(values.len())?));
        let place = place.and_then(|place| memory.get_mut(place));
        place
            .context("a tensor reaches over its end")?
            .copy_from_slice(values);
    }
    Ok(())
}
