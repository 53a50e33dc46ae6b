//! Path norm and basis-path norm, without enumerating paths.

use burn::module::Module;

use crate::coordinates::{Network, SkeletonChart};
use crate::error::Error;
use crate::kernels::{Arithmetic, Power};
use crate::params;
use crate::skeleton::Tree;
use crate::wiring::{Class, Source, Wiring};

/// The sum over all paths p of `|v_p|` or `v_p^2` (Neyshabur et al. 2015), by one pass over the weights.
///
/// Paths start at an input feature or a bias and end at an output; a function that is not positively homogeneous
/// ends paths and starts new ones. Activations are not looked at.
///
/// # Errors
/// Model and wiring do not fit.
pub fn path_norm<M: Module>(model: &M, wiring: &Wiring, p: Power) -> Result<f64, Error> {
    let weights = params::read(model, wiring)?;
    let network = Network {
        wiring,
        weights: &weights,
        how: Arithmetic::Streamed,
    };
    Ok(PathSums::forward(network, p).norm)
}

/// The sum over basis paths of `v_p^2` (Zheng et al. 2018): weight decay in path space is its gradient.
///
/// # Errors
/// Model and wiring do not fit, the skeleton is not one of this wiring, or a skeleton weight is zero.
pub fn basis_path_norm<M: Module>(model: &M, wiring: &Wiring, tree: &Tree) -> Result<f64, Error> {
    tree.check(wiring)?;
    let weights = params::read(model, wiring)?;
    let network = Network {
        wiring,
        weights: &weights,
        how: Arithmetic::Streamed,
    };
    let chart = SkeletonChart::new(wiring, tree.clone());
    let products = chart.products(network)?;
    let factor = |class: &Class| products[class.index()].factor;
    let mut total = 0.0;
    for (slot, edges) in wiring.edges.iter().enumerate() {
        let heads: Vec<f64> = edges.heads.iter().map(|c| factor(c).head.powi(2)).collect();
        let sums = network.powers_by_tail(slot, &heads, Power::Two);
        let tails = edges.tails.iter().map(|c| factor(c).tail.powi(2));
        total += sums
            .iter()
            .zip(tails)
            .map(|(sum, tail)| sum * tail)
            .sum::<f64>();
    }
    let outs = tree.outs.iter().zip(&products[1..]);
    for (out, unit) in outs.filter_map(|(out, unit)| Some((out.as_ref()?, unit))) {
        let head = factor(&wiring.head(*out)).head;
        total -= (unit.factor.tail * unit.out_weight * head).powi(2);
    }
    Ok(total)
}

/// Sums over paths up to and from every channel of every value in the network.
pub(crate) struct PathSums {
    /// Sum over the paths that lead to a channel, by node.
    to: Vec<Vec<f64>>,
    /// Sum over all paths.
    pub norm: f64,
}

impl PathSums {
    /// The forward pass of the network with |w|^p for w, on ones.
    pub fn forward(network: Network, p: Power) -> Self {
        let wiring = network.wiring;
        let mut to: Vec<Vec<f64>> = Vec::with_capacity(wiring.nodes.len());
        let mut norm = 0.0;
        for (node, source) in wiring.nodes.iter().enumerate() {
            let sums = match source {
                Source::Input => vec![1.0; wiring.widths[node]],
                Source::Layer { from, weight, bias } => {
                    let mut sums = network.powers_by_head(*weight, &to[*from], p);
                    if let Some(bias) = bias {
                        let biases = network.powers_by_head(*bias, &[1.0], p);
                        sums.iter_mut().zip(biases).for_each(|(sum, b)| *sum += b);
                    }
                    sums
                }
                Source::Add(a, b) => to[*a].iter().zip(&to[*b]).map(|(a, b)| a + b).collect(),
                Source::Concat(parts) => parts.iter().flat_map(|&part| to[part].clone()).collect(),
                Source::Repeat { from, times } => repeated(&to[*from], *times),
                Source::Activation { from, .. } => to[*from].clone(),
                Source::Ground(from) => {
                    norm += to[*from].iter().sum::<f64>();
                    vec![1.0; wiring.widths[node]]
                }
            };
            to.push(sums);
        }
        norm += wiring
            .outputs
            .iter()
            .flat_map(|&node| &to[node])
            .sum::<f64>();
        Self { to, norm }
    }

    /// For every parameter, the sum over paths up to each tail and from each head: their product is the path
    /// norm's derivative with respect to |w|^p.
    pub fn around(&self, network: Network, p: Power) -> Vec<(Vec<f64>, Vec<f64>)> {
        let wiring = network.wiring;
        let mut from: Vec<Vec<f64>> = wiring
            .widths
            .iter()
            .map(|&width| vec![0.0; width])
            .collect();
        for &output in &wiring.outputs {
            from[output].iter_mut().for_each(|sum| *sum += 1.0);
        }
        let mut around = vec![(Vec::new(), Vec::new()); wiring.edges.len()];
        for (node, source) in wiring.nodes.iter().enumerate().rev() {
            let sums = std::mem::take(&mut from[node]);
            match source {
                Source::Input => {}
                Source::Layer {
                    from: x,
                    weight,
                    bias,
                } => {
                    add(&mut from[*x], network.powers_by_tail(*weight, &sums, p));
                    if let Some(bias) = bias {
                        around[*bias] = (vec![1.0], sums.clone());
                    }
                    around[*weight] = (self.to[*x].clone(), sums);
                }
                Source::Add(a, b) => {
                    add(&mut from[*a], sums.clone());
                    add(&mut from[*b], sums);
                }
                Source::Concat(parts) => {
                    let mut rest = sums.as_slice();
                    for &part in parts {
                        let (own, others) = rest.split_at(from[part].len());
                        add(&mut from[part], own.to_vec());
                        rest = others;
                    }
                }
                Source::Repeat { from: x, times } => {
                    let folded = sums
                        .chunks(*times)
                        .map(|chunk| chunk.iter().sum())
                        .collect();
                    add(&mut from[*x], folded);
                }
                Source::Activation { from: x, .. } => add(&mut from[*x], sums),
                Source::Ground(x) => from[*x].iter_mut().for_each(|sum| *sum += 1.0),
            }
        }
        around
    }
}

fn add(to: &mut [f64], sums: Vec<f64>) {
    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
}

pub(super) fn repeated<T: Clone>(values: &[T], times: usize) -> Vec<T> {
    values
        .iter()
        .flat_map(|value| std::iter::repeat_n(value.clone(), times))
        .collect()
}
