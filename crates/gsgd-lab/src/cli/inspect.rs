//! `gsgd inspect`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::network::NetworkArgs;
use super::stages::Stages;
use crate::inspect::{Report, page, svg, text};
use crate::text::print;
use gsgd_net::write::write_whole;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gsgd inspect runs/first/final.safetensors\n  gsgd inspect model.onnx --html model.html \
                        --draw model.svg\n  gsgd inspect resnet.pt --arch resnet:20 --json"
)]
pub struct Inspect {
    #[command(flatten)]
    network: NetworkArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the layers as a TOML file, as `--arch` takes it
    #[arg(long, conflicts_with = "json")]
    toml: bool,
    /// Write a page with the figures and a drawing
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Draw the network with its skeleton, as SVG
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let stages = Stages::begin();
        stages.next("reading");
        let network = self.network.open()?;
        if self.toml {
            drop(stages);
            return print(gsgd_net::layout::write(network.graph())?.trim_end());
        }
        stages.next("computing norms");
        let report = Report::from_network(&network)?;
        drop(stages);
        let file = self.network.file.display().to_string();
        match self.json {
            true => print(&serde_json::to_string_pretty(&report)?)?,
            false => print(text(&report, &file).trim_end())?,
        }
        if self.draw.is_none() && self.html.is_none() {
            return Ok(());
        }
        let drawing = svg(&network)?;
        if let Some(path) = &self.draw {
            write_whole(path, drawing.as_bytes())?;
        }
        if let Some(path) = &self.html {
            write_whole(
                path,
                page(&report, &file, &drawing).into_string().as_bytes(),
            )?;
        }
        Ok(())
    }
}
