//! The forward pass and the two gradients, a few images at a time on every core.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::planes::{Geometry, Outputs};
use super::rows::{Blocks, Dots, Mix};
use crate::memory::{own, tensor, zeros};

/// The most shares of a batch that go to cores. Sums over a batch are taken share by share, whatever the
/// number of cores is.
const SHARES: usize = 16;

/// Images `[batch, inputs, height, width]` convolved with `weight [outputs, inputs, kernel height, kernel width]`.
pub fn forward(x: &[f32], weight: &[f32], geometry: &Geometry) -> Vec<f32> {
    let outputs = geometry.of_outputs();
    let mut y = zeros(geometry.batch * outputs.entries());
    let sums = geometry.inputs * geometry.taps();
    let weights = Blocks::new(geometry.outputs, sums, |o, sum| weight[o * sums + sum]);
    let share = Share::new(geometry);
    y.par_chunks_mut(share.images * outputs.entries())
        .zip(x.par_chunks(share.images * share.image))
        .for_each_init(
            || Memory::new(geometry),
            |memory, (y, x)| {
                let offsets = memory.input_offsets(geometry);
                let pieces = y.chunks_mut(share.at_a_time * outputs.entries());
                for (y, x) in pieces.zip(x.chunks(share.at_a_time * share.image)) {
                    geometry.spread(x, &mut memory.inputs, memory.row);
                    Mix {
                        source: &memory.inputs,
                        offsets: &offsets,
                        weights: &weights,
                        out: &mut memory.outputs,
                        row: memory.row,
                        lead: geometry.lead(),
                        length: y.len() / outputs.entries() * geometry.positions(),
                    }
                    .run();
                    outputs.gather(&memory.outputs, memory.row, y);
                }
            },
        );
    y
}

/// The gradient of the weights, from that of the outputs.
pub fn of_weight(x: &[f32], up: &[f32], geometry: &Geometry) -> Vec<f32> {
    let outputs = geometry.of_outputs();
    let share = Share::new(geometry);
    let size = geometry.outputs * geometry.inputs * geometry.taps();
    let totals: Vec<Vec<f32>> = up
        .par_chunks(share.images * outputs.entries())
        .zip(x.par_chunks(share.images * share.image))
        .map_init(
            || Memory::new(geometry),
            |memory, (up, x)| {
                let offsets = memory.input_offsets(geometry);
                let mut totals = vec![0.0; size];
                let pieces = up.chunks(share.at_a_time * outputs.entries());
                for (up, x) in pieces.zip(x.chunks(share.at_a_time * share.image)) {
                    geometry.spread(x, &mut memory.inputs, memory.row);
                    memory.take_up(up, &outputs, geometry);
                    Dots {
                        left: &memory.outputs,
                        row: memory.row,
                        lead: geometry.lead(),
                        source: &memory.inputs,
                        offsets: &offsets,
                        totals: &mut totals,
                        length: up.len() / outputs.entries() * geometry.positions(),
                    }
                    .run();
                }
                totals
            },
        )
        .collect();
    let mut totals = totals.into_iter();
    let mut sum = totals.next().unwrap_or_else(|| vec![0.0; size]);
    for part in totals {
        sum.iter_mut()
            .zip(part)
            .for_each(|(sum, part)| *sum += part);
    }
    sum
}

