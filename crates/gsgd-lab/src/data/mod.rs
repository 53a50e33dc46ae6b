//! Labelled images, from inside the program or from disk.

mod cifar;
mod embedded;
mod fingerprint;
mod folder;
mod idx;
mod inputs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use embedded::{fashion_mnist_7x7, pack};
pub use fingerprint::Fingerprint;
pub use gsgd_net::image::ImageShape;
pub use idx::read_folder;
pub use inputs::{Augment, Inputs};

/// What is wrong with a data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
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

/// Images with labels, in file order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Pixels of all images, channel after channel and row after row, in units of 1 / [`Dataset::white`].
    pub pixels: Vec<u16>,
    /// Class of every image.
    pub labels: Vec<u8>,
}

/// A data set of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// The shape of an image.
    pub shape: ImageShape,
    /// The number of classes.
    pub classes: usize,
    /// The value of a white pixel.
    pub white: u16,
    /// Training images.
    pub train: Arc<Split>,
    /// Test images.
    pub test: Arc<Split>,
    /// What its reader is to be told of the files.
    pub notes: Vec<String>,
}

/// The set that is inside the program.
const EMBEDDED: &str = "fashion-7x7";

/// What can be opened.
const FORMS: &str = "`fashion-7x7`, which is inside the program, or a folder with IDX files \
                     (train-images-idx3-ubyte and three others), CIFAR's binary files, or train/<class>/*.png";

/// The name of a data set by which it is found from any working directory: a folder that is here by its whole path,
/// any other name unchanged.
pub fn located(name: &str) -> String {
    let here = Path::new(name);
    let whole = match name != EMBEDDED && here.is_dir() {
        true => std::path::absolute(here).ok(),
        false => None,
    };
    let whole = whole.and_then(|path| path.to_str().map(String::from));
    whole.unwrap_or_else(|| name.into())
}

/// How pixels become inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Mean 0 and standard deviation 1 over all training images, by channel.
    Standard,
    /// Pixels in [0, 1].
    Unit,
}

impl Dataset {
    /// The images in grey: the mean of the channels, rounded.
    pub fn grey(&self) -> Self {
        let area = self.shape.height * self.shape.width;
        let channels = self.shape.channels;
        let grey = |split: &Split| {
            let image = |image: &[u16]| -> Vec<u16> {
                let sum = |at: usize| {
                    image
                        .iter()
                        .skip(at)
                        .step_by(area)
                        .map(|&p| usize::from(p))
                        .sum::<usize>()
                };
                (0..area)
                    .map(|at| ((sum(at) + channels / 2) / channels) as u16)
                    .collect()
            };
            Arc::new(Split {
                pixels: split
                    .pixels
                    .chunks_exact(area * channels)
                    .flat_map(image)
                    .collect(),
                labels: split.labels.clone(),
            })
        };
        Self {
            shape: ImageShape {
                channels: 1,
                ..self.shape
            },
            train: grey(&self.train),
            test: grey(&self.test),
            ..self.clone()
        }
    }

    /// The embedded set, or a folder: `name` itself, or of that name in the folder `$GSGD_DATA`.
    ///
    /// # Errors
    /// There is no such folder, or it does not hold the files of a data set that fit together.
    pub fn open(name: &str) -> Result<Self, DataError> {
        if name == EMBEDDED {
            return fashion_mnist_7x7();
        }
        let direct = PathBuf::from(name);
        let shared = std::env::var_os("GSGD_DATA").map(|folder| Path::new(&folder).join(name));
        let folder = match shared {
            Some(shared) if !direct.is_dir() && shared.is_dir() => shared,
            _ => direct,
        };
        if !folder.is_dir() {
            return Err(DataError::Format {
                path: name.into(),
                reason: format!("no such folder, here or in $GSGD_DATA; give {FORMS}"),
            });
        }
        if let Some((layout, inner)) = cifar::find(&folder) {
            return cifar::read(&inner, layout);
        }
        if folder.join("train").is_dir() {
            return folder::read(&folder);
        }
        if idx::is_in(&folder) {
            return read_folder(&folder);
        }
        Err(DataError::Format {
            path: folder.display().to_string(),
            reason: format!("there are no images that can be read in this folder; give {FORMS}"),
        })
    }
}
