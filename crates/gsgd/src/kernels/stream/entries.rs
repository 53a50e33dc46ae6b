//! Single entries of a matrix.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::Real;
use crate::kernels::Entries;

/// Values of single entries of a matrix and of its moments, at ascending places.
#[derive(Clone, Copy)]
pub(super) struct Fixed<'a, const N: usize> {
    at: &'a [usize],
    values: &'a [f64],
    of_moments: [&'a [f64]; N],
}

impl<'a, const N: usize> Fixed<'a, N> {
    pub fn of(entries: &'a Entries, of_moments: [&'a Vec<f64>; N]) -> Self {
        Self {
            at: &entries.at,
            values: &entries.values,
            of_moments: of_moments.map(Vec::as_slice),
        }
    }

    /// Sets those that lie in a block, which begins with the matrix's entry `start`.
    pub fn set<E: Real>(self, start: usize, x: &mut [E], moments: [&mut [E]; N]) {
        let before = |end: usize| self.at.partition_point(|&at| at < end);
        let mine = before(start)..before(start + x.len());
        let at = &self.at[mine.clone()];
        let put = |x: &mut [E], values: &[f64]| {
            for (&at, &value) in at.iter().zip(&values[mine.clone()]) {
                x[at - start] = E::of(value);
            }
        };
        put(x, self.values);
        for (moment, values) in moments.into_iter().zip(self.of_moments) {
            put(moment, values);
        }
    }
}

pub fn gather(x: &FlexTensor, at: &[usize]) -> Vec<f64> {
    by_dtype!(x, E => {
        let entries = x.storage::<E>();
        at.iter().map(|&i| entries[i].wide()).collect()
    })
}

pub fn put(mut x: FlexTensor, entries: &Entries) -> FlexTensor {
    by_dtype!(x, E => Fixed::of(entries, []).set(0, x.storage_mut::<E>(), []));
    x
}

pub fn pairs(w: &FlexTensor, g: &FlexTensor, at: &[usize]) -> Vec<[f64; 2]> {
    by_dtype!(w, E => {
        let (w, g) = (w.storage::<E>(), g.storage::<E>());
        at.iter().map(|&i| [w[i].wide(), g[i].wide()]).collect()
    })
}
