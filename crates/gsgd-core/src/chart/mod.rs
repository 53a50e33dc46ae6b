//! Coordinates of the positively scale-invariant space: weights to path values, gradients, and back.
//!
//! Both charts write a coordinate as `v_e = T(tail) w_e D(head)` with one factor T and one factor D per class, so
//! that all work on weights is a scaling of rows and columns; what is special to a chart is O(H) numbers.
//!
//! - `path`: basis path values, as in the paper;
//! - `norm`: the second chart, without a skeleton;
//! - `config`: which chart, for a network at its start.

mod config;
pub(crate) mod norm;
mod normed;
pub(crate) mod path;
mod sphere;
mod state;

use crate::error::Error;
use crate::matrix::{Entries, Matrix, RowColScale};
use crate::network::{Network, Updates};
use norm::NormFrame;
use path::PathFrame;

pub use config::{ChartConfig, Coordinates};
pub use norm::NormChart;
pub use path::PathChart;
pub use state::{Factors, PathChartState};

/// A chart of the positively scale-invariant space.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// Basis path values.
    Path(Box<PathChart>),
    /// Norm coordinates.
    Norm(NormChart),
}

/// A chart around one network and gradient: coordinates, their gradient, and the way back to weights.
pub(crate) trait Frame<M: Matrix> {
    /// `(T(tail), D(head))` of a parameter: `v = w T D`.
    fn values(&self, param: usize) -> Result<RowColScale, Error>;

    /// A 0 for every entry that is held fixed; they have no coordinate.
    fn held(&self, param: usize) -> Entries<'_>;

    /// dL/dv of a parameter from dL/dw.
    fn pull_back(&self, param: usize, g: M) -> Result<M, Error>;

    /// The weights at new coordinates, from weights and the change of the coordinates.
    fn push_forward(&self, moved: &[M]) -> Result<Updates<'_>, Error>;
}

impl Chart {
    /// The chart at this network and gradient: weights and gradients are read once, and all that is per class is computed.
    ///
    /// # Errors
    /// A weight or gradient that is read is not finite, a skeleton weight is zero, or a product leaves its range.
    pub(crate) fn at<'a, M: Matrix>(
        &'a self,
        network: Network<'a, M>,
        gradients: &[M],
    ) -> Result<Box<dyn Frame<M> + 'a>, Error> {
        Ok(match self {
            Chart::Path(chart) => Box::new(PathFrame::at(chart, network, gradients)?),
            Chart::Norm(chart) => Box::new(NormFrame::at(chart, network, gradients)?),
        })
    }

    /// The weights after `v' = v - lr dL/dv` with an lr per parameter, in the memory of the gradients.
    ///
    /// # Errors
    /// A weight or gradient is not finite, the step ends in a pole, or numbers leave their range.
    pub(crate) fn descend<M: Matrix>(
        &self,
        network: Network<M>,
        gradients: Vec<M>,
        lr: &[f64],
    ) -> Result<Vec<M>, Error> {
        match self {
            Chart::Path(chart) => {
                let updates = PathFrame::at(chart, network, &gradients)?.descend(lr)?;
                network.updated(gradients, &updates)
            }
            Chart::Norm(chart) => {
                let updates = NormFrame::at(chart, network, &gradients)?.descend(lr)?;
                network.updated(gradients, &updates)
            }
        }
    }
}
