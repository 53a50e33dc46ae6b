//! Scaling classes, and rescalings of weights.

use gsgd_core::matrix::{Dense, Matrix, Power};
use gsgd_core::rescale::{self, Balance, Equivalence, Norm, Scaling};
use gsgd_core::scales::ScaleGraph;
use gsgd_core::{Network, paths};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::refused;

/// The scaling classes of a graph, and its parameters as edges between them.
#[pyclass(frozen)]
pub struct Scales {
    pub(crate) inner: ScaleGraph,
}

type Bytes = Vec<PyBackedBytes>;

fn numbers(bytes: &[u8]) -> Vec<f64> {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|&eight| f64::from_le_bytes(eight)).collect()
}

impl Scales {
    fn matrices(&self, weights: &[PyBackedBytes]) -> PyResult<Vec<Dense<f64>>> {
        let edges = self.inner.edges();
        if weights.len() != edges.len() {
            let found = weights.len();
            return Err(refused(format!("{found} weights, not {}", edges.len())));
        }
        let matrices = edges.iter().zip(weights).map(|(edges, bytes)| {
            let values = numbers(bytes);
            if values.len() != edges.count() {
                return Err(refused(format!(
                    "`{}` has {} numbers, not {}",
                    edges.name(),
                    values.len(),
                    edges.count()
                )));
            }
            match values.iter().all(|value| value.is_finite()) {
                true => Ok(Dense::new(edges.dims(), values)),
                false => Err(refused(format!(
                    "`{}` holds values that are not finite",
                    edges.name()
                ))),
            }
        });
        matrices.collect()
    }

    fn with<T>(
        &self,
        weights: &[PyBackedBytes],
        of: impl FnOnce(Network<Dense<f64>>) -> Result<T, gsgd_core::Error>,
    ) -> PyResult<T> {
        let weights = &self.matrices(weights)?;
        let graph = &self.inner;
        of(Network { graph, weights }).map_err(refused)
    }

    fn scaling(&self, factors: &[f64]) -> PyResult<Scaling> {
        Scaling::new(&self.inner, factors).map_err(refused)
    }
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs.map(|(a, b)| (a.into(), b.into())).collect()
}

#[pymethods]
impl Scales {
    /// H, the number of hidden classes.
    #[getter]
    fn hidden(&self) -> usize {
        self.inner.hidden()
    }

    /// m, the number of weights.
    #[getter]
    fn weights(&self) -> usize {
        self.inner.weights()
    }

    /// The keys of the parameters that are edges, and their names, in the order in which weights are given.
    #[getter]
    fn edges(&self) -> Vec<(u64, String)> {
        let edges = self.inner.edges().iter();
        edges.map(|edges| (edges.key().0, edges.name().into())).collect()
    }

    /// The keys of the tensors that are scaled along.
    #[getter]
    fn co_scaled(&self) -> Vec<u64> {
        let tensors = self.inner.co_scaled().iter();
        tensors.map(|tensor| tensor.key().0).collect()
    }

    /// What no scaling goes through, and why.
    #[getter]
    fn grounded(&self) -> Vec<(String, String)> {
        pairs(self.inner.grounded())
    }

    /// Parameters that stay as they are, and why.
    #[getter]
    fn held(&self) -> Vec<(String, String)> {
        pairs(self.inner.held())
    }

    /// Parameters that nothing reads.
    #[getter]
    fn unused(&self) -> Vec<String> {
        self.inner.unused().map(String::from).collect()
    }

    /// The units, by the layer that first writes them.
    #[getter]
    fn units(&self) -> Vec<String> {
        let classes = self.inner.hidden_classes();
        classes.map(|class| self.inner.unit(class)).collect()
    }

    /// Factors 10^u, u uniform in [-decades, decades].
    fn random(&self, decades: f64, seed: u64) -> PyResult<Vec<f64>> {
        let scaling = Scaling::random(&self.inner, decades, seed).map_err(refused)?;
        Ok(scaling.factors().to_vec())
    }

