//! A network with its weight matrices, and the operations on one parameter by its lines.

use std::borrow::Cow;

use crate::error::Error;
use crate::kernels::{
    Entries, HeadSums, Matrix, Passed, Power, Readback, RowColScale, ScaledSum, Side, first_false,
};
use crate::wiring::{Layout, ScaleClass, Wiring};

/// A network at one point: its wiring and its weight matrices.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub wiring: &'a Wiring,
    pub weights: &'a [Matrix],
}

impl<'a> Network<'a> {
    /// The same wiring with other matrices.
    pub fn at(&self, weights: &'a [Matrix]) -> Self {
        Self { weights, ..*self }
    }

    /// Factors of one parameter's lines from factors per class, in the range of its floating point type.
    pub fn lines(
        &self,
        param: usize,
        tail: impl Fn(ScaleClass) -> f64,
        head: impl Fn(ScaleClass) -> f64,
    ) -> Result<RowColScale<'static>, Error> {
        let edges = &self.wiring.edges[param];
        let tails: Vec<f64> = edges.tails.iter().map(|&class| tail(class)).collect();
        let heads: Vec<f64> = edges.heads.iter().map(|&class| head(class)).collect();
        self.fit(param, tails, heads)
    }

    /// The same from a factor per tail line and a factor per head line.
    pub fn fit<'f>(
        &self,
        param: usize,
        tails: impl Into<Cow<'f, [f64]>>,
        heads: impl Into<Cow<'f, [f64]>>,
    ) -> Result<RowColScale<'f>, Error> {
        self.fitted(param, self.arranged(param, 1.0, tails, heads))
    }

    /// The same from a factor per class for edges out of it and one for edges into it.
    pub fn by_class<'f>(
        &self,
        param: usize,
        out: &'f [f64],
        into: &'f [f64],
    ) -> Result<RowColScale<'f>, Error> {
        let edges = &self.wiring.edges[param];
        self.fit(param, edges.by_tail(out), edges.by_head(into))
    }

    /// Factors of one parameter's lines brought into the range of its floating point type.
    pub fn fitted<'f>(
        &self,
        param: usize,
        lines: RowColScale<'f>,
    ) -> Result<RowColScale<'f>, Error> {
        let fit = lines.fit(self.weights[param].dtype());
        fit.ok_or_else(|| self.out_of_range(param))
    }

    /// A factor per tail line, one per head line and one for all of them, as they are.
    pub fn arranged<'f>(
        &self,
        param: usize,
        times: f64,
        tails: impl Into<Cow<'f, [f64]>>,
        heads: impl Into<Cow<'f, [f64]>>,
    ) -> RowColScale<'f> {
        let (tails, heads) = (tails.into(), heads.into());
        let (rows, columns) = match self.wiring.edges[param].layout.tails {
            Side::Rows => (tails, heads),
            Side::Columns => (heads, tails),
        };
        RowColScale {
            rows,
            columns,
            times,
        }
    }

    /// The first parameter among `params` that is not finite in these matrices.
    pub fn first_not_finite(
        matrices: &[Matrix],
        params: impl IntoIterator<Item = usize>,
    ) -> Option<usize> {
        let params = params.into_iter();
        first_false(params.map(|param| (param, matrices[param].is_finite())))
    }

    /// Refuses gradients of which one is not finite.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self, gradients: &[Matrix]) -> Result<(), Error> {
        match Self::first_not_finite(gradients, 0..gradients.len()) {
            Some(param) => Err(self.not_finite(param)),
            None => Ok(()),
        }
    }

    /// A factor of 1 per tail line.
    pub fn ones(&self, param: usize) -> Vec<f64> {
        vec![1.0; self.wiring.edges[param].tails.len()]
    }

    /// Sum of w g over the edges out of every tail line.
    pub fn dots_by_tail(&self, param: usize, g: &Matrix) -> Readback<Vec<f64>> {
        let Layout { tails, groups, .. } = self.wiring.edges[param].layout;
        self.weights[param].dots(g, tails, groups)
    }

    /// Squares and dot products by head line, with a factor per tail line.
    pub fn head_sums(&self, param: usize, g: &Matrix, tails: &[f64]) -> Readback<HeadSums> {
        let Layout {
            tails: side,
            groups,
            ..
        } = self.wiring.edges[param].layout;
        self.weights[param].head_sums(g, side.other(), groups, tails)
    }

    /// Sum of squares over the edges into every head line.
    pub fn squares_by_head(&self, param: usize) -> Readback<Vec<f64>> {
        let layout = self.wiring.edges[param].layout;
        let (heads, ones) = (layout.tails.other(), self.ones(param));
        self.weights[param].powers(heads, layout.groups, &ones, Power::Two)
    }

    /// Sum of factor |w|^p over the edges into every head line, with a factor per tail line.
    pub fn powers_by_head(&self, param: usize, tails: &[f64], p: Power) -> Vec<f64> {
        let Layout {
            tails: side,
            groups,
            ..
        } = self.wiring.edges[param].layout;
        self.weights[param]
            .powers(side.other(), groups, tails, p)
            .read()
    }

    /// Sum of factor |w|^p over the edges out of every tail line, with a factor per head line.
    pub fn powers_by_tail(&self, param: usize, heads: &[f64], p: Power) -> Vec<f64> {
        let Layout {
            tails: side,
            groups,
            ..
        } = self.wiring.edges[param].layout;
        self.weights[param].powers(side, groups, heads, p).read()
    }

    /// Largest factor |w| of the edges into every head line, with a factor per tail line.
    pub fn maxima_by_head(&self, param: usize, tails: &[f64]) -> Vec<f64> {
        let layout = self.wiring.edges[param].layout;
        self.weights[param]
            .maxima(layout.tails.other(), layout.groups, tails)
            .read()
    }

    /// Largest factor |w| of the edges out of every tail line, with a factor per head line.
    pub fn maxima_by_tail(&self, param: usize, heads: &[f64]) -> Vec<f64> {
        let layout = self.wiring.edges[param].layout;
        self.weights[param]
            .maxima(layout.tails, layout.groups, heads)
            .read()
    }

    /// New weights `a w + b g` by the update of every parameter, in the memory of the gradients, so that weights stay as
    /// they are.
    ///
    /// # Errors
    /// A weight or a gradient is not finite, or a sum overflows.
    pub fn updated<'u>(
        &self,
        gradients: Vec<Matrix>,
        updates: impl IntoIterator<Item = Update<'u>>,
    ) -> Result<Vec<Matrix>, Error> {
        let passes = gradients.into_iter().zip(updates).enumerate();
        let passes = passes.map(|(param, (g, update))| {
            let by = ScaledSum {
                of_x: &update.of_other,
                of_y: &update.of_weights,
                fixed: &update.fixed,
            };
            g.combine(&self.weights[param], &by)
        });
        let (mut moved, mut verdicts) = (Vec::new(), Vec::new());
        for (param, Passed { matrix, finite }) in passes.enumerate() {
            moved.push(matrix);
            verdicts.push((param, finite));
        }
        match first_false(verdicts) {
            Some(param) => Err(self.not_finite(param)),
            None => Ok(moved),
        }
    }

    /// Numbers of a parameter leave their range.
    pub fn out_of_range(&self, param: usize) -> Error {
        Error::OutOfRange {
            name: self.wiring.edges[param].name.clone(),
        }
    }

    /// Which of weight and gradient is not finite, once a step from them was found not to be; or that it overflows.
    pub fn not_finite_in_step(&self, param: usize, gradient: &Matrix) -> Error {
        match self.weights[param].is_finite().read() && gradient.is_finite().read() {
            true => self.out_of_range(param),
            false => self.not_finite(param),
        }
    }

    /// Which of weight and gradient is not finite, once a sum of products was found not to be.
    pub fn not_finite(&self, param: usize) -> Error {
        let name = self.wiring.edges[param].name.clone();
        if self.weights[param].is_finite().read() {
            Error::NonFiniteGradient { name }
        } else {
            Error::NonFiniteWeight { name }
        }
    }
}

/// New weights of one parameter: two scaled matrices added, then single entries set.
///
/// For a plain G-SGD step the second matrix is the gradient, otherwise the change of the path values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update<'a> {
    pub of_weights: RowColScale<'a>,
    pub of_other: RowColScale<'a>,
    pub fixed: Entries<'a>,
}

impl Update<'_> {
    /// The same with factors in memory of their own.
    pub fn into_owned(self) -> Update<'static> {
        Update {
            of_weights: self.of_weights.into_owned(),
            of_other: self.of_other.into_owned(),
            fixed: self.fixed.into_owned(),
        }
    }
}
