//! Seeds in files: TOML's integers end at 2^63 - 1, so a larger seed is written as text; both are read.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a seed: a whole number, in quotes from 2^63 on"
)]
enum Written {
    Number(i64),
    Text(String),
}

impl From<u64> for Written {
    fn from(seed: u64) -> Self {
        i64::try_from(seed).map_or_else(|_| Self::Text(seed.to_string()), Self::Number)
    }
}

impl TryFrom<Written> for u64 {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let (seed, found) = match written {
            Written::Number(number) => (Self::try_from(number).ok(), number.to_string()),
            Written::Text(text) => (text.parse().ok(), text),
        };
        seed.ok_or_else(|| {
            format!(
                "`{found}` is no seed: a whole number from 0 to {}",
                Self::MAX
            )
        })
    }
}

/// Writes a seed.
///
/// # Errors
/// Those of what is written to.
pub fn write<S: Serializer>(seed: &u64, to: S) -> Result<S::Ok, S::Error> {
    Written::from(*seed).serialize(to)
}

/// Lists of seeds.
pub mod list {
    use super::*;

    /// Writes seeds.
    ///
    /// # Errors
    /// Those of what is written to.
    pub fn serialize<S: Serializer>(seeds: &[u64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(seeds.iter().map(|&seed| Written::from(seed)))
    }

    /// Reads seeds.
    ///
    /// # Errors
    /// There is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        let written = Vec::<Written>::deserialize(from)?;
        let seeds = written.into_iter().map(u64::try_from);
        seeds.collect::<Result<_, _>>().map_err(de::Error::custom)
    }
}
