//! `gsgd balance`.

use anyhow::{Result, ensure};
use clap::Args;
use gsgd::{Balance as Until, Rejected, balance};

use super::rewrite::Files;

#[derive(Debug, Args)]
pub struct Balance {
    #[command(flatten)]
    files: Files,
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
            tolerance: self.tolerance,
            max_sweeps: self.sweeps,
        };
        let (out, found, outputs) = self.files.rewrite(|model, wiring| {
            let balanced = balance(model, wiring, until);
            Ok(balanced.map_err(|Rejected { error, .. }| error)?)
        })?;
        println!(
            "{}: balanced in {} sweeps to {:.1e}, {outputs}",
            out.display(),
            found.sweeps,
            found.imbalance
        );
        if found.imbalance > self.tolerance {
            eprintln!(
                "not yet balanced to --tolerance {}: give more --sweeps",
                self.tolerance
            );
        }
        Ok(())
    }
}
