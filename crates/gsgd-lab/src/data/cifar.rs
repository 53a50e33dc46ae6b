//! CIFAR-10 and CIFAR-100 in their official binary layout.
//!
//! Records of one label byte (CIFAR-100: a coarse and a fine one) and 3 x 1024 bytes of red, green and blue.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DataError, Dataset, ImageShape, Split};

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

/// One of the two layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Five training batches and a test batch, 10 classes.
    Ten,
    /// `train.bin` and `test.bin`, 100 classes.
    Hundred,
}

impl Layout {
    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    fn training_files(self) -> Vec<String> {
        match self {
            Self::Ten => (1..=5).map(|n| format!("data_batch_{n}.bin")).collect(),
            Self::Hundred => vec!["train.bin".into()],
        }
    }

    fn test_file(self) -> &'static str {
        match self {
            Self::Ten => "test_batch.bin",
            Self::Hundred => "test.bin",
        }
    }
}

/// The layout of a folder and where its files are: there, or in the folder that the official archive unpacks to.
pub fn find(folder: &Path) -> Option<(Layout, PathBuf)> {
    [
        (Layout::Ten, "", "data_batch_1.bin"),
        (Layout::Ten, "cifar-10-batches-bin", "data_batch_1.bin"),
        (Layout::Hundred, "", "train.bin"),
        (Layout::Hundred, "cifar-100-binary", "train.bin"),
    ]
    .into_iter()
    .map(|(layout, inner, file)| (layout, folder.join(inner), file))
    .find(|(_, inner, file)| inner.join(file).is_file())
    .map(|(layout, inner, _)| (layout, inner))
}

/// Reads the files of a layout.
///
/// # Errors
/// A file is missing, cut off, or has a label out of range.
pub fn read(folder: &Path, layout: Layout) -> Result<Dataset, DataError> {
    let mut train = Split::default();
    for name in layout.training_files() {
        append(&mut train, &folder.join(name), layout)?;
    }
    let mut test = Split::default();
    append(&mut test, &folder.join(layout.test_file()), layout)?;
    Ok(Dataset {
        name: folder.display().to_string(),
        shape: SHAPE,
        classes: layout.classes(),
        white: 255,
        train: Arc::new(train),
        test: Arc::new(test),
        notes: Vec::new(),
    })
}

fn append(split: &mut Split, path: &Path, layout: Layout) -> Result<(), DataError> {
    let data = fs::read(path).map_err(|source| DataError::Read {
        path: path.display().to_string(),
        source,
    })?;
    let wrong = |reason: String| DataError::Format {
        path: path.display().to_string(),
        reason,
    };
    let record = layout.label_bytes() + SHAPE.features();
    if data.is_empty() || data.len() % record != 0 {
        return Err(wrong(format!(
            "{} bytes are no whole number of records of {record}: is the file cut off?",
            data.len()
        )));
    }
    for (at, record) in data.chunks_exact(record).enumerate() {
        let (labels, pixels) = record.split_at(layout.label_bytes());
        let label = labels[labels.len() - 1];
        if usize::from(label) >= layout.classes() {
            return Err(wrong(format!(
                "record {at} has label {label}, there are {} classes",
                layout.classes()
            )));
        }
        split.labels.push(label);
        split.pixels.extend(pixels.iter().map(|&p| u16::from(p)));
    }
    Ok(())
}
