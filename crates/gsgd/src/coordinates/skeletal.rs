//! The paper's chart: values of basis paths.

use burn::tensor::Tensor;

use super::chart::{Network, Survey, Update};
use super::{allocation, gradient, values};
use crate::error::Error;
use crate::kernels::Lines;
use crate::rescale;
use crate::skeleton::{Edge, Tree};
use crate::wiring::{Class, Wiring};

/// The floor guard's setting and what it refers to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Floor {
    pub tau: f64,
    /// |path value| of the In edge of every class at the start; entry 0 is not read.
    pub at_start: Vec<f64>,
}

/// Sizes of Pin and Pout at the start in the balanced network, by class: S0(e) = tail * head.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Normalisation {
    pub tail: Vec<f64>,
    pub head: Vec<f64>,
}

/// Values of basis paths as coordinates, normalised or plain, with or without the floor guard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkeletonChart {
    pub tree: Tree,
    pub floor: Option<Floor>,
    pub normalisation: Option<Normalisation>,
    /// Whether the In edge of a class is free.
    in_is_free: Vec<bool>,
    out_order: Vec<Class>,
    /// In and Out edges by parameter.
    into: Vec<Entries>,
    out: Vec<Entries>,
}

/// Skeleton edges within one parameter.
#[derive(Debug, Clone, Default, PartialEq)]
struct Entries {
    at: Vec<usize>,
    class: Vec<usize>,
}

fn entries(wiring: &Wiring, of: impl Fn(Class) -> Edge) -> Vec<Entries> {
    let mut by_parameter = vec![Entries::default(); wiring.edges.len()];
    for class in wiring.hidden_classes() {
        let edge = of(class);
        by_parameter[edge.edges].at.push(wiring.flat(edge));
        by_parameter[edge.edges].class.push(class.index());
    }
    by_parameter
}

/// The products along the skeleton and the single weights they are made of, by class.
pub(crate) struct Products {
    in_weight: Vec<f64>,
    out_weight: Vec<f64>,
    pub pin: Vec<f64>,
    pub pout: Vec<f64>,
}

impl SkeletonChart {
    pub fn new(wiring: &Wiring, tree: Tree) -> Self {
        Self {
            into: entries(wiring, |class| tree.in_edge(class)),
            out: entries(wiring, |class| tree.out_edge(class)),
            in_is_free: wiring
                .classes()
                .map(|class| !class.is_ground() && tree.in_is_free(wiring, class))
                .collect(),
            out_order: wiring.out_order(),
            tree,
            floor: None,
            normalisation: None,
        }
    }

    /// The guard with its reference taken at this network.
    pub fn with_floor(mut self, network: Network, tau: f64) -> Result<Self, Error> {
        let Products { pin, pout, .. } = self.products(network)?;
        let at_start = pin
            .iter()
            .zip(&pout)
            .map(|(pin, pout)| (pin * pout).abs())
            .collect();
        self.floor = Some(Floor { tau, at_start });
        Ok(self)
    }

    /// Normalised coordinates with their sizes taken at this network, balanced.
    pub fn with_normalisation(mut self, network: Network) -> Result<Self, Error> {
        let Products { pin, pout, .. } = self.products(network)?;
        let scaling = rescale::balancing(network, rescale::Balance::default())?.scaling;
        let factor = |class: Class| scaling.factor(class);
        let classes = || network.wiring.classes();
        self.normalisation = Some(Normalisation {
            tail: classes()
                .map(|c| (pin[c.index()] * factor(c)).abs())
                .collect(),
            head: classes()
                .map(|c| (pout[c.index()] / factor(c)).abs())
                .collect(),
        });
        Ok(self)
    }

    /// Pin and Pout of every class.
    ///
    /// # Errors
    /// A skeleton weight is zero, or a product leaves the range of f64.
    pub fn products(&self, network: Network) -> Result<Products, Error> {
        let wiring = network.wiring;
        let mut in_weight = vec![1.0; wiring.hidden() + 1];
        let mut out_weight = vec![1.0; wiring.hidden() + 1];
        for (slot, w) in network.weights.iter().enumerate() {
            scatter(
                &mut in_weight,
                &self.into[slot],
                network.how.gather(w.clone(), &self.into[slot].at),
            );
            scatter(
                &mut out_weight,
                &self.out[slot],
                network.how.gather(w.clone(), &self.out[slot].at),
            );
        }
        let pin = values::in_products(wiring, &self.tree, &in_weight);
        let pout = values::out_products(wiring, &self.tree, &self.out_order, &out_weight);
        for class in wiring.hidden_classes() {
            let b = class.index();
            for (weight, product, edge) in [
                (in_weight[b], pin[b], self.tree.in_edge(class)),
                (out_weight[b], pout[b], self.tree.out_edge(class)),
            ] {
                let name = || wiring.edges[edge.edges].name.clone();
                if weight == 0.0 {
                    return Err(Error::ZeroSkeleton {
                        name: name(),
                        tail: edge.tail,
                        head: edge.head,
                    });
                }
                if !weight.is_finite() {
                    return Err(Error::NonFiniteWeight { name: name() });
                }
                if !product.is_normal() {
                    return Err(Error::OutOfRange { name: name() });
                }
            }
        }
        Ok(Products {
            in_weight,
            out_weight,
            pin,
            pout,
        })
    }