    /// Factors 2^k, k uniform in -exponent..=exponent.
    fn powers_of_two(&self, exponent: u8, seed: u64) -> Vec<f64> {
        Scaling::powers_of_two(&self.inner, exponent, seed)
            .factors()
            .to_vec()
    }

    /// Factors that balance, sweeps, and what imbalance is left.
    fn balance(
        &self,
        weights: Bytes,
        target: &str,
        tolerance: f64,
        sweeps: usize,
    ) -> PyResult<(Vec<f64>, usize, f64)> {
        let norm = match target {
            "l2" => Norm::L2,
            "max-abs" => Norm::MaxAbs,
            _ => return Err(refused(format!("target `{target}`: \"l2\" or \"max-abs\""))),
        };
        let until = Balance {
            norm,
            tolerance,
            max_sweeps: sweeps,
        };
        let found = self.with(&weights, |network| rescale::balance(network, until))?;
        Ok((found.scaling.factors().to_vec(), found.sweeps, found.imbalance))
    }

    /// Factors to the canonical representative.
    fn canonical(&self, weights: Bytes) -> PyResult<Vec<f64>> {
        let scaling = self.with(&weights, |network| rescale::to_canonical(network))?;
        Ok(scaling.factors().to_vec())
    }

    /// Incoming over outgoing l2 norm of every unit; none where one side has nothing but zeros.
    fn imbalances(&self, weights: Bytes) -> PyResult<Vec<Option<f64>>> {
        self.with(&weights, |network| Ok(rescale::imbalances(network)))
    }

    /// The sum over all paths of the absolute value (p = 1) or the square (p = 2) of their products.
    fn path_norm(&self, weights: Bytes, p: u8) -> PyResult<f64> {
        let p = match p {
            1 => Power::One,
            2 => Power::Two,
            _ => return Err(refused(format!("p = {p}: 1 or 2"))),
        };
        self.with(&weights, |network| paths::path_norm(network, p))
    }

    /// The weights multiplied by the factors of their classes.
    fn rescaled<'py>(
        &self,
        py: Python<'py>,
        weights: Bytes,
        factors: Vec<f64>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let scaling = self.scaling(&factors)?;
        let scales = self.with(&weights, |network| scaling.of_weights(network))?;
        let matrices = self.matrices(&weights)?.into_iter().zip(&scales);
        let bytes = matrices.map(|(matrix, scale)| {
            let scaled = matrix.scale(scale);
            let bytes: Vec<u8> = scaled.entries().iter().flat_map(|x| x.to_le_bytes()).collect();
            PyBytes::new(py, &bytes)
        });
        Ok(bytes.collect())
    }

    /// What each number of every tensor that is scaled along is multiplied with.
    fn along(&self, factors: Vec<f64>) -> PyResult<Vec<Vec<f64>>> {
        let scaling = self.scaling(&factors)?;
        let tensors = self.inner.co_scaled().iter();
        Ok(tensors.map(|tensor| scaling.of_co_scaled(tensor)).collect())
    }

    /// Whether a scaling takes one network of this graph to another, and its factors; else the unit and the parameter in which
    /// they differ. And by how much.
    #[allow(clippy::type_complexity)]
    fn equivalent(
        &self,
        weights: [Bytes; 2],
        along: [Bytes; 2],
        other: &Scales,
        tolerance: f64,
    ) -> PyResult<(Option<Vec<f64>>, Option<(String, String)>, f64)> {
        let a = self.matrices(&weights[0])?;
        let b = other.matrices(&weights[1])?;
        let networks = [
            Network {
                graph: &self.inner,
                weights: &a,
            },
            Network {
                graph: &other.inner,
                weights: &b,
            },
        ];
        let along = along.map(|all| all.iter().map(|bytes| numbers(bytes)).collect());
        match rescale::equivalent(networks, along, tolerance).map_err(refused)? {
            Equivalence::Equivalent {
                scaling,
                difference,
            } => Ok((Some(scaling.factors().to_vec()), None, difference)),
            Equivalence::Different {
                unit,
                parameter,
                difference,
            } => Ok((None, Some((unit, parameter)), difference)),
        }
    }
}
