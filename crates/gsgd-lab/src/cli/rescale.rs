//! `gsgd rescale`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Distribution, Tensor};
use clap::Args;
use gsgd::{Rejected, Scaling, Wiring};

use crate::models::{self, Checkpoint};

/// Random inputs on which outputs are compared.
const INPUTS: usize = 64;

#[derive(Debug, Args)]
pub struct Rescale {
    /// A safetensors file of this program, or with tensors layers.0.weight, layers.0.bias, ...
    file: PathBuf,
    /// The new file
    out: PathBuf,
    /// Multiply units by 10^U(-SPREAD, SPREAD)
    #[arg(long, default_value_t = 1.0)]
    spread: f64,
    /// Multiply units by 2^k, k in -N..=N, which no rounding touches, instead
    #[arg(long, value_name = "N", conflicts_with = "spread")]
    powers_of_two: Option<u8>,
    /// Decides the factors
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replace the new file if it exists
    #[arg(long)]
    force: bool,
}

impl Rescale {
    pub fn run(self) -> Result<()> {
        let device = Device::flex();
        let Checkpoint { model, plan } = models::load_any(&self.file, &device)?;
        ensure!(
            self.force || !self.out.exists(),
            "{} exists: choose another name, or replace it with --force",
            self.out.display()
        );
        let wiring = Wiring::of(&model)?;
        let scaling = match self.powers_of_two {
            Some(exponent) => Scaling::powers_of_two(&wiring, exponent, self.seed),
            None => Scaling::random(&wiring, self.spread, self.seed).context("--spread")?,
        };
        let x = Tensor::<2>::random(
            [INPUTS, plan.shape.features()],
            Distribution::Normal(0.0, 1.0),
            &device,
        );
        let before = model.forward(x.clone());
        let rescaled = scaling
            .apply(model, &wiring)
            .map_err(|Rejected { error, .. }| error)?;
        let after = rescaled.forward(x);
        let size: f64 = before.clone().abs().max().into_scalar();
        let difference: f64 = (after - before).abs().max().into_scalar();
        ensure!(
            difference <= 1e-3 * size,
            "the rescaled network differs by {difference:.1e} on outputs up to {size:.1e}: the factors are too large \
             for f32; lower --spread. Nothing was written"
        );
        models::save(&rescaled, &plan, &self.out)?;
        println!(
            "{}: {} units rescaled, largest difference of an output {difference:.1e} of {size:.1e} ({INPUTS} random inputs)",
            self.out.display(),
            wiring.hidden()
        );
        Ok(())
    }
}
