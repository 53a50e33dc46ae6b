//! `gsgd rescale`.

use anyhow::{Context, Result};
use clap::Args;
use gsgd_core::rescale::Scaling;

use super::rewrite::Files;
use crate::text::print;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gsgd rescale model.onnx rescaled.onnx --spread 1 --seed 3")]
pub struct Rescale {
    #[command(flatten)]
    files: Files,
    /// Multiply units by 10^U(-SPREAD, SPREAD)
    #[arg(long, default_value_t = 1.0)]
    spread: f64,
    /// Multiply units by 2^k, k in -N..=N, which no rounding touches, instead
    #[arg(long, value_name = "N", conflicts_with = "spread")]
    powers_of_two: Option<u8>,
    /// Decides the factors
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Rescale {
    pub fn run(self) -> Result<()> {
        let (out, units, outputs) = self.files.rewrite(|_, scales| {
            let scaling = match self.powers_of_two {
                Some(exponent) => Scaling::powers_of_two(scales, exponent, self.seed),
                None => Scaling::random(scales, self.spread, self.seed).context("--spread")?,
            };
            Ok((scaling, scales.hidden()))
        })?;
        print(&format!(
            "{}: {units} units rescaled, {outputs}",
            out.display()
        ))
    }
}
