//! Batch norms folded into the layers before them, what inference and quantisation work with, and put back.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};
use gsgd_core::Network;
use gsgd_core::graph::Op;
use gsgd_core::matrix::{Dense, Matrix};
use gsgd_core::rescale::Scaling;
use gsgd_core::scales::{ParamKey, ScaleGraph};

use crate::file::NetworkFile;
use crate::pairs::{Factor, Folded, Pair, without_norms};

/// Batch norms that were folded, and the network that has them.
pub struct FoldedNorms {
    file: NetworkFile,
    pairs: Vec<Pair>,
    /// Those that could not be folded: name, and why.
    left: Vec<(String, String)>,
}

impl NetworkFile {
    /// The same function with every batch norm folded that can be, and what puts them back.
    ///
    /// # Errors
    /// There are batch norms, and none can be folded.
    pub fn folded(self) -> Result<(Self, FoldedNorms)> {
        fold_all(self)
    }
}

fn fold_all(file: NetworkFile) -> Result<(NetworkFile, FoldedNorms)> {
    let (mut pairs, mut left) = (Vec::new(), Vec::new());
    let graph = file.graph();
    let readers = graph.readers();
    let mut new = graph.params().iter().map(|param| param.key.0).max();
    for value in graph.values() {
        let node = graph.node(value);
        if !matches!(node.op, Op::BatchNorm { .. }) {
            continue;
        }
        let found = Pair::find(graph, value, &readers).and_then(|pair| {
            ensure!(
                file.store.can_fold(value),
                "its layer is not one that takes a bias"
            );
            Ok(pair)
        });
        match found {
            Ok(mut pair) => {
                if !pair.has_bias {
                    new = new.map(|key| key + 1);
                    pair.bias = ParamKey(new.unwrap_or(0));
                }
                pairs.push(pair);
            }
            Err(why) => left.push((node.name.clone(), format!("{why:#}"))),
        }
    }
    if let (true, Some((name, why))) = (pairs.is_empty(), left.first()) {
        bail!("batch norm `{name}`: {why}");
    }
    let mut store = file.store.clone();
    let (graph, names) = without_norms(file.graph(), &pairs)?;
    let folded: Result<Vec<Folded>> = pairs
        .iter()
        .map(|pair| pair.folded(&|key| file.values(key), Factor::Function))
        .collect();
    store.fold(&pairs, &names, &folded?)?;
    let folded = NetworkFile::new(graph, store, file.about.clone());
    Ok((folded, FoldedNorms { file, pairs, left }))
}

impl FoldedNorms {
    /// How many.
    pub fn count(&self) -> usize {
        self.pairs.len()
    }

    /// Those that could not be folded: name, and why.
    pub fn left(&self) -> &[(String, String)] {
        &self.left
    }

    /// The file as it was, with its batch norms, with the weights of the folded network, whose classes are `scales`, rescaled
    /// by `scaling`. Running statistics are those of these weights, so that training may go on.
    ///
    /// Batch norms change nothing but the mean then. With k a channel's factor of folding and c that of the rescaling, what
    /// the layer gives is c k times what it was, so are its bias and the running mean, and the running variance is
    /// (c k)^2 (variance + epsilon) - epsilon, which would be negative of a channel smaller than epsilon and is 0 there; gamma
    /// is the root of it with epsilon and the sign that it had, or 0 where it was, beta is c beta.
    ///
    /// # Errors
    /// A number does not fit into its tensor.
    pub fn put_back(self, scales: &ScaleGraph, scaling: &Scaling) -> Result<NetworkFile> {
        let Self { file, pairs, .. } = self;
        let by_weight: HashMap<ParamKey, &Pair> =
            pairs.iter().map(|pair| (pair.weight, pair)).collect();
        let biases: HashSet<ParamKey> = pairs.iter().map(|pair| pair.bias).collect();
        let mut changed: Vec<(ParamKey, Vec<f64>)> = Vec::new();
        // weights as folding by their sizes and the scaling make them
        let factors = {
            let ones: Result<Vec<Dense<f64>>> = scales
                .edges()
                .iter()
                .map(|edges| {
                    let [rows, columns] = edges.dims();
                    Ok(Dense::new([rows, columns], vec![1.0; rows * columns]))
                })
                .collect();
            scaling.of_weights(Network {
                graph: scales,
                weights: &ones?,
            })?
        };
        for (edges, factors) in scales.edges().iter().zip(&factors) {
            let key = edges.key();
            if biases.contains(&key) {
                continue;
            }
            let mut values = file.values(key)?;
            if let Some(pair) = by_weight.get(&key) {
                let [gamma, variance] = [pair.tensors[0], pair.tensors[3]];
                let by = pair.factors(
                    &file.values(gamma)?,
                    &file.values(variance)?,
                    Factor::Weights,
                );
                pair.scale(&mut values, &by);
            }
            let scaled = Dense::new(edges.dims(), values).scale(factors);
            changed.push((key, scaled.entries().to_vec()));
        }
        for tensor in scales
            .co_scaled()
            .iter()
            .filter(|t| !biases.contains(&t.key()))
        {
            let values = file.scaled_along(tensor, scaling)?;
            changed.push((tensor.key(), values));
        }
        let mut new = file.clone();
        for pair in &pairs {
            let by = by_channel(pair, scales, scaling);
            let store = |key, values: &[f64]| {
                new.store.replace(key, values)?;
                new.values(key)
            };
            pair.put_back(&|key| file.values(key), store, &by, &mut changed)?;
        }
        for (key, values) in &changed {
            new.store.replace(*key, values)?;
        }
        Ok(new)
    }
}

/// What each channel of a folded layer was multiplied with.
fn by_channel(pair: &Pair, scales: &ScaleGraph, scaling: &Scaling) -> Option<Vec<f64>> {
    let edges = scales.param(pair.bias).map(|param| &scales.edges()[param]);
    let heads = edges.map(|edges| edges.heads()).or_else(|| {
        let mut null = scales.co_scaled().iter();
        let tensor = null.find(|tensor| tensor.key() == pair.bias)?;
        Some(tensor.classes())
    })?;
    Some(heads.iter().map(|&head| scaling.factor(head)).collect())
}
