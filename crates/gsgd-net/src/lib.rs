//! Networks from files as graphs of operations: read, rescaled, folded, written back.
//!
//! - [`arch`], [`architecture`]: networks that have a name;
//! - [`tensors`], `pickle`, `pytorch`, `layers`, [`known`], [`layout`]: files of tensors, and what says their layers;
//! - [`onnx`]: files that have the graph themselves;
//! - [`mod@file`], [`store`], `onnx_store`, `pairs`, [`fold`]: a network and its file, rescaled and with its batch norms folded;
//! - [`runtime`], `prepare`, [`outputs`]: what a network computes, by an ONNX runtime, whatever its file;
//! - [`number`], [`mod@write`]: numbers of every type, files that are written whole.

pub mod arch;
pub mod architecture;
pub mod file;
pub mod fold;
pub mod image;
pub mod known;
mod layers;
pub mod layout;
pub mod number;
pub mod onnx;
mod onnx_store;
pub mod outputs;
mod pairs;
mod pickle;
mod prepare;
mod pytorch;
pub mod runtime;
pub mod store;
pub mod tensors;
#[cfg(test)]
mod tests;
pub mod write;
