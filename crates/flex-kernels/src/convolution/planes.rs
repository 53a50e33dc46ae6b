//! How images lie in memory while they are convolved.
//!
//! A few images at a time stand in rows, one per channel and phase, each row a run of padded planes:
//!
//! ```text
//! row of channel c, phase (a, b):  lead | plane of image 0 | plane of image 1 | ... | rest
//! plane[y][x] = padded image[y * stride + a][x * stride + b]
//! ```
//!
//! An output at position p of its own plane, of the same size, reads tap (i, j) at p plus an offset that does not
//! depend on p; beyond the end of a line or plane it meets the padding of the next. Positions of the plane that are no
//! outputs are computed too and left out.

use std::ops::Range;

/// Entries that a pass may handle beyond a row's positions.
pub const OVERRUN: usize = 64;
/// Bytes of the rows of all channels, at most: about a quarter of a core's cache.
const BYTES: usize = 1 << 18;
/// Positions of a row at most.
const POSITIONS: usize = 2400;

/// Sizes of a convolution with one group, no dilation and the same padding on opposite sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    pub batch: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Height and width of an image, and so on.
    pub image: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
}

impl Geometry {
    /// Height and width of an output.
    pub fn output(&self) -> [usize; 2] {
        let size = |at: usize| {
            (self.image[at] + 2 * self.padding[at] - self.kernel[at]) / self.stride[at] + 1
        };
        [size(0), size(1)]
    }

    /// Height and width of a plane. Without a stride padding is shared: what follows a line leads the next one, and what
    /// follows a plane too.
    fn plane(&self) -> [usize; 2] {
        let size = |at: usize| {
            let shared = self.stride[at] == 1 && self.padding[at] < self.kernel[at];
            let sides = if shared { 1 } else { 2 };
            (self.image[at] + sides * self.padding[at]).div_ceil(self.stride[at])
        };
        [size(0), size(1)]
    }

    pub fn positions(&self) -> usize {
        let [height, width] = self.plane();
        height * width
    }

    pub fn phases(&self) -> usize {
        self.stride[0] * self.stride[1]
    }

    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The phase that a tap reads, and its offset there.
    pub fn tap(&self, tap: usize) -> (usize, usize) {
        let (i, j) = (tap / self.kernel[1], tap % self.kernel[1]);
        let phase = (i % self.stride[0]) * self.stride[1] + j % self.stride[1];
        let offset = (i / self.stride[0]) * self.plane()[1] + j / self.stride[1];
        (phase, offset)
    }

    /// The largest offset of a tap.
    pub fn lead(&self) -> usize {
        self.tap(self.taps() - 1).1
    }

    /// Images that are convolved at a time.
    pub fn images_at_a_time(&self) -> usize {
        let channels = (self.inputs * self.phases()).max(self.outputs);
        let positions = (BYTES / 4 / channels).min(POSITIONS);
        (positions / self.positions()).clamp(1, self.batch.max(1))
    }

    /// Length of a row of this many images.
    pub fn row(&self, images: usize) -> usize {
        self.lead() + images * self.positions() + OVERRUN + self.lead()
    }

    /// Whether outputs are as many and as large as inputs.
    pub fn keeps_shape(&self) -> bool {
        self.inputs == self.outputs && self.image == self.output()
    }

    /// Where the lines of an image stand in the planes of its phases.
    fn places(&self) -> Vec<Place> {
        let lines = (0..self.image[0])
            .flat_map(|line| (0..self.phases()).filter_map(move |phase| self.place(line, phase)));
        lines.collect()
    }

    /// Where a line's entries stand in one phase's plane; `None` where this phase has none of that line.
    fn place(&self, line: usize, phase: usize) -> Option<Place> {
        let (a, b) = (phase / self.stride[1], phase % self.stride[1]);
        let y = line + self.padding[0];
        if y % self.stride[0] != a {
            return None;
        }
        let step = self.stride[1];
        // the least x of the image with (x + padding) % step == b
        let first = (b + step - self.padding[1] % step) % step;
        let count = self.image[1].saturating_sub(first).div_ceil(step);
        if count == 0 {
            return None;
        }
        let start = (y / self.stride[0]) * self.plane()[1] + (first + self.padding[1]) / step;
        Some(Place {
            phase,
            entries: line * self.image[1] + first..(line + 1) * self.image[1],
            at: start..start + count,
        })
    }

