//! A network with its weight matrices, and the operations on one parameter by its lines.

use crate::error::Error;
use crate::matrix::{
    Combined, Entries, EntryList, HeadSums, Matrix, Power, Readback, RowColScale, ScaledSum, Side,
    first_false,
};
use crate::scales::{ParamEdges, ScaleClass, ScaleGraph};

/// A network at one point: its scale graph, and the weight matrix of every parameter of [`ScaleGraph::edges`], in that
/// order.
///
/// A matrix has a row per [row line](ParamEdges::dims); the numbers of a parameter in row-major memory are its matrix.
#[derive(Debug)]
pub struct Network<'a, M> {
    /// The classes and edges.
    pub graph: &'a ScaleGraph,
    /// The weights.
    pub weights: &'a [M],
}

impl<M> Clone for Network<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Network<'_, M> {}

impl<'a, M: Matrix> Network<'a, M> {
    /// The same graph with other matrices.
    pub(crate) fn at(&self, weights: &'a [M]) -> Self {
        Self { weights, ..*self }
    }

    /// Factors of one parameter's lines from a factor per class for edges out of it and one for edges into it, in the range
    /// of its number type.
    pub(crate) fn by_class(
        &self,
        param: usize,
        tail: impl Fn(ScaleClass) -> f64,
        head: impl Fn(ScaleClass) -> f64,
    ) -> Result<RowColScale, Error> {
        let edges = &self.graph.edges[param];
        let tails = edges.tails.iter().map(|&class| tail(class)).collect();
        let heads = edges.heads.iter().map(|&class| head(class)).collect();
        self.by_line(param, tails, heads)
    }

    /// The same from a factor per tail line and a factor per head line.
    pub(crate) fn by_line(
        &self,
        param: usize,
        tails: Vec<f64>,
        heads: Vec<f64>,
    ) -> Result<RowColScale, Error> {
        let (rows, columns) = match self.graph.edges[param].layout.tails {
            Side::Rows => (tails, heads),
            Side::Columns => (heads, tails),
        };
        let fit = RowColScale { rows, columns }.fit(self.weights[param].precision());
        fit.ok_or_else(|| self.out_of_range(param))
    }

    /// The first parameter among `params` that is not finite in these matrices.
    pub(crate) fn first_not_finite(
        matrices: &[M],
        params: impl IntoIterator<Item = usize>,
    ) -> Option<usize> {
        let params = params.into_iter();
        first_false(params.map(|param| (param, matrices[param].is_finite())))
    }

    /// Refuses gradients of which one is not finite.
    ///
    /// # Errors
    /// The first of them.
    pub(crate) fn check(&self, gradients: &[M]) -> Result<(), Error> {
        match Self::first_not_finite(gradients, 0..gradients.len()) {
            Some(param) => Err(self.not_finite(param)),
            None => Ok(()),
        }
    }

    fn lines(&self, param: usize) -> (&'a ParamEdges, Side, usize) {
        let edges = &self.graph.edges[param];
        (edges, edges.layout.tails, edges.layout.groups)
    }

    /// Sum of w g over the edges out of every tail line.
    pub(crate) fn dots_by_tail(&self, param: usize, g: &M) -> Readback<Vec<f64>, M> {
        let (_, tails, groups) = self.lines(param);
        self.weights[param].dots(g, tails, groups)
    }

    /// Squares and dot products by head line, with a factor per tail line.
    pub(crate) fn head_sums(&self, param: usize, g: &M, tails: &[f64]) -> Readback<HeadSums, M> {
        let (_, side, groups) = self.lines(param);
        self.weights[param].head_sums(g, side.other(), groups, tails)
    }

    /// Sum of squares over the edges into every head line.
    pub(crate) fn squares_by_head(&self, param: usize) -> Readback<Vec<f64>, M> {
        let (edges, side, groups) = self.lines(param);
        let ones = vec![1.0; edges.tails.len()];
        self.weights[param].powers(side.other(), groups, &ones, Power::Two)
    }

    /// Sum of factor |w|^p over the edges into every head line, with a factor per tail line.
    pub(crate) fn powers_by_head(&self, param: usize, tails: &[f64], p: Power) -> Vec<f64> {
        let (_, side, groups) = self.lines(param);
        let powers = self.weights[param].powers(side.other(), groups, tails, p);
        powers.read()
    }

    /// Sum of factor |w|^p over the edges out of every tail line, with a factor per head line.
    pub(crate) fn powers_by_tail(&self, param: usize, heads: &[f64], p: Power) -> Vec<f64> {
        let (_, side, groups) = self.lines(param);
        self.weights[param].powers(side, groups, heads, p).read()
    }

