//! Networks, each with its wiring beside its forward pass, and their files.

mod file;
mod mlp;

pub use file::{load, load_any, save, save_text};
pub use mlp::{Arch, Init, Mlp};
