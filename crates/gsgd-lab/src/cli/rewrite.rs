//! Writing a network that computes the same function: what `gsgd rescale` and `gsgd balance` share.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::tensor::{Device, Distribution, Tensor};
use clap::Args;
use gsgd::Wiring;

use crate::models::{self, Checkpoint, Model};

/// Random inputs on which outputs are compared.
const INPUTS: usize = 64;

/// Where from and where to.
#[derive(Debug, Args)]
pub struct Files {
    /// A safetensors file of this program, or with tensors layers.0.weight, layers.0.bias, ...
    file: PathBuf,
    /// The new file
    out: PathBuf,
    /// Replace the new file if it exists
    #[arg(long)]
    force: bool,
}

impl Files {
    /// Writes what `change` makes of the network, if its outputs are the same; the new file and what to say of the
    /// outputs.
    pub fn rewrite<T>(
        &self,
        change: impl FnOnce(Model, &Wiring) -> Result<(Model, T)>,
    ) -> Result<(&Path, T, String)> {
        let device = Device::flex();
        let Checkpoint { model, plan } = models::load_any(&self.file, &device)?;
        ensure!(
            self.force || !self.out.exists(),
            "{} exists: choose another name, or replace it with --force",
            self.out.display()
        );
        let wiring = Wiring::of(&model)?;
        let x = Tensor::<2>::random(
            [INPUTS, plan.shape.features()],
            Distribution::Normal(0.0, 1.0),
            &device,
        );
        let before = model.forward(x.clone());
        let (changed, found) = change(model, &wiring)?;
        let after = changed.forward(x);
        let size: f64 = before.clone().abs().max().into_scalar();
        let difference: f64 = (after - before).abs().max().into_scalar();
        ensure!(
            difference <= 1e-3 * size,
            "the new network differs by {difference:.1e} on outputs up to {size:.1e}: the factors are too large for f32 \
             (a lower --spread helps). Nothing was written"
        );
        models::save(&changed, &plan, &self.out)?;
        let outputs = format!(
            "largest difference of an output {difference:.1e} of {size:.1e} ({INPUTS} random inputs)"
        );
        Ok((&self.out, found, outputs))
    }
}
