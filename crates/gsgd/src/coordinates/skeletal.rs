//! The paper's chart: values of basis paths.

use super::chart::Network;
use super::parts::Part;
use super::places::{Factors, Places};
use super::point::Point;
use super::survey::SkeletonSurvey;
use super::values;
use crate::error::Error;
use crate::kernels::{Matrix, Picked, all, read};
use crate::rescale;
use crate::skeleton::{Edge, Tree};
use crate::wiring::{Class, Wiring};

/// Values of basis paths as coordinates, normalised or plain, with or without the floor guard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkeletonChart {
    pub tree: Tree,
    /// tau of the floor guard.
    pub floor: Option<f64>,
    pub normalised: bool,
    pub places: Places,
    pub(super) parts: Vec<Part>,
}

impl SkeletonChart {
    pub fn new(wiring: &Wiring, tree: Tree) -> Self {
        Self {
            places: Places::new(wiring, &tree),
            parts: Part::list(wiring, &tree),
            tree,
            floor: None,
            normalised: false,
        }
    }

    /// The guard with its reference taken at this network.
    pub fn with_floor(mut self, network: Network, tau: f64) -> Result<Self, Error> {
        let products = self.products(network)?;
        let (pin, pout) = products.tail_and_head();
        let values = pin.iter().zip(pout);
        let at_start = values.map(|(pin, pout)| (pin * pout).abs());
        self.places.take_values(at_start.collect());
        self.floor = Some(tau);
        Ok(self)
    }

    /// Normalised coordinates with their sizes taken at this network, balanced.
    pub fn with_normalisation(mut self, network: Network) -> Result<Self, Error> {
        let mut sizes = self.products(network)?;
        let scaling = rescale::balancing(network, rescale::Balance::default())?.scaling;
        let (pin, pout) = sizes.tail_and_head_mut();
        let products = pin.iter_mut().zip(pout);
        for (class, (pin, pout)) in network.wiring.classes().zip(products) {
            *pin = (*pin * scaling.factor(class)).abs();
            *pout = (*pout / scaling.factor(class)).abs();
        }
        self.places.take_sizes(sizes);
        self.normalised = true;
        Ok(self)
    }

    /// The length of a sink's row of coordinates: that of a row of He weights in normalised coordinates.
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
    pub fn products(&self, network: Network) -> Result<Factors, Error> {
        let mut weights = vec![1.0; 2 * self.places.classes()];
        let picked = self.parts.iter().zip(network.weights).map(|(part, w)| {
            let Picked { at, to } = part.picked();
            (to, w.gather(at))
        });
        for (to, found) in read(picked) {
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
        Ok(values::inverse_factors(&self.places, products))
    }

    /// The products of weights by skeleton edge, which must be fit to divide by.
    pub(super) fn fit_products(&self, wiring: &Wiring, weights: &[f64]) -> Result<Factors, Error> {
        let products = values::products(&self.places, weights);
        // a product is not normal either where a weight on its way is zero
        let fit = |product: f64| (product.abs() >= f64::MIN_POSITIVE) & (product.abs() <= f64::MAX);
        if all(products.list(), fit) {
            return Ok(products);
        }
        let first = |products: &[f64]| products.iter().position(|&product| !fit(product));
        let (into, out) = (first(products.tail()), first(products.head()));
        let (ins, outs) = Places::ins_and_outs(weights);
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

    /// The places of the In edges that have a coordinate in a parameter, and their classes.
    pub fn moving(&self, slot: usize) -> (&[usize], &[Class]) {
        let part = &self.parts[slot];
        (&part.moving_at, &part.moving)
    }

    /// Reads weights and gradients once and computes all that is per class.
    ///
    /// # Errors
    /// As of [`Point::of`], for all weights and gradients that are read.
    pub fn survey<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<SkeletonSurvey<'a>, Error> {
        Point::of(self, network, gradients)?.survey(gradients)
    }

    /// The weights after `v' = v - lr dL/dv`; see [`Chart::descend`](super::Chart::descend).
    pub fn descend(
        &self,
        network: Network,
        gradients: Vec<Matrix>,
        lr: &[f64],
    ) -> Result<Vec<Matrix>, Error> {
        let way = self.survey(network, &gradients)?.descent(lr)?;
        network.updated(gradients, way.updates()?)
    }
}

/// What is wrong with a skeleton weight whose products are not fit to divide by.
pub(super) fn unfit(wiring: &Wiring, edge: Option<Edge>, weight: f64) -> Error {
    let (name, tail, head) = match edge {
        Some(edge) => (wiring.edges[edge.edges].name.clone(), edge.tail, edge.head),
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
