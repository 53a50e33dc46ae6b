//! Large lists that all cores write, and tensors' memory to write to.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

/// Entries that are written at a time.
const PIECE: usize = 1 << 9;

/// This many entries, of which `fill(first, entries)` writes a few at a time, all 0 before. Memory is written
/// once; a list that is first zeroed is written twice.
pub fn filled(count: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let pieces = (0..count.div_ceil(PIECE)).into_par_iter().map(|at| {
        let first = at * PIECE;
        let mut piece = [0.0; PIECE];
        fill(first, &mut piece[..PIECE.min(count - first)]);
        piece
    });
    let mut entries = pieces.collect::<Vec<_>>().into_flattened();
    entries.truncate(count);
    entries
}

/// This many zeros.
pub fn zeros(count: usize) -> Vec<f32> {
    filled(count, |_, _| ())
}

/// A tensor of these entries, row-major.
pub fn tensor(entries: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(entries, shape))
}

/// The tensor with its entries one after the other in memory that nothing else holds: a copy where something does.
pub fn own(x: FlexTensor) -> FlexTensor {
    let whole = x.to_contiguous();
    drop(x);
    if whole.is_unique() {
        return whole;
    }
    let from = whole.storage::<f32>();
    let copy = filled(from.len(), |first, to| {
        to.copy_from_slice(&from[first..first + to.len()]);
    });
    tensor(copy, whole.shape())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_written_once() {
        for count in [0, 1, PIECE - 1, PIECE, 5 * PIECE + 3] {
            let entries = filled(count, |first, entries| {
                for (at, entry) in entries.iter_mut().enumerate() {
                    *entry += (first + at) as f32;
                }
            });
            assert!(entries.iter().enumerate().all(|(at, &e)| e == at as f32));
            assert_eq!(entries.len(), count);
        }
    }

    #[test]
    fn shared_memory_is_copied() {
        let tensor = FlexTensor::from_data(TensorData::from([[1.0f32, 2.0], [3.0, 4.0]]));
        let mut mine = own(tensor.clone());
        mine.storage_mut::<f32>()[0] = 5.0;
        assert_eq!(tensor.storage::<f32>(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(mine.storage::<f32>(), [5.0, 2.0, 3.0, 4.0]);
        let at = tensor.storage::<f32>().as_ptr();
        assert_eq!(own(tensor).storage::<f32>().as_ptr(), at);
    }
}
