//! `gsgd-core` for Python: graphs of operations, their scaling classes, and what can be done with them.
//!
//! Numbers come and go as bytes of little-endian f64, so that the package needs nothing but torch.

mod graph;
mod scales;

use pyo3::prelude::*;

pyo3::create_exception!(gsgd, Error, pyo3::exceptions::PyValueError);

/// What the core says, as Python's exception.
fn refused(error: impl std::fmt::Display) -> PyErr {
    Error::new_err(error.to_string())
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<Error>())?;
    module.add_class::<graph::Graph>()?;
    module.add_class::<scales::Scales>()
}
