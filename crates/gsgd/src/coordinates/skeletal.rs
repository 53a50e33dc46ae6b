//! The paper's chart: values of basis paths.

use super::chart::{Network, Survey, Update};
use super::reading::Reading;
use super::unit::{Factors, Place, Unit};
use super::{allocation, gradient, values};
use crate::error::Error;
use crate::kernels::{Entries, HeadSums, Lines, Matrix, Power};
use crate::rescale;
use crate::skeleton::{Edge, Tree};
use crate::wiring::{Class, Edges, Kind, Wiring};

/// Values of basis paths as coordinates, normalised or plain, with or without the floor guard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkeletonChart {
    pub tree: Tree,
    /// tau of the floor guard.
    pub floor: Option<f64>,
    pub normalised: bool,
    pub places: Vec<Place>,
    out_order: Vec<usize>,
    parts: Vec<Part>,
    /// What is read of a gradient that keeps the conservation law, and of any.
    reading: Box<[Reading; 2]>,
}

/// What the skeleton has in one parameter: first In edges that move, then In edges that are free, then Out edges.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    at: Vec<usize>,
    class: Vec<usize>,
    moving: usize,
    ins: usize,
    /// Whether some of its edges lead to classes that are floating or sinks, which take sums by head.
    beyond_grounded: bool,
}

impl Part {
    /// In edges that have a coordinate, with their classes.
    fn moving(&self) -> impl Iterator<Item = (usize, usize)> {
        let classes = self.class.iter().copied();
        self.at.iter().copied().zip(classes).take(self.moving)
    }

    /// Free edges, which stay as they are. (One that is In and Out edge is listed twice.)
    fn free(&self) -> &[usize] {
        &self.at[self.moving..]
    }
}

fn parts(wiring: &Wiring, tree: &Tree) -> Vec<Part> {
    let mut lists = vec![[const { Vec::new() }; 3]; wiring.edges.len()];
    for class in wiring.hidden_classes() {
        let mut put = |edge: Option<Edge>, list: usize| {
            if let Some(edge) = edge {
                lists[edge.edges][list].push((wiring.flat(edge), class.index()));
            }
        };
        put(tree.in_edge(class), tree.in_is_free(wiring, class).into());
        put(tree.out_edge(class), 2);
    }
    let part = |(edges, lists): (&Edges, [Vec<(usize, usize)>; 3])| {
        let [moving, still, _] = lists.each_ref().map(Vec::len);
        let (at, class) = lists.concat().into_iter().unzip();
        let mut heads = edges.heads.iter();
        Part {
            at,
            class,
            moving,
            ins: moving + still,
            beyond_grounded: heads.any(|&class| wiring.kind(class) != Kind::Grounded),
        }
    };
    wiring.edges.iter().zip(lists).map(part).collect()
}

impl SkeletonChart {
    pub fn new(wiring: &Wiring, tree: Tree) -> Self {
        Self {
            places: Place::list(wiring, &tree),
            out_order: wiring.out_order(),
            parts: parts(wiring, &tree),
            reading: Box::new([Reading::least(wiring), Reading::outgoing(wiring)]),
            tree,
            floor: None,
            normalised: false,
        }
    }

    /// The guard with its reference taken at this network.
    pub fn with_floor(mut self, network: Network, tau: f64) -> Result<Self, Error> {
        let products = self.products(network)?;
        for (place, at) in self.places.iter_mut().zip(products) {
            place.at_start = (at.pin * at.pout).abs();
        }
        self.floor = Some(tau);
        Ok(self)
    }

    /// Normalised coordinates with their sizes taken at this network, balanced.
    pub fn with_normalisation(mut self, network: Network) -> Result<Self, Error> {
        let products = self.products(network)?;
        let scaling = rescale::balancing(network, rescale::Balance::default())?.scaling;
        for ((place, at), class) in self
            .places
            .iter_mut()
            .zip(products)
            .zip(network.wiring.classes())
        {
            place.size = Factors {
                tail: (at.pin * scaling.factor(class)).abs(),
                head: (at.pout / scaling.factor(class)).abs(),
            };
        }
        self.normalised = true;
        Ok(self)
    }

    /// The length of a sink's row of coordinates: that of a row of He weights in normalised coordinates.
    fn radius(&self) -> f64 {
        match self.normalised {
            true => std::f64::consts::SQRT_2,
            false => 1.0,
        }
    }

