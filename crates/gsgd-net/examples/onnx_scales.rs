//! The scaling classes of ONNX files: `onnx_scales FILE.. [--input-shape NAME=1,3,224,224]`.
//!
//! `--rescaled OUT` writes the last file with every class multiplied by a random power of two, which leaves its function as it
//! is; `--folded OUT` writes it without the batch norms that can be folded.

use std::collections::HashMap;

use gsgd_core::graph::Op;
use gsgd_core::scales::{ParamKey, ScaleGraph};
use gsgd_net::onnx::{OnnxError, OnnxFile, OnnxNetwork, ReadOptions};

fn main() {
    let mut options = ReadOptions::default();
    let mut files = Vec::new();
    let mut written = HashMap::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            files.push(argument);
            continue;
        }
        let given = arguments.next().unwrap_or_default();
        match (argument.as_str(), given.split_once('=')) {
            ("--input-shape", Some((name, sizes))) => {
                let sizes = sizes.split(',').map(|size| size.parse::<usize>());
                let sizes = sizes.collect::<Result<Vec<_>, _>>().unwrap_or_default();
                options.input_shapes.insert(name.into(), sizes);
            }
            _ => {
                written.insert(argument, given);
            }
        }
    }
    for file in files {
        let out = |way: &str| written.get(way).map(String::as_str);
        let done = show(&file, &options).and_then(|(read, network, scales)| {
            if let Some(out) = out("--rescaled") {
                rescaled(&read, &network, &scales)?.write(out)?;
            }
            match out("--folded") {
                Some(out) => folded(&read, &network)?.write(out),
                None => Ok(()),
            }
        });
        if let Err(error) = done {
            println!("{file}: {error}");
        }
    }
}

/// Every class multiplied by a random power of two.
fn rescaled(
    file: &OnnxFile,
    network: &OnnxNetwork,
    scales: &ScaleGraph,
) -> Result<OnnxFile, OnnxError> {
    let mut random = 88_172_645_463_325_252u64;
    let mut factors: Vec<f64> = scales
        .classes()
        .map(|_| {
            // xorshift (Marsaglia 2003)
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            f64::powi(2.0, (random % 5) as i32 - 2)
        })
        .collect();
    factors[0] = 1.0;
    let mut values: HashMap<ParamKey, Vec<f64>> = HashMap::new();
    for edges in scales.edges() {
        let mut array = file.values(network, edges.key())?;
        for (t, tail) in edges.tails().iter().enumerate() {
            for (h, head) in edges.heads().iter().enumerate() {
                if let Some(at) = edges.flat(t, h) {
                    array[at] *= factors[head.index()] / factors[tail.index()];
                }
            }
        }
        values.insert(edges.key(), array);
    }
    for tensor in scales.co_scaled() {
        let mut array = file.values(network, tensor.key())?;
        for (value, class) in array.iter_mut().zip(tensor.classes()) {
            *value *= factors[class.index()].powi(tensor.power());
        }
        values.insert(tensor.key(), array);
    }
    file.replaced(network, |key| values.get(&key).cloned())
}

/// Without the batch norms that can be folded.
fn folded(file: &OnnxFile, network: &OnnxNetwork) -> Result<OnnxFile, OnnxError> {
    let foldable = network.foldable();
    println!("  {} batch norms are folded", foldable.len());
    let values = |key| file.values(network, key).unwrap_or_default();
    let folds: Vec<_> = foldable.iter().map(|found| found.folded(values)).collect();
    file.rewritten(network, |_| None, &folds)
}

fn show(
    file: &str,
    options: &ReadOptions,
) -> Result<(OnnxFile, OnnxNetwork, ScaleGraph), OnnxError> {
    let read = OnnxFile::open(file)?;
    let network = read.read(options)?;
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
    Ok((read, network, scales))
}
