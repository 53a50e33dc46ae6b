//! The paper's chart: values of basis paths.

use super::chart::Network;
use super::gradient::{self, Sums};
use super::parts::Part;
use super::places::{Factors, Places};
use super::reading::Reading;
use super::survey::SkeletonSurvey;
use super::values;
use crate::error::Error;
use crate::kernels::{HeadSums, Matrix};
use crate::rescale;
use crate::skeleton::{Edge, Tree};
use crate::wiring::Wiring;

/// Values of basis paths as coordinates, normalised or plain, with or without the floor guard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkeletonChart {
    pub tree: Tree,
    /// tau of the floor guard.
    pub floor: Option<f64>,
    pub normalised: bool,
    pub places: Places,
    pub(super) parts: Vec<Part>,
    /// What is read of a gradient that keeps the conservation law, and of any.
    reading: [Reading; 2],
}

impl SkeletonChart {
    pub fn new(wiring: &Wiring, tree: Tree) -> Self {
        Self {
            places: Places::new(wiring, &tree),
            parts: Part::list(wiring, &tree),
            reading: [Reading::least(wiring), Reading::outgoing(wiring)],
            tree,
            floor: None,
            normalised: false,
        }
    }

    /// The guard with its reference taken at this network.
    pub fn with_floor(mut self, network: Network, tau: f64) -> Result<Self, Error> {
        let Factors {
            tail: pin,
            head: pout,
        } = self.products(network)?;
        let values = pin.iter().zip(&pout);
        self.places.at_start = values.map(|(pin, pout)| (pin * pout).abs()).collect();
        self.floor = Some(tau);
        Ok(self)
    }

    /// Normalised coordinates with their sizes taken at this network, balanced.
    pub fn with_normalisation(mut self, network: Network) -> Result<Self, Error> {
        let Factors { mut tail, mut head } = self.products(network)?;
        let scaling = rescale::balancing(network, rescale::Balance::default())?.scaling;
        let products = tail.iter_mut().zip(&mut head);
        for (class, (pin, pout)) in network.wiring.classes().zip(products) {
            *pin = (*pin * scaling.factor(class)).abs();
            *pout = (*pout / scaling.factor(class)).abs();
        }
        self.places.size = Factors { tail, head };
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
        let mut weights = Factors::ones(self.places.classes());
        for (part, w) in self.parts.iter().zip(network.weights) {
            let entries = w.gather(&part.at);
            for (edges, list) in part
                .edges(&entries)
                .zip([&mut weights.head, &mut weights.tail])
            {
                edges.for_each(|(class, w)| list[class] = *w);
            }
        }
        self.fit_products(network.wiring, &weights)
    }

    /// T and D of every class, but D of sinks.
    ///
    /// # Errors
    /// As [`products`](Self::products).
    pub fn factors(&self, network: Network) -> Result<Factors, Error> {
        Ok(values::factors(&self.places, &self.products(network)?))
    }

    /// The products of skeleton weights, of In edges by head and of Out edges by tail, which must be fit to divide by.
    fn fit_products(&self, wiring: &Wiring, weights: &Factors) -> Result<Factors, Error> {
        let products = values::products(&self.places, &weights.head, &weights.tail);
        let size = f64::MIN_POSITIVE..=f64::MAX;
        // a product is not normal either where a weight on its way is zero
        let fit = |product: &f64| size.contains(&product.abs());
        let all = |products: &[f64]| products.iter().fold(true, |all, p| all & fit(p));
        if all(&products.tail) && all(&products.head) {
            return Ok(products);
        }
        let first = |products: &[f64]| products.iter().position(|product| !fit(product));
        let (into, out) = (first(&products.tail), first(&products.head));
        Err(match (into, out) {
            (Some(b), out) if out.is_none_or(|out| b <= out) => {
                unfit(wiring, self.tree.ins[b - 1], weights.head[b])
            }
            (_, out) => {
                let b = out.expect("one of them is unfit");
                unfit(wiring, self.tree.outs[b - 1], weights.tail[b])
            }
        })
    }

    pub fn survey<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<SkeletonSurvey<'a>, Error> {
        let [least, any] = &self.reading;
        let mut reading = least;
        let (mut weights, mut sums) = self.read(reading, network, gradients)?;
        if !least.holds(network, gradients, &sums.outgoing) {
            reading = any;
            (weights, sums) = self.read(reading, network, gradients)?;
        }
        let products = self.fit_products(network.wiring, &weights)?;
        let mut factors = values::factors(&self.places, &products);
        let mut head_sums = vec![None; gradients.len()];
        if !self.places.all_grounded() {
            head_sums = self.head_sums(network, gradients, &mut factors, &mut sums.incoming)?;
        }
        let in_values = values::in_values(&self.places, &weights.head, &factors);
        Ok(SkeletonSurvey {
            in_gradients: gradient::in_edges(&self.places, &sums, &in_values),
            incoming: sums.incoming,
            chart: self,
            network,
            weights,
            products,
            factors,
            in_values,
            head_sums,
            reading,
        })
    }

    /// Weights of In edges by head and of Out edges by tail, and all sums of u but those by head.
    fn read(
        &self,
        reading: &Reading,
        network: Network,
        gradients: &[Matrix],
    ) -> Result<(Factors, Sums), Error> {
        let mut weights = Factors::ones(self.places.classes());
        let mut sums = Sums::zero(self.places.classes());
        for (slot, (g, part)) in gradients.iter().zip(&self.parts).enumerate() {
            let read = reading.of_parameter(network, slot, g, &part.at)?;
            reading.add(&network.wiring.edges[slot], &read, &mut sums.outgoing);
            let lists = [
                (&mut weights.head, &mut sums.into),
                (&mut weights.tail, &mut sums.out),
            ];
            for (edges, (weights, products)) in part.edges(&read.entries).zip(lists) {
                for (class, [w, g]) in edges {
                    (weights[class], products[class]) = (*w, w * g);
                }
            }
        }
        Ok((weights, sums))
    }

    /// Sums by head line of the parameters that lead to floating classes or sinks, which complete the sums over incoming
    /// edges and D of the sinks.
    fn head_sums(
        &self,
        network: Network,
        gradients: &[Matrix],
        factors: &mut Factors,
        incoming: &mut [f64],
    ) -> Result<Vec<Option<HeadSums>>, Error> {
        let mut squares = vec![0.0; incoming.len()];
        let parts = gradients.iter().enumerate().zip(&self.parts);
        let all = parts.map(|((slot, g), part)| {
            if !part.beyond_grounded {
                return Ok(None);
            }
            let edges = &network.wiring.edges[slot];
            let tails = edges.tails.iter().map(|c| factors.tail[c.index()]);
            let sums = network.head_sums(slot, g, &tails.collect::<Vec<_>>());
            if !sums.dots.iter().all(|dot| dot.is_finite()) {
                return Err(network.not_finite(slot));
            }
            for (line, head) in edges.heads.iter().enumerate() {
                squares[head.index()] += sums.squares[line];
                incoming[head.index()] += sums.dots[line];
            }
            Ok(Some(sums))
        });
        let all = all.collect::<Result<_, Error>>()?;
        for &b in &self.places.sinks {
            factors.head[b] = self.radius() / squares[b].sqrt();
        }
        Ok(all)
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
