//! Single entries set while their block of the matrix is near.

use std::ops::Range;

use super::Real;
use crate::matrix::Entries;

/// Values for single entries of a matrix and of its moments.
#[derive(Clone, Copy)]
pub(super) struct Fixed<'a, const N: usize> {
    entries: Entries<'a>,
    of_moments: [&'a [f64]; N],
}

impl<'a, const N: usize> Fixed<'a, N> {
    pub fn new(entries: Entries<'a>, of_moments: [&'a [f64]; N]) -> Self {
        Self {
            entries,
            of_moments,
        }
    }

    /// Those that lie in a part of the matrix.
    pub fn within(self, part: Range<usize>) -> Self {
        let Entries { at, of, values } = self.entries;
        let first = at.partition_point(|&at| at < part.start);
        let end = at.partition_point(|&at| at < part.end);
        let entries = Entries {
            at: &at[first..end],
            of: &of[first..end],
            values,
        };
        Self { entries, ..self }
    }

    /// Sets them in the part of the matrix that they lie in, which begins with its entry `start`.
    #[inline(always)]
    pub fn set<E: Real>(self, start: usize, x: &mut [E], mut moments: [&mut [E]; N]) {
        let Entries { at, of, values } = self.entries;
        let set = |x: &mut [E], values: &[f64]| {
            for (&at, &of) in at.iter().zip(of) {
                x[at - start] = E::from_f64(values[of as usize]);
            }
        };
        set(x, values);
        for (moment, values) in moments.iter_mut().zip(self.of_moments) {
            set(moment, values);
        }
    }
}