    /// The units with their skeleton weights and Pin and Pout.
    ///
    /// # Errors
    /// A skeleton weight is zero, or a product leaves the range of f64.
    pub fn products(&self, network: Network) -> Result<Vec<Unit>, Error> {
        let mut units = vec![Unit::UNKNOWN; self.places.len()];
        for (part, w) in self.parts.iter().zip(network.weights) {
            let entries = w.gather(&part.at);
            for (at, (&class, w)) in part.class.iter().zip(entries).enumerate() {
                match at < part.ins {
                    true => units[class].in_weight = w,
                    false => units[class].out_weight = w,
                }
            }
        }
        values::products(&self.places, &self.out_order, &mut units);
        self.check(network.wiring, &units)?;
        Ok(units)
    }

    /// Whether skeleton weights and the products that they end are fit to divide by.
    fn check(&self, wiring: &Wiring, units: &[Unit]) -> Result<(), Error> {
        let size = f64::MIN_POSITIVE..=f64::MAX;
        // a product is not normal either where a weight on its way is zero
        let fit = |product: f64| size.contains(&product.abs());
        for (unit, (&into, &out)) in units[1..]
            .iter()
            .zip(self.tree.ins.iter().zip(&self.tree.outs))
        {
            if !fit(unit.pin) {
                return Err(unfit(wiring, into, unit.in_weight));
            }
            if !fit(unit.pout) {
                return Err(unfit(wiring, out, unit.out_weight));
            }
        }
        Ok(())
    }

    pub fn survey<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<SkeletonSurvey<'a>, Error> {
        let wiring = network.wiring;
        let [least, any] = &*self.reading;
        let mut reading = least;
        let mut units = self.sums(reading, network, gradients)?;
        if !least.holds(network, gradients, &units) {
            reading = any;
            units = self.sums(reading, network, gradients)?;
        }
        values::products(&self.places, &self.out_order, &mut units);
        self.check(wiring, &units)?;

        let mut head_sums = vec![None; gradients.len()];
        for ((slot, g), part) in gradients.iter().enumerate().zip(&self.parts) {
            if part.beyond_grounded {
                let edges = &wiring.edges[slot];
                let tails = edges.tails.iter().map(|c| units[c.index()].factor.tail);
                let sums = network.head_sums(slot, g, &tails.collect::<Vec<_>>());
                if !sums.dots.iter().all(|dot| dot.is_finite()) {
                    return Err(network.not_finite(slot));
                }
                for (line, head) in edges.heads.iter().enumerate() {
                    units[head.index()].squares += sums.squares[line];
                    units[head.index()].incoming += sums.dots[line];
                }
                head_sums[slot] = Some(sums);
            }
        }
        values::in_values(&self.places, self.radius(), &mut units);
        gradient::in_edges(&self.places, &mut units);
        Ok(SkeletonSurvey {
            chart: self,
            network,
            units,
            head_sums,
            reading,
        })
    }

    /// The units with their sums of u, and weights and gradients of their skeleton edges.
    fn sums(
        &self,
        reading: &Reading,
        network: Network,
        gradients: &[Matrix],
    ) -> Result<Vec<Unit>, Error> {
        let mut units = vec![Unit::UNKNOWN; self.places.len()];
        for ((slot, g), part) in gradients.iter().enumerate().zip(&self.parts) {
            let entries = reading.sums(network, slot, g, &part.at, &mut units)?;
            let (ins, outs) = entries.split_at(part.ins);
            let classes = part.class.split_at(part.ins);
            for (&b, &[w, g]) in classes.0.iter().zip(ins) {
                (units[b].in_weight, units[b].in_gradient) = (w, g);
            }
            for (&b, &[w, g]) in classes.1.iter().zip(outs) {
                (units[b].out_weight, units[b].out_gradient) = (w, g);
            }
        }
        Ok(units)
    }
}

fn unfit(wiring: &Wiring, edge: Option<Edge>, weight: f64) -> Error {
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

/// Basis path values around one network and gradient.
pub(crate) struct SkeletonSurvey<'a> {
    chart: &'a SkeletonChart,
    network: Network<'a>,
    units: Vec<Unit>,
    /// Sums by head line of the parameters that lead to floating classes or sinks.
    head_sums: Vec<Option<HeadSums>>,
    reading: &'a Reading,
}

