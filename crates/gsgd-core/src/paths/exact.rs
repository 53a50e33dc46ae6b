//! All paths of a small network: for tests and teaching.

use super::rank;
use crate::error::Error;
use crate::matrix::Matrix;
use crate::network::Network;
use crate::scales::{ScaleGraph, Source};
use crate::skeleton::Edge;

/// Where a path starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A feature of an input.
    Input {
        /// Which input, in the order of the graph.
        input: usize,
        /// Which of its features.
        feature: usize,
    },
    /// The constant 1 behind a bias.
    Bias,
}

/// One path: its start and its edges on the way to an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Where it starts.
    pub start: Start,
    /// Its edges, first to last.
    pub edges: Vec<Edge>,
    /// Which output feature it ends in.
    pub output: usize,
    /// The nodes with a ReLU it passes, and the channel there.
    gates: Vec<(usize, usize)>,
}

/// All paths of a network, and the weights they were enumerated with.
#[derive(Debug, Clone)]
pub struct Paths {
    graph: ScaleGraph,
    weights: Vec<Vec<f64>>,
    paths: Vec<Path>,
}

/// The most paths that are enumerated.
const LIMIT: u128 = 1_000_000;

impl Paths {
    /// Enumerates every path from an input feature or a bias to an output. Every tap of a convolution is an edge of its
    /// own; positions are not told apart.
    ///
    /// # Errors
    /// More than a million paths, a batch norm, a grounded function or a frozen layer inside.
    pub fn enumerate<M: Matrix>(network: Network<M>) -> Result<Self, Error> {
        let graph = network.graph;
        graph.refuse_frozen("enumerating paths")?;
        if graph
            .nodes
            .iter()
            .any(|node| matches!(node, Source::Ground(_) | Source::Norm { .. }))
        {
            return Err(Error::Grounded);
        }
        let weights = network.weights.iter().map(Matrix::to_vec).collect();
        let paths = count(graph);
        if paths > LIMIT {
            return Err(Error::TooManyPaths {
                paths,
                limit: LIMIT,
            });
        }
        Ok(Self {
            paths: enumerate(graph),
            graph: graph.clone(),
            weights,
        })
    }

    /// The paths.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Value of every path: the product of its weights.
    pub fn values(&self) -> Vec<f64> {
        self.paths
            .iter()
            .map(|path| path.edges.iter().map(|&edge| self.weight(edge)).product())
            .collect()
    }

    /// Activation status of every path for an input: the product of the slopes of its ReLUs (1 or 0; the negative
    /// slope for leaky ones).
    ///
    /// # Errors
    /// The input has the wrong lengths, or the network has a convolution.
    pub fn activations(&self, inputs: &[&[f64]]) -> Result<Vec<f64>, Error> {
        let slopes = self.slopes(inputs)?;
        let status = |path: &Path| {
            path.gates
                .iter()
                .map(|&(node, channel)| slopes[node][channel])
                .product()
        };
        Ok(self.paths.iter().map(status).collect())
    }

    /// The network's outputs by Eq. (1) of the paper: `N(x)_k = sum over paths p into k of v_p a_p(x) x_start(p)`.
    ///
    /// # Errors
    /// The input has the wrong lengths, or the network has a convolution.
    pub fn outputs(&self, inputs: &[&[f64]]) -> Result<Vec<f64>, Error> {
        let status = self.activations(inputs)?;
        let width = self
            .graph
            .outputs
            .iter()
            .map(|&node| self.graph.widths[node])
            .sum();
        let mut outputs = vec![0.0; width];
        for ((path, value), status) in self.paths.iter().zip(self.values()).zip(status) {
            let x = match path.start {
                Start::Input { input, feature } => inputs[input][feature],
                Start::Bias => 1.0,
            };
            outputs[path.output] += value * status * x;
        }
        Ok(outputs)
    }

