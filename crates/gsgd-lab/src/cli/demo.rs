//! `gsgd` alone: the main job.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use super::compare::{How, STATUS, carry_out};
use crate::compare::{Method, Plan};
use crate::folders::FolderKind;
use crate::text::say;
use crate::train::{OptimizerName, at_least_one, not_negative};

/// Optimisers side by side from the same weights and batches
#[derive(Debug, Parser)]
#[command(after_help = STATUS)]
pub struct Demo {
    /// Passes over the training images
    #[arg(long, default_value_t = 20, value_parser = at_least_one)]
    epochs: usize,
    /// Decades by which the second start's units are rescaled
    #[arg(long, default_value_t = 2.0, value_parser = not_negative)]
    unbalance: f64,
    /// Decides starting weights and batches
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the results; those of an earlier demo are replaced
    #[arg(long, default_value = "runs/demo")]
    out: PathBuf,
    /// Replace another comparison in the folder
    #[arg(long)]
    force: bool,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        let plan = self.plan();
        say(&format!(
            "Fashion-MNIST 7x7, mlp:49-64-64-10, {} epochs, batch 64, seed {}: same weights and batches for all.\n\
             First from He weights, then from the same function with its units rescaled by 10^U(-{s}, {s}).",
            self.epochs,
            self.seed,
            s = self.unbalance
        ));
        let how = How {
            out: self.out.clone(),
            jobs: None,
            force: self.force || self.is_in_place_of_a_demo(&plan),
            quiet: false,
            plain: false,
        };
        carry_out(&plan, &how)
    }

    /// Whether the folder's comparison is a demo's, by its methods.
    fn is_in_place_of_a_demo(&self, plan: &Plan) -> bool {
        let names = |plan: &Plan| -> Vec<String> {
            plan.methods
                .iter()
                .map(|method| method.name.clone())
                .collect()
        };
        let there = fs::read_to_string(self.out.join(FolderKind::Comparison.file()));
        let there = there.ok().and_then(|text| Plan::parse(&text).ok());
        there.is_some_and(|there| names(&there) == names(plan))
    }

    fn plan(&self) -> Plan {
        let starts = [("", 0.0), (", rescaled", self.unbalance)];
        let methods = starts.iter().flat_map(|&(start, spread)| {
            OptimizerName::ALL.map(|optimizer| {
                let name = optimizer.as_str();
                Method {
                    name: format!("{name}{start}"),
                    against: (!start.is_empty()).then(|| name.into()),
                    lrs: vec![optimizer.default_lr()],
                    settings: toml::Table::from_iter([
                        ("optimizer".to_string(), name.into()),
                        ("unbalance".to_string(), spread.into()),
                    ]),
                }
            })
        });
        Plan {
            seeds: vec![self.seed],
            lrs: Vec::new(),
            settings: toml::Table::from_iter([(
                "epochs".to_string(),
                toml::Value::Integer(self.epochs as i64),
            )]),
            methods: methods.collect(),
        }
    }
}