impl SkeletonSurvey<'_> {
    /// Parameters of which only single entries were read.
    pub fn unread(&self) -> Vec<usize> {
        let unread =
            |&slot: &usize| self.reading.leaves_out(slot) && self.head_sums[slot].is_none();
        (0..self.head_sums.len()).filter(unread).collect()
    }

    fn unit(&self, class: Class) -> &Unit {
        &self.units[class.index()]
    }

    /// Finds rho of every class, where In edges change by `change`.
    fn find_ratios(&mut self, change: impl Fn(usize, &Unit) -> f64) -> Result<(), Error> {
        let SkeletonChart {
            places,
            floor,
            tree,
            ..
        } = self.chart;
        let found = allocation::ratios(places, *floor, &mut self.units, change);
        found.map_err(|(b, value)| match tree.ins[b - 1] {
            Some(edge) => Error::Singular {
                name: self.network.wiring.edges[edge.edges].name.clone(),
                tail: edge.tail,
                head: edge.head,
                value,
            },
            None => unfit(self.network.wiring, None, value),
        })
    }

    /// The skeleton weights after the step: In edges by their ratio, free edges as they are.
    fn skeleton_entries(&self, slot: usize, factors: &[[Factors; 2]]) -> Entries {
        let part = &self.chart.parts[slot];
        let after = |(at, &b): (usize, &usize)| {
            let (place, unit) = (&self.chart.places[b], &self.units[b]);
            if at < part.moving {
                unit.in_weight * unit.rho * factors[place.in_tail][0].tail
            } else if at < part.ins {
                unit.in_weight
            } else {
                unit.out_weight
            }
        };
        Entries {
            values: part.class.iter().enumerate().map(after).collect(),
            at: part.at.clone(),
        }
    }

    /// How far the gradient of coordinates on a sink's sphere is taken back along them; 0 elsewhere.
    fn along(&self, class: Class) -> f64 {
        match self.chart.places[class.index()].kind {
            Kind::Sink => self.unit(class).incoming / self.chart.radius().powi(2),
            _ => 0.0,
        }
    }

    /// Finds the factors that bring rows back: of sinks, whose moved coordinates have the sums of squares `lengths`,
    /// and of floating classes.
    fn bring_back(&mut self, lengths: &[f64]) {
        if lengths.is_empty() {
            return;
        }
        let radius = self.chart.radius();
        for ((place, unit), length) in self.chart.places.iter().zip(&mut self.units).zip(lengths) {
            unit.back = match place.kind {
                Kind::Grounded => 1.0,
                Kind::Floating => unit.rho,
                Kind::Sink => radius / length.sqrt(),
            };
        }
    }

    /// |v - lr dL/dv|^2 of every sink, from its sums of squares and products; nothing where no class is one.
    fn lengths(&self, lr: &[f64]) -> Vec<f64> {
        if !self.chart.parts.iter().any(|part| part.beyond_grounded) {
            return Vec::new();
        }
        let mut lengths = vec![0.0; self.units.len()];
        for (slot, sums) in self.head_sums.iter().enumerate() {
            let Some(sums) = sums else { continue };
            let lr = lr[slot];
            for (line, &head) in self.network.wiring.edges[slot].heads.iter().enumerate() {
                let (along, d) = (self.along(head), self.unit(head).factor.head);
                let v_v = sums.squares[line] * d * d;
                let v_g = sums.dots[line];
                let g_g = sums.gradient_squares[line] / (d * d);
                let slope = v_g - along * v_v;
                let size = g_g - 2.0 * along * v_g + along * along * v_v;
                lengths[head.index()] += v_v - 2.0 * lr * slope + lr * lr * size;
            }
        }
        lengths
    }

    /// The factors of updates whose other matrix has `tail(unit) / rho` and `head(unit)`.
    fn factors(
        &self,
        tail: impl Fn(&Unit) -> f64,
        head: impl Fn(&Unit) -> f64,
    ) -> Vec<[Factors; 2]> {
        let factors = |unit: &Unit| {
            let keep = 1.0 / unit.rho;
            let of_weights = Factors {
                tail: keep,
                head: unit.back,
            };
            let of_other = Factors {
                tail: tail(unit) * keep,
                head: head(unit) * unit.back,
            };
            [of_weights, of_other]
        };
        self.units.iter().map(factors).collect()
    }

    /// The update by the factors of every class, of the other matrix times `other`; weights into sinks are multiplied
    /// with `keep(class)` besides.
    fn update(
        &self,
        slot: usize,
        factors: &[[Factors; 2]],
        other: f64,
        keep: impl Fn(Class) -> f64,
    ) -> Result<Update, Error> {
        let edges = &self.network.wiring.edges[slot];
        let of = |class: &Class| &factors[class.index()];
        let heads = match self.chart.parts[slot].beyond_grounded {
            true => edges
                .heads
                .iter()
                .map(|c| keep(*c) * of(c)[0].head)
                .collect(),
            false => vec![1.0; edges.heads.len()],
        };
        let tails = edges.tails.iter().map(|c| of(c)[0].tail).collect();
        let other_tails = edges.tails.iter().map(|c| other * of(c)[1].tail).collect();
        let other_heads = edges.heads.iter().map(|c| of(c)[1].head).collect();
        Ok(Update {
            of_weights: self.network.fit(slot, tails, heads)?,
            of_other: self.network.fit(slot, other_tails, other_heads)?,
            fixed: self.skeleton_entries(slot, factors),
        })
    }
}

