//! One parameter seen as edges between classes.

use std::ops::Range;

use super::ScaleClass;
use crate::matrix::Side;

/// What a framework knows a parameter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamKey(pub u64);

/// One parameter seen as edges: every scalar weight leads from the class of its tail line to that of its head line.
///
/// | parameter | shape | tail lines | head lines |
/// |---|---|---|---|
/// | linear weight | `[d_input, d_output]` | inputs | outputs |
/// | convolution | `[out, in / groups, kernel ...]` | taps of every input channel | output channels |
/// | transposed convolution | `[in, out / groups, kernel ...]` | input channels | taps of every output channel |
/// | bias, batch norm's gamma and beta | `[channels]` | the ground | channels |
/// | embedding | `[entries, channels]` | the ground, by entry | channels |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamEdges {
    pub(crate) key: ParamKey,
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) tails: Vec<ScaleClass>,
    pub(crate) heads: Vec<ScaleClass>,
    pub(crate) layout: Layout,
    pub(crate) is_bias: bool,
    /// Whether a batch norm in the paper's treatment follows.
    pub(crate) before_norm: bool,
}

/// How a parameter's memory is a matrix of its tail and head lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Which side the tails are on.
    pub tails: Side,
    /// Groups of rows with columns of their own; a line of one group and one of another share no edge.
    pub groups: usize,
    /// Consecutive columns that belong to one channel.
    pub taps: usize,
    /// The one of them that a skeleton of index modulo takes.
    pub centre: usize,
}

impl Layout {
    /// A row per tail, a column per head.
    pub const DENSE: Self = Self {
        tails: Side::Rows,
        groups: 1,
        taps: 1,
        centre: 0,
    };
}

/// Consecutive lines of a side that belong to one channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taps {
    pub count: usize,
    pub centre: usize,
}

impl Taps {
    pub fn is_centre(self, line: usize) -> bool {
        line % self.count == self.centre
    }

    /// A value per line from a value per channel.
    pub fn spread(self, by_channel: &[f64]) -> Vec<f64> {
        let repeat = |&value| std::iter::repeat_n(value, self.count);
        by_channel.iter().flat_map(repeat).collect()
    }

    /// A sum per channel from a value per line.
    pub fn fold(self, by_line: &[f64]) -> Vec<f64> {
        let channels = by_line.chunks(self.count);
        channels.map(|taps| taps.iter().sum()).collect()
    }

    /// Among `lines`, the central one of the channel that index modulo gives for channel `index`.
    pub fn modulo(self, index: usize, lines: Range<usize>) -> usize {
        let channels = lines.len() / self.count;
        lines.start + index % channels * self.count + self.centre
    }
}

impl ParamEdges {
    /// What the framework knows the parameter by.
    pub fn key(&self) -> ParamKey {
        self.key
    }

    /// The parameter's path in the model, such as `layers.0.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter's shape in the module.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The class of every tail line.
    pub fn tails(&self) -> &[ScaleClass] {
        &self.tails
    }

    /// The class of every head line.
    pub fn heads(&self) -> &[ScaleClass] {
        &self.heads
    }

    /// Whether all edges leave the ground.
    pub(crate) fn leaves_ground(&self) -> bool {
        self.tails.iter().all(|tail| tail.is_ground())
    }

    /// The head's class of every edge, where all leave the ground, in the order of the memory.
    pub(crate) fn head_of_each(&self) -> Vec<ScaleClass> {
        let repeats = self.tails.len();
        match self.layout.tails {
            Side::Rows => self.heads.repeat(repeats),
            Side::Columns => {
                let heads = self.heads.iter();
                heads
                    .flat_map(|&head| std::iter::repeat_n(head, repeats))
                    .collect()
            }
        }
    }

    /// Whether this is a bias.
    pub fn is_bias(&self) -> bool {
        self.is_bias
    }

    /// The number of edges, that is of scalar weights.
    pub fn count(&self) -> usize {
        self.tails.len() * self.heads.len() / self.layout.groups
    }

    /// Rows and columns of the matrix that the parameter's row-major memory is.
    pub fn dims(&self) -> [usize; 2] {
        let (rows, columns) = match self.layout.tails {
            Side::Rows => (&self.tails, &self.heads),
            Side::Columns => (&self.heads, &self.tails),
        };
        [rows.len(), columns.len() / self.layout.groups]
    }

    pub(crate) fn tail_taps(&self) -> Taps {
        self.taps(Side::Columns == self.layout.tails)
    }

    pub(crate) fn head_taps(&self) -> Taps {
        self.taps(Side::Rows == self.layout.tails)
    }

    fn taps(&self, on_columns: bool) -> Taps {
        match on_columns {
            true => Taps {
                count: self.layout.taps,
                centre: self.layout.centre,
            },
            false => Taps {
                count: 1,
                centre: 0,
            },
        }
    }

    /// The tail lines that share edges with a head line.
    pub(crate) fn tails_of(&self, head: usize) -> Range<usize> {
        partners(head, self.heads.len(), self.tails.len(), self.layout.groups)
    }

    /// The input channels that a channel of the result reads.
    pub(crate) fn channels_into(&self, channel: usize) -> Range<usize> {
        let lines = self.tails_of(channel * self.head_taps().count);
        let taps = self.tail_taps().count;
        lines.start / taps..lines.end / taps
    }

    /// The head lines that share edges with a tail line.
    pub(crate) fn heads_of(&self, tail: usize) -> Range<usize> {
        partners(tail, self.tails.len(), self.heads.len(), self.layout.groups)
    }

    /// The index of the edge between two lines in the row-major matrix, if they share one.
    pub fn flat(&self, tail: usize, head: usize) -> Option<usize> {
        let known = tail < self.tails.len() && head < self.heads.len();
        if !known || !self.tails_of(head).contains(&tail) {
            return None;
        }
        let [_, columns] = self.dims();
        Some(match self.layout.tails {
            Side::Rows => tail * columns + head % columns,
            Side::Columns => head * columns + tail % columns,
        })
    }
}

fn partners(line: usize, own: usize, others: usize, groups: usize) -> Range<usize> {
    let (group, size) = (line / (own / groups), others / groups);
    group * size..(group + 1) * size
}