    /// Largest factor |w| of the edges into every head line, with a factor per tail line.
    pub(crate) fn maxima_by_head(&self, param: usize, tails: &[f64]) -> Vec<f64> {
        let (_, side, groups) = self.lines(param);
        let maxima = self.weights[param].maxima(side.other(), groups, tails);
        maxima.read()
    }

    /// Largest factor |w| of the edges out of every tail line, with a factor per head line.
    pub(crate) fn maxima_by_tail(&self, param: usize, heads: &[f64]) -> Vec<f64> {
        let (_, side, groups) = self.lines(param);
        self.weights[param].maxima(side, groups, heads).read()
    }

    /// Whether each parameter can be multiplied by these factors per class without leaving the range of its type.
    pub(crate) fn scales(
        &self,
        tail: impl Fn(ScaleClass) -> f64,
        head: impl Fn(ScaleClass) -> f64,
    ) -> Result<Vec<RowColScale>, Error> {
        let params = self.weights.iter().enumerate();
        params
            .map(|(param, w)| {
                let scale = self.by_class(param, &tail, &head)?;
                match scale.products_fit(w.precision()) {
                    true => Ok(scale),
                    false => Err(self.out_of_range(param)),
                }
            })
            .collect()
    }

    /// New weights `a w + b g` by the update of every parameter, in the memory of the gradients, so that weights stay as
    /// they are.
    ///
    /// # Errors
    /// A weight or a gradient is not finite, or a sum overflows.
    pub(crate) fn updated(&self, gradients: Vec<M>, updates: &Updates) -> Result<Vec<M>, Error> {
        let sums = self.sums(gradients, updates);
        sums.map_err(|param| self.not_finite(param))
    }

    /// The sums of weights and the other matrices, in the memory of these; or the first parameter whose sum is not finite.
    pub(crate) fn sums(
        &self,
        others: impl IntoIterator<Item = M>,
        updates: &Updates,
    ) -> Result<Vec<M>, usize> {
        let (mut moved, mut verdicts) = (Vec::new(), Vec::new());
        for (param, other) in others.into_iter().enumerate() {
            let by = updates.sum(param);
            let Combined { matrix, finite } = other.combine(&self.weights[param], &by);
            moved.push(matrix);
            verdicts.push((param, finite));
        }
        match first_false(verdicts) {
            Some(param) => Err(param),
            None => Ok(moved),
        }
    }

    /// Numbers of a parameter leave their range.
    pub(crate) fn out_of_range(&self, param: usize) -> Error {
        Error::OutOfRange {
            name: self.graph.edges[param].name.clone(),
        }
    }

    /// Which of weight and gradient is not finite, once a step from them was found not to be; or that it overflows.
    pub(crate) fn not_finite_in_step(&self, param: usize, gradient: &M) -> Error {
        match self.weights[param].is_finite().read() && gradient.is_finite().read() {
            true => self.out_of_range(param),
            false => self.not_finite(param),
        }
    }

    /// Which of weight and gradient is not finite, once a sum of products was found not to be.
    pub(crate) fn not_finite(&self, param: usize) -> Error {
        let name = self.graph.edges[param].name.clone();
        if self.weights[param].is_finite().read() {
            Error::NonFiniteGradient { name }
        } else {
            Error::NonFiniteWeight { name }
        }
    }
}

/// New weights of every parameter: two scaled matrices added, then single entries set.
///
/// For a plain G-SGD step the second matrix is the gradient, otherwise the change of the path values.
#[derive(Debug)]
pub(crate) struct Updates<'a> {
    /// By parameter, factors of its weights and of the other matrix.
    pub scales: Vec<[RowColScale; 2]>,
    /// By parameter, the entries that are set; none at all where there is no skeleton.
    pub fixed: Vec<&'a EntryList>,
    /// Their values.
    pub values: Vec<f64>,
}

impl Updates<'_> {
    /// No entries set.
    pub fn plain(scales: Vec<[RowColScale; 2]>) -> Self {
        Self {
            scales,
            fixed: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The entries that are set in a parameter.
    pub fn fixed(&self, param: usize) -> Entries<'_> {
        let list = self.fixed.get(param);
        list.map_or(Entries::default(), |list| list.with(&self.values))
    }

    /// The sum of the other matrix, first, and the weights.
    pub fn sum(&self, param: usize) -> ScaledSum<'_> {
        let [of_weights, of_other] = &self.scales[param];
        ScaledSum {
            of_x: of_other,
            of_y: of_weights,
            fixed: self.fixed(param),
        }
    }
}
