//! Architectures as they are written on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An architecture, written `mlp:49-64-64-10`, `plain:20`, `resnet:20`, `plain34` or `resnet34`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Arch {
    /// Dense layers: features of the input, the hidden layers and the output.
    Mlp(Vec<usize>),
    /// Convolutions of 3 x 3 in stages, for images; as many outputs as the data has classes.
    Conv(Conv),
}

/// A network of the family of He et al. (2015), with a stem of one 3 x 3 convolution, made for small images.
///
/// Two convolutions a block; every stage but the first halves the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// Its name on the command line.
    name: String,
    /// Whether blocks have residual connections.
    pub residual: bool,
    /// Channels and number of blocks of every stage.
    pub stages: Vec<(usize, usize)>,
}

impl Conv {
    /// The CIFAR family: 6n + 2 layers of 16, 32 and 64 channels.
    fn cifar(name: &str, residual: bool, layers: usize) -> Option<Self> {
        let blocks = layers.checked_sub(2)? / 6;
        let fits = (1..=100).contains(&blocks) && layers == 6 * blocks + 2;
        fits.then(|| Self {
            name: format!("{name}:{layers}"),
            residual,
            stages: vec![(16, blocks), (32, blocks), (64, blocks)],
        })
    }

    /// The 34-layer network of ImageNet behind a stem for small images.
    fn thirty_four(name: &str, residual: bool) -> Self {
        Self {
            name: format!("{name}34"),
            residual,
            stages: vec![(64, 3), (128, 4), (256, 6), (512, 3)],
        }
    }
}

const FORMS: &str = "mlp:INPUT-HIDDEN-...-OUTPUT such as mlp:49-64-64-10, plain:N or resnet:N with N = 6n + 2 \
                     (8, 14, 20, 32, 44, 56, 110), plain34, resnet34";

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "`{text}` is no architecture: {why}; there are {FORMS}"
            ))
        };
        match text {
            "plain34" => return Ok(Self::Conv(Conv::thirty_four("plain", false))),
            "resnet34" => return Ok(Self::Conv(Conv::thirty_four("resnet", true))),
            _ => {}
        }
        let Some((family, size)) = text.split_once(':') else {
            return wrong("it has no `:`");
        };
        if let "plain" | "resnet" = family {
            let layers = size.parse().ok();
            let conv = layers.and_then(|layers| Conv::cifar(family, family == "resnet", layers));
            return match conv {
                Some(conv) => Ok(Self::Conv(conv)),
                None => wrong("the number of layers is not 6n + 2"),
            };
        }
        if family != "mlp" {
            return wrong("there is no such family");
        }
        let widths: Result<Vec<usize>, _> = size.split('-').map(str::parse).collect();
        let Ok(widths) = widths else {
            return wrong("widths are whole numbers with `-` between them");
        };
        if widths.len() < 2 || widths.len() > 1000 {
            return wrong("it needs an input and an output");
        }
        if widths.iter().any(|&w| w == 0 || w > 1 << 20) {
            return wrong("widths lie between 1 and 1048576");
        }
        Ok(Self::Mlp(widths))
    }
}

impl TryFrom<String> for Arch {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> Self {
        arch.to_string()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conv(conv) => f.write_str(&conv.name),
            Self::Mlp(widths) => {
                let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
                write!(f, "mlp:{}", widths.join("-"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_round_and_wrong_ones_say_what_there_is() {
        for name in [
            "mlp:49-64-64-10",
            "mlp:3-2",
            "plain:8",
            "resnet:20",
            "plain:56",
            "plain34",
            "resnet34",
        ] {
            assert_eq!(name.parse::<Arch>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "cnn",
            "plain:21",
            "plain:2",
            "plain:x",
            "vgg:16",
            "mlp:3",
            "mlp:3-0",
            "mlp:3-a",
            "resnet:9999998",
        ] {
            let error = name.parse::<Arch>().unwrap_err();
            assert!(
                error.contains("resnet:N") && error.contains("mlp:49"),
                "{error}"
            );
        }
    }
}
