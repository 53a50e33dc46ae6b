//! Images as a network takes them.

use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Dataset, ImageShape, Normalise, Split};

/// How training images are varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// As they are.
    None,
    /// A random crop of the image padded with 4 black pixels on every side, flipped left to right half of the time.
    CropFlip,
}

/// Black pixels on every side before the crop.
const PADDING: usize = 4;

/// Normalised images, some or all of a split.
#[derive(Debug, Clone)]
pub struct Inputs {
    split: Arc<Split>,
    /// The images that take part, by their place in the split.
    chosen: Vec<usize>,
    shape: ImageShape,
    /// The input for every pixel value, by channel.
    tables: Vec<Vec<f32>>,
}

/// The seeds that choose subsets; not a run's own, so that all runs see the same images.
const SUBSET_SEED: u64 = 0x5b5e7;
const VALIDATION_SEED: u64 = 0x7a11d;

impl Inputs {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Values of an image.
    pub fn features(&self) -> usize {
        self.shape.features()
    }

    /// The class of an image.
    pub fn label(&self, index: usize) -> u8 {
        self.split.labels[self.chosen[index]]
    }

    /// A random subset of this many images, the same in every run; all of them where there are no more.
    pub fn subset(self, count: usize) -> Self {
        match count < self.len() {
            true => self.divided(count, SUBSET_SEED).0,
            false => self,
        }
    }

    /// All images but a random `count`, and those; the same in every run. `None` where none would be left to train on.
    pub fn hold_back(self, count: usize) -> Option<(Self, Self)> {
        if count >= self.len() {
            return None;
        }
        let (held_back, rest) = self.divided(count, VALIDATION_SEED);
        Some((rest, held_back))
    }

    /// A random `count` of the images, and the others, both in file order.
    fn divided(self, count: usize, seed: u64) -> (Self, Self) {
        let mut places = self.chosen.clone();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (one, other) = places.partial_shuffle(&mut rng, count);
        let [one, other] = [one, other].map(|chosen| {
            chosen.sort_unstable();
            Self {
                chosen: chosen.to_vec(),
                ..self.clone()
            }
        });
        (one, other)
    }

    fn image(&self, index: usize) -> &[u16] {
        let features = self.features();
        &self.split.pixels[self.chosen[index] * features..][..features]
    }

    /// Appends an image's inputs, channel after channel, row after row.
    pub fn push(&self, index: usize, inputs: &mut Vec<f32>) {
        let area = self.shape.height * self.shape.width;
        for (channel, table) in self.image(index).chunks_exact(area).zip(&self.tables) {
            inputs.extend(channel.iter().map(|&pixel| table[usize::from(pixel)]));
        }
    }

    /// Appends a random crop of the padded image, perhaps flipped.
    pub fn push_varied(&self, index: usize, rng: &mut ChaCha8Rng, inputs: &mut Vec<f32>) {
        let ImageShape { height, width, .. } = self.shape;
        let down = rng.random_range(0..=2 * PADDING);
        let right = rng.random_range(0..=2 * PADDING);
        let flip: bool = rng.random();
        let inside = |at: usize, size: usize| at.checked_sub(PADDING).filter(|&at| at < size);
        let channels = self.image(index).chunks_exact(height * width);
        for (channel, table) in channels.zip(&self.tables) {
            for row in 0..height {
                let row = inside(row + down, height);
                for column in 0..width {
                    let column = if flip { width - 1 - column } else { column };
                    let column = inside(column + right, width);
                    let pixel = match (row, column) {
                        (Some(row), Some(column)) => channel[row * width + column],
                        _ => 0,
                    };
                    inputs.push(table[usize::from(pixel)]);
                }
            }
        }
    }
}

impl Dataset {
    /// Training and test inputs; the statistics are those of all training images, by channel.
    pub fn inputs(&self, normalise: Normalise) -> (Inputs, Inputs) {
        let area = self.shape.height * self.shape.width;
        let tables: Vec<Vec<f32>> = (0..self.shape.channels)
            .map(|channel| {
                let (shift, scale) = self.line(normalise, channel, area);
                (0..=self.white)
                    .map(|pixel| ((f64::from(pixel) - shift) * scale) as f32)
                    .collect()
            })
            .collect();
        let inputs = |split: &Arc<Split>| Inputs {
            split: split.clone(),
            chosen: (0..split.labels.len()).collect(),
            shape: self.shape,
            tables: tables.clone(),
        };
        (inputs(&self.train), inputs(&self.test))
    }

