//! The IDX files of MNIST and Fashion-MNIST, gzipped or not.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::{DataError, Dataset, ImageShape, Split};

const PARTS: [&str; 2] = ["train", "t10k"];
const KINDS: [&str; 2] = ["images-idx3-ubyte", "labels-idx1-ubyte"];

/// Whether a folder has one of the four files.
pub fn is_in(folder: &Path) -> bool {
    let names = PARTS
        .iter()
        .flat_map(|part| KINDS.map(|kind| format!("{part}-{kind}")));
    let mut paths =
        names.flat_map(|name| ["", ".gz"].map(|end| folder.join(format!("{name}{end}"))));
    paths.any(|path| path.exists())
}

/// The most bytes an IDX file may unpack to.
const LARGEST: u64 = 4 << 30;

/// Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...` of a folder, each gzipped or not.
///
/// # Errors
/// A file is missing, is no such file, is cut off, or images and labels do not fit together.
pub fn read_folder(folder: &Path) -> Result<Dataset, DataError> {
    let [(train, size), (test, test_size)] = [split(folder, PARTS[0])?, split(folder, PARTS[1])?];
    if size != test_size {
        return Err(wrong(
            folder,
            format!(
                "training images are {}x{}, test images {}x{}",
                size.0, size.1, test_size.0, test_size.1
            ),
        ));
    }
    let labels = train.labels.iter().chain(&test.labels);
    Ok(Dataset {
        name: folder.display().to_string(),
        shape: ImageShape::grey(size.0, size.1),
        classes: usize::from(labels.max().copied().unwrap_or(0)) + 1,
        white: 255,
        train: Arc::new(train),
        test: Arc::new(test),
        notes: Vec::new(),
    })
}

fn split(folder: &Path, prefix: &str) -> Result<(Split, (usize, usize)), DataError> {
    let [images, labels] = KINDS.map(|kind| format!("{prefix}-{kind}"));
    let (path, data) = open(folder, &images)?;
    let (dims, pixels) = parse::<3>(&path, &data)?;
    let [count, rows, columns] = dims;
    let (label_path, data) = open(folder, &labels)?;
    let ([found], values) = parse::<1>(&label_path, &data)?;
    if found != count {
        return Err(wrong(
            &label_path,
            format!("{found} labels for {count} images"),
        ));
    }
    if count == 0 || rows == 0 || columns == 0 {
        return Err(wrong(&path, "there are no pixels"));
    }
    let split = Split {
        pixels: pixels.iter().map(|&p| p.into()).collect(),
        labels: values.to_vec(),
    };
    Ok((split, (rows, columns)))
}

fn open(folder: &Path, name: &str) -> Result<(PathBuf, Vec<u8>), DataError> {
    let plain = folder.join(name);
    let zipped = folder.join(format!("{name}.gz"));
    let path = if zipped.exists() && !plain.exists() {
        zipped
    } else {
        plain
    };
    let read = |source| DataError::Read {
        path: path.display().to_string(),
        source,
    };
    let file = File::open(&path).map_err(read)?;
    let data = match path.extension().is_some_and(|e| e == "gz") {
        true => read_whole(GzDecoder::new(file)),
        false => read_whole(file),
    };
    Ok((path.clone(), data.map_err(read)?))
}

/// All bytes, into memory of the size that the header promises, if there is that much: growing would take twice that.
fn read_whole(from: impl Read) -> std::io::Result<Vec<u8>> {
    let (mut from, mut data) = (from.take(LARGEST), Vec::new());
    from.by_ref().take(4).read_to_end(&mut data)?;
    let dims = data.last().map_or(0, |&dims| usize::from(dims));
    from.by_ref().take(4 * dims as u64).read_to_end(&mut data)?;
    let sizes = data[4.min(data.len())..].chunks_exact(4);
    let sizes = sizes.map(|size| {
        size.iter()
            .fold(0u64, |all, &byte| all << 8 | u64::from(byte))
    });
    let promised = sizes.fold(1u64, u64::saturating_mul).min(LARGEST);
    _ = data.try_reserve_exact(promised as usize);
    from.read_to_end(&mut data)?;
    Ok(data)
}

/// Dimensions and bytes of an IDX file of unsigned bytes.
fn parse<'a, const N: usize>(
    path: &Path,
    data: &'a [u8],
) -> Result<([usize; N], &'a [u8]), DataError> {
    let header = 4 + 4 * N;
    if data.len() < header {
        return Err(wrong(
            path,
            format!(
                "{} bytes are too few for an IDX header of {header}",
                data.len()
            ),
        ));
    }
    if data[..4] != [0, 0, 8, N as u8] {
        return Err(wrong(
            path,
            format!(
                "it starts with {:02x?}, an IDX file of {N} dimensions with [00, 00, 08, {N:02x}]",
                &data[..4]
            ),
        ));
    }
    let mut dims = [0usize; N];
    for (dim, bytes) in dims.iter_mut().zip(data[4..header].chunks_exact(4)) {
        *dim = bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | usize::from(byte));
    }
    let expected = dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let found = data.len() - header;
    if expected != Some(found) {
        return Err(wrong(
            path,
            format!("the header promises {dims:?} values, the file holds {found}"),
        ));
    }
    Ok((dims, &data[header..]))
}

fn wrong(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Format {
        path: path.display().to_string(),
        reason: reason.into(),
    }
}
