//! `gsgd inspect`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::Args;
use gsgd::{
    Class, Edges, GSpaceConfig, Kind, Power, Unwired, Wiring, basis_path_norm, imbalances,
    path_norm,
};
use serde::Serialize;

use crate::models::{self, Checkpoint};

/// Units that are listed by name.
const LISTED: usize = 10;

#[derive(Debug, Args)]
pub struct Inspect {
    /// A safetensors file of this program, or with tensors layers.0.weight, layers.0.bias, ...
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    arch: String,
    hidden_classes: usize,
    /// Of these, classes that reach outputs only through batch norm, and inputs of batch norm.
    floating_classes: usize,
    sink_classes: usize,
    weights: usize,
    basis_paths: usize,
    invariant_ratio: f64,
    path_norm_1: f64,
    path_norm_2: f64,
    /// Square root of the sum of squares of basis path values, on the largest skeleton; none where a unit is dead.
    basis_path_norm: Option<f64>,
    /// Units without weights other than 0 on one side: they are constant, or nothing reads them.
    dead_units: Vec<String>,
    /// The ten units whose ratio of incoming to outgoing norm is farthest from 1.
    least_balanced: Vec<(String, f64)>,
    /// Biases that a batch norm takes away again.
    null_biases: Vec<String>,
    /// Where a function that is not positively homogeneous takes a layer's result.
    grounded: Vec<String>,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    shape: Vec<usize>,
    /// Hidden classes this layer writes (0 where they are outputs).
    classes: usize,
    /// Incoming over outgoing l2 norm of these: smallest, quartiles, largest; none of inputs of batch norm.
    imbalance: Option<[f64; 5]>,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let Checkpoint { model, plan } = models::load_any(&self.file, &Device::flex())?;
        let wiring = Wiring::of(&model)?;
        let ratios = imbalances(&model, &wiring)?;
        let unit = |class| models::file_name(&wiring.unit(class));
        let known = || wiring.hidden_classes().zip(&ratios);
        // what only batch norm reads has no outgoing norm
        let dead = known()
            .filter(|(class, ratio)| ratio.is_none() && wiring.kind(*class) == Kind::Grounded);
        let dead_units: Vec<String> = dead.map(|(class, _)| unit(class)).collect();
        let mut least_balanced: Vec<(String, f64)> = known()
            .filter_map(|(class, ratio)| Some((unit(class), (*ratio)?)))
            .collect();
        least_balanced.sort_by(|a, b| b.1.ln().abs().total_cmp(&a.1.ln().abs()));
        least_balanced.truncate(LISTED);
        let basis_path_norm = match dead_units.is_empty() {
            true => {
                let optim = GSpaceConfig::sgd()
                    .with_unwired(Unwired::WeightSpace)
                    .init(&model)?;
                let tree = optim
                    .skeleton()
                    .context("these coordinates have a skeleton")?;
                Some(basis_path_norm(&model, &wiring, tree)?.sqrt())
            }
            false => None,
        };
        let of_kind = |kind| {
            let classes = wiring.hidden_classes();
            classes.filter(|&class| wiring.kind(class) == kind).count()
        };
        let report = Report {
            arch: plan.arch.to_string(),
            hidden_classes: wiring.hidden(),
            floating_classes: of_kind(Kind::Floating),
            sink_classes: of_kind(Kind::Sink),
            weights: wiring.weights(),
            basis_paths: wiring.basis_paths(),
            invariant_ratio: wiring.invariant_ratio(),
            path_norm_1: path_norm(&model, &wiring, Power::One)?,
            path_norm_2: path_norm(&model, &wiring, Power::Two)?.sqrt(),
            basis_path_norm,
            dead_units,
            least_balanced,
            null_biases: wiring.null_biases().map(models::file_name).collect(),
            grounded: wiring.grounded().map(String::from).collect(),
            layers: layers(&wiring, &ratios),
        };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => report.print(&self.file),
        }
        Ok(())
    }
}

/// Every weight layer, with the balance of the classes it writes.
fn layers(wiring: &Wiring, ratios: &[Option<f64>]) -> Vec<Layer> {
    let weights = wiring.edges().iter().filter(|edges| !edges.is_bias());
    let layer = |edges: &Edges| {
        let mut classes: Vec<Class> = edges.heads().to_vec();
        classes.retain(|class| !class.is_ground());
        classes.dedup();
        let ratio = |class: &Class| ratios[class.index() - 1];
        let mut known: Vec<f64> = classes.iter().filter_map(ratio).collect();
        known.sort_by(f64::total_cmp);
        let at = |quarter: usize| known[(known.len() - 1) * quarter / 4];
        Layer {
            name: models::file_name(edges.name()),
            shape: edges.shape().to_vec(),
            classes: classes.len(),
            imbalance: (!known.is_empty()).then(|| std::array::from_fn(at)),
        }
    };
    weights.map(layer).collect()
}

impl Report {
    fn print(&self, file: &Path) {
        println!("{}  {}", file.display(), self.arch);
        println!("hidden classes H   {}", self.hidden_classes);
        if self.sink_classes > 0 {
            println!("  only read through batch norm  {}", self.floating_classes);
            println!("  inputs of batch norm          {}", self.sink_classes);
        }
        println!("weights m          {}", self.weights);
        println!("basis paths m - H  {}", self.basis_paths);
        println!("invariant ratio    {:.4}", self.invariant_ratio);
        println!(
            "path norm          l1 {:.4e}, l2 {:.4e}",
            self.path_norm_1, self.path_norm_2
        );
        if let Some(norm) = self.basis_path_norm {
            println!("basis path norm    l2 {norm:.4e} on the largest skeleton");
        }
        if !self.dead_units.is_empty() {
            let named: Vec<&str> = self
                .dead_units
                .iter()
                .map(String::as_str)
                .take(LISTED)
                .collect();
            let more = match self.dead_units.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            println!(
                "dead units         {}: {}{more}",
                self.dead_units.len(),
                named.join(", ")
            );
        }
        if !self.grounded.is_empty() {
            println!("no scaling through {}", self.grounded.join(", "));
        }
        if !self.null_biases.is_empty() {
            println!(
                "without effect     {} (batch norm follows)",
                self.null_biases.join(", ")
            );
        }
        let widest = self.layers.iter().map(|layer| layer.name.len()).max();
        let width = widest.unwrap_or(0).max(5);
        println!(
            "\n{:<width$} {:>18}  in/out norm: smallest, quartiles, largest",
            "layer", "shape"
        );
        for layer in &self.layers {
            let shape: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
            let imbalance = match layer.imbalance {
                Some(ratios) => ratios.map(|ratio| format!("{ratio:.3e}")).join("  "),
                None if layer.classes == 0 => "output".into(),
                None => "batch norm follows".into(),
            };
            println!(
                "{:<width$} {:>18}  {imbalance}",
                layer.name,
                shape.join(" x ")
            );
        }
        if !self.least_balanced.is_empty() {
            println!("\nleast balanced     in/out norm");
        }
        for (unit, ratio) in &self.least_balanced {
            println!("{unit:<width$} {ratio:>18.3e}");
        }
    }
}
