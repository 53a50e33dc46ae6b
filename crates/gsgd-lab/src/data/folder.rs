//! Image folders: `train/<class>/*.png` and `test/<class>/*.png` (or .jpg), all of one size.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DataError, Dataset, ImageShape, Split};

/// Reads a folder; classes are numbered in the order of their names, which must be the same for both splits.
///
/// # Errors
/// A folder is missing or empty, an image cannot be read or has another size, or there are more than 256 classes.
pub fn read(folder: &Path) -> Result<Dataset, DataError> {
    let train = folder.join("train");
    let classes = entries(&train, Path::is_dir)?;
    if classes.is_empty() || classes.len() > 256 {
        return Err(wrong(
            &train,
            format!("{} classes, 1 to 256 are possible", classes.len()),
        ));
    }
    let names: Vec<_> = classes
        .iter()
        .filter_map(|class| class.file_name())
        .collect();
    let mut shape = None;
    let mut split = |folder: PathBuf| -> Result<Split, DataError> {
        let mut split = Split::default();
        for (label, name) in names.iter().enumerate() {
            for path in entries(&folder.join(name), Path::is_file)? {
                let pixels = image(&path, &mut shape)?;
                split.labels.push(label as u8);
                split.pixels.extend(pixels);
            }
        }
        match split.labels.is_empty() {
            true => Err(wrong(&folder, "there are no images".into())),
            false => Ok(split),
        }
    };
    let (train, test) = (split(train)?, split(folder.join("test"))?);
    Ok(Dataset {
        name: folder.display().to_string(),
        shape: shape.unwrap_or(ImageShape::grey(1, 1)),
        classes: classes.len(),
        white: 255,
        train: Arc::new(train),
        test: Arc::new(test),
    })
}

/// What is in a folder, sorted by name.
fn entries(folder: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>, DataError> {
    let read = |source| DataError::Read {
        path: folder.display().to_string(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if wanted(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Red, green and blue one after the other, or grey.
fn image(path: &Path, expected: &mut Option<ImageShape>) -> Result<Vec<u16>, DataError> {
    let image = image::open(path).map_err(|error| wrong(path, error.to_string()))?;
    let shape = ImageShape {
        channels: if image.color().has_color() { 3 } else { 1 },
        height: image.height() as usize,
        width: image.width() as usize,
    };
    let expected = *expected.get_or_insert(shape);
    if shape != expected {
        return Err(wrong(
            path,
            format!("an image of {shape}, the first one is {expected}"),
        ));
    }
    let bytes = match shape.channels {
        1 => image.into_luma8().into_raw(),
        _ => image.into_rgb8().into_raw(),
    };
    let channel = |channel: usize| bytes.iter().skip(channel).step_by(shape.channels);
    Ok((0..shape.channels)
        .flat_map(channel)
        .map(|&byte| u16::from(byte))
        .collect())
}

fn wrong(path: &Path, reason: String) -> DataError {
    DataError::Format {
        path: path.display().to_string(),
        reason,
    }
}