    /// The structure matrix: a row per path, a column per edge in the order of [`ScaleGraph::edges`], 1 where the path
    /// uses the edge. (The paper prints its transpose.)
    pub fn structure(&self) -> Vec<Vec<u8>> {
        let mut first = Vec::new();
        let mut total = 0;
        for edges in &self.graph.edges {
            first.push(total);
            total += edges.count();
        }
        let row = |path: &Path| {
            let mut row = vec![0u8; total];
            for &edge in &path.edges {
                row[first[edge.param] + self.graph.flat(edge)] += 1;
            }
            row
        };
        self.paths.iter().map(row).collect()
    }

    /// Rank of the structure matrix, m - H for every graph.
    ///
    /// By elimination over the integers modulo the prime 2^61 - 1. That never exceeds the rational rank, which in
    /// turn never exceeds m - H, since the H scalings change no path's value: a result of m - H is exact.
    pub fn rank(&self) -> usize {
        rank::modulo_prime(&self.structure())
    }

    fn weight(&self, edge: Edge) -> f64 {
        self.weights[edge.param][self.graph.flat(edge)]
    }

    /// The slope of every activation at this input, by node and channel.
    fn slopes(&self, inputs: &[&[f64]]) -> Result<Vec<Vec<f64>>, Error> {
        let graph = &self.graph;
        if let Some(operation) = &graph.inexact {
            return Err(Error::NotDense {
                name: operation.clone(),
            });
        }
        if let Some(edges) = graph.edges.iter().find(|edges| edges.shape.len() > 2) {
            return Err(Error::NotDense {
                name: edges.name.clone(),
            });
        }
        let is_input = |&node: &usize| graph.nodes[node] == Source::Input;
        let expected: Vec<usize> = (0..graph.nodes.len())
            .filter(is_input)
            .map(|node| graph.widths[node])
            .collect();
        let found: Vec<usize> = inputs.iter().map(|x| x.len()).collect();
        if expected != found {
            return Err(Error::Input { expected, found });
        }
        let mut inputs = inputs.iter();
        let mut slopes = vec![Vec::new(); graph.nodes.len()];
        let mut values: Vec<Vec<f64>> = Vec::new();
        for (node, source) in graph.nodes.iter().enumerate() {
            let value = match source {
                Source::Input => inputs.next().map(|x| x.to_vec()).unwrap_or_default(),
                Source::Layer { from, weight, bias } => self.layer(&values[*from], *weight, *bias),
                Source::Param(param) => self.weights[*param].clone(),
                Source::Sum(parts) => {
                    let sum = |summands: &[(u32, u32)]| {
                        let summands = summands.iter();
                        summands
                            .map(|&(node, at)| values[node as usize][at as usize])
                            .sum()
                    };
                    parts.iter().map(sum).collect()
                }
                Source::Activation { from, slope } => {
                    let slope = |&x: &f64| if x > 0.0 { 1.0 } else { f64::from_bits(*slope) };
                    slopes[node] = values[*from].iter().map(slope).collect();
                    values[*from]
                        .iter()
                        .zip(&slopes[node])
                        .map(|(x, s)| x * s)
                        .collect()
                }
                Source::Norm { .. } | Source::Ground(_) | Source::Frozen(_) => {
                    unreachable!("refused when the paths were enumerated")
                }
            };
            values.push(value);
        }
        Ok(slopes)
    }

    fn layer(&self, x: &[f64], weight: usize, bias: Option<usize>) -> Vec<f64> {
        let columns = self.graph.edges[weight].heads.len();
        let mut y = bias.map_or(vec![0.0; columns], |bias| self.weights[bias].clone());
        for (x, row) in x.iter().zip(self.weights[weight].chunks(columns)) {
            y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
        }
        y
    }
}

