//! A network in a file, as the commands take it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::network::NetworkFile;
use crate::text::{printable, say};

#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// A safetensors file, a PyTorch state dict (.pt, .pth) or an ONNX file
    pub file: PathBuf,
    #[command(flatten)]
    pub arch: ArchFlag,
}

#[derive(Debug, Args)]
pub struct ArchFlag {
    /// What the layers are, where the file does not say: mlp:49-64-64-10, plain:20, resnet:20, ..., or a TOML file
    #[arg(long, value_name = "ARCH|FILE.toml")]
    pub arch: Option<String>,
}

impl NetworkArgs {
    /// The network.
    pub fn open(&self) -> Result<NetworkFile> {
        let network = NetworkFile::open(&self.file, self.arch.arch.as_deref())?;
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
