//! The paper's chart: values of basis paths.

use burn::tensor::Tensor;

use super::chart::{Network, Survey, Update};
use super::{allocation, gradient, values};
use crate::error::Error;
use crate::kernels::{Entries, Lines};
use crate::rescale;
use crate::skeleton::{Branches, Edge, Tree};
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
    branches: Branches,
    /// The skeleton's edges by parameter.
    parts: Vec<Part>,
}

/// Skeleton edges within one parameter: first In edges that move, then In edges that are free, then Out edges.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    at: Vec<usize>,
    class: Vec<usize>,
    moving: usize,
    ins: usize,
}

impl Part {
    /// In edges that have a coordinate, with their classes.
    fn moving(&self) -> impl Iterator<Item = (usize, usize)> {
        let classes = self.class.iter().copied();
        self.at.iter().copied().zip(classes).take(self.moving)
    }

    /// Free edges, which stay as they are.
    fn free(&self) -> &[usize] {
        &self.at[self.ins..]
    }

    /// Takes what belongs to every entry, in order, apart into values of In and of Out edges by class.
    fn scatter(&self, values: impl Iterator<Item = f64>, ins: &mut [f64], outs: &mut [f64]) {
        for (at, (&class, value)) in self.class.iter().zip(values).enumerate() {
            match at < self.ins {
                true => ins[class] = value,
                false => outs[class] = value,
            }
        }
    }
}

fn parts(wiring: &Wiring, tree: &Tree, branches: &Branches) -> Vec<Part> {
    let mut moving = vec![Vec::new(); wiring.edges.len()];
    let (mut still, mut outs) = (moving.clone(), moving.clone());
    for class in wiring.hidden_classes() {
        let (into, out) = (tree.in_edge(class), tree.out_edge(class));
        let ins = match branches.in_is_free[class.index()] {
            true => &mut still,
            false => &mut moving,
        };
        ins[into.edges].push((wiring.flat(into), class.index()));
        outs[out.edges].push((wiring.flat(out), class.index()));
    }
    let lists = moving.into_iter().zip(still).zip(outs);
    let part = |((moving, still), outs): ((Vec<(usize, usize)>, Vec<_>), Vec<_>)| {
        let (first, ins) = (moving.len(), moving.len() + still.len());
        let (at, class) = [moving, still, outs].concat().into_iter().unzip();
        Part {
            at,
            class,
            moving: first,
            ins,
        }
    };
    lists.map(part).collect()
}

/// The single weights of the skeleton and the products along it, by class.
pub(crate) struct Products {
    in_weight: Vec<f64>,
    out_weight: Vec<f64>,
    pub pin: Vec<f64>,
    pub pout: Vec<f64>,
}

