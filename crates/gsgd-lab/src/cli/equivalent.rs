//! `gsgd equivalent`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use gsgd_core::Network;
use gsgd_core::rescale::{Equivalence, equivalent};
use gsgd_core::scales::ScaleGraph;
use gsgd_net::file::NetworkFile;
use serde::Serialize;

use super::network::{HintFlags, remark};
use super::stages::Stages;
use crate::text::{print, printable};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 where a positive scaling takes the first network to the second, 1 where none \
                        does, 2 on an error. Permuted units and flipped signs are no positive scalings."
)]
pub struct Equivalent {
    /// A network
    a: PathBuf,
    /// Another of the same layers, in a file of any kind
    b: PathBuf,
    #[command(flatten)]
    hints: HintFlags,
    /// How far a weight may be off, relative to its unit's incoming weights; >= 0 [default: 1e-4, of f16 4e-3, of bf16 3e-2]
    #[arg(long)]
    tolerance: Option<f64>,
    /// Print JSON, with the factor of every unit
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    equivalent: bool,
    difference: f64,
    /// The unit and the tensor in which the networks differ.
    unit: Option<String>,
    tensor: Option<String>,
    /// What each unit of the first network is multiplied with.
    factors: Option<Vec<(String, f64)>>,
}

/// Compares two networks up to positive scaling.
fn compare(networks: [(&NetworkFile, &ScaleGraph); 2], tolerance: f64) -> Result<Equivalence> {
    let [a, b] = networks.map(|(file, scales)| file.weights(scales));
    let [(file_a, of_a), (file_b, of_b)] = networks;
    let (a, b) = (a?, b?);
    let networks = [
        Network {
            graph: of_a,
            weights: &a,
        },
        Network {
            graph: of_b,
            weights: &b,
        },
    ];
    let co_scaled = [file_a.co_scaled(of_a)?, file_b.co_scaled(of_b)?];
    Ok(equivalent(networks, co_scaled, tolerance)?)
}

impl Equivalent {
    pub fn run(self) -> Result<()> {
        if let Some(tolerance) = self.tolerance {
            ensure!(
                tolerance >= 0.0 && tolerance.is_finite(),
                "--tolerance {tolerance}: a number >= 0"
            );
        }
        let stages = Stages::begin();
        stages.next("reading");
        let open = |path: &PathBuf| {
            let network = NetworkFile::open(path, &self.hints.of(path))?;
            remark(path, network.guess.as_deref());
            anyhow::Ok(network)
        };
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        let (of_a, of_b) = (a.scale_graph()?, b.scale_graph()?);
        stages.next("comparing");
        let rounding = a.number().of_weights().max(b.number().of_weights());
        let tolerance = self.tolerance.unwrap_or(rounding);
        let answer = compare([(&a, &of_a), (&b, &of_b)], tolerance)
            .with_context(|| format!("{} and {}", self.a.display(), self.b.display()))?;
        drop(stages);
        let answer = match answer {
            Equivalence::Equivalent {
                scaling,
                difference,
            } => {
                let units = of_a.hidden_classes();
                let factors = units.map(|c| (of_a.unit(c), scaling.factor(c)));
                Answer {
                    equivalent: true,
                    difference,
                    unit: None,
                    tensor: None,
                    factors: Some(factors.collect()),
                }
            }
            Equivalence::Different {
                unit,
                parameter,
                difference,
            } => Answer {
                equivalent: false,
                difference,
                unit: Some(unit),
                tensor: Some(parameter),
                factors: None,
            },
        };
        self.print(&answer)?;
        if !answer.equivalent {
            std::process::exit(1);
        }
        Ok(())
    }

    fn print(&self, answer: &Answer) -> Result<()> {
        if self.json {
            return print(&serde_json::to_string_pretty(answer)?);
        }
        let Answer {
            difference,
            unit,
            tensor,
            ..
        } = answer;
        match &answer.factors {
            Some(factors) if factors.is_empty() => print(&format!(
                "one function: none of its units can be rescaled, largest difference of a weight {difference:.1e}"
            )),
            Some(factors) => {
                let sizes = || factors.iter().map(|(_, factor)| *factor);
                print(&format!(
                    "one function: {} units, factors {:.3e} to {:.3e}, largest difference of a weight {difference:.1e}",
                    factors.len(),
                    sizes().fold(f64::INFINITY, f64::min),
                    sizes().fold(0.0, f64::max)
                ))
            }
            None => print(&format!(
                "no positive scaling takes one to the other: unit {} differs by {difference:.1e} in {}",
                printable(unit.as_deref().unwrap_or_default()),
                printable(tensor.as_deref().unwrap_or_default())
            )),
        }
    }
}