/// The number of paths, saturating.
fn count(graph: &ScaleGraph) -> u128 {
    let mut to: Vec<Vec<u128>> = Vec::new();
    let sum = |values: &[u128]| values.iter().fold(0u128, |a, &b| a.saturating_add(b));
    for (node, source) in graph.nodes.iter().enumerate() {
        let counts = match source {
            Source::Input => vec![1; graph.widths[node]],
            Source::Layer { from, weight, bias } => {
                let edges = &graph.edges[*weight];
                let taps = edges.tail_taps().count * edges.head_taps().count;
                let paths = |head: usize| {
                    let into = sum(&to[*from][edges.channels_into(head)]);
                    let into = into.saturating_mul(taps as u128);
                    into.saturating_add(u128::from(bias.is_some()))
                };
                (0..graph.widths[node]).map(paths).collect()
            }
            Source::Param(param) => {
                vec![graph.edges[*param].tails.len() as u128; graph.widths[node]]
            }
            Source::Sum(parts) => {
                let counts = |summands: &[(u32, u32)]| {
                    let summands = summands.iter();
                    let counts = summands.map(|&(node, at)| to[node as usize][at as usize]);
                    counts.fold(0u128, u128::saturating_add)
                };
                parts.iter().map(counts).collect()
            }
            Source::Activation { from, .. } => to[*from].clone(),
            Source::Norm { .. } | Source::Ground(_) | Source::Frozen(_) => {
                unreachable!("refused before")
            }
        };
        to.push(counts);
    }
    let outputs = graph.outputs.iter().map(|&node| sum(&to[node]));
    outputs.fold(0, u128::saturating_add)
}

fn enumerate(graph: &ScaleGraph) -> Vec<Path> {
    let mut to: Vec<Vec<Vec<Path>>> = Vec::new();
    let mut inputs = 0;
    for (node, source) in graph.nodes.iter().enumerate() {
        let paths = match source {
            Source::Input => {
                let input = inputs;
                inputs += 1;
                (0..graph.widths[node])
                    .map(|feature| vec![start(Start::Input { input, feature })])
                    .collect()
            }
            Source::Layer { from, weight, bias } => (0..graph.widths[node])
                .map(|head| through(&to[*from], graph, *weight, *bias, head))
                .collect(),
            Source::Param(param) => {
                let tails = 0..graph.edges[*param].tails.len();
                let to = |head: usize| tails.clone().map(move |tail| from_bias(*param, tail, head));
                (0..graph.widths[node])
                    .map(|head| to(head).collect())
                    .collect()
            }
            Source::Sum(parts) => {
                let paths = |summands: &[(u32, u32)]| {
                    let summands = summands.iter();
                    let paths = summands.map(|&(node, at)| &to[node as usize][at as usize]);
                    paths.flatten().cloned().collect()
                };
                parts.iter().map(paths).collect()
            }
            Source::Activation { from, .. } => {
                let mut paths = to[*from].clone();
                for (channel, paths) in paths.iter_mut().enumerate() {
                    paths
                        .iter_mut()
                        .for_each(|path| path.gates.push((node, channel)));
                }
                paths
            }
            Source::Norm { .. } | Source::Ground(_) | Source::Frozen(_) => {
                unreachable!("refused before")
            }
        };
        to.push(paths);
    }
    let ends = graph.outputs.iter().flat_map(|&node| to[node].clone());
    ends.enumerate()
        .flat_map(|(output, paths)| paths.into_iter().map(move |path| Path { output, ..path }))
        .collect()
}

fn start(start: Start) -> Path {
    Path {
        start,
        edges: Vec::new(),
        output: 0,
        gates: Vec::new(),
    }
}

/// All paths into one channel of a layer.
fn through(
    x: &[Vec<Path>],
    graph: &ScaleGraph,
    weight: usize,
    bias: Option<usize>,
    channel: usize,
) -> Vec<Path> {
    let edges = &graph.edges[weight];
    let taps = edges.head_taps().count;
    let mut paths = Vec::new();
    for head in channel * taps..(channel + 1) * taps {
        for tail in edges.tails_of(head) {
            let edge = Edge {
                param: weight,
                tail,
                head,
            };
            let to = x[tail / edges.tail_taps().count].iter().cloned();
            paths.extend(to.map(|mut path| {
                path.edges.push(edge);
                path
            }));
        }
    }
    paths.extend(bias.map(|bias| from_bias(bias, 0, channel)));
    paths
}

fn from_bias(param: usize, tail: usize, head: usize) -> Path {
    let mut path = start(Start::Bias);
    path.edges.push(Edge { param, tail, head });
    path
}
