//! Networks from files as graphs of operations: read, rescaled, folded, written back.
//!
//! - [`arch`], [`architecture`]: networks that have a name;
//! - [`tensors`], `pickle`, `layers`, `known`, `layout`: files of tensors, and what says their layers;
//! - [`number`], [`write`]: numbers of every type, files that are written whole.

pub mod arch;
pub mod architecture;
pub mod image;
pub mod known;
mod layers;
pub mod layout;
pub mod number;
mod pickle;
pub mod tensors;
pub mod write;