/// The gradient of the images, from that of the outputs and in its memory where they have one shape.
pub fn of_images(weight: &[f32], up: FlexTensor, geometry: &Geometry) -> FlexTensor {
    let (outputs, taps) = (geometry.of_outputs(), geometry.taps());
    let share = Share::new(geometry);
    let row = geometry.row(share.at_a_time);
    // an entry of a phase is read by that phase's taps only, each from the other side; one without taps has gradient 0
    let phases: Vec<(usize, Blocks, Vec<usize>)> = (0..geometry.phases())
        .filter(|&phase| (0..taps).any(|tap| geometry.tap(tap).0 == phase))
        .map(|phase| {
            let of_phase = |&tap: &usize| geometry.tap(tap).0 == phase;
            let taps_here: Vec<usize> = (0..taps).filter(of_phase).collect();
            let readers: Vec<(usize, usize)> = (0..geometry.outputs)
                .flat_map(|o| taps_here.iter().map(move |&tap| (o, tap)))
                .collect();
            let weights = Blocks::new(geometry.inputs, readers.len(), |c, reader| {
                let (o, tap) = readers[reader];
                weight[(o * geometry.inputs + c) * taps + tap]
            });
            let lead = geometry.lead();
            let offset = |&(o, tap): &(usize, usize)| o * row + lead - geometry.tap(tap).1;
            (phase, weights, readers.iter().map(offset).collect())
        })
        .collect();
    let mix = |memory: &mut Memory, images: usize| {
        for (phase, weights, offsets) in &phases {
            Mix {
                source: &memory.outputs,
                offsets,
                weights,
                out: &mut memory.inputs[phase * row..],
                row: row * geometry.phases(),
                lead: geometry.lead(),
                length: images * geometry.positions(),
            }
            .run();
        }
    };
    if geometry.keeps_shape() {
        let mut both = own(up);
        let shares = both
            .storage_mut()
            .par_chunks_mut(share.images * share.image);
        shares.for_each_init(
            || Memory::new(geometry),
            |memory, both| {
                for both in both.chunks_mut(share.at_a_time * share.image) {
                    memory.take_up(both, &outputs, geometry);
                    mix(memory, both.len() / share.image);
                    geometry.gather(&memory.inputs, row, both);
                }
            },
        );
        return both;
    }
    let mut x = zeros(geometry.batch * share.image);
    let up = up.to_contiguous();
    x.par_chunks_mut(share.images * share.image)
        .zip(up.storage().par_chunks(share.images * outputs.entries()))
        .for_each_init(
            || Memory::new(geometry),
            |memory, (x, up)| {
                let pieces = x.chunks_mut(share.at_a_time * share.image);
                for (x, up) in pieces.zip(up.chunks(share.at_a_time * outputs.entries())) {
                    memory.take_up(up, &outputs, geometry);
                    mix(memory, x.len() / share.image);
                    geometry.gather(&memory.inputs, row, x);
                }
            },
        );
    let [height, width] = geometry.image;
    tensor(x, [geometry.batch, geometry.inputs, height, width])
}

/// How a batch is divided.
struct Share {
    /// Images of a share, and of a piece of one that is handled at a time.
    images: usize,
    at_a_time: usize,
    /// Entries of an image.
    image: usize,
}

impl Share {
    fn new(geometry: &Geometry) -> Self {
        let at_a_time = geometry.images_at_a_time();
        let pieces = geometry.batch.div_ceil(at_a_time);
        Self {
            images: pieces.div_ceil(SHARES).max(1) * at_a_time,
            at_a_time,
            image: geometry.inputs * geometry.image[0] * geometry.image[1],
        }
    }
}

/// The rows of inputs and outputs that a core works on.
struct Memory {
    inputs: Vec<f32>,
    outputs: Vec<f32>,
    row: usize,
}

impl Memory {
    fn new(geometry: &Geometry) -> Self {
        let row = geometry.row(geometry.images_at_a_time());
        Self {
            inputs: vec![0.0; geometry.inputs * geometry.phases() * row],
            outputs: vec![0.0; geometry.outputs * row],
            row,
        }
    }

    /// Where the inputs of output 0 start, for every input channel and tap.
    fn input_offsets(&self, geometry: &Geometry) -> Vec<usize> {
        let offset = |c: usize, tap: usize| {
            let (phase, offset) = geometry.tap(tap);
            (c * geometry.phases() + phase) * self.row + geometry.lead() + offset
        };
        (0..geometry.inputs)
            .flat_map(|c| (0..geometry.taps()).map(move |tap| offset(c, tap)))
            .collect()
    }

    /// Takes gradients of outputs into their rows. A last piece with fewer images leaves nothing of the piece before.
    fn take_up(&mut self, up: &[f32], outputs: &Outputs, geometry: &Geometry) {
        if up.len() < geometry.images_at_a_time() * outputs.entries() {
            self.outputs.fill(0.0);
        }
        outputs.spread(up, &mut self.outputs, self.row);
    }
}
