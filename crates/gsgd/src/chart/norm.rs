//! Norm coordinates: a second chart of the same space, without a skeleton and without poles.
//!
//! ```text
//! A(ground) = 1
//! A(b)      = sqrt(kappa(b) * sum over In-set edges into b of (A(tail) w_e)^2)
//! v_e       = A(tail) w_e / A(head)
//! dL/dv_e   = g_e A(head) / A(tail) - v_e kappa Q(head),   Q(b) = sum over In-set edges into b of g_e w_e
//! step      : v' = v + dv, every In-set row renormalised;  w' = v' A(head) / A(tail)
//! ```
//!
//! The In-set of a class are the edges of parameters all of whose tails are written before it. Each hidden class
//! puts its In-set on a sphere, so m coordinates and H constraints make m - H dimensions. kappa = 1/2 for classes that
//! weight layers write, because a ReLU passes half of its input's mean square; 1 for those of batch norms and for sinks.

use super::Frame;
use crate::error::Error;
use crate::kernels::{Entries, HeadSums, Matrix, Power, RowColScale, ScaledSum, read_all};
use crate::network::{Network, Update};
use crate::wiring::{Kind, ScaleClass, Wiring};

/// Norm coordinates; all they need follows from the wiring.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NormChart {
    /// Parameters in an order in which the tails of each are complete.
    order: Vec<usize>,
    /// Position of the latest tail of each parameter.
    latest_tail: Vec<i64>,
    /// By class.
    kappa: Vec<f64>,
}

impl NormChart {
    pub fn new(wiring: &Wiring) -> Self {
        let latest_tail: Vec<i64> = wiring
            .edges
            .iter()
            .map(|edges| {
                let positions = edges.tails.iter().map(|tail| wiring.ord_in[tail.index()]);
                positions.max().unwrap_or(-1)
            })
            .collect();
        let mut order: Vec<usize> = (0..wiring.edges.len()).collect();
        order.sort_by_key(|&param| latest_tail[param]);
        Self {
            order,
            latest_tail,
            kappa: wiring.classes().map(|class| kappa(wiring, class)).collect(),
        }
    }

    fn in_set(&self, wiring: &Wiring, param: usize, head: ScaleClass) -> bool {
        !head.is_ground() && self.latest_tail[param] < wiring.ord_in[head.index()]
    }

    /// A of every class.
    ///
    /// # Errors
    /// All weights into a unit are zero, or a product leaves the range of f64.
    pub fn norms(&self, network: Network) -> Result<Vec<f64>, Error> {
        self.sum_up(network, self.nothing(network.wiring))
    }

    /// A of every class, 1 where all weights into a unit are zero.
    pub fn norms_or_one(&self, network: Network) -> Result<Vec<f64>, Error> {
        let mut norms = self.nothing(network.wiring);
        norms.dead = Some(1.0);
        self.sum_up(network, norms)
    }

    /// A before anything is summed up.
    fn nothing<'a>(&'a self, wiring: &'a Wiring) -> Norms<'a> {
        let mut squares = vec![0.0; self.kappa.len()];
        squares[0] = 1.0;
        Norms {
            wiring,
            kappa: &self.kappa,
            squares,
            dead: None,
        }
    }

    fn sum_up(&self, network: Network, mut norms: Norms) -> Result<Vec<f64>, Error> {
        for &param in &self.order {
            let tails: Vec<f64> = norms.tails(param)?.iter().map(|a| a * a).collect();
            let squares = network.powers_by_head(param, &tails, Power::Two);
            self.count(&mut norms, param, &squares);
        }
        norms.finish()
    }

    fn count(&self, norms: &mut Norms, param: usize, squares: &[f64]) {
        for (&head, square) in norms.wiring.edges[param].heads.iter().zip(squares) {
            if self.in_set(norms.wiring, param, head) {
                norms.squares[head.index()] += square;
            }
        }
    }
}

