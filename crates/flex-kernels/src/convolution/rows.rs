//! Sums of shifted rows: the two loops that all time is spent in.
//!
//! Both keep a block of sums in vector registers, as large as leaves room for what is multiplied: where one sum is kept in
//! memory, a step waits for what the step before has written.

use pulp::{Arch, Simd, WithSimd};

use super::planes::OVERRUN;

/// `out[m][p] = sum over r of weights[m][r] source[offsets[r] + p]` for `p < length`, and for some more.
///
/// Row m of `out` starts at `m * row + lead`.
pub struct Mix<'a> {
    pub source: &'a [f32],
    pub offsets: &'a [usize],
    pub weights: &'a Blocks,
    pub out: &'a mut [f32],
    pub row: usize,
    pub lead: usize,
    pub length: usize,
}

/// `totals[m][r] += sum over p < length of left[m * row + lead + p] source[offsets[r] + p]`.
///
/// `left` must be 0 from `length` to the end of its row.
pub struct Dots<'a> {
    pub left: &'a [f32],
    pub row: usize,
    pub lead: usize,
    pub source: &'a [f32],
    pub offsets: &'a [usize],
    pub totals: &'a mut [f32],
    pub length: usize,
}

/// Registers from which on the larger blocks fit.
const MANY: usize = 32;

/// Weights `[rows, sums]` in blocks of rows, those of a block side by side.
pub struct Blocks {
    rows: usize,
    sums: usize,
    block: usize,
    values: Vec<f32>,
}

impl Blocks {
    pub fn new(rows: usize, sums: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let block = Arch::new().dispatch(Height);
        let mut values = vec![0.0; rows.div_ceil(block) * sums * block];
        for row in 0..rows {
            for sum in 0..sums {
                values[(row / block * sums + sum) * block + row % block] = weight(row, sum);
            }
        }
        Self {
            rows,
            sums,
            block,
            values,
        }
    }
}

/// Rows of a block of [`Mix`].
struct Height;

impl WithSimd for Height {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        if S::REGISTER_COUNT >= MANY { 8 } else { 4 }
    }
}

impl Mix<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn blocks<S: Simd, const M: usize, const V: usize>(self, simd: S) {
        let step = V * S::F32_LANES;
        debug_assert!(step <= OVERRUN);
        for p in (0..self.length).step_by(step) {
            let blocks = self.weights.values.chunks_exact(self.weights.sums * M);
            for (block, weights) in blocks.enumerate() {
                let mut sums = [[simd.splat_f32s(0.0); V]; M];
                for (&offset, weights) in self.offsets.iter().zip(weights.as_chunks::<M>().0) {
                    let source = &self.source[offset + p..offset + p + step];
                    let source = S::as_simd_f32s(source).0;
                    let source = source.first_chunk::<V>().expect("cut to size");
                    for m in 0..M {
                        let weight = simd.splat_f32s(weights[m]);
                        for v in 0..V {
                            sums[m][v] = simd.mul_add_e_f32s(weight, source[v], sums[m][v]);
                        }
                    }
                }
                let rows = M.min(self.weights.rows - block * M);
                for (m, sums) in sums.iter().enumerate().take(rows) {
                    let start = (block * M + m) * self.row + self.lead + p;
                    let out = S::as_mut_simd_f32s(&mut self.out[start..start + step]).0;
                    out.copy_from_slice(sums);
                }
            }
        }
    }
}

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.weights.block {
            8 => self.blocks::<S, 8, 3>(simd),
            _ => self.blocks::<S, 4, 2>(simd),
        }
    }
}

impl Dots<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn blocks<S: Simd, const M: usize, const R: usize>(self, simd: S) {
        let lanes = S::F32_LANES;
        let (sums, rows) = (self.offsets.len(), self.totals.len() / self.offsets.len());
        let length = self.length.next_multiple_of(lanes);
        for first_row in (0..rows).step_by(M) {
            // a block that is not full repeats its last row, and its last sum
            let left: [&[S::f32s]; M] = std::array::from_fn(|m| {
                let start = (first_row + m).min(rows - 1) * self.row + self.lead;
                S::as_simd_f32s(&self.left[start..start + length]).0
            });
            for first_sum in (0..sums).step_by(R) {
                let source: [&[S::f32s]; R] = std::array::from_fn(|r| {
                    let start = self.offsets[(first_sum + r).min(sums - 1)];
                    S::as_simd_f32s(&self.source[start..start + length]).0
                });
                let mut totals = [[simd.splat_f32s(0.0); R]; M];
                for at in 0..length / lanes {
                    let source: [S::f32s; R] = std::array::from_fn(|r| source[r][at]);
                    for m in 0..M {
                        let left = left[m][at];
                        for r in 0..R {
                            totals[m][r] = simd.mul_add_e_f32s(left, source[r], totals[m][r]);
                        }
                    }
                }
                for (m, totals) in totals.iter().enumerate().take(rows - first_row) {
                    let at = (first_row + m) * sums + first_sum;
                    let sums = self.totals[at..].iter_mut().take(sums - first_sum);
                    for (sum, &total) in sums.zip(totals) {
                        *sum += simd.reduce_sum_f32s(total);
                    }
                }
            }
        }
    }
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::REGISTER_COUNT >= MANY {
            true => self.blocks::<S, 4, 6>(simd),
            false => self.blocks::<S, 4, 3>(simd),
        }
    }
}
