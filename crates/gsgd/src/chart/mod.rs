//! Coordinates of the positively scale-invariant space: weights to path values, gradients, and back.
//!
//! Both charts write a coordinate as `v_e = T(tail) w_e D(head)` with one factor T and one factor D per class, so
//! that all work on weights is a scaling of rows and columns; what is special to a chart is O(H) numbers.
//!
//! - [`path`]: basis path values, as in the paper;
//! - [`norm`]: the second chart, without a skeleton.

pub(crate) mod norm;
pub(crate) mod path;

use crate::error::Error;
use crate::kernels::{Entries, Matrix, RowColScale};
use crate::network::{Network, Update};
use norm::NormFrame;
use path::PathFrame;

pub(crate) use norm::NormChart;
pub(crate) use path::PathChart;

/// The coordinates an optimiser works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// Values of basis paths, as in the paper.
    Plain,
    /// Values of basis paths over `S0(e) = |Pin(tail) Pout(head)|`, taken at the start in the balanced network:
    /// the first step's lr then means what it means to SGD on the balanced network.
    Normalised,
    /// Norm coordinates `v_e = A(tail) w_e / A(head)`: no skeleton and no poles.
    Norm,
}

/// A chart of the positively scale-invariant space.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Chart {
    Path(Box<PathChart>),
    Norm(NormChart),
}

/// A chart around one network and gradient: coordinates, their gradient, and the way back to weights.
pub(crate) trait Frame {
    /// `(T(tail), D(head))` of a parameter: `v = w T D`.
    fn values(&self, param: usize) -> Result<RowColScale<'_>, Error>;

    /// A 0 for every entry that is held fixed; they have no coordinate.
    fn held(&self, param: usize) -> Entries<'_>;

    /// dL/dv of a parameter from dL/dw.
    fn pull_back(&self, param: usize, g: Matrix) -> Result<Matrix, Error>;

    /// The weights at new coordinates, from weights and the change of the coordinates.
    fn push_forward(&self, moved: &[Matrix]) -> Result<Vec<Update<'static>>, Error>;
}

impl Chart {
    /// The chart at this network and gradient: weights and gradients are read once, and all that is per class is computed.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite, a skeleton weight is zero, or a product leaves its range.
    pub fn at<'a>(
        &'a self,
        network: Network<'a>,
        gradients: &[Matrix],
    ) -> Result<Box<dyn Frame + 'a>, Error> {
        Ok(match self {
            Chart::Path(chart) => Box::new(PathFrame::at(chart, network, gradients)?),
            Chart::Norm(chart) => Box::new(NormFrame::at(chart, network, gradients)?),
        })
    }

    /// The weights after `v' = v - lr dL/dv` with an lr per parameter, in the memory of the gradients.
    ///
    /// # Errors
    /// A weight or gradient is not finite, the step ends in a pole, or numbers leave their range.
    pub fn descend(
        &self,
        network: Network,
        gradients: Vec<Matrix>,
        lr: &[f64],
    ) -> Result<Vec<Matrix>, Error> {
        match self {
            Chart::Path(chart) => {
                let allocation = PathFrame::at(chart, network, &gradients)?.descend(lr)?;
                network.updated(gradients, allocation.updates(network)?)
            }
            Chart::Norm(chart) => {
                let updates = NormFrame::at(chart, network, &gradients)?.descend(lr)?;
                network.updated(gradients, updates)
            }
        }
    }
}
