//! The positively scale-invariant space of a network: its steps, and the way there and back for any other optimiser.

use crate::chart::{Chart, Frame};
use crate::error::Error;
use crate::matrix::{Entries, Matrix, RowColScale, ScaledSum, read_all};
use crate::moments::Moments;
use crate::network::Network;
use crate::scales::{Kind, ScaleGraph};

/// A scale graph with a chart of its space: path values or norm coordinates.
///
/// Weights and gradients are lists of matrices in the order of [`ScaleGraph::edges`].
///
/// ```
/// use gsgd_core::chart::ChartConfig;
/// use gsgd_core::matrix::Dense;
/// use gsgd_core::graph::Graph;
/// use gsgd_core::{Network, PathSpace};
///
/// // y = w2 relu(w1 x), one number each
/// let mut network = Graph::new();
/// let x = network.input(&[1, 1])?;
/// let [w1, w2] = [network.param("w1", &[1, 1])?, network.param("w2", &[1, 1])?];
/// let y = network.dense(x, w1, None)?;
/// let y = network.relu(y)?;
/// let y = network.dense(y, w2, None)?;
/// network.output(y);
/// let graph = network.scales(Default::default())?;
///
/// let step = |w1: f64, w2: f64| -> Result<f64, gsgd_core::Error> {
///     let dense = |w| Dense::new([1, 1], vec![w]);
///     let weights = [dense(w1), dense(w2)];
///     let chart = ChartConfig::default().at(Network { graph: &graph, weights: &weights })?;
///     let space = PathSpace::new(graph.clone(), chart, None);
///     // the gradients of a loss y at x = 1
///     let moved = space.descend(&weights, vec![dense(w2), dense(w1)], &[0.1, 0.1])?;
///     Ok(moved[0].entries()[0] * moved[1].entries()[0])
/// };
/// println!("{} {}", step(1.0, 6.0)?, step(8.0, 0.75)?);
/// assert_eq!(step(1.0, 6.0)?, step(8.0, 0.75)?);
/// # Ok::<(), gsgd_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PathSpace {
    graph: ScaleGraph,
    chart: Chart,
    clip_norm: Option<f64>,
}

/// Coordinates and their gradients, a pair of matrices per parameter.
pub type Coordinated<M> = Vec<(M, M)>;

/// The way back from coordinates to weights.
pub struct Lifted<'a, M: Matrix> {
    frame: Box<dyn Frame<M> + 'a>,
    network: Network<'a, M>,
    /// Of every coordinate, its factors.
    values: Vec<RowColScale>,
}

impl PathSpace {
    /// The space of a graph in a chart, and the largest l2 norm, > 0, of the gradients of all coordinates for [`clip`](Self::clip).
    pub fn new(graph: ScaleGraph, chart: Chart, clip_norm: Option<f64>) -> Self {
        Self {
            graph,
            chart,
            clip_norm,
        }
    }

    /// The classes and edges.
    pub fn graph(&self) -> &ScaleGraph {
        &self.graph
    }

    /// The coordinates.
    pub fn chart(&self) -> &Chart {
        &self.chart
    }

    /// Whether [`advance`](Self::advance) can be used: coordinates are path values, and no class is behind or into a batch
    /// norm. Otherwise the way back to weights takes sums of all moved coordinates, and the rule is one to be
    /// [lifted](Self::lift).
    pub fn advances(&self) -> bool {
        let mut classes = self.graph.classes();
        let plain = classes.all(|class| self.graph.kind(class) == Kind::ReachesOutput);
        let normed = self.graph.edges.iter().any(|edges| edges.before_norm);
        matches!(self.chart, Chart::Path(_)) && plain && !normed
    }

    fn network<'a, M>(&'a self, weights: &'a [M]) -> Network<'a, M> {
        Network {
            graph: &self.graph,
            weights,
        }
    }

    /// G-SGD, `v' = v - lr dL/dv` with an lr per parameter (Meng et al. 2019, Algorithm 1): the new weights, in the memory
    /// of the gradients.
    ///
    /// # Errors
    /// A weight or gradient is not finite, a skeleton weight is zero, the step ends in a pole, or numbers leave their range.
    ///
    /// # Panics
    /// If a list has not an entry for each parameter.
    pub fn descend<M: Matrix>(
        &self,
        weights: &[M],
        gradients: Vec<M>,
        lr: &[f64],
    ) -> Result<Vec<M>, Error> {
        self.count([weights.len(), gradients.len(), lr.len()]);
        let gradients = self.of_normed_layers(weights, gradients)?;
        self.chart.descend(self.network(weights), gradients, lr)
    }

    /// A step of moments on path values, as [`descend`](Self::descend).
    ///
    /// # Errors
    /// As there, also for a moment that is not finite. Moments are as they were then.
    ///
    /// # Panics
    /// If the space does not [advance](Self::advances), a list has not an entry for each parameter, or the moments are those
    /// of another rule or network.
    pub fn advance<M: Matrix>(
        &self,
        moments: &mut Moments<M>,
        weights: &[M],
        gradients: Vec<M>,
        lr: &[f64],
    ) -> Result<Vec<M>, Error> {
        assert!(self.advances(), "this rule is to be lifted: see `advances`");
        let Chart::Path(chart) = &self.chart else {
            unreachable!("norm coordinates do not advance");
        };
        self.count([weights.len(), gradients.len(), lr.len()]);
        moments.step(chart, self.network(weights), gradients, lr)
    }

