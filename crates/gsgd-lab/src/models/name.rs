//! Networks as `--arch` names them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gsgd_net::arch::Arch;
use serde::Serialize;

use crate::data::Dataset;

/// A network as it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum NetworkName {
    /// By its name. The widths of a perceptron may be those of its hidden layers alone.
    Known(Arch),
    /// A perceptron with one hidden layer of this width.
    Hidden(usize),
    /// A TOML file that lists its layers, or an ONNX file.
    File(PathBuf),
}

/// How names of such files end.
const EXTENSIONS: [&str; 2] = ["toml", "onnx"];

impl FromStr for NetworkName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            return Ok(Self::File(path.into()));
        }
        let width = text
            .strip_prefix("mlp:")
            .filter(|width| width.parse::<usize>().is_ok());
        let known = match width {
            // the parser of architectures knows which widths there may be
            Some(width) => format!("mlp:{width}-{width}")
                .parse()
                .map(|arch| match arch {
                    Arch::Mlp(widths) => Self::Hidden(widths[0]),
                    other => Self::Known(other),
                }),
            None => text.parse().map(Self::Known),
        };
        known.map_err(|error: String| {
            format!("{error}, mlp:HIDDEN-... such as mlp:64-64, or a file such as layers.toml or model.onnx")
        })
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(arch) => write!(f, "{arch}"),
            Self::Hidden(width) => write!(f, "mlp:{width}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl NetworkName {
    /// The same with a file that is here named so that it is found from any working directory.
    pub fn located(&self) -> Self {
        match self {
            Self::File(path) if path.is_file() => {
                Self::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            other => other.clone(),
        }
    }

    /// The network's full name for these images: perceptrons that name hidden widths alone get those of both ends.
    ///
    /// Widths are those of hidden layers where neither the first is the number of pixels nor the last that of classes.
    pub fn for_images(&self, data: &Dataset) -> Self {
        let (inputs, outputs) = (data.shape.features(), data.classes);
        let hidden = match self {
            Self::Hidden(width) => &[*width][..],
            Self::Known(Arch::Mlp(widths))
                if widths.first() != Some(&inputs) && widths.last() != Some(&outputs) =>
            {
                widths
            }
            other => return other.clone(),
        };
        Self::Known(Arch::Mlp([&[inputs], hidden, &[outputs]].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_round_and_hidden_widths_get_both_ends() {
        // 49 pixels, 10 classes
        let data = Dataset::open("fashion-7x7").unwrap();
        for (name, full) in [
            ("mlp:49-64-64-10", "mlp:49-64-64-10"),
            ("mlp:64-64", "mlp:49-64-64-10"),
            ("mlp:64", "mlp:49-64-10"),
            // as many outputs as there are classes, or more
            ("mlp:49-12", "mlp:49-12"),
            ("mlp:50-10", "mlp:50-10"),
            ("mlp:49-5", "mlp:49-5"),
            ("resnet:20", "resnet:20"),
            ("a/layers.toml", "a/layers.toml"),
        ] {
            let parsed = name.parse::<NetworkName>().unwrap();
            assert_eq!(parsed.to_string(), name);
            assert_eq!(parsed.for_images(&data).to_string(), full);
        }
        for wrong in ["mlp:", "mlp:0", "mlp:x", "mlp:3-0", "cnn", "layers.yaml"] {
            let error = wrong.parse::<NetworkName>().unwrap_err();
            assert!(error.contains("layers.toml"), "{error}");
        }
    }
}
