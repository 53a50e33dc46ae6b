//! What the chart is made of: a skeleton, the ratio floor, and the sizes that coordinates are relative to.

use serde::{Deserialize, Serialize};

use super::entries::SkeletonEntries;
use super::order::{Factors, TreeOrder};
use super::values;
use crate::error::Error;
use crate::matrix::{Matrix, all, read_all};
use crate::network::Network;
use crate::scales::ScaleGraph;
use crate::skeleton::{Edge, SkeletonTree};

/// Values of basis paths as coordinates, normalised or plain, with or without the ratio floor.
#[derive(Debug, Clone, PartialEq)]
pub struct PathChart {
    pub(super) tree: SkeletonTree,
    /// tau of the ratio floor.
    pub(super) floor: Option<f64>,
    normalised: bool,
    pub(crate) order: TreeOrder,
    pub(crate) entries: Vec<SkeletonEntries>,
}

/// All that a chart knows of the network at its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathChartState {
    /// The skeleton.
    pub tree: SkeletonTree,
    /// tau of the ratio floor and, by class, the |path value| that it is relative to.
    pub floor: Option<(f64, Vec<f64>)>,
    /// By class, |Pin| and |Pout| that normalised coordinates are relative to.
    pub sizes: Option<Factors>,
}

impl PathChart {
    /// Plain coordinates without a ratio floor.
    pub(crate) fn new(graph: &ScaleGraph, tree: SkeletonTree) -> Self {
        Self {
            order: TreeOrder::new(graph, &tree),
            entries: SkeletonEntries::list(graph, &tree),
            tree,
            floor: None,
            normalised: false,
        }
    }

    /// The chart as it was saved.
    ///
    /// # Errors
    /// The skeleton is not one of this graph, or there is not a positive number per class.
    pub fn from_state(graph: &ScaleGraph, state: PathChartState) -> Result<Self, Error> {
        let PathChartState { tree, floor, sizes } = state;
        tree.check(graph)?;
        let at_start = floor.iter().map(|(_, values)| values);
        let sized = sizes.iter().flat_map(|size| [&size.tail, &size.head]);
        let usable = |list: &Vec<f64>| {
            list.len() == graph.hidden() + 1 && list.iter().all(|x| x.is_finite() && *x > 0.0)
        };
        if !at_start.chain(sized).all(usable) {
            let reason = "its sizes are not one positive number per class".into();
            return Err(Error::Skeleton { reason });
        }
        let mut chart = Self::new(graph, tree);
        if let Some((tau, at_start)) = floor {
            chart.order.take_values(at_start);
            chart.floor = Some(tau);
        }
        if let Some(sizes) = sizes {
            chart.order.take_sizes(sizes);
            chart.normalised = true;
        }
        Ok(chart)
    }

    /// All that has to be saved.
    pub fn state(&self) -> PathChartState {
        PathChartState {
            tree: self.tree.clone(),
            floor: self.floor.map(|tau| (tau, self.order.at_start().to_vec())),
            sizes: self.normalised.then(|| self.order.size().clone()),
        }
    }

    /// The skeleton.
    pub fn tree(&self) -> &SkeletonTree {
        &self.tree
    }

    /// With the ratio floor tau, relative to the path values of this network.
    pub(crate) fn with_floor<M: Matrix>(
        mut self,
        network: Network<M>,
        tau: f64,
    ) -> Result<Self, Error> {
        let products = self.products(network)?;
        let values = products.tail.iter().zip(&products.head);
        let at_start = values.map(|(pin, pout)| (pin * pout).abs());
        self.order.take_values(at_start.collect());
        self.floor = Some(tau);
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
        self.order.take_sizes(sizes);
        self.normalised = true;
        Ok(self)
    }

    /// The length of the coordinates of a row into batch norm: that of a row of He weights in normalised coordinates.
    pub(super) fn radius(&self) -> f64 {
        match self.normalised {
            true => std::f64::consts::SQRT_2,
            false => 1.0,
        }
    }

    /// Pin and Pout of every class.
    ///
    /// # Errors
    /// A skeleton weight is zero, or a product leaves the range of f64.
    pub(crate) fn products<M: Matrix>(&self, network: Network<M>) -> Result<Factors, Error> {
        let mut weights = vec![1.0; 2 * self.order.classes()];
        let pairs = self.entries.iter().zip(network.weights);
        let gathered = pairs.map(|(entries, w)| (&entries.all, w.gather(entries.all.at())));
        for (list, found) in read_all(gathered) {
            list.put(found, &mut weights);
        }
        self.fit_products(network.graph, &weights)
    }

    /// 1 / T and 1 / D of every class, but 1 / D of classes into batch norm.
    ///
    /// # Errors
    /// As [`products`](Self::products).
    pub(crate) fn inverse_factors<M: Matrix>(&self, network: Network<M>) -> Result<Factors, Error> {
        let products = self.products(network)?;
        Ok(values::inverse_factors(&self.order, products))
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
        let first = |products: &[f64]| products.iter().position(|&product| !fit(product));
        let (into, out) = (first(&products.tail), first(&products.head));
        let (ins, outs) = TreeOrder::ins_and_outs(weights);
        Err(match (into, out) {
            (Some(b), out) if out.is_none_or(|out| b <= out) => {
                unfit(graph, self.tree.ins[b - 1], ins[b])
            }
            (_, out) => {
                let b = out.expect("one of them is unfit");
                unfit(graph, self.tree.outs[b - 1], outs[b])
            }
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
