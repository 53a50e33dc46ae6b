//! Labelled images, from inside the program or from disk.

mod embedded;
mod idx;

use std::path::Path;

pub use embedded::{fashion_mnist_7x7, pack};
pub use idx::read_folder;

/// What is wrong with a data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold what it should.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What was expected and what was found.
        reason: String,
    },
}

/// Images with labels: pixels row by row, one byte sum each, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Pixels of all images, in units of 1 / [`Dataset::white`].
    pub pixels: Vec<u16>,
    /// Class of every image.
    pub labels: Vec<u8>,
}

/// A data set of grey images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Pixels per image.
    pub features: usize,
    /// The number of classes.
    pub classes: usize,
    /// The value of a white pixel.
    pub white: u16,
    /// Training images.
    pub train: Split,
    /// Test images.
    pub test: Split,
}

/// How pixels become inputs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Mean 0 and standard deviation 1 over all pixels of the training images.
    Standard,
    /// Pixels in [0, 1].
    Unit,
}

/// Inputs as the network takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// One row of features per image.
    pub x: Vec<f32>,
    /// Class of every image.
    pub y: Vec<u8>,
    /// Features per image.
    pub features: usize,
}

impl Inputs {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// Features of one image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.x[index * self.features..][..self.features]
    }
}

impl Dataset {
    /// The embedded set, or the folder `name`.
    ///
    /// # Errors
    /// The folder does not hold four IDX files that fit together.
    pub fn open(name: &str) -> Result<Self, DataError> {
        match name {
            "fashion-7x7" => fashion_mnist_7x7(),
            folder => read_folder(Path::new(folder)),
        }
    }

    /// Training and test inputs; the statistics are those of the training images.
    pub fn inputs(&self, normalise: Normalise) -> (Inputs, Inputs) {
        let white = f64::from(self.white);
        let (shift, scale) = match normalise {
            Normalise::Unit => (0.0, 1.0 / white),
            Normalise::Standard => {
                let count = self.train.pixels.len() as f64;
                let sum = |f: &dyn Fn(f64) -> f64| {
                    self.train
                        .pixels
                        .iter()
                        .map(|&p| f(f64::from(p)))
                        .sum::<f64>()
                };
                let mean = sum(&|p| p) / count;
                let variance = sum(&|p| (p - mean) * (p - mean)) / count;
                (mean, 1.0 / variance.sqrt().max(1e-12))
            }
        };
        let inputs = |split: &Split| Inputs {
            x: split
                .pixels
                .iter()
                .map(|&p| ((f64::from(p) - shift) * scale) as f32)
                .collect(),
            y: split.labels.clone(),
            features: self.features,
        };
        (inputs(&self.train), inputs(&self.test))
    }
}
