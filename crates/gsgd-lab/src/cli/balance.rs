//! `gsgd balance`.

use anyhow::{Result, ensure};
use clap::Args;
use gsgd_core::rescale::{Balance as Until, Norm};

use super::rewrite::Files;
use crate::text::{print, say};

/// What is made equal on both sides of every unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// l2 norms of incoming and outgoing weights
    L2,
    /// Largest absolute values, biases left out: what rounding to 8 bits with one scale per tensor wants
    MaxAbs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gsgd balance model.safetensors balanced.safetensors\n  gsgd balance model.onnx int8.onnx \
                        --target max-abs --batch-norm fold"
)]
pub struct Balance {
    #[command(flatten)]
    files: Files,
    /// What is made equal
    #[arg(long, value_enum, default_value = "l2")]
    target: Target,
    /// Stop once incoming and outgoing norms of every unit agree to this, relatively; > 0
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// Sweeps over the network at most
    #[arg(long, default_value_t = 200)]
    sweeps: usize,
}

impl Balance {
    pub fn run(self) -> Result<()> {
        ensure!(
            self.tolerance > 0.0 && self.tolerance.is_finite(),
            "--tolerance {}: a number > 0",
            self.tolerance
        );
        let until = Until {
            norm: match self.target {
                Target::L2 => Norm::L2,
                Target::MaxAbs => Norm::MaxAbs,
            },
            tolerance: self.tolerance,
            max_sweeps: self.sweeps,
        };
        let (out, found, outputs) = self.files.rewrite(|network, scales| {
            let found = network.balance(scales, until)?;
            Ok((found.scaling.clone(), found))
        })?;
        print(&format!(
            "{}: balanced in {} sweeps to {:.1e}, {outputs}",
            out.display(),
            found.sweeps,
            found.imbalance
        ))?;
        if found.imbalance > self.tolerance {
            say(&format!(
                "not yet balanced to --tolerance {}: give more --sweeps",
                self.tolerance
            ));
        }
        Ok(())
    }
}
