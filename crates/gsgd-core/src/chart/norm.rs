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
//! weight layers write, because a ReLU passes half of its input's mean square; 1 for those of batch norms and for those into batch norm.

use super::Frame;
use super::sphere::moved_square;
use crate::error::Error;
use crate::matrix::{Entries, HeadSums, Matrix, Power, RowColScale, ScaledSum, read_all};
use crate::network::{Network, Updates};
use crate::scales::{Kind, ScaleClass, ScaleGraph};

/// Norm coordinates; all they need follows from the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct NormChart {
    /// Parameters in an order in which the tails of each are complete.
    order: Vec<usize>,
    /// Position of the latest tail of each parameter.
    latest_tail: Vec<i64>,
    /// By class.
    kappa: Vec<f64>,
}

impl NormChart {
    /// Of a graph.
    pub fn new(graph: &ScaleGraph) -> Self {
        let latest_tail: Vec<i64> = graph
            .edges
            .iter()
            .map(|edges| {
                let positions = edges.tails.iter().map(|tail| graph.ord_in[tail.index()]);
                positions.max().unwrap_or(-1)
            })
            .collect();
        let mut order: Vec<usize> = (0..graph.edges.len()).collect();
        order.sort_by_key(|&param| latest_tail[param]);
        Self {
            order,
            latest_tail,
            kappa: graph.classes().map(|class| kappa(graph, class)).collect(),
        }
    }

    fn in_set(&self, graph: &ScaleGraph, param: usize, head: ScaleClass) -> bool {
        !head.is_ground() && self.latest_tail[param] < graph.ord_in[head.index()]
    }

    /// A of every class.
    ///
    /// # Errors
    /// All weights into a unit are zero, or a product leaves the range of f64.
    pub(crate) fn norms<M: Matrix>(&self, network: Network<M>) -> Result<Vec<f64>, Error> {
        self.sum_up(network, self.nothing(network.graph))
    }

    /// A of every class, 1 where all weights into a unit are zero.
    pub(crate) fn norms_or_one<M: Matrix>(&self, network: Network<M>) -> Result<Vec<f64>, Error> {
        let mut norms = self.nothing(network.graph);
        norms.dead = Some(1.0);
        self.sum_up(network, norms)
    }

    /// A before anything is summed up.
    fn nothing<'a>(&'a self, graph: &'a ScaleGraph) -> Norms<'a> {
        let mut squares = vec![0.0; self.kappa.len()];
        squares[0] = 1.0;
        Norms {
            graph,
            kappa: &self.kappa,
            squares,
            dead: None,
        }
    }

    fn sum_up<M: Matrix>(&self, network: Network<M>, mut norms: Norms) -> Result<Vec<f64>, Error> {
        for &param in &self.order {
            let tails: Vec<f64> = norms.tails(param)?.iter().map(|a| a * a).collect();
            let squares = network.powers_by_head(param, &tails, Power::Two);
            self.count(&mut norms, param, &squares);
        }
        norms.finish()
    }

    fn count(&self, norms: &mut Norms, param: usize, squares: &[f64]) {
        for (&head, square) in norms.graph.edges[param].heads.iter().zip(squares) {
            if self.in_set(norms.graph, param, head) {
                norms.squares[head.index()] += square;
            }
        }
    }
}

fn kappa(graph: &ScaleGraph, class: ScaleClass) -> f64 {
    let mut writers = graph.writers[class.index()].iter();
    let first = writers.find(|end| !graph.edges[end.param].is_bias);
    let by_layer = first.is_some_and(|end| graph.edges[end.param].shape.len() > 1);
    match by_layer && !class.is_ground() && graph.kind(class) != Kind::IntoBatchNorm {
        true => 0.5,
        false => 1.0,
    }
}

/// A while it is being summed up.
struct Norms<'a> {
    graph: &'a ScaleGraph,
    kappa: &'a [f64],
    squares: Vec<f64>,
    /// A of a class without a weight that is not zero; an error where there is none.
    dead: Option<f64>,
}

impl Norms<'_> {
    fn norm(&self, class: ScaleClass) -> Result<f64, Error> {
        let norm = (self.kappa[class.index()] * self.squares[class.index()]).sqrt();
        if norm.is_normal() {
            return Ok(norm);
        }
        if let (0.0, Some(value)) = (norm, self.dead) {
            return Ok(value);
        }
        let end = self.graph.writers[class.index()][0];
        if norm == 0.0 {
            Err(Error::DeadUnit {
                unit: self.graph.unit(class),
            })
        } else {
            Err(Error::OutOfRange {
                name: self.graph.edges[end.param].name.clone(),
            })
        }
    }

    fn tails(&self, param: usize) -> Result<Vec<f64>, Error> {
        let tails = &self.graph.edges[param].tails;
        tails.iter().map(|&tail| self.norm(tail)).collect()
    }

    fn finish(self) -> Result<Vec<f64>, Error> {
        self.graph.classes().map(|class| self.norm(class)).collect()
    }
}

