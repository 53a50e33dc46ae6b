//! `gsgd inspect`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use gsgd::{Class, Edges, Kind, Power, Wiring, imbalances, path_norm, to_canonical};
use serde::Serialize;

use crate::models::{self, Checkpoint, Model};

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
    /// Incoming over outgoing l2 norm of these: smallest, median, largest; none of inputs of batch norm.
    imbalance: Option<[f64; 3]>,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let Checkpoint { model, plan } = models::load_any(&self.file, &Device::flex())?;
        let wiring = Wiring::of(&model)?;
        // A dead unit shows here, before its norms are divided by.
        to_canonical(&model, &wiring)?;
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
            null_biases: wiring.null_biases().map(models::file_name).collect(),
            grounded: wiring.grounded().map(String::from).collect(),
            layers: layers(&model, &wiring)?,
        };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => report.print(&self.file),
        }
        Ok(())
    }
}

/// Every weight layer, with the balance of the classes it writes.
fn layers(model: &Model, wiring: &Wiring) -> Result<Vec<Layer>> {
    let ratios = imbalances(model, wiring)?;
    let weights = wiring.edges().iter().filter(|edges| !edges.is_bias());
    let layer = |edges: &Edges| {
        let mut classes: Vec<Class> = edges.heads().to_vec();
        classes.retain(|class| !class.is_ground());
        classes.dedup();
        let ratio = |class: &Class| ratios[class.index() - 1];
        let mut known: Vec<f64> = classes.iter().filter_map(ratio).collect();
        known.sort_by(f64::total_cmp);
        let ends = known.first().zip(known.last());
        Layer {
            name: models::file_name(edges.name()),
            shape: edges.shape().to_vec(),
            classes: classes.len(),
            imbalance: ends.map(|(&low, &high)| [low, known[known.len() / 2], high]),
        }
    };
    Ok(weights.map(layer).collect())
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
            "\n{:<width$} {:>18}  in/out norm: smallest, median, largest",
            "layer", "shape"
        );
        for layer in &self.layers {
            let shape: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
            let imbalance = match layer.imbalance {
                Some([low, median, high]) => format!("{low:.3e}  {median:.3e}  {high:.3e}"),
                None if layer.classes == 0 => "output".into(),
                None => "batch norm follows".into(),
            };
            println!(
                "{:<width$} {:>18}  {imbalance}",
                layer.name,
                shape.join(" x ")
            );
        }
    }
}