    /// What is taken off a channel's pixels, and what they are then multiplied with.
    fn line(&self, normalise: Normalise, channel: usize, area: usize) -> (f64, f64) {
        match normalise {
            Normalise::Unit => (0.0, 1.0 / f64::from(self.white)),
            Normalise::Standard => {
                let pixels = || {
                    let channels = self.train.pixels.chunks_exact(area).skip(channel);
                    let channels = channels.step_by(self.shape.channels);
                    channels.flatten().map(|&pixel| f64::from(pixel))
                };
                let count = (self.train.labels.len() * area) as f64;
                let mean = pixels().sum::<f64>() / count;
                let variance = pixels().map(|p| (p - mean) * (p - mean)).sum::<f64>() / count;
                (mean, 1.0 / variance.sqrt().max(1e-12))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let pixels: Vec<u16> = (0..4 * 2 * 9).map(|at| at * 3 % 256).collect();
        let split = Arc::new(Split {
            pixels,
            labels: vec![0, 1, 0, 1],
        });
        Dataset {
            name: "test".into(),
            shape: ImageShape {
                channels: 2,
                height: 3,
                width: 3,
            },
            classes: 2,
            white: 255,
            train: split.clone(),
            test: split,
            notes: Vec::new(),
        }
    }

    #[test]
    fn standard_inputs_have_mean_0_and_deviation_1_in_every_channel() {
        let (train, _) = data().inputs(Normalise::Standard);
        let mut all = Vec::new();
        (0..4).for_each(|index| train.push(index, &mut all));
        for channel in 0..2 {
            let values: Vec<f32> = all
                .chunks(9)
                .skip(channel)
                .step_by(2)
                .flatten()
                .copied()
                .collect();
            let mean = values.iter().sum::<f32>() / 36.0;
            let square = values.iter().map(|v| v * v).sum::<f32>() / 36.0;
            assert!(
                mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5,
                "{mean} {square}"
            );
        }
    }

    #[test]
    fn crops_are_moved_windows_and_repeat_for_a_seed() {
        let (train, _) = data().inputs(Normalise::Unit);
        let mut plain = Vec::new();
        train.push(1, &mut plain);
        let varied = |seed| {
            let mut inputs = Vec::new();
            train.push_varied(1, &mut ChaCha8Rng::seed_from_u64(seed), &mut inputs);
            inputs
        };
        let mut seen = [false; 2];
        for seed in 0..2000 {
            let (inputs, again) = (varied(seed), varied(seed));
            assert_eq!(inputs, again);
            // every pixel is black or one of the image's channel
            for (channel, original) in inputs.chunks(9).zip(plain.chunks(9)) {
                assert!(channel.iter().all(|p| *p == 0.0 || original.contains(p)));
            }
            seen[0] |= inputs == plain;
            seen[1] |= inputs != plain;
        }
        assert_eq!(seen, [true, true]);
    }

    #[test]
    fn grey_is_the_mean_of_the_colours() {
        let colour = data();
        let grey = colour.grey();
        assert_eq!((grey.shape.channels, grey.train.pixels.len()), (1, 36));
        let mean = (colour.train.pixels[3] + colour.train.pixels[12]).div_ceil(2);
        assert_eq!(grey.train.pixels[3], mean);
        assert_eq!(grey.grey(), grey);
    }

    #[test]
    fn subsets_are_the_same_every_time() {
        let (train, _) = data().inputs(Normalise::Unit);
        let (a, b) = (train.clone().subset(2), train.clone().subset(2));
        assert_eq!((a.len(), &a.chosen), (2, &b.chosen));
        assert_eq!(train.clone().subset(9).len(), 4);
    }

    #[test]
    fn what_is_held_back_is_not_trained_on() {
        let (train, _) = data().inputs(Normalise::Unit);
        let (rest, held_back) = train.clone().hold_back(1).unwrap();
        let mut all = [rest.chosen.clone(), held_back.chosen].concat();
        all.sort_unstable();
        assert_eq!((rest.len(), all), (3, vec![0, 1, 2, 3]));
        assert_eq!(train.clone().hold_back(0).unwrap().0.chosen, train.chosen);
        assert!(train.hold_back(4).is_none());
    }
}
