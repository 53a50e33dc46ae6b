//! A network in a file, as the commands take it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use gsgd_net::file::{Hints, NetworkFile};

use crate::text::{printable, say};

#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// A safetensors file, a PyTorch state dict (.pt, .pth) or an ONNX file
    pub file: PathBuf,
    #[command(flatten)]
    pub hints: HintFlags,
}

/// What says more of a file than the file does.
#[derive(Debug, Args)]
pub struct HintFlags {
    /// What the layers are, where the file does not say: mlp:49-64-64-10, plain:20, resnet:20, ..., or a TOML file
    #[arg(long, value_name = "ARCH|FILE.toml")]
    pub arch: Option<String>,
    /// The shape of an input that an ONNX file leaves open, such as x=3,224,224; may be given several times
    #[arg(long, value_name = "NAME=SIZES", value_parser = input_shape)]
    pub input_shape: Vec<(String, Vec<usize>)>,
    /// Where a PyTorch file has its state dict, such as net
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
}

fn input_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || format!("`{text}` is no input's name and sizes, such as x=3,224,224");
    let (name, sizes) = text.split_once('=').ok_or_else(wrong)?;
    let sizes: Option<Vec<usize>> = sizes.split(',').map(|size| size.parse().ok()).collect();
    let sizes = sizes
        .filter(|sizes| !sizes.contains(&0))
        .ok_or_else(wrong)?;
    Ok((name.into(), sizes))
}

impl HintFlags {
    /// For a file of this name: an ONNX file says itself what its layers are.
    pub fn of(&self, file: &Path) -> Hints {
        let onnx = file
            .extension()
            .is_some_and(|extension| extension == "onnx");
        Hints {
            arch: self.arch.clone().filter(|_| !onnx),
            input_shapes: match onnx {
                true => self.input_shape.iter().cloned().collect(),
                false => Default::default(),
            },
            key: self.key.clone().filter(|_| !onnx),
        }
    }
}

impl NetworkArgs {
    /// The network.
    pub fn open(&self) -> Result<NetworkFile> {
        let hints = Hints {
            arch: self.hints.arch.clone(),
            ..self.hints.of(&self.file)
        };
        let network = NetworkFile::open(&self.file, &hints)?;
        remark(&self.file, network.guess.as_deref());
        Ok(network)
    }
}

/// Says something of a file on standard error.
pub fn remark<'a>(file: &Path, remarks: impl IntoIterator<Item = &'a str>) {
    for remark in remarks {
        let said = format!("{}: {remark}", file.display());
        say(&printable(&said));
    }
}
