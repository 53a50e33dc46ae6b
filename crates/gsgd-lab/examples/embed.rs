//! Builds the embedded data file from the four IDX files of Fashion-MNIST.
//!
//! `cargo run --release -p gsgd-lab --example embed -- FOLDER`

use anyhow::Context;
use gsgd_lab::data;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .context("give the folder of the IDX files")?;
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fashion-mnist-7x7.gz");
    let packed = data::pack(&data::read_folder(folder.as_ref())?)?;
    std::fs::write(target, &packed).with_context(|| format!("cannot write {target}"))?;
    println!("{target}: {} bytes", packed.len());
    Ok(())
}
