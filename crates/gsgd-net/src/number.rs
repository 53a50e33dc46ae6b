//! How the numbers of a tensor are stored, and where in a file's bytes.

use std::ops::Range;

use anyhow::{Result, ensure};
use half::{bf16, f16};

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
    /// 16 bits, 10 of them digits.
    F16,
    /// 16 bits, 7 of them digits.
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

    /// Bytes of a number; 0 of those that are not read here.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Other => 0,
        }
    }

    /// The values of these bytes, little-endian; none where they are no floating point numbers.
    pub fn read(self, bytes: &[u8]) -> Option<Vec<f64>> {
        fn all<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            let (numbers, _) = bytes.as_chunks();
            numbers.iter().map(|&bytes| number(bytes)).collect()
        }
        Some(match self {
            Self::F32 => all(bytes, |b| f32::from_le_bytes(b).into()),
            Self::F64 => all(bytes, f64::from_le_bytes),
            Self::F16 => all(bytes, |b| f16::from_le_bytes(b).to_f64()),
            Self::BF16 => all(bytes, |b| bf16::from_le_bytes(b).to_f64()),
            Self::Other => return None,
        })
    }

    /// Puts values into bytes of as many numbers, little-endian.
    ///
    /// # Errors
    /// Another number of values, or one that is too large for the type; what was written until then stays.
    pub fn write(self, values: &[f64], bytes: &mut [u8]) -> Result<()> {
        fn all<const N: usize>(
            values: &[f64],
            bytes: &mut [u8],
            number: impl Fn(f64) -> [u8; N],
        ) -> bool {
            let (places, rest) = bytes.as_chunks_mut();
            let fits = places.len() == values.len() && rest.is_empty();
            if fits {
                let pairs = places.iter_mut().zip(values);
                pairs.for_each(|(place, &value)| *place = number(value));
            }
            fits
        }
        let holds = |value: f64| match self {
            Self::F32 => (value as f32).is_finite(),
            Self::F16 => f16::from_f64(value).is_finite(),
            Self::BF16 => bf16::from_f64(value).is_finite(),
            Self::F64 | Self::Other => value.is_finite(),
        };
        ensure!(
            values.iter().all(|&value| holds(value)),
            "a number becomes too large for {} (a lower --spread helps)",
            self.name()
        );
        let fits = match self {
            Self::F32 => all(values, bytes, |value| (value as f32).to_le_bytes()),
            Self::F64 => all(values, bytes, f64::to_le_bytes),
            Self::F16 => all(values, bytes, |value| f16::from_f64(value).to_le_bytes()),
            Self::BF16 => all(values, bytes, |value| bf16::from_f64(value).to_le_bytes()),
            Self::Other => false,
        };
        ensure!(fits, "it does not hold {} numbers", values.len());
        Ok(())
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
pub(crate) struct Entry {
    pub shape: Vec<usize>,
    pub number: Number,
    pub place: Range<usize>,
}

/// Where a part of `bytes` begins and ends in it.
pub(crate) fn place(part: &[u8], bytes: &[u8]) -> Range<usize> {
    // an empty part may point anywhere
    let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= bytes.len() && !part.is_empty() => start..end,
        _ => 0..0,
    }
}
