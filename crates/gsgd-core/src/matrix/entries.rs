//! Single entries of a matrix.

/// Places of single entries, and where the value of each stands in lists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EntryList {
    at: Vec<usize>,
    of: Vec<u32>,
}

impl EntryList {
    /// From pairs of a place, an index into the row-major matrix, and a position in lists. Of two at one place the last
    /// counts.
    pub fn new(mut pairs: Vec<(usize, usize)>) -> Self {
        pairs.sort_by_key(|&(at, _)| at);
        let pairs = pairs.into_iter();
        let (at, of) = pairs.map(|(at, of)| (at, of as u32)).unzip();
        Self { at, of }
    }

    /// Indices into the row-major matrix, ascending.
    pub fn at(&self) -> &[usize] {
        &self.at
    }

    /// Positions in lists.
    pub fn positions(&self) -> &[u32] {
        &self.of
    }

    /// The entries with values from a list.
    pub fn with<'a>(&'a self, values: &'a [f64]) -> Entries<'a> {
        Entries {
            at: &self.at,
            of: &self.of,
            values,
        }
    }

    /// Puts values of these entries where they stand in a list.
    pub(crate) fn put(&self, values: impl IntoIterator<Item = f64>, list: &mut [f64]) {
        for (&of, value) in self.of.iter().zip(values) {
            list[of as usize] = value;
        }
    }
}

/// Values for single entries of a matrix.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entries<'a> {
    /// Indices into its row-major memory, ascending.
    pub at: &'a [usize],
    /// Where their values stand in lists.
    pub of: &'a [u32],
    /// The list of their values.
    pub values: &'a [f64],
}

impl<'a> Entries<'a> {
    /// The same entries with values from another list.
    pub fn with(self, values: &'a [f64]) -> Self {
        Self { values, ..self }
    }
}
