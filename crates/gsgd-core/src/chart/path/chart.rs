//! What the chart is made of: a skeleton, the ratio floor, and the sizes that coordinates are relative to.

use super::values;
use crate::chart::state::{Factors, PathChartState};
use crate::error::Error;
use crate::matrix::{Matrix, all, read_all};
use crate::network::Network;
use crate::scales::ScaleGraph;
use crate::skeleton::{Edge, SkeletonEntries, SkeletonTree, TreeOrder};

/// Values of basis paths as coordinates, normalised or plain, with or without the ratio floor.
#[derive(Debug, Clone, PartialEq)]
pub struct PathChart {
    pub(super) start: PathChartState,
    pub(crate) order: TreeOrder,
    pub(crate) entries: Vec<SkeletonEntries>,
}

impl PathChart {
    /// Plain coordinates without a ratio floor.
    pub(crate) fn new(graph: &ScaleGraph, tree: SkeletonTree) -> Self {
        let ones = || vec![1.0; graph.hidden() + 1];
        let sizes = Factors {
            tail: ones(),
            head: ones(),
        };
        Self {
            order: TreeOrder::new(graph, &tree),
            entries: SkeletonEntries::list(graph, &tree),
            start: PathChartState {
                tree,
                floor: None,
                values: ones(),
                normalised: false,
                sizes,
            },
        }
    }

    /// The chart as it was saved.
    ///
    /// # Errors
    /// The skeleton is not one of this graph, a list has not a positive number per class, or the floor is not in [0, 1).
    pub fn from_state(graph: &ScaleGraph, start: PathChartState) -> Result<Self, Error> {
        start.tree.check(graph)?;
        let lists = [&start.values, &start.sizes.tail, &start.sizes.head];
        let usable = |list: &Vec<f64>| {
            list.len() == graph.hidden() + 1 && list.iter().all(|x| x.is_finite() && *x > 0.0)
        };
        let floor = start.floor.is_none_or(|tau| (0.0..1.0).contains(&tau));
        if !floor || !lists.into_iter().all(usable) {
            let reason = "its floor is not in [0, 1), or its sizes are not positive numbers".into();
            return Err(Error::Skeleton { reason });
        }
        let chart = Self::new(graph, start.tree.clone());
        Ok(Self { start, ..chart })
    }

    /// All that has to be saved.
    pub fn state(&self) -> &PathChartState {
        &self.start
    }

    /// The skeleton.
    pub fn tree(&self) -> &SkeletonTree {
        &self.start.tree
    }

    /// With the ratio floor tau, relative to the path values of this network.
    pub(crate) fn with_floor<M: Matrix>(
        mut self,
        network: Network<M>,
        tau: f64,
    ) -> Result<Self, Error> {
        let Factors { tail, head } = self.products(network)?;
        let values = tail.iter().zip(head).map(|(pin, pout)| (pin * pout).abs());
        self.start.values = values.collect();
        self.start.floor = Some(tau);
        Ok(self)
    }

    /// Normalised coordinates with their sizes taken at this network, scaled by these factors per class, which balance it.
    pub(crate) fn with_normalisation<M: Matrix>(
        mut self,
        network: Network<M>,
        balance: &[f64],
    ) -> Result<Self, Error> {
        let mut sizes = self.products(network)?;
        let products = sizes.tail.iter_mut().zip(&mut sizes.head);
        for ((pin, pout), factor) in products.zip(balance) {
            *pin = (*pin * factor).abs();
            *pout = (*pout / factor).abs();
        }
        self.start.sizes = sizes;
        self.start.normalised = true;
        Ok(self)
    }

    /// The length of the coordinates of a row into batch norm: that of a row of He weights in normalised coordinates.
    pub(in crate::chart) fn radius(&self) -> f64 {
        match self.start.normalised {
            true => std::f64::consts::SQRT_2,
            false => 1.0,
        }
    }

    /// Pin and Pout of every class.
    ///
    /// # Errors
    /// A skeleton weight is zero, or a product leaves the range of f64.
    pub(crate) fn products<M: Matrix>(&self, network: Network<M>) -> Result<Factors, Error> {
        let [weights] = self.by_edge([(network.weights, 1.0)]);
        self.fit_products(network.graph, &weights)
    }

    /// Lists by skeleton edge: the edges' entries in each of these lists of matrices, a number where there is no edge.
    pub(super) fn by_edge<M: Matrix, const N: usize>(&self, of: [(&[M], f64); N]) -> [Vec<f64>; N] {
        let mut lists = of.map(|(_, none)| vec![none; 2 * self.order.classes()]);
        let all = of.iter().enumerate().flat_map(|(at, (matrices, _))| {
            let pairs = self
                .entries
                .iter()
                .map(|entries| &entries.all)
                .zip(*matrices);
            pairs.map(move |(list, matrix)| ((at, list), matrix.gather(list.at())))
        });
        for ((at, list), found) in read_all(all) {
            list.put(found, &mut lists[at]);
        }
        lists
    }

    /// 1 / T and 1 / D of every class, but 1 / D of classes into batch norm.
    ///
    /// # Errors
    /// As [`products`](Self::products).
    pub(crate) fn inverse_factors<M: Matrix>(&self, network: Network<M>) -> Result<Factors, Error> {
        let products = self.products(network)?;
        Ok(values::inverse_factors(
            &self.order,
            &self.start.sizes,
            products,
        ))
    }

    /// The products of weights by skeleton edge, which must be fit to divide by.
    pub(super) fn fit_products(
        &self,
        graph: &ScaleGraph,
        weights: &[f64],
    ) -> Result<Factors, Error> {
        let products = values::products(&self.order, weights);
        // a product is not normal either where a weight on its way is zero
        let fit = |product: f64| (product.abs() >= f64::MIN_POSITIVE) & (product.abs() <= f64::MAX);
        if all(&products.tail, fit) && all(&products.head, fit) {
            return Ok(products);
        }
        let Factors { tail, head } = &products;
        let mut classes = 1..tail.len();
        let b = classes.find(|&b| !fit(tail[b]) || !fit(head[b]));
        let b = b.expect("one of them is unfit");
        let (ins, outs) = TreeOrder::ins_and_outs(weights);
        let SkeletonTree {
            ins: into,
            outs: out,
        } = &self.start.tree;
        Err(match fit(tail[b]) {
            false => unfit(graph, into[b - 1], ins[b]),
            true => unfit(graph, out[b - 1], outs[b]),
        })
    }
}

/// What is wrong with a skeleton weight whose products are not fit to divide by.
pub(super) fn unfit(graph: &ScaleGraph, edge: Option<Edge>, weight: f64) -> Error {
    let (name, tail, head) = match edge {
        Some(edge) => (graph.edges[edge.param].name.clone(), edge.tail, edge.head),
        None => (String::new(), 0, 0),
    };
    if weight == 0.0 {
        Error::ZeroSkeleton { name, tail, head }
    } else if weight.is_finite() {
        Error::OutOfRange { name }
    } else {
        Error::NonFiniteWeight { name }
    }
}
