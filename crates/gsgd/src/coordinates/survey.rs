//! Basis path values around one network and gradient.

use super::chart::{Survey, Update};
use super::places::Factors;
use super::point::Point;
use super::values;
use super::way::Way;
use crate::error::Error;
use crate::kernels::{Combine, Entries, HeadSums, Lines, Matrix, read};
use crate::wiring::Class;

/// Basis path values around one network and gradient; lists by class, the ground first.
#[derive(Clone)]
pub(crate) struct SkeletonSurvey<'a> {
    pub(super) point: Point<'a>,
    /// Sum of u over all edges into the class, of floating classes and sinks.
    pub(super) incoming: Vec<f64>,
    /// Inverses of the coordinates of the In edges and, of those that move, dL/dv.
    pub(super) per_value: Vec<f64>,
    pub(super) in_gradients: Vec<f64>,
    /// Sums by head line of the parameters that lead to floating classes or sinks.
    pub(super) head_sums: Vec<Option<HeadSums>>,
}

impl<'a> SkeletonSurvey<'a> {
    /// The number of classes, the ground among them.
    pub fn classes(&self) -> usize {
        self.per_value.len()
    }

    /// dL/dv of the In edge of a class.
    pub fn in_gradient(&self, class: Class) -> f64 {
        self.in_gradients[class.index()]
    }

    /// 1 / T and 1 / D: the coordinate of an edge is T(tail) w D(head).
    pub fn inverse(&self) -> &Factors {
        &self.point.inverse
    }

    /// A 0 per class; nothing where all are grounded.
    fn beyond_grounded(&self) -> Vec<f64> {
        match self.point.chart.places.all_grounded() {
            true => Vec::new(),
            false => vec![0.0; self.classes()],
        }
    }

    /// How far the gradient of coordinates on a sink's sphere is taken back along them; 0 elsewhere, nothing where all
    /// classes are grounded.
    fn along(&self) -> Vec<f64> {
        let mut along = self.beyond_grounded();
        for &b in &self.point.chart.places.sinks {
            along[b] = self.incoming[b] / self.point.chart.radius().powi(2);
        }
        along
    }

    /// |v - lr dL/dv|^2 of every sink, from its sums of squares and products.
    fn lengths(&self, lr: &[f64], along: &[f64]) -> Vec<f64> {
        let mut lengths = vec![0.0; along.len()];
        for ((slot, sums), lr) in self.head_sums.iter().enumerate().zip(lr) {
            let Some(sums) = sums else { continue };
            for (line, head) in self.point.network.wiring.edges[slot]
                .heads
                .iter()
                .enumerate()
            {
                let b = head.index();
                let (along, d) = (along[b], self.inverse().head()[b]);
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
    pub fn descent(self, lr: &[f64]) -> Result<Way<'a>, Error> {
        let along = self.along();
        let lengths = self.lengths(lr, &along);
        let other = lr.iter().map(|lr| -lr).collect();
        let mut change = self.in_gradients;
        for (part, lr) in self.point.chart.parts.iter().zip(lr) {
            for classes in &part.ins {
                change[classes.clone()].iter_mut().for_each(|g| *g *= -lr);
            }
        }
        let (origin, inverse) = self.point.origin(self.per_value);
        let by = values::of_gradient(inverse);
        Way::new(origin, change, &lengths, other, along, by)
    }

    /// The way back where the In edges that move change by `change`, from weights and the change of path values, to which
    /// sinks' rows have these squared lengths.
    ///
    /// # Errors
    /// The step ends in a pole.
    pub fn after(self, change: Vec<f64>, lengths: &[f64]) -> Result<Way<'a>, Error> {
        let other = vec![1.0; self.head_sums.len()];
        let along = self.beyond_grounded();
        let (origin, by) = self.point.origin(self.per_value);
        Way::new(origin, change, lengths, other, along, by)
    }
}

impl Survey for SkeletonSurvey<'_> {
    fn lines(&self, slot: usize) -> Result<Lines<'_>, Error> {
        let (tail, head) = self.inverse().tail_and_head();
        self.point
            .network
            .lines(slot, |c| 1.0 / tail[c.index()], |c| 1.0 / head[c.index()])
    }

    fn fixed(&self, slot: usize) -> Entries<'_> {
        let free = self.point.chart.parts[slot].free.as_slice();
        Entries {
            at: free.into(),
            of: vec![0; free.len()].into(),
            values: vec![0.0].into(),
        }
    }

    fn gradient(&self, slot: usize, g: Matrix) -> Result<Matrix, Error> {
        let by = self.point.network.by_class(slot, self.inverse())?;
        let part = &self.point.chart.parts[slot];
        let mut values = vec![0.0; 2 * self.classes()];
        for class in &part.moving {
            values[class.index()] = self.in_gradients[class.index()];
        }
        let entries = part.entries(values);
        if !part.beyond_grounded {
            return Ok(g.scale(&by).put(&entries));
        }
        let ((tail, head), along) = (self.inverse().tail_and_head(), self.along());
        let along = self.point.network.lines(
            slot,
            |c| 1.0 / tail[c.index()],
            |c| -along[c.index()] / head[c.index()],
        )?;
        let by = Combine {
            of_x: &by,
            of_y: &along,
            fixed: &entries,
        };
        let w = &self.point.network.weights[slot];
        Ok(g.combine(w, &by).matrix)
    }

    fn allocate(&self, values: &[Matrix]) -> Result<Vec<Update<'static>>, Error> {
        let mut change = vec![0.0; self.classes()];
        let mut lengths = self.beyond_grounded();
        let network = self.point.network.at(values);
        let parts = &self.point.chart.parts;
        let moving = parts.iter().zip(values);
        let moving = moving.map(|(part, values)| (part, values.gather(&part.moving_at)));
        for (part, moved) in read(moving) {
            for (class, value) in part.moving.iter().zip(moved) {
                change[class.index()] = value - 1.0 / self.per_value[class.index()];
            }
        }
        let beyond = (0..parts.len()).filter(|&slot| parts[slot].beyond_grounded);
        for (slot, squares) in read(beyond.map(|slot| (slot, network.squares_by_head(slot)))) {
            for (head, square) in network.wiring.edges[slot].heads.iter().zip(squares) {
                lengths[head.index()] += square;
            }
        }
        let way = self.clone().after(change, &lengths)?;
        let updates = way.updates()?.into_iter();
        Ok(updates.map(Update::into_owned).collect())
    }
}
