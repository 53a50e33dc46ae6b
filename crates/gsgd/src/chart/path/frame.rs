//! The chart's differential at one network and gradient, and the steps that it takes.

use super::allocation::{Allocation, Moved};
use super::chart::PathChart;
use super::entries::SkeletonEntries;
use super::order::Factors;
use super::{gradient, values};
use crate::chart::Frame;
use crate::error::Error;
use crate::kernels::{
    Entries, HeadSums, Matrix, RowColScale, ScaledSum, all, gather_products, read_all,
};
use crate::network::{Network, Update};
use crate::wiring::ScaleClass;

/// Basis path values and dL/dv around one network and gradient; lists by class, the ground first.
pub(crate) struct PathFrame<'a> {
    chart: &'a PathChart,
    network: Network<'a>,
    /// Weights by skeleton edge.
    skeleton: Vec<f64>,
    /// 1 / T and 1 / D: the coordinate of an edge is T(tail) w D(head).
    inverse: Factors,
    /// Inverses of the coordinates of the In edges and, of those that are free to move, dL/dv.
    per_value: Vec<f64>,
    in_gradients: Vec<f64>,
    beyond: BeyondGrounded,
}

/// Sums over edges into classes that are floating or sinks; empty where all are grounded.
#[derive(Default)]
struct BeyondGrounded {
    /// Sum of u over all edges into the class.
    incoming: Vec<f64>,
    /// Sums by head line, by parameter; none of those that lead to grounded classes alone.
    head_sums: Vec<Option<HeadSums>>,
}

impl<'a> PathFrame<'a> {
    /// The chart at this network and gradient.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite, a skeleton weight is zero, or a product leaves the range of f64.
    pub fn at(
        chart: &'a PathChart,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<Self, Error> {
        let order = &chart.order;
        let (skeleton, u) = skeleton(chart, network, gradients)?;
        let products = chart.fit_products(network.wiring, &skeleton)?;
        let mut inverse = values::inverse_factors(order, products);
        let outgoing = gradient::outgoing(network, gradients)?;
        let beyond = match order.all_grounded() {
            true => BeyondGrounded::default(),
            false => BeyondGrounded::sums(chart, network, gradients, &mut inverse)?,
        };
        let per_value = values::per_in_value(order, &inverse);
        Ok(Self {
            in_gradients: gradient::in_edges(order, &u, outgoing, &beyond.incoming, &per_value),
            chart,
            network,
            skeleton,
            inverse,
            per_value,
            beyond,
        })
    }

    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.per_value.len()
    }

    /// dL/dv of the In edge of a class.
    pub fn in_gradient(&self, class: ScaleClass) -> f64 {
        self.in_gradients[class.index()]
    }

    /// 1 / T and 1 / D: the coordinate of an edge is T(tail) w D(head).
    pub fn inverse(&self) -> &Factors {
        &self.inverse
    }

    /// A 0 per class; nothing where all are grounded.
    fn zeros_beyond_grounded(&self) -> Vec<f64> {
        vec![0.0; self.beyond.incoming.len()]
    }

    /// How far the gradient of coordinates on a sink's sphere is taken back along them; 0 elsewhere, nothing where all
    /// classes are grounded.
    fn along(&self) -> Vec<f64> {
        let mut along = self.zeros_beyond_grounded();
        for &b in &self.chart.order.sinks {
            along[b] = self.beyond.incoming[b] / self.chart.radius().powi(2);
        }
        along
    }

    /// |v - lr dL/dv|^2 of every sink, from its sums of squares and products.
    fn lengths(&self, lr: &[f64], along: &[f64]) -> Vec<f64> {
        let mut lengths = vec![0.0; along.len()];
        for ((param, sums), lr) in self.beyond.head_sums.iter().enumerate().zip(lr) {
            let Some(sums) = sums else { continue };
            let heads = &self.network.wiring.edges[param].heads;
            for (line, head) in heads.iter().enumerate() {
                let b = head.index();
                let (along, d) = (along[b], self.inverse.head[b]);
                let v_v = sums.squares[line] / (d * d);
                let v_g = sums.dots[line];
                let g_g = sums.gradient_squares[line] * (d * d);
                let slope = v_g - along * v_v;
                let size = g_g - 2.0 * along * v_g + along * along * v_v;
                lengths[b] += v_v - 2.0 * lr * slope + lr * lr * size;
            }
        }
        lengths
    }

    /// The way back to weights after `v' = v - lr dL/dv`, from weights and gradients, with an lr per parameter.
    ///
    /// # Errors
    /// The step ends in a pole.
    pub fn descend(&self, lr: &[f64]) -> Result<Allocation<'a>, Error> {
        let along = self.along();
        let lengths = self.lengths(lr, &along);
        let mut change = self.in_gradients.clone();
        for (entries, lr) in self.chart.entries.iter().zip(lr) {
            for classes in &entries.ins {
                change[classes.clone()].iter_mut().for_each(|g| *g *= -lr);
            }
        }
        self.allocation(Moved {
            change,
            lengths: &lengths,
            other: lr.iter().map(|lr| -lr).collect(),
            by: values::of_gradient(&self.inverse),
            along,
        })
    }

    /// The way back where the In edges that are free change by `change`, from weights and the change of path values, to
    /// which sinks' rows have these squared lengths.
    ///
    /// # Errors
    /// The step ends in a pole.
    pub fn after(&self, change: Vec<f64>, lengths: &[f64]) -> Result<Allocation<'a>, Error> {
        self.allocation(Moved {
            change,
            lengths,
            other: vec![1.0; self.chart.entries.len()],
            by: self.inverse.clone(),
            along: self.zeros_beyond_grounded(),
        })
    }

    fn allocation(&self, moved: Moved) -> Result<Allocation<'a>, Error> {
        let (wiring, skeleton) = (self.network.wiring, self.skeleton.clone());
        Allocation::new(self.chart, wiring, skeleton, &self.per_value, moved)
    }
}

