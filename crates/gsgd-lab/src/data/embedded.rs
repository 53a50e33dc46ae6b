//! Fashion-MNIST in 7 x 7 pixels, inside the program.
//!
//! Every pixel is the sum of a 4 x 4 block of the original, 0 to 4080. Images and labels: Fashion-MNIST, Zalando SE,
//! MIT licence. Made by `cargo run --release -p gsgd-lab --example embed -- FOLDER`.

use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::{DataError, Dataset, ImageShape, Split};

const FILE: &[u8] = include_bytes!("../../data/fashion-mnist-7x7.gz");
const NAME: &str = "fashion-7x7";
const SIDE: usize = 7;
const BLOCK: usize = 4;

/// The embedded set: 60,000 training and 10,000 test images of 49 pixels in 10 classes.
///
/// # Errors
/// The program file is damaged (the embedded data carry a CRC-32).
pub fn fashion_mnist_7x7() -> Result<Dataset, DataError> {
    unpack(FILE)
}

fn unpack(file: &[u8]) -> Result<Dataset, DataError> {
    let damaged = |reason: String| DataError::Format {
        path: NAME.into(),
        reason,
    };
    let mut data = Vec::new();
    GzDecoder::new(file)
        .read_to_end(&mut data)
        .map_err(|e| damaged(e.to_string()))?;
    let features = SIDE * SIDE;
    let images = data.len().saturating_sub(8) / (1 + 2 * features);
    if data.len() != 8 + images * (1 + 2 * features) {
        return Err(damaged(format!(
            "{} bytes are no whole number of images",
            data.len()
        )));
    }
    let number = |at: usize| {
        data[at..at + 4]
            .iter()
            .fold(0, |n, &b| n << 8 | usize::from(b))
    };
    let train = number(0);
    if train + number(4) != images {
        return Err(damaged(format!(
            "{images} images, not {train} + {}",
            number(4)
        )));
    }
    let (labels, pixels) = data[8..].split_at(images);
    let (low, high) = pixels.split_at(images * features);
    let pixels: Vec<u16> = low
        .iter()
        .zip(high)
        .map(|(&l, &h)| u16::from_be_bytes([h, l]))
        .collect();
    let split = |from: usize, to: usize| {
        Arc::new(Split {
            pixels: pixels[from * features..to * features].to_vec(),
            labels: labels[from..to].to_vec(),
        })
    };
    Ok(Dataset {
        name: NAME.into(),
        shape: ImageShape::grey(SIDE, SIDE),
        classes: 10,
        white: 255 * (BLOCK * BLOCK) as u16,
        train: split(0, train),
        test: split(train, images),
        notes: Vec::new(),
    })
}

/// The embedded file from Fashion-MNIST in 28 x 28 pixels: counts, labels, low bytes, high bytes; gzipped.
///
/// # Errors
/// The images are not 28 x 28.
pub fn pack(full: &Dataset) -> Result<Vec<u8>, DataError> {
    let side = SIDE * BLOCK;
    if full.shape != ImageShape::grey(side, side) || full.white != 255 {
        return Err(DataError::Format {
            path: full.name.clone(),
            reason: format!(
                "images of {side} x {side} grey bytes are needed, these are {}",
                full.shape
            ),
        });
    }
    let mut data = Vec::new();
    for split in [&full.train, &full.test] {
        data.extend((split.labels.len() as u32).to_be_bytes());
    }
    data.extend(full.train.labels.iter().chain(&full.test.labels));
    let sums: Vec<u16> = [&full.train, &full.test]
        .iter()
        .flat_map(|split| split.pixels.chunks_exact(side * side))
        .flat_map(pooled)
        .collect();
    data.extend(sums.iter().map(|sum| sum.to_be_bytes()[1]));
    data.extend(sums.iter().map(|sum| sum.to_be_bytes()[0]));
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    let zipped = gz.write_all(&data).and_then(|()| gz.finish());
    zipped.map_err(|source| DataError::Read {
        path: full.name.clone(),
        source,
    })
}

fn pooled(image: &[u16]) -> Vec<u16> {
    let side = SIDE * BLOCK;
    let block = |row: usize, column: usize| {
        let rows = image.chunks_exact(side).skip(row * BLOCK).take(BLOCK);
        rows.flat_map(|line| &line[column * BLOCK..][..BLOCK]).sum()
    };
    (0..SIDE * SIDE)
        .map(|at| block(at / SIDE, at % SIDE))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_set_is_whole() {
        let data = fashion_mnist_7x7().unwrap();
        assert_eq!(data.train.labels.len(), 60_000);
        assert_eq!(data.test.labels.len(), 10_000);
        assert_eq!(data.train.pixels.len(), 60_000 * 49);
        assert!(data.train.pixels.iter().all(|&p| p <= 4080));
        for class in 0..10 {
            assert_eq!(
                data.test.labels.iter().filter(|&&l| l == class).count(),
                1000
            );
        }
    }

    #[test]
    fn packing_sums_blocks_exactly() {
        let image: Vec<u16> = (0..784).map(|p| (p * 7 % 256) as u16).collect();
        let split = Arc::new(Split {
            pixels: image.clone(),
            labels: vec![3],
        });
        let full = Dataset {
            name: "one".into(),
            shape: ImageShape::grey(28, 28),
            classes: 10,
            white: 255,
            train: split.clone(),
            test: split,
            notes: Vec::new(),
        };
        let small = unpack(&pack(&full).unwrap()).unwrap();
        let corner: u16 = (0..4)
            .flat_map(|r| (0..4).map(move |c| r * 28 + c))
            .map(|i| image[i])
            .sum();
        assert_eq!(small.train.pixels[0], corner);
        assert_eq!(
            small.train.pixels.iter().sum::<u16>(),
            image.iter().sum::<u16>()
        );
        assert_eq!(small.test.labels, [3]);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let mut file = FILE.to_vec();
        let middle = file.len() / 2;
        file[middle] ^= 0x55;
        assert!(unpack(&file).is_err());
        assert!(unpack(&FILE[..1000]).is_err());
        assert!(unpack(&[]).is_err());
    }
}
