//! The shape of an image.

use std::fmt;
use std::str::FromStr;

/// Channels, height and width, written `3x32x32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Colours.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// A grey image.
    pub fn grey(height: usize, width: usize) -> Self {
        Self {
            channels: 1,
            height,
            width,
        }
    }

    /// Features in a row.
    pub fn flat(features: usize) -> Self {
        Self::grey(1, features)
    }

    /// Values of an image.
    pub fn features(self) -> usize {
        self.channels * self.height * self.width
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

impl FromStr for ImageShape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<usize>> = text.split('x').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[channels, height, width]) => Ok(Self {
                channels,
                height,
                width,
            }),
            _ => Err(format!("`{text}` is no image shape such as 3x32x32")),
        }
    }
}
