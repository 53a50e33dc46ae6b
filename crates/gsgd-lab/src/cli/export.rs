//! `gsgd export`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use gsgd_net::store::Format;

use super::network::NetworkArgs;
use crate::text::print;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gsgd export runs/first/final.safetensors model.onnx\n  gsgd export resnet.pt model.onnx \
                        --arch resnet:20"
)]
pub struct Export {
    #[command(flatten)]
    network: NetworkArgs,
    /// The new ONNX file
    out: PathBuf,
    /// Replace the new file if it exists
    #[arg(long)]
    force: bool,
}

impl Export {
    pub fn run(self) -> Result<()> {
        let out = self.out.display();
        ensure!(
            Format::of_name(&self.out) == Some(Format::Onnx),
            "{out}: an ONNX file's name ends in .onnx"
        );
        ensure!(
            self.force || !self.out.exists(),
            "{out} exists: choose another name, or replace it with --force"
        );
        let network = self.network.open()?;
        network.export(&self.out)?;
        let nodes = network.graph().nodes().len() - network.graph().params().len();
        print(&format!("{out}: {nodes} operations"))
    }
}
