//! Writing a network that computes the same function: what `gsgd rescale` and `gsgd balance` share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Tensor;
use clap::Args;
use gsgd::{Scaling, Wiring};

use super::network::NetworkFile;
use super::stages::Stages;
use crate::network::{Format, Net, Network};

/// What becomes of batch norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BatchNorm {
    /// They stay, and units are rescaled through them
    Keep,
    /// They are folded into the layers before them first: what inference and quantisation work with
    Fold,
    /// They are folded first and put back at the end, so that the file has the tensors that it had
    Unfold,
}

/// Where from and where to.
#[derive(Debug, Args)]
pub struct Files {
    #[command(flatten)]
    network: NetworkFile,
    /// The new file: safetensors, or ONNX from ONNX
    out: PathBuf,
    /// Replace the new file if it exists
    #[arg(long)]
    force: bool,
    /// What becomes of batch norms
    #[arg(long, value_enum, default_value = "keep")]
    batch_norm: BatchNorm,
    /// Compare outputs on the inputs in this safetensors file instead of random ones
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Largest difference of an output, relative to the largest output, with which the new file is written; > 0
    #[arg(long, default_value_t = 1e-3, value_name = "SHARE")]
    differ: f64,
}

impl Files {
    /// Writes what `change` makes of the network, if its outputs are the same; the new file and what to say of the
    /// outputs.
    pub fn rewrite<T>(
        &self,
        change: impl FnOnce(Net, &Wiring) -> Result<(Net, (Scaling, T))>,
    ) -> Result<(&Path, T, String)> {
        ensure!(
            self.differ > 0.0 && self.differ.is_finite(),
            "--differ {}: a number > 0",
            self.differ
        );
        let stages = Stages::begin();
        stages.next("reading");
        let mut network = self.network.open()?;
        self.check_out(&network)?;
        let inputs = match &self.inputs {
            Some(path) => network.inputs_from(path).context("--inputs")?,
            None => network.random_inputs(0),
        };
        stages.next("computing outputs");
        let before = network.outputs(&inputs)?;
        let (mut said, mut norms) = (String::new(), None);
        let folded = match self.batch_norm {
            BatchNorm::Keep => None,
            BatchNorm::Fold => Some("folded"),
            BatchNorm::Unfold => Some("folded and put back"),
        };
        if let Some(folded) = folded {
            let (without, taken) = network.folded().context("--batch-norm")?;
            network = without;
            said = format!("{} batch norms {folded}, ", taken.count());
            norms = Some(taken).filter(|_| self.batch_norm == BatchNorm::Unfold);
        }
        stages.next("rescaling");
        let (mut network, (scaling, found)) = network.changed(change)?;
        if let Some(norms) = norms {
            network = norms.put_back(network, &scaling)?;
        }
        stages.next("computing outputs again");
        let after = network.outputs(&inputs)?;
        let (difference, size) = largest_difference(&before, &after);
        ensure!(
            difference <= self.differ * size,
            "the new network differs by {difference:.1e} on outputs up to {size:.1e}: the factors are too large for the \
             numbers of the file, or a batch norm's epsilon matters (a lower --spread helps; --differ {} allows it). Nothing \
             was written",
            difference / size
        );
        stages.next("writing");
        network.tensors.write(&self.out)?;
        let examples = inputs.first().map_or(0, |x| x.dims()[0]);
        let kind = match self.inputs {
            Some(_) => "given",
            None => "random",
        };
        let outputs = format!(
            "{said}largest difference of an output {difference:.1e} of {size:.1e} ({examples} {kind} inputs)"
        );
        Ok((&self.out, found, outputs))
    }

    fn check_out(&self, network: &Network) -> Result<()> {
        ensure!(
            self.force || !self.out.exists(),
            "{} exists: choose another name, or replace it with --force",
            self.out.display()
        );
        let extension = self.out.extension().and_then(|e| e.to_str());
        let onnx = extension == Some("onnx");
        match network.tensors.format() {
            Format::Onnx if !onnx => bail!(
                "{}: what comes from an ONNX file is written as one, with a name that ends in .onnx",
                self.out.display()
            ),
            Format::Safetensors if onnx || matches!(extension, Some("pt" | "pth")) => bail!(
                "{}: safetensors files and PyTorch's are written as safetensors, with a name such as model.safetensors",
                self.out.display()
            ),
            _ => Ok(()),
        }
    }
}

/// The largest difference of an output, and the largest output before.
fn largest_difference(before: &[Tensor<2>], after: &[Tensor<2>]) -> (f64, f64) {
    let mut found = (0.0f64, 0.0f64);
    for (before, after) in before.iter().zip(after) {
        let size: f64 = before.clone().abs().max().into_scalar();
        let difference: f64 = (after.clone() - before.clone()).abs().max().into_scalar();
        // a NaN stays
        found.0 = if difference > found.0 || difference.is_nan() {
            difference
        } else {
            found.0
        };
        found.1 = found.1.max(size);
    }
    found
}
