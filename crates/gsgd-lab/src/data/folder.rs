//! Image folders: `train/<class>/*.png` and `test/<class>/*.png` (or .jpg, .jpeg), all of one size.
//!
//! What else lies there is passed over: hidden files and folders, and files with other endings.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DataError, Dataset, ImageShape, Split};

/// Endings of files that are taken for images.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Reads a folder; classes are numbered in the order of their names, which must be the same for both splits. One coloured
/// image makes all of them coloured.
///
/// # Errors
/// A folder is missing or has no images, an image cannot be read or has another size, or there are more than 256 classes.
pub fn read(folder: &Path) -> Result<Dataset, DataError> {
    let mut passed_over = Vec::new();
    let [train, test] = ["train", "test"].map(|part| folder.join(part));
    let names = classes(&train, &test, &mut passed_over)?;
    let mut images = Images::default();
    let mut split = |part: &Path| -> Result<Vec<Image>, DataError> {
        let mut found = Vec::new();
        for (label, name) in names.iter().enumerate() {
            let class = part.join(name);
            let (files, others): (Vec<_>, Vec<_>) = shown(&class, &mut passed_over)?
                .into_iter()
                .partition(|path| is_image(path));
            passed_over.extend(others);
            if files.is_empty() {
                return Err(wrong(&class, "there are no images of this class"));
            }
            for path in files {
                found.push(images.open(path, label as u8)?);
            }
        }
        Ok(found)
    };
    let (train, test) = (split(&train)?, split(&test)?);
    let channels = match images.coloured {
        0 => 1,
        _ => 3,
    };
    let short = |path: &Path| {
        path.strip_prefix(folder)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut notes = Vec::new();
    if let [first, ..] = passed_over.as_slice() {
        notes.push(format!(
            "{}: passed over, for they are no images (.png, .jpg, .jpeg) of a class: {} files and folders, such as {}",
            folder.display(),
            passed_over.len(),
            short(first)
        ));
    }
    if let (1.., Some(first)) = (images.coloured, &images.first_grey) {
        notes.push(format!(
            "{}: taken as coloured, like the {} others: {} grey images, such as {}",
            folder.display(),
            images.coloured,
            images.grey,
            short(first)
        ));
    }
    let (height, width) = images.size.unwrap_or((1, 1));
    let split = |images: Vec<Image>| {
        let mut split = Split::default();
        for image in images {
            split.labels.push(image.label);
            image.push(channels, &mut split.pixels);
        }
        Arc::new(split)
    };
    Ok(Dataset {
        name: folder.display().to_string(),
        shape: ImageShape {
            channels,
            height,
            width,
        },
        classes: names.len(),
        white: 255,
        train: split(train),
        test: split(test),
        notes,
    })
}

/// The names of the classes, which are those of both splits.
fn classes(
    train: &Path,
    test: &Path,
    passed_over: &mut Vec<PathBuf>,
) -> Result<Vec<OsString>, DataError> {
    let mut names = |part: &Path| -> Result<Vec<OsString>, DataError> {
        let (folders, files): (Vec<_>, Vec<_>) = shown(part, passed_over)?
            .into_iter()
            .partition(|path| path.is_dir());
        passed_over.extend(files);
        let names = folders.iter().filter_map(|path| path.file_name());
        Ok(names.map(OsString::from).collect())
    };
    let (in_train, in_test) = (names(train)?, names(test)?);
    for (some, there, others, not_there) in [
        (&in_train, train, &in_test, test),
        (&in_test, test, &in_train, train),
    ] {
        if let Some(name) = some.iter().find(|name| !others.contains(name)) {
            return Err(wrong(
                &not_there.join(name),
                format!(
                    "there is no such folder, and {} is one: a class needs images for training and for tests",
                    there.join(name).display()
                ),
            ));
        }
    }
    match in_train.len() {
        1..=256 => Ok(in_train),
        count => Err(wrong(
            train,
            format!("{count} classes, 1 to 256 are possible"),
        )),
    }
}

/// What is in a folder and not hidden, sorted by name.
fn shown(folder: &Path, passed_over: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
    let read = |source| DataError::Read {
        path: folder.display().to_string(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        match entry.file_name().as_encoded_bytes().first() {
            Some(b'.') => passed_over.push(entry.path()),
            _ => paths.push(entry.path()),
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.map(str::to_ascii_lowercase);
    path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// An image in the colours of its file.
struct Image {
    label: u8,
    /// Bytes of a pixel.
    channels: usize,
    bytes: Vec<u8>,
}

impl Image {
    /// Appends its pixels, channel after channel.
    fn push(&self, channels: usize, pixels: &mut Vec<u16>) {
        for channel in 0..channels {
            // a grey image's red, green and blue are one
            let own = self.bytes.iter().skip(channel.min(self.channels - 1));
            pixels.extend(own.step_by(self.channels).map(|&byte| u16::from(byte)));
        }
    }
}

/// What is known of the images read so far.
#[derive(Default)]
struct Images {
    /// Rows and columns of every image.
    size: Option<(usize, usize)>,
    coloured: usize,
    grey: usize,
    first_grey: Option<PathBuf>,
}

impl Images {
    fn open(&mut self, path: PathBuf, label: u8) -> Result<Image, DataError> {
        let image = image::open(&path).map_err(|error| wrong(&path, error.to_string()))?;
        let channels = if image.color().has_color() { 3 } else { 1 };
        let (height, width) = (image.height() as usize, image.width() as usize);
        let shape = |(height, width)| ImageShape {
            channels,
            height,
            width,
        };
        let expected = *self.size.get_or_insert((height, width));
        if (height, width) != expected {
            return Err(wrong(
                &path,
                format!(
                    "an image of {}, the first one is {}",
                    shape((height, width)),
                    shape(expected)
                ),
            ));
        }
        let bytes = match channels {
            1 => image.into_luma8().into_raw(),
            _ => image.into_rgb8().into_raw(),
        };
        match channels {
            1 => {
                self.grey += 1;
                self.first_grey.get_or_insert(path);
            }
            _ => self.coloured += 1,
        }
        Ok(Image {
            label,
            channels,
            bytes,
        })
    }
}

fn wrong(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Format {
        path: path.display().to_string(),
        reason: reason.into(),
    }
}