/// Norm coordinates around one network and gradient.
pub(crate) struct NormFrame<'a, M> {
    chart: &'a NormChart,
    network: Network<'a, M>,
    /// A, by class.
    norms: Vec<f64>,
    /// Q, by class.
    dots: Vec<f64>,
    /// Sums by head line, by parameter.
    sums: Vec<HeadSums>,
}

impl<'a, M: Matrix> NormFrame<'a, M> {
    /// The chart at this network and gradient.
    ///
    /// # Errors
    /// A weight or gradient is not finite, all weights into a unit are zero, or a product leaves the range of f64.
    pub fn at(
        chart: &'a NormChart,
        network: Network<'a, M>,
        gradients: &[M],
    ) -> Result<Self, Error> {
        let graph = network.graph;
        let mut norms = chart.nothing(graph);
        let mut dots = vec![0.0; graph.hidden() + 1];
        let mut sums: Vec<Option<HeadSums>> = vec![None; graph.edges.len()];
        for &param in &chart.order {
            let tails = norms.tails(param)?;
            let of = network.head_sums(param, &gradients[param], &tails).read();
            if !of.dots.iter().all(|dot| dot.is_finite()) {
                return Err(network.not_finite(param));
            }
            chart.count(&mut norms, param, &of.squares);
            for (&head, dot) in graph.edges[param].heads.iter().zip(&of.dots) {
                if chart.in_set(graph, param, head) {
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
        self.chart.in_set(self.network.graph, param, head)
    }

    /// Adds up `of(param, line)` over the In-set lines of every class, and turns these sums of squares of moved
    /// coordinates into the factors that bring them back to their spheres.
    fn renormalisation(&self, of: impl Fn(usize, usize, ScaleClass) -> f64) -> Vec<f64> {
        let graph = self.network.graph;
        let mut squares = vec![0.0; graph.hidden() + 1];
        for (param, edges) in graph.edges.iter().enumerate() {
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

    /// The weights after `v' = v - lr dL/dv`, from weights and gradients, with an lr per parameter.
    pub fn descend(&self, lr: &[f64]) -> Result<Updates<'a>, Error> {
        let graph = self.network.graph;
        let back = self.renormalisation(|param, line, head| {
            moved_square(
                &self.sums[param],
                line,
                self.a(head),
                self.along(head),
                lr[param],
            )
        });
        let scales = (0..graph.edges.len())
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
                Ok([
                    self.network.by_class(param, |_| 1.0, keep)?,
                    self.network.by_class(
                        param,
                        |c| -lr / (self.a(c) * self.a(c)),
                        |c| self.a(c) * self.a(c) * back(c),
                    )?,
                ])
            })
            .collect::<Result<_, Error>>()?;
        Ok(Updates::plain(scales))
    }
}

impl<M: Matrix> Frame<M> for NormFrame<'_, M> {
    fn values(&self, param: usize) -> Result<RowColScale, Error> {
        self.network
            .by_class(param, |c| self.a(c), |c| 1.0 / self.a(c))
    }

    fn held(&self, _: usize) -> Entries<'_> {
        Entries::default()
    }

    fn pull_back(&self, param: usize, g: M) -> Result<M, Error> {
        let of_gradient = self
            .network
            .by_class(param, |c| 1.0 / self.a(c), |c| self.a(c))?;
        let projection = |head: ScaleClass| match self.in_set(param, head) {
            true => -self.along(head) / self.a(head),
            false => 0.0,
        };
        let of_weights = self.network.by_class(param, |c| self.a(c), projection)?;
        let by = ScaledSum {
            of_x: &of_gradient,
            of_y: &of_weights,
            fixed: Entries::default(),
        };
        Ok(g.combine(&self.network.weights[param], &by).matrix)
    }

    fn push_forward(&self, moved: &[M]) -> Result<Updates<'_>, Error> {
        let values = self.network.at(moved);
        let squares = (0..moved.len()).map(|param| (param, values.squares_by_head(param)));
        let mut by_param = vec![Vec::new(); moved.len()];
        for (param, squares) in read_all(squares) {
            by_param[param] = squares;
        }
        let back = self.renormalisation(|param, line, _| by_param[param][line]);
        let scales = (0..moved.len())
            .map(|param| {
                let back = |head: ScaleClass| match self.in_set(param, head) {
                    true => back[head.index()],
                    false => 1.0,
                };
                Ok([
                    self.network.by_class(param, |_| 1.0, back)?,
                    self.network
                        .by_class(param, |c| 1.0 / self.a(c), |c| self.a(c) * back(c))?,
                ])
            })
            .collect::<Result<_, Error>>()?;
        Ok(Updates::plain(scales))
    }
}
