//! The scaling classes of ONNX files: `onnx_scales FILE.. [--input-shape NAME=1,3,224,224]`.

use gsgd_core::graph::Op;
use gsgd_net::onnx::{OnnxError, OnnxFile, ReadOptions};

fn main() {
    let mut options = ReadOptions::default();
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument != "--input-shape" {
            files.push(argument);
            continue;
        }
        let given = arguments.next().unwrap_or_default();
        if let Some((name, sizes)) = given.split_once('=') {
            let sizes = sizes.split(',').map(|size| size.parse::<usize>());
            let sizes = sizes.collect::<Result<Vec<_>, _>>().unwrap_or_default();
            options.input_shapes.insert(name.into(), sizes);
        }
    }
    for file in files {
        if let Err(error) = show(&file, &options) {
            println!("{file}: {error}");
        }
    }
}

fn show(file: &str, options: &ReadOptions) -> Result<(), OnnxError> {
    let network = OnnxFile::open(file)?.read(options)?;
    let scales = network.graph.scales(Default::default())?;
    println!(
        "{file}: H {} weights {} params {}",
        scales.hidden(),
        scales.weights(),
        network.params.len()
    );
    for (place, why) in scales.grounded() {
        println!("  grounded {place}: {why}");
    }
    for (name, why) in scales.held() {
        println!("  held {name}: {why}");
    }
    for node in network.graph.nodes() {
        if let Op::Opaque { kind, shape } = &node.op {
            println!("  opaque {kind} `{}` {shape:?}", node.name);
        }
    }
    for note in &network.notes {
        println!("  note {note}");
    }
    Ok(())
}
