//! What an optimiser sees of a chart.

use burn::tensor::Tensor;

use super::{NormChart, SkeletonChart};
use crate::error::Error;
use crate::kernels::{Arithmetic, Lines};
use crate::wiring::{Class, Wiring};

/// A network at one point: its wiring and its weight matrices.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub wiring: &'a Wiring,
    pub weights: &'a [Tensor<2>],
    pub how: Arithmetic,
}

impl Network<'_> {
    /// Row and column factors of one parameter from factors per class, in the range of its floating point type.
    pub fn lines(
        &self,
        slot: usize,
        tail: impl Fn(Class) -> f64,
        head: impl Fn(Class) -> f64,
    ) -> Result<Lines, Error> {
        let edges = &self.wiring.edges[slot];
        let rows = edges.tails.iter().map(|&class| tail(class)).collect();
        let columns = edges.heads.iter().map(|&class| head(class)).collect();
        Lines::fit(rows, columns, self.weights[slot].dtype()).ok_or_else(|| Error::OutOfRange {
            name: edges.name.clone(),
        })
    }

    /// Which of weight and gradient is not finite, once a sum of products was found not to be.
    pub fn not_finite(&self, slot: usize) -> Error {
        let name = self.wiring.edges[slot].name.clone();
        let weights = self.weights[slot].to_data();
        if weights.iter::<f64>().all(f64::is_finite) {
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
pub(crate) struct Update {
    pub of_weights: Lines,
    pub of_other: Lines,
    pub at: Vec<usize>,
    pub values: Vec<f64>,
}

/// The coordinates around one network and gradient.
pub(crate) trait Survey {
    /// `(T(tail), D(head))` of a parameter: `v = w T D`.
    fn lines(&self, slot: usize) -> Result<Lines, Error>;

    /// Entries that are held fixed; they have no coordinate.
    fn fixed(&self, slot: usize) -> &[usize];

    /// dL/dv of a parameter from dL/dw.
    fn gradient(&self, slot: usize, g: Tensor<2>) -> Result<Tensor<2>, Error>;

    /// The weights after `v' = v - lr dL/dv`, from weights and gradients, with an lr per parameter.
    fn descend(&self, lr: &[f64]) -> Result<Vec<Update>, Error>;

    /// The weights at new path values, from weights and the change of the path values.
    fn allocate(&self, moved: &[Tensor<2>]) -> Result<Vec<Update>, Error>;
}

/// A chart of the positively scale-invariant space.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Chart {
    Skeleton(SkeletonChart),
    Norm(NormChart),
}

impl Chart {
    /// Reads weights and gradients once and computes all that is per class.
    pub fn survey<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Tensor<2>],
    ) -> Result<Box<dyn Survey + 'a>, Error> {
        Ok(match self {
            Chart::Skeleton(chart) => Box::new(chart.survey(network, gradients)?),
            Chart::Norm(chart) => Box::new(chart.survey(network, gradients)?),
        })
    }
}
