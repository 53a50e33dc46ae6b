//! The chart's differential at one network and gradient, and the steps that it takes.

use super::allocation::{Moved, allocate};
use super::chart::PathChart;
use super::{gradient, values};
use crate::chart::Frame;
use crate::chart::normed::NormedSums;
use crate::chart::sphere::moved_square;
use crate::chart::state::Factors;
use crate::error::Error;
use crate::matrix::{Entries, Matrix, RowColScale, ScaledSum, all, read_all};
use crate::network::{Network, Updates};

/// Basis path values and dL/dv around one network and gradient; lists by class, the ground first.
pub(crate) struct PathFrame<'a, M> {
    chart: &'a PathChart,
    network: Network<'a, M>,
    /// Weights by skeleton edge.
    skeleton: Vec<f64>,
    /// 1 / T and 1 / D: the coordinate of an edge is T(tail) w D(head).
    pub inverse: Factors,
    /// Inverses of the coordinates of the In edges.
    per_value: Vec<f64>,
    /// dL/dv of those that are free to move.
    pub in_gradients: Vec<f64>,
    normed: NormedSums,
}

impl<'a, M: Matrix> PathFrame<'a, M> {
    /// The chart at this network and gradient.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite, a skeleton weight is zero, or a product leaves the range of f64.
    pub fn at(
        chart: &'a PathChart,
        network: Network<'a, M>,
        gradients: &[M],
    ) -> Result<Self, Error> {
        let (order, sizes) = (&chart.order, &chart.start.sizes);
        let [skeleton, g] = chart.by_edge([(network.weights, 1.0), (gradients, 0.0)]);
        let u: Vec<f64> = skeleton.iter().zip(g).map(|(w, g)| w * g).collect();
        if !all(&u, f64::is_finite) {
            let finite = |&of: &u32| u[of as usize].is_finite();
            let mut lists = chart.entries.iter().map(|entries| entries.all.positions());
            let param = lists.position(|list| !list.iter().all(finite));
            return Err(network.not_finite(param.expect("it was gathered from one")));
        }
        let products = chart.fit_products(network.graph, &skeleton)?;
        let mut inverse = values::inverse_factors(order, sizes, products);
        let outgoing = gradient::outgoing(network, gradients)?;
        let normed = match order.all_reach_output() {
            true => NormedSums::default(),
            false => NormedSums::sums(chart, network, gradients, &mut inverse)?,
        };
        let per_value = values::per_in_value(order, sizes, &inverse);
        Ok(Self {
            in_gradients: gradient::in_edges(order, &u, outgoing, &normed.incoming, &per_value),
            chart,
            network,
            skeleton,
            inverse,
            per_value,
            normed,
        })
    }

    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.per_value.len()
    }

    /// A 0 per class; nothing where no class is behind or into batch norm.
    fn zeros_if_normed(&self) -> Vec<f64> {
        vec![0.0; self.normed.incoming.len()]
    }

    /// How far the gradient of coordinates on the sphere of a class into batch norm is taken back along them; 0 elsewhere.
    fn along(&self) -> Vec<f64> {
        let mut along = self.zeros_if_normed();
        for &b in &self.chart.order.into_norm {
            along[b] = self.normed.incoming[b] / self.chart.radius().powi(2);
        }
        along
    }

    /// |v - lr dL/dv|^2 of every class into batch norm, from its sums of squares and products.
    fn lengths(&self, lr: &[f64], along: &[f64]) -> Vec<f64> {
        let mut lengths = vec![0.0; along.len()];
        for ((param, sums), lr) in self.normed.head_sums.iter().enumerate().zip(lr) {
            let Some(sums) = sums else { continue };
            let heads = &self.network.graph.edges[param].heads;
            for (line, head) in heads.iter().enumerate() {
                let b = head.index();
                lengths[b] += moved_square(sums, line, self.inverse.head[b], along[b], *lr);
            }
        }
        lengths
    }

    /// New weights after `v' = v - lr dL/dv`, from weights and gradients, with an lr per parameter.
    ///
    /// # Errors
    /// The step ends in a pole, or factors leave the range of the weights' type.
    pub fn descend(&self, lr: &[f64]) -> Result<Updates<'a>, Error> {
        let along = self.along();
        let lengths = self.lengths(lr, &along);
        let mut change = self.in_gradients.clone();
        for (entries, lr) in self.chart.entries.iter().zip(lr) {
            entries.ins.iter().for_each(|&b| change[b] *= -lr);
        }
        self.allocate(Moved {
            change,
            lengths: &lengths,
            other: lr.iter().map(|lr| -lr).collect(),
            by: values::of_gradient(&self.inverse),
            along,
        })
    }

    /// New weights where the In edges that are free change by `change`, from weights and the change of path values; rows into
    /// batch norm come to these squared lengths.
    ///
    /// # Errors
    /// As [`descend`](Self::descend).
    pub fn after(&self, change: Vec<f64>, lengths: &[f64]) -> Result<Updates<'a>, Error> {
        self.allocate(Moved {
            change,
            lengths,
            other: vec![1.0; self.chart.entries.len()],
            by: self.inverse.clone(),
            along: self.zeros_if_normed(),
        })
    }

    fn allocate(&self, moved: Moved) -> Result<Updates<'a>, Error> {
        let skeleton = self.skeleton.clone();
        allocate(self.chart, self.network, skeleton, &self.per_value, moved)
    }
}

