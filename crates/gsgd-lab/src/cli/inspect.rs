//! `gsgd inspect`.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use gsgd::{Power, Wiring, path_norm, to_canonical};
use serde::Serialize;

use crate::models;

#[derive(Debug, Args)]
pub struct Inspect {
    /// A safetensors file with tensors layers.0.weight, layers.0.bias, ...
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    arch: String,
    hidden_classes: usize,
    weights: usize,
    basis_paths: usize,
    invariant_ratio: f64,
    path_norm_1: f64,
    path_norm_2: f64,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    shape: Vec<usize>,
    /// Classes this layer writes (0 where they are outputs).
    classes: usize,
    /// Incoming over outgoing l2 norm of its units: smallest, median, largest.
    imbalance: Option<[f64; 3]>,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let (model, arch) = models::load_any(&self.file, &Device::flex())?;
        let wiring = Wiring::of(&model)?;
        let ratios = imbalances(&model);
        let layers = model.layers.iter().enumerate().map(|(index, layer)| Layer {
            name: format!("layers.{index}"),
            shape: layer.weight.val().dims().to_vec(),
            classes: ratios.get(index).map_or(0, Vec::len),
            imbalance: ratios
                .get(index)
                .map(|r| [r[0], r[r.len() / 2], r[r.len() - 1]]),
        });
        // A dead unit shows here, before its norms are divided by.
        to_canonical(&model, &wiring)?;
        let report = Report {
            arch: arch.to_string(),
            hidden_classes: wiring.hidden(),
            weights: wiring.weights(),
            basis_paths: wiring.basis_paths(),
            invariant_ratio: wiring.invariant_ratio(),
            path_norm_1: path_norm(&model, &wiring, Power::One)?,
            path_norm_2: path_norm(&model, &wiring, Power::Two)?.sqrt(),
            layers: layers.collect(),
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(());
        }
        println!("{}  {}", self.file.display(), report.arch);
        println!("hidden classes H   {}", report.hidden_classes);
        println!("weights m          {}", report.weights);
        println!("basis paths m - H  {}", report.basis_paths);
        println!("invariant ratio    {:.4}", report.invariant_ratio);
        println!(
            "path norm          l1 {:.4e}, l2 {:.4e}",
            report.path_norm_1, report.path_norm_2
        );
        println!(
            "\n{:<12} {:>14}  in/out norm: smallest, median, largest",
            "layer", "shape"
        );
        for layer in &report.layers {
            let shape = format!("{} -> {}", layer.shape[0], layer.shape[1]);
            let imbalance = match layer.imbalance {
                Some([low, median, high]) => format!("{low:.3e}  {median:.3e}  {high:.3e}"),
                None => "output".into(),
            };
            println!("{:<12} {shape:>14}  {imbalance}", layer.name);
        }
        Ok(())
    }
}

/// Incoming over outgoing l2 norm of every hidden unit, by layer, sorted.
fn imbalances(model: &models::Mlp) -> Vec<Vec<f64>> {
    let norms = |sum: burn::tensor::Tensor<2>| sum.into_data().iter::<f64>().collect::<Vec<f64>>();
    model
        .layers
        .windows(2)
        .map(|pair| {
            let (before, after) = (pair[0].weight.val(), pair[1].weight.val());
            let mut incoming = norms(before.powf_scalar(2.0).sum_dim(0));
            if let Some(bias) = &pair[0].bias {
                let biases = bias.val().into_data().iter::<f64>().collect::<Vec<f64>>();
                incoming
                    .iter_mut()
                    .zip(biases)
                    .for_each(|(sum, b)| *sum += b * b);
            }
            let outgoing = norms(after.powf_scalar(2.0).sum_dim(1));
            let mut ratios: Vec<f64> = incoming
                .iter()
                .zip(outgoing)
                .map(|(i, o)| (i / o).sqrt())
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        })
        .collect()
}
