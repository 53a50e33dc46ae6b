//! Path norm and basis-path norm, without enumerating paths.

use crate::chart::PathChart;
use crate::error::Error;
use crate::matrix::{Matrix, Power};
use crate::network::Network;
use crate::scales::{Kind, ScaleClass, Source};
use crate::skeleton::SkeletonTree;

/// The sum over all paths p of `|v_p|` or `v_p^2` (Neyshabur et al. 2015), by one pass over the weights.
///
/// Paths start at an input feature or a bias and end at an output; a function that is not positively homogeneous
/// ends paths and starts new ones. A mean or a largest number over channels counts as their sum. Every tap of a convolution is an edge of its own, positions are not told apart, and
/// pooling counts as 1. A batch norm's channels have size 1, so that paths start at its gamma and beta. Activations are
/// not looked at.
///
/// # Errors
/// Some parameters are frozen.
pub fn path_norm<M: Matrix>(network: Network<M>, p: Power) -> Result<f64, Error> {
    network.graph.refuse_frozen("the path norm")?;
    Ok(PathSums::forward(network, p).norm)
}

/// The sum over basis paths of `v_p^2` (Zheng et al. 2018): weight decay in path space is its gradient.
///
/// # Errors
/// The skeleton is not one of this graph, or a skeleton weight is zero.
pub fn basis_path_norm<M: Matrix>(network: Network<M>, tree: &SkeletonTree) -> Result<f64, Error> {
    let graph = network.graph;
    tree.check(graph)?;
    let chart = PathChart::new(graph, tree.clone());
    let inverse = chart.inverse_factors(network)?;
    // The coordinates of a row into batch norm have length 1.
    let kind = |class: &ScaleClass| graph.kind(*class);
    let unscaled = graph
        .hidden_classes()
        .filter(|class| kind(class) == Kind::IntoBatchNorm);
    let mut total = unscaled.count() as f64;
    let tail = |class: &ScaleClass| 1.0 / inverse.tail[class.index()];
    let head = |class: &ScaleClass| match kind(class) {
        Kind::IntoBatchNorm => 0.0,
        _ => 1.0 / inverse.head[class.index()],
    };
    for (param, edges) in graph.edges.iter().enumerate() {
        let heads: Vec<f64> = edges.heads.iter().map(|c| head(c).powi(2)).collect();
        let sums = network.powers_by_tail(param, &heads, Power::Two);
        let tails = edges.tails.iter().map(|c| tail(c).powi(2));
        total += sums
            .iter()
            .zip(tails)
            .map(|(sum, tail)| sum * tail)
            .sum::<f64>();
    }
    // Edges held fixed have no basis path. Their values: Pin Pout of an Out edge, 1 of the In edge of a class behind batch norm.
    for class in graph.hidden_classes() {
        if kind(&class) != Kind::IntoBatchNorm {
            total -= (tail(&class) * head(&class)).powi(2);
        }
    }
    Ok(total)
}

/// Sums over paths up to and from every channel of every value in the network.
pub struct PathSums {
    /// Sum over the paths that lead to a channel, by node.
    to: Vec<Vec<f64>>,
    /// Sum over all paths.
    pub norm: f64,
}

impl PathSums {
    /// The forward pass of the network with |w|^p for w, on ones.
    pub fn forward<M: Matrix>(network: Network<M>, p: Power) -> Self {
        let graph = network.graph;
        let mut to: Vec<Vec<f64>> = Vec::with_capacity(graph.nodes.len());
        let mut norm = 0.0;
        for (node, source) in graph.nodes.iter().enumerate() {
            let sums = match source {
                Source::Input => vec![1.0; graph.widths[node]],
                Source::Layer { from, weight, bias } => {
                    let edges = &graph.edges[*weight];
                    let tails = edges.tail_taps().spread(&to[*from]);
                    let lines = network.powers_by_head(*weight, &tails, p);
                    let mut sums = edges.head_taps().fold(&lines);
                    if let Some(bias) = bias {
                        let biases = network.powers_by_head(*bias, &[1.0], p);
                        sums.iter_mut().zip(biases).for_each(|(sum, b)| *sum += b);
                    }
                    sums
                }
                Source::Param(param) => {
                    let tails = vec![1.0; graph.edges[*param].tails.len()];
                    network.powers_by_head(*param, &tails, p)
                }
                Source::Sum(parts) => {
                    let sum = |summands: &[(u32, u32)]| {
                        let summands = summands.iter();
                        summands
                            .map(|&(node, at)| to[node as usize][at as usize])
                            .sum()
                    };
                    parts.iter().map(sum).collect()
                }
                Source::Activation { from, .. } => to[*from].clone(),
                Source::Norm { gamma, beta, .. } => {
                    let gammas = network.powers_by_head(*gamma, &[1.0], p);
                    let betas = network.powers_by_head(*beta, &[1.0], p);
                    gammas.iter().zip(betas).map(|(g, b)| g + b).collect()
                }
                Source::Frozen(_) => unreachable!("refused before"),
                Source::Ground(from) => {
                    norm += from.iter().flat_map(|&from| &to[from]).sum::<f64>();
                    vec![1.0; graph.widths[node]]
                }
            };
            to.push(sums);
        }
        norm += graph
            .outputs
            .iter()
            .flat_map(|&node| &to[node])
            .sum::<f64>();
        Self { to, norm }
    }

    /// For every parameter, the sum over paths up to each tail and from each head: their product is the path
    /// norm's derivative with respect to |w|^p.
    pub fn around<M: Matrix>(&self, network: Network<M>, p: Power) -> Vec<(Vec<f64>, Vec<f64>)> {
        let graph = network.graph;
        let mut from: Vec<Vec<f64>> = graph.widths.iter().map(|&width| vec![0.0; width]).collect();
        for &output in &graph.outputs {
            from[output].iter_mut().for_each(|sum| *sum += 1.0);
        }
        let mut around = vec![(Vec::new(), Vec::new()); graph.edges.len()];
        for (node, source) in graph.nodes.iter().enumerate().rev() {
            let sums = std::mem::take(&mut from[node]);
            match source {
                Source::Input => {}
                Source::Layer {
                    from: x,
                    weight,
                    bias,
                } => {
                    let edges = &graph.edges[*weight];
                    let heads = edges.head_taps().spread(&sums);
                    let lines = network.powers_by_tail(*weight, &heads, p);
                    add(&mut from[*x], edges.tail_taps().fold(&lines));
                    if let Some(bias) = bias {
                        around[*bias] = (vec![1.0], sums.clone());
                    }
                    around[*weight] = (edges.tail_taps().spread(&self.to[*x]), heads);
                }
                Source::Param(param) => {
                    let tails = vec![1.0; graph.edges[*param].tails.len()];
                    around[*param] = (tails, sums);
                }
                Source::Sum(parts) => {
                    for (summands, sum) in parts.iter().zip(sums) {
                        for &(node, at) in summands {
                            from[node as usize][at as usize] += sum;
                        }
                    }
                }
                Source::Activation { from: x, .. } => add(&mut from[*x], sums),
                Source::Norm { gamma, beta, .. } => {
                    around[*gamma] = (vec![1.0], sums.clone());
                    around[*beta] = (vec![1.0], sums);
                }
                Source::Ground(reads) => {
                    for &x in reads {
                        from[x].iter_mut().for_each(|sum| *sum += 1.0);
                    }
                }
                Source::Frozen(_) => unreachable!("refused before"),
            }
        }
        around
    }
}

fn add(to: &mut [f64], sums: Vec<f64>) {
    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
}
