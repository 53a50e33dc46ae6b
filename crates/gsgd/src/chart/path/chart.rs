//! What the chart is made of: a skeleton, the ratio floor, and the sizes that coordinates are relative to.

use super::entries::SkeletonEntries;
use super::order::{Factors, TreeOrder};
use super::values;
use crate::error::Error;
use crate::kernels::{Gathered, all, read_all};
use crate::network::Network;
use crate::skeleton::{Edge, Tree};
use crate::wiring::Wiring;

/// Values of basis paths as coordinates, normalised or plain, with or without the ratio floor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PathChart {
    pub tree: Tree,
    /// tau of the ratio floor.
    pub floor: Option<f64>,
    pub normalised: bool,
    pub order: TreeOrder,
    pub entries: Vec<SkeletonEntries>,
}

impl PathChart {
    pub fn new(wiring: &Wiring, tree: Tree) -> Self {
        Self {
            order: TreeOrder::new(wiring, &tree),
            entries: SkeletonEntries::list(wiring, &tree),
            tree,
            floor: None,
            normalised: false,
        }
    }

    /// The guard with its reference taken at this network.
    pub fn with_floor(mut self, network: Network, tau: f64) -> Result<Self, Error> {
        let products = self.products(network)?;
        let values = products.tail.iter().zip(&products.head);
        let at_start = values.map(|(pin, pout)| (pin * pout).abs());
        self.order.take_values(at_start.collect());
        self.floor = Some(tau);
        Ok(self)
    }

    /// Normalised coordinates with their sizes taken at this network, scaled by these factors per class, which balance it.
    pub fn with_normalisation(mut self, network: Network, balance: &[f64]) -> Result<Self, Error> {
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

    /// The length of a sink's row of coordinates: that of a row of He weights in normalised coordinates.
    pub fn radius(&self) -> f64 {
        match self.normalised {
            true => std::f64::consts::SQRT_2,
            false => 1.0,
        }
    }

    /// Pin and Pout of every class.
    ///
    /// # Errors
    /// A skeleton weight is zero, or a product leaves the range of f64.
    pub fn products(&self, network: Network) -> Result<Factors, Error> {
        let mut weights = vec![1.0; 2 * self.order.classes()];
        let gathered = self
            .entries
            .iter()
            .zip(network.weights)
            .map(|(entries, w)| {
                let Gathered { at, to } = entries.gathered();
                (to, w.gather(at))
            });
        for (to, found) in read_all(gathered) {
            for (&edge, w) in to.iter().zip(found) {
                weights[edge as usize] = w;
            }
        }
        self.fit_products(network.wiring, &weights)
    }

    /// 1 / T and 1 / D of every class, but those of sinks.
    ///
    /// # Errors
    /// As [`products`](Self::products).
    pub fn inverse_factors(&self, network: Network) -> Result<Factors, Error> {
        let products = self.products(network)?;
        Ok(values::inverse_factors(&self.order, products))
    }

    /// The products of weights by skeleton edge, which must be fit to divide by.
    pub fn fit_products(&self, wiring: &Wiring, weights: &[f64]) -> Result<Factors, Error> {
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
                unfit(wiring, self.tree.ins[b - 1], ins[b])
            }
            (_, out) => {
                let b = out.expect("one of them is unfit");
                unfit(wiring, self.tree.outs[b - 1], outs[b])
            }
        })
    }
}

/// What is wrong with a skeleton weight whose products are not fit to divide by.
pub(super) fn unfit(wiring: &Wiring, edge: Option<Edge>, weight: f64) -> Error {
    let (name, tail, head) = match edge {
        Some(edge) => (wiring.edges[edge.param].name.clone(), edge.tail, edge.head),
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