    pub fn survey<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Tensor<2>],
    ) -> Result<SkeletonSurvey<'a>, Error> {
        let wiring = network.wiring;
        let classes = wiring.hidden() + 1;
        let mut outgoing = vec![0.0; classes];
        let mut in_gradient = vec![0.0; classes];
        let mut out_gradient = vec![0.0; classes];
        for (slot, (w, g)) in network.weights.iter().zip(gradients).enumerate() {
            let dots = network.how.row_dots(w.clone(), g.clone());
            for (tail, dot) in wiring.edges[slot].tails.iter().zip(dots) {
                if !dot.is_finite() {
                    return Err(network.not_finite(slot));
                }
                outgoing[tail.index()] += dot;
            }
            scatter(
                &mut in_gradient,
                &self.into[slot],
                network.how.gather(g.clone(), &self.into[slot].at),
            );
            scatter(
                &mut out_gradient,
                &self.out[slot],
                network.how.gather(g.clone(), &self.out[slot].at),
            );
        }
        let products = self.products(network)?;
        let free: Vec<f64> = products
            .out_weight
            .iter()
            .zip(&out_gradient)
            .map(|(w, g)| w * g)
            .collect();
        let sums = gradient::sums(wiring, &self.tree, &outgoing, &free);

        let (mut tail, mut head) = (products.pin.clone(), products.pout.clone());
        if let Some(size) = &self.normalisation {
            tail.iter_mut().zip(&size.tail).for_each(|(t, s)| *t /= s);
            head.iter_mut().zip(&size.head).for_each(|(d, s)| *d /= s);
        }
        let mut in_value = vec![1.0; classes];
        let mut in_path_gradient = vec![0.0; classes];
        for class in wiring.hidden_classes() {
            let b = class.index();
            let from = wiring.tail(self.tree.in_edge(class)).index();
            in_value[b] = tail[from] * products.in_weight[b] * head[b];
            if !self.in_is_free[b] {
                let u = in_gradient[b] * products.in_weight[b];
                in_path_gradient[b] = (u - sums[b]) / in_value[b];
            }
        }
        Ok(SkeletonSurvey {
            chart: self,
            network,
            products,
            tail,
            head,
            in_value,
            in_path_gradient,
        })
    }
}

fn scatter(by_class: &mut [f64], entries: &Entries, values: Vec<f64>) {
    for (&class, value) in entries.class.iter().zip(values) {
        by_class[class] = value;
    }
}

/// Basis path values around one network and gradient, by class.
pub(crate) struct SkeletonSurvey<'a> {
    chart: &'a SkeletonChart,
    network: Network<'a>,
    products: Products,
    /// T and D: Pin and Pout, over their sizes at the start in normalised coordinates.
    tail: Vec<f64>,
    head: Vec<f64>,
    /// Path value of the In edge, in these coordinates.
    in_value: Vec<f64>,
    /// dL/dv of the In edge where it is not free.
    in_path_gradient: Vec<f64>,
}

