//! Single entries of a matrix.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::Real;
use crate::kernels::{Entries, Gathered};

/// Values for single entries of a matrix and of its moments.
#[derive(Clone, Copy)]
pub(super) struct Fixed<'a, const N: usize> {
    at: &'a [usize],
    of: &'a [u32],
    values: &'a [f64],
    of_moments: [&'a [f64]; N],
}

impl<'a, const N: usize> Fixed<'a, N> {
    pub fn of(entries: &'a Entries<'a>, of_moments: [&'a Vec<f64>; N]) -> Self {
        Self {
            at: &entries.at,
            of: &entries.of,
            values: &entries.values,
            of_moments: of_moments.map(Vec::as_slice),
        }
    }

    /// Those that lie in a part of the matrix.
    pub fn within(self, part: Range<usize>) -> Self {
        let first = self.at.partition_point(|&at| at < part.start);
        let end = self.at.partition_point(|&at| at < part.end);
        Self {
            at: &self.at[first..end],
            of: &self.of[first..end],
            ..self
        }
    }

    /// Sets them in the part of the matrix that they lie in, which begins with its entry `start`.
    #[inline(always)]
    pub fn set<E: Real>(self, start: usize, x: &mut [E], mut moments: [&mut [E]; N]) {
        let set = |x: &mut [E], values: &[f64]| {
            for (&at, &of) in self.at.iter().zip(self.of) {
                x[at - start] = E::from_f64(values[of as usize]);
            }
        };
        set(x, self.values);
        for (moment, values) in moments.iter_mut().zip(self.of_moments) {
            set(moment, values);
        }
    }
}

pub fn gather(x: &FlexTensor, at: &[usize]) -> Vec<f64> {
    by_dtype!(x, E => {
        let entries = x.storage::<E>();
        at.iter().map(|&i| entries[i].to_f64()).collect()
    })
}

pub fn scatter(mut x: FlexTensor, entries: &Entries) -> FlexTensor {
    by_dtype!(x, E => Fixed::of(entries, []).set(0, x.storage_mut::<E>(), []));
    x
}

pub fn gather_products(
    w: &FlexTensor,
    g: &FlexTensor,
    gathered: Gathered,
    weights: &mut [f64],
    products: &mut [f64],
) {
    by_dtype!(w, E => gather_products_of::<E>(w.storage(), g.storage(), gathered, weights, products))
}

/// On its own, with all it needs in registers.
#[inline(never)]
fn gather_products_of<E: Real>(
    w: &[E],
    g: &[E],
    gathered: Gathered,
    weights: &mut [f64],
    products: &mut [f64],
) {
    // of one length each, which is checked once for both
    let g = &g[..w.len()];
    let products = &mut products[..weights.len()];
    for (&at, &to) in gathered.at.iter().zip(gathered.to) {
        let (w, g, to) = (w[at].to_f64(), g[at].to_f64(), to as usize);
        (weights[to], products[to]) = (w, w * g);
    }
}
