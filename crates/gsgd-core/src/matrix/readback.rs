//! What operations gave: on a device it has still to be waited for, for all of them at once, as every wait there is for
//! all the work before it.

use super::{HeadSums, Matrix};

/// Something that an operation gave, or the numbers on a device that it is made of.
pub enum Readback<T, M: Matrix> {
    /// It is here.
    Host(T),
    /// It is made of these numbers.
    Device(M::Pending),
}

/// What numbers from a device stand for.
pub trait FromNumbers {
    /// From the numbers.
    fn from_numbers(numbers: Vec<f64>) -> Self;
}

impl FromNumbers for Vec<f64> {
    fn from_numbers(numbers: Vec<f64>) -> Self {
        numbers
    }
}

/// A verdict: whether every number is finite.
impl FromNumbers for bool {
    fn from_numbers(numbers: Vec<f64>) -> Self {
        numbers.iter().all(|number| number.is_finite())
    }
}

/// Its three lists one after the other.
impl FromNumbers for HeadSums {
    fn from_numbers(mut squares: Vec<f64>) -> Self {
        let mut dots = squares.split_off(squares.len() / 3);
        let gradient_squares = dots.split_off(squares.len());
        Self {
            squares,
            dots,
            gradient_squares,
        }
    }
}

impl<T: FromNumbers, M: Matrix> Readback<T, M> {
    /// Waits for this alone.
    pub fn read(self) -> T {
        match self {
            Self::Host(given) => given,
            Self::Device(numbers) => {
                let numbers = M::wait(vec![numbers]).pop();
                T::from_numbers(numbers.expect("a list for each that was waited for"))
            }
        }
    }
}

/// What operations gave, each with its key: first what is in CPU memory, one by one, then what has to be waited for.
pub fn read_all<K, T: FromNumbers, M: Matrix>(
    all: impl IntoIterator<Item = (K, Readback<T, M>)>,
) -> impl Iterator<Item = (K, T)> {
    let mut all = all.into_iter().fuse();
    let (mut keys, mut waiting) = (Vec::new(), Vec::new());
    let mut came = None;
    std::iter::from_fn(move || {
        for (key, readback) in all.by_ref() {
            match readback {
                Readback::Host(given) => return Some((key, given)),
                Readback::Device(numbers) => {
                    keys.push(key);
                    waiting.push(numbers);
                }
            }
        }
        if waiting.is_empty() && came.is_none() {
            return None;
        }
        let came = came.get_or_insert_with(|| {
            let numbers = M::wait(std::mem::take(&mut waiting));
            std::mem::take(&mut keys).into_iter().zip(numbers)
        });
        came.next()
            .map(|(key, numbers)| (key, T::from_numbers(numbers)))
    })
}

/// The first key whose verdict is no.
pub fn first_false<K, M: Matrix>(
    verdicts: impl IntoIterator<Item = (K, Readback<bool, M>)>,
) -> Option<K> {
    read_all(verdicts).find_map(|(key, good)| (!good).then_some(key))
}
