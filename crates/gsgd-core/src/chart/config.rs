//! Which chart an optimiser works in, for a network at its start.

use super::{Chart, NormChart, PathChart};
use crate::error::Error;
use crate::matrix::{Matrix, Power};
use crate::network::Network;
use crate::rescale::{self, Balance};
use crate::skeleton::{Edge, Skeleton, SkeletonTree};

/// The coordinates an optimiser works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// Values of basis paths, as in the paper.
    Plain,
    /// Values of basis paths over `S0(e) = |Pin(tail) Pout(head)|`, taken at the start in the balanced network:
    /// the first step's lr then means what it means to SGD on the balanced network.
    Normalised,
    /// Norm coordinates `v_e = A(tail) w_e / A(head)`: no skeleton and no poles.
    Norm,
}

/// Settings of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartConfig {
    /// Which paths are the coordinates; [`Skeleton::Largest`] if nothing else is said.
    pub skeleton: Skeleton,
    /// Their scale. `None` is normalised for the largest and random skeletons, plain otherwise.
    pub coordinates: Option<Coordinates>,
    /// The ratio floor's tau in [0, 1), or none; 0.8.
    pub floor: Option<f64>,
}

impl Default for ChartConfig {
    fn default() -> Self {
        Self {
            skeleton: Skeleton::default(),
            coordinates: None,
            floor: Some(0.8),
        }
    }
}

impl ChartConfig {
    /// Refuses settings out of their ranges.
    ///
    /// # Errors
    /// The floor is not in [0, 1).
    pub fn check(&self) -> Result<(), Error> {
        match self.floor {
            Some(tau) if !(0.0..1.0).contains(&tau) => Err(Error::Setting {
                name: "the floor",
                found: tau.to_string(),
                allowed: "a number in [0, 1)",
            }),
            _ => Ok(()),
        }
    }

    /// The chart with skeleton, floor and normalisation taken from the weights of this network.
    ///
    /// # Errors
    /// A setting out of range, weights that are not finite, a skeleton weight that is zero or, for [`Skeleton::Paper`],
    /// tiny.
    pub fn at<M: Matrix>(&self, network: Network<M>) -> Result<Chart, Error> {
        self.check()?;
        let count = network.weights.len();
        if let Some(param) = Network::first_not_finite(network.weights, 0..count) {
            let name = network.graph.edges[param].name.clone();
            return Err(Error::NonFiniteWeight { name });
        }
        let coordinates = self.coordinates.unwrap_or(match self.skeleton {
            Skeleton::Largest | Skeleton::Random(_) => Coordinates::Normalised,
            Skeleton::Paper | Skeleton::Chosen(_) => Coordinates::Plain,
        });
        if coordinates == Coordinates::Norm {
            let chart = NormChart::new(network.graph);
            chart.norms(network)?;
            return Ok(Chart::Norm(chart));
        }
        let tree = match &self.skeleton {
            Skeleton::Paper => SkeletonTree::paper(network.graph),
            Skeleton::Largest => SkeletonTree::largest(network),
            Skeleton::Random(seed) => SkeletonTree::random(network.graph, *seed),
            Skeleton::Chosen(tree) => {
                tree.check(network.graph)?;
                tree.clone()
            }
        };
        let mut chart = PathChart::new(network.graph, tree);
        chart.products(network)?;
        if self.skeleton == Skeleton::Paper {
            refuse_tiny(network, chart.tree())?;
        }
        if let Some(tau) = self.floor {
            chart = chart.with_floor(network, tau)?;
        }
        if coordinates == Coordinates::Normalised {
            let scaling = rescale::balance(network, Balance::default())?.scaling;
            let classes = network.graph.classes();
            let factors: Vec<f64> = classes.map(|class| scaling.factor(class)).collect();
            chart = chart.with_normalisation(network, &factors)?;
        }
        Ok(Chart::Path(Box::new(chart)))
    }
}

/// The least size of a paper skeleton's weight against its unit's root mean square.
const LEAST: f64 = 0.1;

/// Refuses a skeleton with weights far below their units' root mean square, taken in the balanced network so that
/// the answer does not depend on scale.
fn refuse_tiny<M: Matrix>(network: Network<M>, tree: &SkeletonTree) -> Result<(), Error> {
    let graph = network.graph;
    let scaling = rescale::balance(network, Balance::default())?.scaling;
    let balanced: Vec<M> = (0..network.weights.len())
        .map(|param| {
            let by = network.by_class(param, |c| 1.0 / scaling.factor(c), |c| scaling.factor(c))?;
            Ok(network.weights[param].clone().scale(&by))
        })
        .collect::<Result<_, Error>>()?;
    let balanced = network.at(&balanced);
    let means = |sums: Vec<f64>, of: usize| sums.into_iter().map(|sum| sum / of as f64).collect();
    let (mut into, mut out): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for (param, edges) in graph.edges.iter().enumerate() {
        let heads = vec![1.0; edges.heads.len()];
        let groups = edges.layout.groups;
        let sums = balanced.squares_by_head(param).read();
        into.push(means(sums, edges.tails.len() / groups));
        let sums = balanced.powers_by_tail(param, &heads, Power::Two);
        out.push(means(sums, heads.len() / groups));
    }
    let check = |edge: Edge, mean_square: f64| {
        let weight = balanced.weights[edge.param].gather(&[graph.flat(edge)]);
        let ratio = weight.read()[0].abs() / mean_square.sqrt();
        if ratio >= LEAST {
            return Ok(());
        }
        Err(Error::TinySkeleton {
            name: graph.edges[edge.param].name.clone(),
            tail: edge.tail,
            head: edge.head,
            ratio,
            least: LEAST,
        })
    };
    for class in graph.hidden_classes() {
        if let Some(edge) = tree.in_edge(class) {
            check(edge, into[edge.param][edge.head])?;
        }
        if let Some(edge) = tree.out_edge(class) {
            check(edge, out[edge.param][edge.tail])?;
        }
    }
    Ok(())
}
