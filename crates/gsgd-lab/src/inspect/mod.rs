//! What a network's scaling looks like: classes, norms, balance, skeletons.

mod draw;
mod page;
mod text;

use std::collections::BTreeMap;

use anyhow::Result;
use gsgd_core::matrix::{Dense, Power};
use gsgd_core::paths::{basis_path_norm, path_norm};
use gsgd_core::rescale::imbalances;
use gsgd_core::scales::{Kind, ParamEdges, ScaleClass, ScaleGraph};
use gsgd_core::skeleton::SkeletonTree;
use gsgd_core::{Error, Network};
use gsgd_net::file::NetworkFile;
use serde::Serialize;

pub use draw::svg;
pub use page::page;
pub use text::text;

/// Units that are listed by name.
const LISTED: usize = 10;

/// A network's figures.
#[derive(Debug, Serialize)]
pub struct Report {
    pub arch: String,
    pub hidden_classes: usize,
    /// Of these, classes whose every path to an output goes through a batch norm, and classes that batch norms alone read.
    pub classes_behind_batch_norm: usize,
    pub classes_into_batch_norm: usize,
    pub weights: usize,
    pub basis_paths: usize,
    pub invariant_ratio: f64,
    /// None where some weights stay as they are: their paths are not known.
    pub path_norm_1: Option<f64>,
    pub path_norm_2: Option<f64>,
    /// Square root of the sum of squares of basis path values, on the largest skeleton; none where a unit is dead.
    pub basis_path_norm: Option<f64>,
    /// Least |weight| on the paper's skeleton and on the largest; none where a unit is dead.
    pub smallest_skeleton_weight: Option<Smallest>,
    /// Why there is no skeleton.
    pub no_skeleton: Option<String>,
    /// Units without weights other than 0 on one side: they are constant, or nothing reads them.
    pub dead_units: Vec<String>,
    /// The ten units whose ratio of incoming to outgoing norm is farthest from 1.
    pub least_balanced: Vec<(String, f64)>,
    /// Layers that write the same classes, as the sums of a residual stream do.
    pub shared: Vec<Vec<String>>,
    /// Biases that a batch norm takes away again.
    pub null_biases: Vec<String>,
    /// Where no scaling goes through: the layer whose result is taken, and by what.
    pub grounded: Vec<(String, String)>,
    /// Tensors that something beside their layer reads, so that they stay as they are: name, and what does.
    pub held: Vec<(String, String)>,
    /// Operations that are not known: what they read and give is in the ground. Name and kind.
    pub unknown: Vec<(String, String)>,
    pub layers: Vec<Layer>,
}

/// Least |weight| on a skeleton.
#[derive(Debug, Serialize)]
pub struct Smallest {
    pub paper: f64,
    pub largest: f64,
}

/// A layer's figures.
#[derive(Debug, Serialize)]
pub struct Layer {
    pub name: String,
    /// As in the file.
    pub shape: Vec<usize>,
    /// Hidden classes this layer writes (0 where they are outputs).
    pub classes: usize,
    /// Incoming over outgoing l2 norm of these: smallest, quartiles, largest; none of classes into batch norm.
    pub imbalance: Option<[f64; 5]>,
    /// How many of the classes have nothing but zeros on one side.
    pub dead: usize,
    /// Error of rounding the tensor to 8 bits with one scale, relative to its own size (root of sums of squares).
    pub int8_error: f64,
}

impl Report {
    /// The figures of a network.
    ///
    /// # Errors
    /// Its layers do not fit together.
    pub fn from_network(network: &NetworkFile) -> Result<Self> {
        let scales = network.scale_graph()?;
        let weights = network.weights(&scales)?;
        let net = Network {
            graph: &scales,
            weights: &weights,
        };
        let ratios = imbalances(net);
        let unit = |class| scales.unit(class);
        let known = || scales.hidden_classes().zip(&ratios);
        // what only batch norm reads has no outgoing norm
        let dead = known()
            .filter(|(class, ratio)| ratio.is_none() && scales.kind(*class) != Kind::IntoBatchNorm);
        let dead_units: Vec<String> = dead.map(|(class, _)| unit(class)).collect();
        let mut least_balanced: Vec<(String, f64)> = known()
            .filter_map(|(class, ratio)| Some((unit(class), (*ratio)?)))
            .collect();
        least_balanced.sort_by(|a, b| b.1.ln().abs().total_cmp(&a.1.ln().abs()));
        least_balanced.truncate(LISTED);
        let (skeleton, no_skeleton) = match Skeletal::new(net) {
            Ok(skeletal) => (Some(skeletal), None),
            // every error is of weights that are zero, or so small or large that products are
            Err(error) => (None, Some(without_skeleton(&error))),
        };
        let of_kind = |kind| {
            let classes = scales.hidden_classes();
            classes.filter(|&class| scales.kind(class) == kind).count()
        };
        Ok(Self {
            arch: network.about.clone(),
            hidden_classes: scales.hidden(),
            classes_behind_batch_norm: of_kind(Kind::BehindBatchNorm),
            classes_into_batch_norm: of_kind(Kind::IntoBatchNorm),
            weights: scales.weights(),
            basis_paths: scales.basis_paths(),
            invariant_ratio: scales.invariant_ratio(),
            // weights that stay as they are belong to no path
            path_norm_1: path_norm(net, Power::One).ok(),
            path_norm_2: path_norm(net, Power::Two).ok().map(f64::sqrt),
            basis_path_norm: skeleton.as_ref().map(|skeletal| skeletal.basis_norm),
            smallest_skeleton_weight: skeleton
                .map(|skeletal| skeletal.smallest)
                .filter(|_| scales.hidden() > 0),
            no_skeleton,
            dead_units,
            least_balanced,
            shared: shared(&scales),
            null_biases: scales.null_biases().map(String::from).collect(),
            grounded: pairs(scales.grounded()),
            held: pairs(scales.held()),
            unknown: network.opaque(),
            layers: layers(net, &ratios),
        })
    }
}

