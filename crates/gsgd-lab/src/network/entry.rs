//! Where the tensors of a file stand in its bytes, and how their numbers are stored.

use std::ops::Range;

use half::{bf16, f16};

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    F32,
    F64,
    F16,
    BF16,
    /// No floating point number that is read here.
    Other,
}

impl Number {
    /// The distance of 1 to the next larger number.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F64 | Self::Other => f64::EPSILON,
            Self::F32 => f64::from(f32::EPSILON),
            Self::F16 => f16::EPSILON.to_f64(),
            Self::BF16 => bf16::EPSILON.to_f64(),
        }
    }

    /// How far a weight may be off, relative to its unit, once it was multiplied and rounded.
    pub fn of_weights(self) -> f64 {
        (4.0 * self.epsilon()).max(1e-4)
    }

    /// How far an output may be off, relative to the largest, once weights were multiplied and rounded.
    pub fn of_outputs(self) -> f64 {
        (8.0 * self.epsilon()).max(1e-3)
    }

    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Other => "no floating point numbers",
        }
    }
}

/// Where a tensor stands in the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub shape: Vec<usize>,
    pub number: Number,
    pub place: Range<usize>,
}

/// Where a part of `bytes` begins and ends in it.
pub fn place(part: &[u8], bytes: &[u8]) -> Range<usize> {
    // an empty part may point anywhere
    let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= bytes.len() && !part.is_empty() => start..end,
        _ => 0..0,
    }
}

/// A bias that a file has no room for yet.
pub struct Added {
    /// Its name.
    pub name: String,
    /// How many numbers it has.
    pub length: usize,
    /// The tensor whose numbers they are like.
    pub like: String,
}