    /// Coordinates and their gradients, and the way back. Entries of skeleton weights that are held fixed are 0 in both:
    /// they have no basis path.
    ///
    /// # Errors
    /// As [`descend`](Self::descend), but for the pole.
    ///
    /// # Panics
    /// As there.
    pub fn lift<'a, M: Matrix>(
        &'a self,
        weights: &'a [M],
        gradients: Vec<M>,
    ) -> Result<(Coordinated<M>, Lifted<'a, M>), Error> {
        self.count([weights.len(), gradients.len()]);
        let gradients = self.of_normed_layers(weights, gradients)?;
        let network = self.network(weights);
        network.check(&gradients)?;
        let frame = self.chart.at(network, &gradients)?;
        let values = (0..weights.len()).map(|param| frame.values(param));
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        let mut pairs = Vec::with_capacity(weights.len());
        for (param, (w, g)) in weights.iter().zip(gradients).enumerate() {
            let v = w.clone().scale(&values[param]);
            let v = v.scatter(frame.held(param));
            pairs.push((v, frame.pull_back(param, g)?));
        }
        let lifted = Lifted {
            frame,
            network,
            values,
        };
        Ok((pairs, lifted))
    }

    fn count<const N: usize>(&self, lengths: [usize; N]) {
        let params = self.graph.edges.len();
        let complete = lengths.iter().all(|&length| length == params);
        assert!(complete, "lists of {lengths:?} for {params} parameters");
    }

    /// Gradients as the inverse chain rule takes them: multiplied by the norm of each unit's incoming weights where a
    /// batch norm in the paper's treatment follows (Meng et al. 2019, section 5.1).
    fn of_normed_layers<M: Matrix>(
        &self,
        weights: &[M],
        gradients: Vec<M>,
    ) -> Result<Vec<M>, Error> {
        let edges = &self.graph.edges;
        if !edges.iter().any(|edges| edges.before_norm) {
            return Ok(gradients);
        }
        let network = self.network(weights);
        let normed = (0..weights.len()).filter(|&param| edges[param].before_norm);
        let squares = normed.map(|param| (param, network.squares_by_head(param)));
        let mut gradients: Vec<Option<M>> = gradients.into_iter().map(Some).collect();
        for (param, squares) in read_all(squares) {
            let norms: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
            let by = network.by_line(param, vec![1.0; edges[param].tails.len()], norms)?;
            gradients[param] = gradients[param].take().map(|g| g.scale(&by));
        }
        Ok(gradients.into_iter().flatten().collect())
    }

    /// Scales gradients of coordinates down to the clip norm, if there is one.
    pub fn clip<M: Matrix>(&self, pairs: &mut Coordinated<M>) {
        let Some(largest) = self.clip_norm else {
            return;
        };
        let gradients: Vec<M> = pairs.iter().map(|(_, g)| g.clone()).collect();
        let network = self.network(&gradients);
        let squares = (0..gradients.len()).map(|param| (param, network.squares_by_head(param)));
        let squares = read_all(squares).flat_map(|(_, squares)| squares);
        let norm = squares.sum::<f64>().sqrt();
        drop(gradients);
        if norm <= largest {
            return;
        }
        let clipped = std::mem::take(pairs).into_iter().zip(&self.graph.edges);
        *pairs = clipped
            .map(|((v, g), edges)| {
                let [rows, columns] = edges.dims();
                let by = RowColScale {
                    rows: vec![largest / norm; rows],
                    columns: vec![1.0; columns],
                };
                (v, g.scale(&by))
            })
            .collect();
    }
}

impl<M: Matrix> Lifted<'_, M> {
    /// The weights at new coordinates, in their memory.
    ///
    /// # Errors
    /// A coordinate is not finite, the step ends in a pole, or numbers leave their range.
    ///
    /// # Panics
    /// If there is not a matrix for each parameter.
    pub fn lower(self, moved: Vec<M>) -> Result<Vec<M>, Error> {
        let Self {
            frame,
            network,
            values,
        } = self;
        assert_eq!(moved.len(), values.len(), "a matrix for each parameter");
        let updates = frame.push_forward(&moved)?;
        let pairs = moved.into_iter().zip(network.weights).zip(&values);
        let changes = pairs.map(|((moved, w), values)| change(moved, w, values));
        let sums = network.sums(changes, &updates);
        // gradients are known to be finite here
        sums.map_err(|param| match network.weights[param].is_finite().read() {
            true => network.out_of_range(param),
            false => network.not_finite(param),
        })
    }
}

/// `v' - v`, with `v = (w * rows) * columns`.
fn change<M: Matrix>(moved: M, w: &M, values: &RowColScale) -> M {
    let minus = RowColScale {
        rows: values.rows.iter().map(|row| -row).collect(),
        columns: values.columns.clone(),
    };
    let one = RowColScale {
        rows: vec![1.0; values.rows.len()],
        columns: vec![1.0; values.columns.len()],
    };
    let by = ScaledSum {
        of_x: &one,
        of_y: &minus,
        fixed: Entries::default(),
    };
    moved.combine(w, &by).matrix
}
