//! The scaling between two networks, dead units included.
//!
//! The canonical representative tells the factor of a unit by what comes in. Into a dead unit nothing comes but zeros, or
//! what dead units give, so that its factor is that of the weights that read it.

use super::{Scaling, to_canonical};
use crate::error::Error;
use crate::matrix::{Matrix, Power};
use crate::network::Network;
use crate::scales::{ScaleClass, ScaleGraph};

/// The scaling that takes the first network to the second, if one does. Tensors that are scaled along are given with their values.
pub fn scaling<M: Matrix>(
    networks: [Network<M>; 2],
    co_scaled: &[Vec<Vec<f64>>; 2],
) -> Result<Scaling, Error> {
    let graph = networks[0].graph;
    let [of_a, of_b] = networks.map(dead);
    // one that is dead in one of them only is no scaling of the other
    let dead: Vec<bool> = of_a.into_iter().zip(of_b).map(|(a, b)| a && b).collect();
    let [from, to] = match dead.contains(&true) {
        false => networks.map(to_canonical),
        true => networks.map(|network| {
            let weights = without(&dead, network)?;
            to_canonical(Network {
                weights: &weights,
                ..network
            })
        }),
    };
    let (from, to) = (from?, to?);
    let pairs = from.factors().iter().zip(to.factors());
    let factors: Vec<f64> = pairs.map(|(a, b)| a / b).collect();
    let mut unknown = Unknown {
        networks,
        left: dead,
        scaling: Scaling::new(graph, &factors)?,
    };
    if unknown.left.contains(&true) {
        unknown.by_readers();
        unknown.by_co_scaled(co_scaled);
        unknown.by_writers();
    }
    Ok(unknown.scaling)
}

/// Parameters by where the last of the classes that they read is first written, with that place.
fn in_order(graph: &ScaleGraph) -> Vec<(i64, usize)> {
    let edges = graph.edges.iter().enumerate();
    let places = edges.map(|(param, edges)| {
        let tails = edges.tails.iter().map(|tail| graph.ord_in[tail.index()]);
        (tails.max().unwrap_or(-1), param)
    });
    let mut places: Vec<(i64, usize)> = places.collect();
    places.sort_unstable();
    places
}

/// Whether all weights into a class from classes before it that are not dead are zero, by class.
fn dead<M: Matrix>(network: Network<M>) -> Vec<bool> {
    let graph = network.graph;
    let mut dead = vec![true; graph.hidden() + 1];
    dead[0] = false;
    for (latest, param) in in_order(graph) {
        let edges = &graph.edges[param];
        let alive = |dead: bool| if dead { 0.0 } else { 1.0 };
        let tails = edges.tails.iter().map(|tail| alive(dead[tail.index()]));
        let sums = network.powers_by_head(param, &tails.collect::<Vec<f64>>(), Power::Two);
        for (head, sum) in edges.heads.iter().zip(sums) {
            if latest < graph.ord_in[head.index()] && sum != 0.0 {
                dead[head.index()] = false;
            }
        }
    }
    dead
}

/// The network's weights with zeros out of dead classes.
fn without<M: Matrix>(dead: &[bool], network: Network<M>) -> Result<Vec<M>, Error> {
    let alive = |class: ScaleClass| if dead[class.index()] { 0.0 } else { 1.0 };
    let weights = network.weights.iter().enumerate();
    let zeroed = weights.map(|(param, w)| {
        let lines = network.by_class(param, alive, |_| 1.0)?;
        Ok(w.clone().scale(&lines))
    });
    zeroed.collect()
}

/// A scaling of which some factors are not known yet.
struct Unknown<'a, M> {
    networks: [Network<'a, M>; 2],
    /// By class, whether its factor is still unknown.
    left: Vec<bool>,
    scaling: Scaling,
}

impl<'a, M: Matrix> Unknown<'a, M> {
    fn graph(&self) -> &'a ScaleGraph {
        self.networks[0].graph
    }

    fn settle(&mut self, class: usize, factor: f64) {
        if self.left[class] && factor.is_normal() && factor > 0.0 {
            self.scaling.factors[class] = factor;
            self.left[class] = false;
        }
    }

    /// By the weights that read a class. What reads it stands behind what writes it, so these heads are known in time.
    fn by_readers(&mut self) {
        let mut sums = vec![[0.0f64; 2]; self.left.len()];
        for param in (0..self.graph().edges.len()).rev() {
            let edges = &self.networks[0].graph.edges[param];
            for head in &edges.heads {
                let [a, b] = sums[head.index()];
                self.settle(head.index(), (a / b).sqrt());
            }
            if !edges.tails.iter().any(|tail| self.left[tail.index()]) {
                continue;
            }
            let known = edges
                .heads
                .iter()
                .map(|&head| match self.left[head.index()] {
                    true => [0.0; 2],
                    false => [self.scaling.factor(head).powi(2), 1.0],
                });
            let known: Vec<[f64; 2]> = known.collect();
            for at in 0..2 {
                let heads: Vec<f64> = known.iter().map(|factors| factors[at]).collect();
                let powers = self.networks[at].powers_by_tail(param, &heads, Power::Two);
                for (tail, power) in edges.tails.iter().zip(powers) {
                    sums[tail.index()][at] += power;
                }
            }
        }
        for (class, [a, b]) in sums.into_iter().enumerate() {
            self.settle(class, (a / b).sqrt());
        }
    }

    /// By what is scaled along with a class.
    fn by_co_scaled(&mut self, values: &[Vec<Vec<f64>>; 2]) {
        let graph = self.networks[0].graph;
        for (at, tensor) in graph.co_scaled.iter().enumerate() {
            for (channel, &class) in tensor.classes.iter().enumerate() {
                let ratio = values[1][at][channel] / values[0][at][channel];
                let factor = ratio.powf(1.0 / f64::from(tensor.power));
                self.settle(class.index(), factor);
            }
        }
    }

    /// By the weights into a class, all of them from dead classes.
    fn by_writers(&mut self) {
        for (latest, param) in in_order(self.graph()) {
            let graph = self.networks[0].graph;
            let edges = &graph.edges[param];
            if !edges.heads.iter().any(|head| self.left[head.index()]) {
                continue;
            }
            let tails = edges.tails.iter();
            let tails: Vec<f64> = tails.map(|&t| self.scaling.factor(t).powi(-2)).collect();
            let a = self.networks[0].powers_by_head(param, &tails, Power::Two);
            let b = self.networks[1].powers_by_head(param, &vec![1.0; tails.len()], Power::Two);
            for (head, (a, b)) in edges.heads.iter().zip(a.into_iter().zip(b)) {
                if latest < graph.ord_in[head.index()] {
                    self.settle(head.index(), (b / a).sqrt());
                }
            }
        }
    }
}
