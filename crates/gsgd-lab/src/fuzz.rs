//! Random and mutated files through every reader: an error or a result, never a panic, never memory that a forged length
//! asks for.
//!
//! `GSGD_FUZZ=N` sets the inputs of every format (by default a few thousand).

use std::alloc::System;
use std::path::{Path, PathBuf};

use cap::Cap;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data;
use gsgd_net::file::{Hints, NetworkFile};
use gsgd_net::onnx::OnnxFile;
use gsgd_net::tensors::Tensors;

/// Allocating more ends the tests.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 1 << 30);

fn inputs_of_a_format() -> u64 {
    let asked = std::env::var("GSGD_FUZZ").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(3000)
}

/// Numbers at which lengths and offsets break.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// A file like `seed`, with some of its bytes changed.
fn mutated(seed: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..=6) {
        let at = rng.random_range(0..=bytes.len());
        // headers matter more than weights
        let at = if rng.random() {
            at.min(rng.random_range(0..=600))
        } else {
            at
        };
        match rng.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 => {
                let end = bytes.len().min(at + rng.random_range(0..40));
                bytes.drain(at..end);
            }
            3 => {
                let end = bytes.len().min(at + rng.random_range(0..40));
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let number = EDGES.choose(rng).unwrap().to_le_bytes();
                let width = *[1, 2, 4, 8].choose(rng).unwrap();
                bytes
                    .iter_mut()
                    .skip(at)
                    .zip(&number[..width])
                    .for_each(|(b, n)| *b = *n);
            }
            5 => {
                // a decimal digit, as in a JSON header
                bytes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|b| *b = rng.random_range(b'0'..=b'9'));
            }
            _ => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|b| *b ^= 1 << rng.random_range(0..8)),
        }
    }
    bytes
}

fn random(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let length = rng.random_range(0..200);
    (0..length).map(|_| rng.random()).collect()
}

/// Hands mutations of `seeds`, and some random bytes, to a reader; fails with the input's number where it panics.
fn fuzz(name: &str, seeds: &[Vec<u8>], read: impl Fn(&[u8])) {
    for number in 0..inputs_of_a_format() {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let input = match number % 20 {
            0 => random(&mut rng),
            _ => mutated(seeds.choose(&mut rng).unwrap(), &mut rng),
        };
        let read = std::panic::AssertUnwindSafe(|| read(&input));
        assert!(
            std::panic::catch_unwind(read).is_ok(),
            "{name}: input {number}"
        );
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/networks")
        .join(name)
}

fn seeds(extension: &str) -> Vec<Vec<u8>> {
    let names = ["mlp", "cnn", "residual"].map(|name| format!("{name}.{extension}"));
    names
        .iter()
        .map(|name| std::fs::read(file(name)).unwrap())
        .collect()
}

/// Everything that is read of a network before anything is computed.
fn open(tensors: anyhow::Result<Tensors>) {
    let Ok(tensors) = tensors else { return };
    let layers = ["cnn.toml", "residual.toml"].map(|name| file(name).display().to_string());
    for arch in [None, Some(layers[0].as_str()), Some(layers[1].as_str())] {
        if let Ok(network) = NetworkFile::from_tensors(tensors.clone(), arch) {
            let _ = network.scale_graph();
        }
    }
}

#[test]
fn safetensors() {
    fuzz("safetensors", &seeds("safetensors"), |bytes| {
        open(Tensors::of_safetensors(bytes.to_vec()));
    });
}

#[test]
fn onnx() {
    fuzz("onnx", &seeds("onnx"), |bytes| {
        if let Ok(file) = OnnxFile::from_bytes(bytes.to_vec(), ".")
            && let Ok(network) = NetworkFile::from_onnx(file, &Hints::default())
        {
            let _ = network.scale_graph();
        }
    });
}

#[test]
fn pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutated.pt");
    fuzz("pytorch", &seeds("pt"), |bytes| {
        std::fs::write(&path, bytes).unwrap();
        open(Tensors::open(&path, None));
    });
}

#[test]
fn toml() {
    let tensors = Tensors::open(&file("residual.safetensors"), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutated.toml");
    let seeds = ["cnn.toml", "residual.toml"].map(|name| std::fs::read(file(name)).unwrap());
    fuzz("toml", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let _ = NetworkFile::from_tensors(tensors.clone(), path.to_str());
    });
}

fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn read_data(folder: &Path) {
    let _ = data::Dataset::open(folder.to_str().unwrap());
}

#[test]
fn idx() {
    let images: Vec<u8> = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]
        .into_iter()
        .chain(0..12)
        .collect();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];
    let folder = folder_of(&[
        ("train-images-idx3-ubyte", &images),
        ("train-labels-idx1-ubyte", &labels),
        ("t10k-images-idx3-ubyte", &images),
        ("t10k-labels-idx1-ubyte", &labels),
    ]);
    for (name, seed) in [
        ("train-images-idx3-ubyte", images.clone()),
        ("t10k-labels-idx1-ubyte", labels.to_vec()),
    ] {
        let path = folder.path().join(name);
        fuzz("idx", std::slice::from_ref(&seed), |bytes| {
            std::fs::write(&path, bytes).unwrap();
            read_data(folder.path());
        });
        std::fs::write(&path, seed).unwrap();
    }
}

#[test]
fn cifar() {
    let records = vec![7u8; 2 * 3074];
    let folder = folder_of(&[("train.bin", &records), ("test.bin", &records)]);
    let path = folder.path().join("train.bin");
    fuzz("cifar", &[records], |bytes| {
        std::fs::write(&path, bytes).unwrap();
        read_data(folder.path());
    });
}