impl SkeletonChart {
    pub fn new(wiring: &Wiring, tree: Tree) -> Self {
        let branches = Branches::of(wiring, &tree);
        Self {
            parts: parts(wiring, &tree, &branches),
            branches,
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
        let mut in_weight = vec![1.0; network.wiring.hidden() + 1];
        let mut out_weight = in_weight.clone();
        for (part, w) in self.parts.iter().zip(network.weights) {
            let entries = network.how.gather(w.clone(), &part.at);
            part.scatter(entries.into_iter(), &mut in_weight, &mut out_weight);
        }
        self.products_of(network.wiring, in_weight, out_weight)
    }

    fn products_of(
        &self,
        wiring: &Wiring,
        in_weight: Vec<f64>,
        out_weight: Vec<f64>,
    ) -> Result<Products, Error> {
        let products = Products {
            pin: values::in_products(&self.branches, &in_weight),
            pout: values::out_products(&self.branches, &out_weight),
            in_weight,
            out_weight,
        };
        for class in wiring.hidden_classes() {
            let b = class.index();
            check(
                wiring,
                self.tree.in_edge(class),
                products.in_weight[b],
                products.pin[b],
            )?;
            check(
                wiring,
                self.tree.out_edge(class),
                products.out_weight[b],
                products.pout[b],
            )?;
        }
        Ok(products)
    }

    pub fn survey<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Tensor<2>],
    ) -> Result<SkeletonSurvey<'a>, Error> {
        let wiring = network.wiring;
        let zero = vec![0.0; wiring.hidden() + 1];
        let (mut outgoing, mut in_gradient) = (zero.clone(), zero.clone());
        let (mut free, mut in_path_gradient) = (zero.clone(), zero);
        let mut in_weight = vec![1.0; wiring.hidden() + 1];
        let mut out_weight = in_weight.clone();
        for (slot, g) in gradients.iter().enumerate() {
            let part = &self.parts[slot];
            let (dots, entries) = network.tail_dots(slot, g.clone(), &part.at);
            for (tail, dot) in wiring.edges[slot].tails.iter().zip(dots) {
                if !dot.is_finite() {
                    return Err(network.not_finite(slot));
                }
                outgoing[tail.index()] += dot;
            }
            part.scatter(
                entries.iter().map(|[w, _]| *w),
                &mut in_weight,
                &mut out_weight,
            );
            part.scatter(entries.iter().map(|[_, g]| *g), &mut in_gradient, &mut free);
        }
        let products = self.products_of(wiring, in_weight, out_weight)?;
        free.iter_mut()
            .zip(&products.out_weight)
            .for_each(|(g, w)| *g *= w);
        let sums = gradient::sums(&self.branches, &outgoing, &free);

        let (mut tail, mut head) = (products.pin.clone(), products.pout.clone());
        if let Some(size) = &self.normalisation {
            tail.iter_mut().zip(&size.tail).for_each(|(t, s)| *t /= s);
            head.iter_mut().zip(&size.head).for_each(|(d, s)| *d /= s);
        }
        let mut in_value = vec![1.0; wiring.hidden() + 1];
        for b in 1..in_value.len() {
            let w = products.in_weight[b];
            in_value[b] = tail[self.branches.in_tail[b]] * w * head[b];
            if !self.branches.in_is_free[b] {
                in_path_gradient[b] = (in_gradient[b] * w - sums[b]) / in_value[b];
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

/// Whether a skeleton weight and the product that it ends are fit to divide by.
fn check(wiring: &Wiring, edge: Edge, weight: f64, product: f64) -> Result<(), Error> {
    if weight != 0.0 && product.is_normal() {
        return Ok(());
    }
    let name = wiring.edges[edge.edges].name.clone();
    Err(if weight == 0.0 {
        Error::ZeroSkeleton {
            name,
            tail: edge.tail,
            head: edge.head,
        }
    } else if weight.is_finite() {
        Error::OutOfRange { name }
    } else {
        Error::NonFiniteWeight { name }
    })
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
    /// rho of every class from the change of the In edges' path values.
    fn ratios(&self, change: &[f64]) -> Result<Ratios, Error> {
        let SkeletonChart {
            branches,
            floor,
            tree,
            ..
        } = self.chart;
        let mut r = vec![1.0; change.len()];
        for b in (1..r.len()).filter(|&b| !branches.in_is_free[b]) {
            r[b] = 1.0 + change[b] / self.in_value[b];
            if let Some(floor) = floor {
                let value = self.products.pin[b] * self.products.pout[b];
                r[b] = allocation::floored(r[b], value, floor.at_start[b], floor.tau);
            }
            if !r[b].is_finite() || r[b] == 0.0 {
                let edge = tree.ins[b - 1];
                return Err(Error::Singular {
                    name: self.network.wiring.edges[edge.edges].name.clone(),
                    tail: edge.tail,
                    head: edge.head,
                    value: r[b],
                });
            }
        }
        Ok(Ratios {
            rho: allocation::ratios(branches, &r),
            r,
        })
    }

    /// The skeleton weights after the step: In edges by their ratio, free edges as they are.
    fn skeleton_entries(&self, slot: usize, ratios: &Ratios) -> Entries {
        let part = &self.chart.parts[slot];
        let moved = part.moving().map(|(_, b)| {
            let rho = ratios.rho[self.chart.branches.in_tail[b]];
            self.products.in_weight[b] * ratios.r[b] / rho
        });
        let outs = part.class[part.ins..].iter();
        let free = outs.map(|&b| self.products.out_weight[b]);
        Entries {
            values: moved.chain(free).collect(),
            at: [&part.at[..part.moving], part.free()].concat(),
        }
    }

    /// The update with factors `tail(class) / rho` and `head(class)` of the other matrix.
    fn update(
        &self,
        slot: usize,
        ratios: &Ratios,
        tail: impl Fn(usize) -> f64,
        head: impl Fn(usize) -> f64,
    ) -> Result<Update, Error> {
        let rho = |class: Class| ratios.rho[class.index()];
        Ok(Update {
            of_weights: self.network.lines(slot, |c| 1.0 / rho(c), |_| 1.0)?,
            of_other: self.network.lines(
                slot,
                |c| tail(c.index()) / rho(c),
                |c| head(c.index()),
            )?,
            fixed: self.skeleton_entries(slot, ratios),
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
        self.chart.parts[slot].free()
    }

    fn gradient(&self, slot: usize, g: Tensor<2>) -> Result<Tensor<2>, Error> {
        let by = self.network.lines(
            slot,
            |c| 1.0 / self.tail[c.index()],
            |c| 1.0 / self.head[c.index()],
        )?;
        let part = &self.chart.parts[slot];
        let moving = part.moving().map(|(_, b)| self.in_path_gradient[b]);
        let free = part.free().iter().map(|_| 0.0);
        let entries = Entries {
            values: moving.chain(free).collect(),
            at: [&part.at[..part.moving], part.free()].concat(),
        };
        let g = self.network.how.scale(g, &by);
        Ok(self.network.how.put(g, &entries))
    }

    fn descend(&self, lr: &[f64]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.in_value.len()];
        for (part, &lr) in self.chart.parts.iter().zip(lr) {
            for (_, b) in part.moving() {
                change[b] = -lr * self.in_path_gradient[b];
            }
        }
        let ratios = self.ratios(&change)?;
        let update = |(slot, &lr): (usize, &f64)| {
            let tail = |b: usize| -lr / (self.tail[b] * self.tail[b]);
            let head = |b: usize| 1.0 / (self.head[b] * self.head[b]);
            self.update(slot, &ratios, tail, head)
        };
        lr.iter().enumerate().map(update).collect()
    }

    fn allocate(&self, moved: &[Tensor<2>]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.in_value.len()];
        for (part, moved) in self.chart.parts.iter().zip(moved) {
            let (at, classes): (Vec<usize>, Vec<usize>) = part.moving().unzip();
            let values = self.network.how.gather(moved.clone(), &at);
            for (b, value) in classes.into_iter().zip(values) {
                change[b] = value - self.in_value[b];
            }
        }
        let ratios = self.ratios(&change)?;
        let update = |slot| {
            let tail = |b: usize| 1.0 / self.tail[b];
            let head = |b: usize| 1.0 / self.head[b];
            self.update(slot, &ratios, tail, head)
        };
        (0..moved.len()).map(update).collect()
    }
}