fn kappa(wiring: &Wiring, class: ScaleClass) -> f64 {
    let mut writers = wiring.writers[class.index()].iter();
    let first = writers.find(|end| !wiring.edges[end.param].is_bias);
    let by_layer = first.is_some_and(|end| wiring.edges[end.param].shape.len() > 1);
    match by_layer && !class.is_ground() && wiring.kind(class) != Kind::Sink {
        true => 0.5,
        false => 1.0,
    }
}

/// A while it is being summed up.
struct Norms<'a> {
    wiring: &'a Wiring,
    kappa: &'a [f64],
    squares: Vec<f64>,
    /// A of a class without a weight that is not zero; an error where there is none.
    dead: Option<f64>,
}

impl Norms<'_> {
    fn of(&self, class: ScaleClass) -> Result<f64, Error> {
        let norm = (self.kappa[class.index()] * self.squares[class.index()]).sqrt();
        if norm.is_normal() {
            return Ok(norm);
        }
        if let (0.0, Some(value)) = (norm, self.dead) {
            return Ok(value);
        }
        let end = self.wiring.writers[class.index()][0];
        if norm == 0.0 {
            Err(Error::DeadUnit {
                unit: self.wiring.unit(class),
            })
        } else {
            Err(Error::OutOfRange {
                name: self.wiring.edges[end.param].name.clone(),
            })
        }
    }

    fn tails(&self, param: usize) -> Result<Vec<f64>, Error> {
        let tails = &self.wiring.edges[param].tails;
        tails.iter().map(|&tail| self.of(tail)).collect()
    }

    fn finish(self) -> Result<Vec<f64>, Error> {
        self.wiring.classes().map(|class| self.of(class)).collect()
    }
}

/// Norm coordinates around one network and gradient.
pub(crate) struct NormFrame<'a> {
    chart: &'a NormChart,
    network: Network<'a>,
    /// A, by class.
    norms: Vec<f64>,
    /// Q, by class.
    dots: Vec<f64>,
    /// Sums by head line, by parameter.
    sums: Vec<HeadSums>,
}

impl<'a> NormFrame<'a> {
    /// The chart at this network and gradient.
    ///
    /// # Errors
    /// A weight or gradient is not finite, all weights into a unit are zero, or a product leaves the range of f64.
    pub fn at(
        chart: &'a NormChart,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<Self, Error> {
        let wiring = network.wiring;
        let mut norms = chart.nothing(wiring);
        let mut dots = vec![0.0; wiring.hidden() + 1];
        let mut sums: Vec<Option<HeadSums>> = vec![None; wiring.edges.len()];
        for &param in &chart.order {
            let tails = norms.tails(param)?;
            let of = network.head_sums(param, &gradients[param], &tails).read();
            if !of.dots.iter().all(|dot| dot.is_finite()) {
                return Err(network.not_finite(param));
            }
            chart.count(&mut norms, param, &of.squares);
            for (&head, dot) in wiring.edges[param].heads.iter().zip(&of.dots) {
                if chart.in_set(wiring, param, head) {
                    dots[head.index()] += dot;
                }
            }
            sums[param] = Some(of);
        }
        Ok(Self {
            chart,
            network,
            norms: norms.finish()?,
            dots,
            sums: sums.into_iter().flatten().collect(),
        })
    }

    fn a(&self, class: ScaleClass) -> f64 {
        self.norms[class.index()]
    }

    /// How far the gradient is taken back along v: kappa Q.
    fn along(&self, class: ScaleClass) -> f64 {
        self.chart.kappa[class.index()] * self.dots[class.index()]
    }

    fn in_set(&self, param: usize, head: ScaleClass) -> bool {
        self.chart.in_set(self.network.wiring, param, head)
    }