/// Weights and u by skeleton edge.
fn skeleton(
    chart: &PathChart,
    network: Network,
    gradients: &[Matrix],
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let classes = chart.order.classes();
    let (mut weights, mut u) = (vec![1.0; 2 * classes], vec![0.0; 2 * classes]);
    let matrices = network.weights.iter().zip(gradients).zip(&chart.entries);
    let gathered = matrices.map(|((w, g), entries)| (w, g, entries.gathered()));
    gather_products(gathered, &mut weights, &mut u);
    if !all(&u, f64::is_finite) {
        let finite = |entries: &SkeletonEntries| {
            let mut edges = entries.gathered().to.iter();
            edges.all(|&at| u[at as usize].is_finite())
        };
        let param = chart.entries.iter().position(|entries| !finite(entries));
        return Err(network.not_finite(param.expect("it was gathered from one")));
    }
    Ok((weights, u))
}

impl BeyondGrounded {
    /// The sums of the parameters that lead to floating classes or sinks; they complete D of the sinks.
    fn sums(
        chart: &PathChart,
        network: Network,
        gradients: &[Matrix],
        inverse: &mut Factors,
    ) -> Result<Self, Error> {
        let mut incoming = vec![0.0; chart.order.classes()];
        let mut squares = incoming.clone();
        let mut head_sums = vec![None; gradients.len()];
        let leading = gradients.iter().enumerate().zip(&chart.entries);
        let leading = leading.filter(|(_, entries)| entries.beyond_grounded);
        let sums = leading.map(|((param, g), _)| {
            let tails = network.wiring.edges[param].tails.iter();
            let tails = tails.map(|c| 1.0 / inverse.tail[c.index()]);
            (
                param,
                network.head_sums(param, g, &tails.collect::<Vec<_>>()),
            )
        });
        for (param, sums) in read_all(sums) {
            if !sums.dots.iter().all(|dot| dot.is_finite()) {
                return Err(network.not_finite(param));
            }
            for (line, head) in network.wiring.edges[param].heads.iter().enumerate() {
                squares[head.index()] += sums.squares[line];
                incoming[head.index()] += sums.dots[line];
            }
            head_sums[param] = Some(sums);
        }
        for &b in &chart.order.sinks {
            inverse.head[b] = squares[b].sqrt() / chart.radius();
        }
        Ok(Self {
            incoming,
            head_sums,
        })
    }
}

impl Frame for PathFrame<'_> {
    fn values(&self, param: usize) -> Result<RowColScale<'_>, Error> {
        let Factors { tail, head } = &self.inverse;
        self.network
            .lines(param, |c| 1.0 / tail[c.index()], |c| 1.0 / head[c.index()])
    }

    fn held(&self, param: usize) -> Entries<'_> {
        let held = self.chart.entries[param].held.as_slice();
        Entries {
            at: held.into(),
            of: vec![0; held.len()].into(),
            values: vec![0.0].into(),
        }
    }

    fn pull_back(&self, param: usize, g: Matrix) -> Result<Matrix, Error> {
        let Factors { tail, head } = &self.inverse;
        let by = self.network.by_class(param, tail, head)?;
        let entries = &self.chart.entries[param];
        let mut values = vec![0.0; 2 * self.classes()];
        for class in &entries.free {
            values[class.index()] = self.in_gradients[class.index()];
        }
        let fixed = entries.entries(values);
        if !entries.beyond_grounded {
            return Ok(g.scale(&by).scatter(&fixed));
        }
        let along = self.along();
        let along = self.network.lines(
            param,
            |c| 1.0 / tail[c.index()],
            |c| -along[c.index()] / head[c.index()],
        )?;
        let by = ScaledSum {
            of_x: &by,
            of_y: &along,
            fixed: &fixed,
        };
        Ok(g.combine(&self.network.weights[param], &by).matrix)
    }

    fn push_forward(&self, moved: &[Matrix]) -> Result<Vec<Update<'static>>, Error> {
        let mut change = vec![0.0; self.classes()];
        let mut lengths = self.zeros_beyond_grounded();
        let (network, entries) = (self.network.at(moved), &self.chart.entries);
        let free = entries.iter().zip(moved);
        let free = free.map(|(entries, values)| (entries, values.gather(&entries.free_at)));
        for (entries, values) in read_all(free) {
            for (class, value) in entries.free.iter().zip(values) {
                change[class.index()] = value - 1.0 / self.per_value[class.index()];
            }
        }
        let beyond = (0..entries.len()).filter(|&param| entries[param].beyond_grounded);
        for (param, squares) in
            read_all(beyond.map(|param| (param, network.squares_by_head(param))))
        {
            for (head, square) in network.wiring.edges[param].heads.iter().zip(squares) {
                lengths[head.index()] += square;
            }
        }
        let allocation = self.after(change, &lengths)?;
        let updates = allocation.updates(self.network)?.into_iter();
        Ok(updates.map(Update::into_owned).collect())
    }
}