impl SkeletonSurvey<'_> {
    /// The In edges of a parameter that have a coordinate.
    fn moving(&self, slot: usize) -> impl Iterator<Item = (usize, usize)> {
        let Entries { at, class } = &self.chart.into[slot];
        let free = &self.chart.in_is_free;
        at.iter()
            .copied()
            .zip(class.iter().copied())
            .filter(|&(_, class)| !free[class])
    }

    /// rho of every class from the change of the In edges' path values.
    fn ratios(&self, change: &[f64]) -> Result<Ratios, Error> {
        let wiring = self.network.wiring;
        let mut r = vec![1.0; wiring.hidden() + 1];
        for class in wiring.hidden_classes() {
            let b = class.index();
            if self.chart.in_is_free[b] {
                continue;
            }
            r[b] = 1.0 + change[b] / self.in_value[b];
            if let Some(floor) = &self.chart.floor {
                let value = self.products.pin[b] * self.products.pout[b];
                r[b] = allocation::floored(r[b], value, floor.at_start[b], floor.tau);
            }
            if !r[b].is_finite() || r[b] == 0.0 {
                let edge = self.chart.tree.in_edge(class);
                return Err(Error::Singular {
                    name: wiring.edges[edge.edges].name.clone(),
                    tail: edge.tail,
                    head: edge.head,
                    value: r[b],
                });
            }
        }
        Ok(Ratios {
            rho: allocation::ratios(wiring, &self.chart.tree, &r),
            r,
        })
    }

    /// The skeleton weights after the step: In edges by their ratio, free edges as they are.
    fn skeleton_entries(&self, slot: usize, ratios: &Ratios) -> (Vec<usize>, Vec<f64>) {
        let wiring = self.network.wiring;
        let (mut at, mut values): (Vec<usize>, Vec<f64>) = self
            .moving(slot)
            .map(|(at, b)| {
                let tail = wiring.tail(self.chart.tree.ins[b - 1]).index();
                (
                    at,
                    self.products.in_weight[b] * ratios.r[b] / ratios.rho[tail],
                )
            })
            .unzip();
        let out = &self.chart.out[slot];
        at.extend(&out.at);
        values.extend(out.class.iter().map(|&b| self.products.out_weight[b]));
        (at, values)
    }

    fn update(
        &self,
        slot: usize,
        ratios: &Ratios,
        tail: impl Fn(usize) -> f64,
        head: impl Fn(usize) -> f64,
    ) -> Result<Update, Error> {
        let rho = &ratios.rho;
        let (at, values) = self.skeleton_entries(slot, ratios);
        Ok(Update {
            of_weights: self
                .network
                .lines(slot, |c| 1.0 / rho[c.index()], |_| 1.0)?,
            of_other: self.network.lines(
                slot,
                |c| tail(c.index()) / rho[c.index()],
                |c| head(c.index()),
            )?,
            at,
            values,
        })
    }
}

/// R of the In edges and rho, by class.
struct Ratios {
    r: Vec<f64>,
    rho: Vec<f64>,
}

impl Survey for SkeletonSurvey<'_> {
    fn lines(&self, slot: usize) -> Result<Lines, Error> {
        self.network
            .lines(slot, |c| self.tail[c.index()], |c| self.head[c.index()])
    }

    fn fixed(&self, slot: usize) -> &[usize] {
        &self.chart.out[slot].at
    }

    fn gradient(&self, slot: usize, g: Tensor<2>) -> Result<Tensor<2>, Error> {
        let by = self.network.lines(
            slot,
            |c| 1.0 / self.tail[c.index()],
            |c| 1.0 / self.head[c.index()],
        )?;
        let (mut at, mut values): (Vec<usize>, Vec<f64>) = self
            .moving(slot)
            .map(|(at, b)| (at, self.in_path_gradient[b]))
            .unzip();
        at.extend(self.fixed(slot));
        values.resize(at.len(), 0.0);
        let g = self.network.how.scale(g, &by);
        Ok(self.network.how.put(g, &at, &values))
    }

    fn descend(&self, lr: &[f64]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.in_value.len()];
        for (slot, &lr) in lr.iter().enumerate() {
            for (_, b) in self.moving(slot) {
                change[b] = -lr * self.in_path_gradient[b];
            }
        }
        let ratios = self.ratios(&change)?;
        lr.iter()
            .enumerate()
            .map(|(slot, &lr)| {
                let tail = |b: usize| -lr / (self.tail[b] * self.tail[b]);
                let head = |b: usize| 1.0 / (self.head[b] * self.head[b]);
                self.update(slot, &ratios, tail, head)
            })
            .collect()
    }

    fn allocate(&self, moved: &[Tensor<2>]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.in_value.len()];
        for (slot, moved) in moved.iter().enumerate() {
            let (at, classes): (Vec<usize>, Vec<usize>) = self.moving(slot).unzip();
            let values = self.network.how.gather(moved.clone(), &at);
            for (b, value) in classes.into_iter().zip(values) {
                change[b] = value - self.in_value[b];
            }
        }
        let ratios = self.ratios(&change)?;
        (0..moved.len())
            .map(|slot| {
                let tail = |b: usize| 1.0 / self.tail[b];
                let head = |b: usize| 1.0 / self.head[b];
                self.update(slot, &ratios, tail, head)
            })
            .collect()
    }
}
