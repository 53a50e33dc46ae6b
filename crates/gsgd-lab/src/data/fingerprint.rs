//! What tells one data set from another.

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use super::{Dataset, Split};

/// Counts, shapes, and hashes of labels and pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    shape: String,
    classes: usize,
    train: SplitFingerprint,
    test: SplitFingerprint,
}

/// Of the training or the test images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitFingerprint {
    count: usize,
    labels: u32,
    pixels: u32,
}

impl Fingerprint {
    /// Of a data set.
    pub fn from_dataset(data: &Dataset) -> Self {
        Self {
            shape: data.shape.to_string(),
            classes: data.classes,
            train: SplitFingerprint::from_split(&data.train),
            test: SplitFingerprint::from_split(&data.test),
        }
    }

    /// What is other than it was, in words; nothing where the sets are the same.
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.shape != earlier.shape {
            changes.push(format!(
                "the shape of images ({}, it was {})",
                self.shape, earlier.shape
            ));
        }
        if self.classes != earlier.classes {
            changes.push(format!(
                "the number of classes ({}, it was {})",
                self.classes, earlier.classes
            ));
        }
        let parts = [
            ("training", &self.train, &earlier.train),
            ("test", &self.test, &earlier.test),
        ];
        for (of, now, before) in parts {
            if now.count != before.count {
                changes.push(format!(
                    "the number of {of} images ({}, it was {})",
                    now.count, before.count
                ));
                continue;
            }
            if now.labels != before.labels {
                changes.push(format!("labels of {of} images"));
            }
            if now.pixels != before.pixels {
                changes.push(format!("pixels of {of} images"));
            }
        }
        changes
    }
}

impl SplitFingerprint {
    fn from_split(split: &Split) -> Self {
        const AT_A_TIME: usize = 1 << 12;
        let mut pixels = Hasher::new();
        let mut bytes = Vec::with_capacity(2 * AT_A_TIME);
        for some in split.pixels.chunks(AT_A_TIME) {
            bytes.clear();
            bytes.extend(some.iter().flat_map(|pixel| pixel.to_le_bytes()));
            pixels.update(&bytes);
        }
        Self {
            count: split.labels.len(),
            labels: crc32fast::hash(&split.labels),
            pixels: pixels.finalize(),
        }
    }
}
