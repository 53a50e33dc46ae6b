//! Are two networks one function up to positive scaling?

use super::{Scaling, dead};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::network::Network;
use crate::scales::ScaleGraph;

/// The answer of [`equivalent`].
#[derive(Debug, Clone, PartialEq)]
pub enum Equivalence {
    /// This scaling takes the first network to the second.
    Equivalent {
        /// The scaling found.
        scaling: Scaling,
        /// Largest difference of a weight, relative to the size of its unit.
        difference: f64,
    },
    /// No positive scaling does. Permuted units and flipped signs are not positive scalings.
    Different {
        /// The first unit, in the order of the forward pass, whose weights differ by more than the tolerance.
        unit: String,
        /// The parameter in which they do.
        parameter: String,
        /// The difference relative to the size of the unit.
        difference: f64,
    },
}

/// Compares two networks of the same graph up to positive scaling.
///
/// Both are taken to their canonical representatives, which says nothing of units without incoming weights: their factors
/// are those of the weights that read them, or of their running statistics. A weight may differ by `tolerance` times the root of the sum
/// of squares of its unit's incoming weights in that parameter. Running statistics of batch norms are compared too, to
/// `tolerance` times the largest of their layer.
///
/// Given are the networks, and of each the values of every tensor of [`ScaleGraph::co_scaled`].
///
/// # Errors
/// The graphs differ, or a product leaves the range of f64.
pub fn equivalent<M: Matrix>(
    networks: [Network<M>; 2],
    co_scaled: [Vec<Vec<f64>>; 2],
    tolerance: f64,
) -> Result<Equivalence, Error> {
    let [a, b] = networks;
    let graph = a.graph;
    same_graph(graph, b.graph)?;
    let scaling = dead::scaling(networks, &co_scaled)?;

    let mut largest = 0.0f64;
    for (param, edges) in graph.edges.iter().enumerate() {
        for (line, &head) in edges.heads.iter().enumerate() {
            let (mut worst, mut size) = (0.0f64, 0.0);
            let tails = edges.tails_of(line);
            let at: Vec<usize> = tails
                .clone()
                .filter_map(|tail| edges.flat(tail, line))
                .collect();
            // line by line: a copy of a large matrix in f64 would be twice its size
            let pairs = a.weights[param].gather(&at).read().into_iter();
            let pairs = pairs.zip(b.weights[param].gather(&at).read());
            for (tail, (a, found)) in tails.zip(pairs) {
                let factor = scaling.factor(head) / scaling.factor(edges.tails[tail]);
                let expected = a * factor;
                worst = worst.max((expected - found).abs());
                size += found * found + expected * expected;
            }
            let difference = match size {
                0.0 => 0.0,
                _ => worst / (size / 2.0).sqrt(),
            };
            if difference > tolerance || difference.is_nan() {
                let unit = match head.is_ground() {
                    true => format!("output {line} of {}", edges.name),
                    false => graph.unit(head),
                };
                return Ok(Equivalence::Different {
                    unit,
                    parameter: edges.name.clone(),
                    difference,
                });
            }
            largest = largest.max(difference);
        }
    }
    let [of_a, of_b] = co_scaled;
    let pairs = of_a.into_iter().zip(of_b);
    for (tensor, (a, b)) in graph.co_scaled.iter().zip(pairs) {
        let expected: Vec<f64> = a
            .iter()
            .zip(scaling.of_co_scaled(tensor))
            .map(|(a, factor)| a * factor)
            .collect();
        let size = expected
            .iter()
            .chain(&b)
            .fold(0.0f64, |a, b| a.max(b.abs()));
        for (channel, (expected, found)) in expected.iter().zip(&b).enumerate() {
            let difference = (expected - found).abs() / size.max(f64::MIN_POSITIVE);
            if difference > tolerance || difference.is_nan() {
                return Ok(Equivalence::Different {
                    unit: graph.unit(tensor.classes[channel]),
                    parameter: tensor.name.clone(),
                    difference,
                });
            }
            largest = largest.max(difference);
        }
    }
    Ok(Equivalence::Equivalent {
        scaling,
        difference: largest,
    })
}

fn same_graph(a: &ScaleGraph, b: &ScaleGraph) -> Result<(), Error> {
    let differ = |reason: String| Err(Error::Incomparable { reason });
    if a.edges.len() != b.edges.len() {
        return differ(format!(
            "{} and {} parameters",
            a.edges.len(),
            b.edges.len()
        ));
    }
    for (x, y) in a.edges.iter().zip(&b.edges) {
        if x.shape != y.shape {
            return differ(format!(
                "`{}` is {:?}, `{}` is {:?}",
                x.name, x.shape, y.name, y.shape
            ));
        }
        if (&x.tails, &x.heads, x.layout) != (&y.tails, &y.heads, y.layout) {
            return differ(format!(
                "`{}` and `{}` connect other classes",
                x.name, y.name
            ));
        }
    }
    Ok(())
}