    /// Copies images `[image, channel, height, width]` into the rows of their channels and phases; what is padding
    /// there stays.
    pub fn spread(&self, images: &[f32], rows: &mut [f32], row: usize) {
        let places = self.places();
        let planes = images.chunks_exact(self.image[0] * self.image[1]);
        for (at, plane) in planes.enumerate() {
            let start = self.start(at, row);
            for place in &places {
                let target = &mut rows[start + place.phase * row..][place.at.clone()];
                let line = &plane[place.entries.clone()];
                match self.stride[1] {
                    1 => target.copy_from_slice(line),
                    step => {
                        let source = line.iter().step_by(step);
                        target.iter_mut().zip(source).for_each(|(t, &s)| *t = s);
                    }
                }
            }
        }
    }

    /// Copies the rows of channels and phases back into images.
    pub fn gather(&self, rows: &[f32], row: usize, images: &mut [f32]) {
        let places = self.places();
        let planes = images.chunks_exact_mut(self.image[0] * self.image[1]);
        for (at, plane) in planes.enumerate() {
            let start = self.start(at, row);
            for place in &places {
                let source = &rows[start + place.phase * row..][place.at.clone()];
                let line = &mut plane[place.entries.clone()];
                match self.stride[1] {
                    1 => line.copy_from_slice(source),
                    step => {
                        let target = line.iter_mut().step_by(step);
                        target.zip(source).for_each(|(t, &s)| *t = s);
                    }
                }
            }
        }
    }

    /// Where a plane, counted through all images and channels, starts in the row of its channel's first phase.
    fn start(&self, plane: usize, row: usize) -> usize {
        let (image, channel) = (plane / self.inputs, plane % self.inputs);
        channel * self.phases() * row + self.lead() + image * self.positions()
    }

    /// The geometry of the outputs as images of their own, whose planes are those of the inputs.
    pub fn of_outputs(&self) -> Outputs {
        Outputs {
            channels: self.outputs,
            image: self.output(),
            width: self.plane()[1],
            positions: self.positions(),
            lead: self.lead(),
        }
    }
}

/// Where a line of an image stands.
struct Place {
    phase: usize,
    /// From its first entry of this phase, in the image's plane.
    entries: Range<usize>,
    /// In the phase's plane.
    at: Range<usize>,
}

/// Outputs in rows, one per channel, in planes of the size of the inputs' planes.
#[derive(Debug, Clone)]
pub struct Outputs {
    channels: usize,
    image: [usize; 2],
    width: usize,
    positions: usize,
    lead: usize,
}

impl Outputs {
    pub fn entries(&self) -> usize {
        self.channels * self.image[0] * self.image[1]
    }

    pub fn spread(&self, images: &[f32], rows: &mut [f32], row: usize) {
        let planes = images.chunks_exact(self.image[0] * self.image[1]);
        for (at, plane) in planes.enumerate() {
            let rows = &mut rows[self.start(at, row)..];
            let lines = plane.chunks_exact(self.image[1]);
            for (line, start) in lines.zip((0..).step_by(self.width)) {
                rows[start..start + line.len()].copy_from_slice(line);
            }
        }
    }

    pub fn gather(&self, rows: &[f32], row: usize, images: &mut [f32]) {
        let planes = images.chunks_exact_mut(self.image[0] * self.image[1]);
        for (at, plane) in planes.enumerate() {
            let rows = &rows[self.start(at, row)..];
            let lines = plane.chunks_exact_mut(self.image[1]);
            for (line, start) in lines.zip((0..).step_by(self.width)) {
                line.copy_from_slice(&rows[start..start + line.len()]);
            }
        }
    }

    /// Where a plane, counted through all images and channels, starts in the rows.
    fn start(&self, plane: usize, row: usize) -> usize {
        let (image, channel) = (plane / self.channels, plane % self.channels);
        channel * row + self.lead + image * self.positions
    }
}