impl<M: Matrix> Frame<M> for PathFrame<'_, M> {
    fn values(&self, param: usize) -> Result<RowColScale, Error> {
        let Factors { tail, head } = &self.inverse;
        self.network
            .by_class(param, |c| 1.0 / tail[c.index()], |c| 1.0 / head[c.index()])
    }

    fn held(&self, param: usize) -> Entries<'_> {
        self.chart.entries[param].held.with(&[0.0])
    }

    fn pull_back(&self, param: usize, g: M) -> Result<M, Error> {
        let Factors { tail, head } = &self.inverse;
        let by = self
            .network
            .by_class(param, |c| tail[c.index()], |c| head[c.index()])?;
        let entries = &self.chart.entries[param];
        let mut values = vec![0.0; 2 * self.classes()];
        for class in &entries.free {
            values[class.index()] = self.in_gradients[class.index()];
        }
        let fixed = entries.all.with(&values);
        if !entries.has_normed_heads {
            return Ok(g.scale(&by).scatter(fixed));
        }
        let along = self.along();
        let along = self.network.by_class(
            param,
            |c| 1.0 / tail[c.index()],
            |c| -along[c.index()] / head[c.index()],
        )?;
        let by = ScaledSum {
            of_x: &by,
            of_y: &along,
            fixed,
        };
        Ok(g.combine(&self.network.weights[param], &by).matrix)
    }

    fn push_forward(&self, moved: &[M]) -> Result<Updates<'_>, Error> {
        let mut change = vec![0.0; self.classes()];
        let mut lengths = self.zeros_if_normed();
        let (network, entries) = (self.network.at(moved), &self.chart.entries);
        let free = entries.iter().zip(moved);
        let free = free.map(|(entries, values)| (entries, values.gather(&entries.free_at)));
        for (entries, values) in read_all(free) {
            for (class, value) in entries.free.iter().zip(values) {
                change[class.index()] = value - 1.0 / self.per_value[class.index()];
            }
        }
        let normed = (0..entries.len()).filter(|&param| entries[param].has_normed_heads);
        let squares = normed.map(|param| (param, network.squares_by_head(param)));
        for (param, squares) in read_all(squares) {
            for (head, square) in network.graph.edges[param].heads.iter().zip(squares) {
                lengths[head.index()] += square;
            }
        }
        self.after(change, &lengths)
    }
}