/// What the largest skeleton tells.
struct Skeletal {
    basis_norm: f64,
    smallest: Smallest,
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs.map(|(a, b)| (a.into(), b.into())).collect()
}

impl Skeletal {
    fn new(net: Network<Dense<f64>>) -> Result<Self, Error> {
        let largest = SkeletonTree::largest(net);
        let least = |tree: &SkeletonTree| -> Result<f64, Error> {
            let sizes = tree.weights(net)?.into_iter().map(f64::abs);
            Ok(sizes.fold(f64::INFINITY, f64::min))
        };
        Ok(Self {
            basis_norm: basis_path_norm(net, &largest)?.sqrt(),
            smallest: Smallest {
                paper: least(&SkeletonTree::paper(net.graph))?,
                largest: least(&largest)?,
            },
        })
    }
}

fn without_skeleton(error: &Error) -> String {
    match error {
        Error::ZeroSkeleton { name, tail, head } => format!(
            "none: {name}[{tail}, {head}] is zero, and so are all weights on that side of its unit"
        ),
        other => format!("none: {other}"),
    }
}

/// Hidden classes that a parameter writes, each once, in order.
fn classes_of(edges: &ParamEdges) -> Vec<ScaleClass> {
    let mut classes = edges.heads().to_vec();
    classes.retain(|class| !class.is_ground());
    classes.dedup();
    classes
}

fn shared(scales: &ScaleGraph) -> Vec<Vec<String>> {
    let mut writers: BTreeMap<Vec<ScaleClass>, Vec<String>> = BTreeMap::new();
    for edges in scales.edges().iter().filter(|edges| !edges.is_bias()) {
        let classes = classes_of(edges);
        if !classes.is_empty() {
            writers
                .entry(classes)
                .or_default()
                .push(edges.name().to_string());
        }
    }
    writers
        .into_values()
        .filter(|layers| layers.len() > 1)
        .collect()
}

/// Every weight layer, with the balance of the classes it writes.
fn layers(net: Network<Dense<f64>>, ratios: &[Option<f64>]) -> Vec<Layer> {
    let scales = net.graph;
    let layer = |(edges, weights): (&ParamEdges, &Dense<f64>)| {
        let classes = classes_of(edges);
        let ratio = |class: &ScaleClass| ratios[class.index() - 1];
        let mut known: Vec<f64> = classes.iter().filter_map(ratio).collect();
        known.sort_by(f64::total_cmp);
        let at = |quarter: usize| known[(known.len() - 1) * quarter / 4];
        let is_dead = |class: &&ScaleClass| {
            ratio(class).is_none() && scales.kind(**class) != Kind::IntoBatchNorm
        };
        Layer {
            int8_error: int8_error(weights.entries()),
            shape: edges.shape().to_vec(),
            name: edges.name().to_string(),
            classes: classes.len(),
            imbalance: (!known.is_empty()).then(|| std::array::from_fn(at)),
            dead: classes.iter().filter(is_dead).count(),
        }
    };
    let layers = scales.edges().iter().zip(net.weights);
    layers
        .filter(|(edges, _)| !edges.is_bias())
        .map(layer)
        .collect()
}

/// The relative error of rounding to the whole multiples, -127 to 127, of the largest value's 127th part.
fn int8_error<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let values = || values.iter().map(|&value| value.into());
    let largest = values().fold(0.0f64, |most, value| most.max(value.abs()));
    let step = largest / 127.0;
    if step == 0.0 {
        return 0.0;
    }
    let (mut error, mut size) = (0.0, 0.0);
    for value in values() {
        let rounded = (value / step).round() * step;
        error += (value - rounded).powi(2);
        size += value * value;
    }
    (error / size).sqrt()
}

#[cfg(test)]
mod tests {
    use super::int8_error;

    #[test]
    fn rounding_to_8_bits() {
        assert_eq!(int8_error(&[127.0, -3.0, 0.0]), 0.0);
        // 0.5 is rounded to 1: an error of 0.5 beside 127
        let error = int8_error(&[127.0, 0.5]);
        assert!((error - 0.5 / (127.0f64.powi(2) + 0.25).sqrt()).abs() < 1e-12);
        assert_eq!(int8_error(&[0.0f32, 0.0]), 0.0);
    }
}