    /// Adds up `of(param, line)` over the In-set lines of every class, and turns these sums of squares of moved
    /// coordinates into the factors that bring them back to their spheres.
    fn renormalisation(&self, of: impl Fn(usize, usize, ScaleClass) -> f64) -> Vec<f64> {
        let wiring = self.network.wiring;
        let mut squares = vec![0.0; wiring.hidden() + 1];
        for (param, edges) in wiring.edges.iter().enumerate() {
            for (line, &head) in edges.heads.iter().enumerate() {
                if self.in_set(param, head) {
                    squares[head.index()] += of(param, line, head);
                }
            }
        }
        let kappa = self.chart.kappa.iter();
        kappa
            .zip(squares)
            .map(|(kappa, square)| 1.0 / (kappa * square).sqrt())
            .collect()
    }
}

impl NormFrame<'_> {
    /// The weights after `v' = v - lr dL/dv`, from weights and gradients, with an lr per parameter.
    pub fn descend(&self, lr: &[f64]) -> Result<Vec<Update<'static>>, Error> {
        let wiring = self.network.wiring;
        // |v - lr dL/dv|^2 of a head line, from its sums of squares and products.
        let back = self.renormalisation(|param, line, head| {
            let (lr, sums, a) = (lr[param], &self.sums[param], self.a(head));
            let shift = self.along(head);
            let v_v = sums.squares[line] / (a * a);
            let v_g = sums.dots[line];
            let g_g = sums.gradient_squares[line] * (a * a);
            let along = v_g - shift * v_v;
            let size = g_g - 2.0 * shift * v_g + shift * shift * v_v;
            v_v - 2.0 * lr * along + lr * lr * size
        });
        (0..wiring.edges.len())
            .map(|param| {
                let lr = lr[param];
                let keep = |head: ScaleClass| match self.in_set(param, head) {
                    true => (1.0 + lr * self.along(head)) * back[head.index()],
                    false => 1.0,
                };
                let back = |head: ScaleClass| match self.in_set(param, head) {
                    true => back[head.index()],
                    false => 1.0,
                };
                Ok(Update {
                    of_weights: self.network.lines(param, |_| 1.0, keep)?,
                    of_other: self.network.lines(
                        param,
                        |c| -lr / (self.a(c) * self.a(c)),
                        |c| self.a(c) * self.a(c) * back(c),
                    )?,
                    fixed: Entries::default(),
                })
            })
            .collect()
    }
}

impl Frame for NormFrame<'_> {
    fn values(&self, param: usize) -> Result<RowColScale<'_>, Error> {
        self.network
            .lines(param, |c| self.a(c), |c| 1.0 / self.a(c))
    }

    fn held(&self, _: usize) -> Entries<'_> {
        Entries::default()
    }

    fn pull_back(&self, param: usize, g: Matrix) -> Result<Matrix, Error> {
        let of_gradient = self
            .network
            .lines(param, |c| 1.0 / self.a(c), |c| self.a(c))?;
        let projection = |head: ScaleClass| match self.in_set(param, head) {
            true => -self.along(head) / self.a(head),
            false => 0.0,
        };
        let of_weights = self.network.lines(param, |c| self.a(c), projection)?;
        let by = ScaledSum {
            of_x: &of_gradient,
            of_y: &of_weights,
            fixed: &Entries::default(),
        };
        Ok(g.combine(&self.network.weights[param], &by).matrix)
    }

    fn push_forward(&self, moved: &[Matrix]) -> Result<Vec<Update<'static>>, Error> {
        let values = self.network.at(moved);
        let squares = (0..moved.len()).map(|param| (param, values.squares_by_head(param)));
        let squares: Vec<Vec<f64>> = read_all(squares).map(|(_, squares)| squares).collect();
        let back = self.renormalisation(|param, line, _| squares[param][line]);
        (0..moved.len())
            .map(|param| {
                let back = |head: ScaleClass| match self.in_set(param, head) {
                    true => back[head.index()],
                    false => 1.0,
                };
                Ok(Update {
                    of_weights: self.network.lines(param, |_| 1.0, back)?,
                    of_other: self.network.lines(
                        param,
                        |c| 1.0 / self.a(c),
                        |c| self.a(c) * back(c),
                    )?,
                    fixed: Entries::default(),
                })
            })
            .collect()
    }
}