/// What a step of moments needs of the coordinates; for networks whose classes are all grounded.
impl SkeletonSurvey<'_> {
    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.units.len()
    }

    /// The places of the In edges that have a coordinate in a parameter, with their classes.
    pub fn moving(&self, slot: usize) -> impl Iterator<Item = (usize, usize)> {
        self.chart.parts[slot].moving()
    }

    /// dL/dv of the In edge of a class.
    pub fn in_gradient(&self, class: usize) -> f64 {
        self.units[class].in_path_gradient
    }

    /// The factors that make dL/dv of dL/dw, but for In edges.
    pub fn gradient_lines(&self, slot: usize) -> Result<Lines, Error> {
        let factor = |class: Class| self.unit(class).factor;
        self.network
            .lines(slot, |c| 1.0 / factor(c).tail, |c| 1.0 / factor(c).head)
    }

    /// The weights where the In edge of every class changes by `change`, from weights and the change of path values.
    pub fn after(&mut self, change: &[f64]) -> Result<Vec<Update>, Error> {
        self.bring_back_after(change, &[])
    }

    fn bring_back_after(&mut self, change: &[f64], lengths: &[f64]) -> Result<Vec<Update>, Error> {
        self.find_ratios(|b, _| change[b])?;
        self.bring_back(lengths);
        let factors = self.factors(|unit| 1.0 / unit.factor.tail, |unit| 1.0 / unit.factor.head);
        let update = |slot| self.update(slot, &factors, 1.0, |_| 1.0);
        (0..self.network.weights.len()).map(update).collect()
    }
}

impl Survey for SkeletonSurvey<'_> {
    fn unread(&self) -> Vec<usize> {
        self.unread()
    }

    fn lines(&self, slot: usize) -> Result<Lines, Error> {
        let factor = |class: Class| self.unit(class).factor;
        self.network
            .lines(slot, |c| factor(c).tail, |c| factor(c).head)
    }

    fn fixed(&self, slot: usize) -> &[usize] {
        self.chart.parts[slot].free()
    }

    fn gradient(&self, slot: usize, g: Matrix) -> Result<Matrix, Error> {
        let by = self.gradient_lines(slot)?;
        let part = &self.chart.parts[slot];
        let moving = part.moving().map(|(_, b)| self.units[b].in_path_gradient);
        let free = part.free().iter().map(|_| 0.0);
        let entries = Entries {
            values: moving.chain(free).collect(),
            at: part.at.clone(),
        };
        if !part.beyond_grounded {
            return Ok(g.scale(&by).put(&entries));
        }
        let factor = |class: Class| self.unit(class).factor;
        let along = self.network.lines(
            slot,
            |c| factor(c).tail,
            |c| -factor(c).head * self.along(c),
        )?;
        let w = &self.network.weights[slot];
        Ok(g.combine(&by, w, &along, &entries).0)
    }

    fn descend(&mut self, lr: &[f64]) -> Result<Vec<Update>, Error> {
        let ins = &self.chart.tree.ins;
        self.find_ratios(|b, unit| match ins[b - 1] {
            Some(edge) => -lr[edge.edges] * unit.in_path_gradient,
            None => 0.0,
        })?;
        self.bring_back(&self.lengths(lr));
        let factors = self.factors(
            |unit| 1.0 / (unit.factor.tail * unit.factor.tail),
            |unit| 1.0 / (unit.factor.head * unit.factor.head),
        );
        let update = |(slot, &lr): (usize, &f64)| {
            self.update(slot, &factors, -lr, |class| 1.0 + lr * self.along(class))
        };
        lr.iter().enumerate().map(update).collect()
    }

    fn allocate(&mut self, values: &[Matrix]) -> Result<Vec<Update>, Error> {
        let mut change = vec![0.0; self.units.len()];
        let mut lengths = change.clone();
        let network = self.network.at(values);
        for (slot, part) in self.chart.parts.iter().enumerate() {
            let (at, classes): (Vec<usize>, Vec<usize>) = part.moving().unzip();
            let entries = values[slot].gather(&at);
            for (b, value) in classes.into_iter().zip(entries) {
                change[b] = value - self.units[b].in_value;
            }
            if part.beyond_grounded {
                let squares = network.powers_by_head(slot, &network.ones(slot), Power::Two);
                for (head, square) in network.wiring.edges[slot].heads.iter().zip(squares) {
                    lengths[head.index()] += square;
                }
            }
        }
        self.bring_back_after(&change, &lengths)
    }
}
