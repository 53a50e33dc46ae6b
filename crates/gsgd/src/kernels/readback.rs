//! What operations gave: on a device it has still to be waited for, for all of them at once, as every wait there is for
//! all the work before it.

use burn::tensor::{Tensor, TensorData, Transaction};

use super::HeadSums;

/// Something that an operation gave, or the numbers on a device that it is made of.
#[derive(Debug, Clone)]
pub(crate) enum Readback<T> {
    Host(T),
    Device(Box<Tensor<1>>),
}

/// What numbers from a device stand for.
pub(crate) trait OfNumbers {
    fn of(numbers: Vec<f64>) -> Self;
}

impl OfNumbers for Vec<f64> {
    fn of(numbers: Vec<f64>) -> Self {
        numbers
    }
}

/// A verdict: whether the number is finite.
impl OfNumbers for bool {
    fn of(numbers: Vec<f64>) -> Self {
        numbers.iter().all(|number| number.is_finite())
    }
}

impl<const N: usize> OfNumbers for [f64; N] {
    fn of(numbers: Vec<f64>) -> Self {
        numbers.try_into().expect("there are as many numbers")
    }
}

/// Its lists one after the other.
impl OfNumbers for HeadSums {
    fn of(numbers: Vec<f64>) -> Self {
        let mut lists = numbers.chunks(numbers.len() / 3).map(<[f64]>::to_vec);
        let [squares, dots, gradient_squares] =
            std::array::from_fn(|_| lists.next().expect("there are three"));
        Self {
            squares,
            dots,
            gradient_squares,
        }
    }
}

impl<T: OfNumbers> Readback<T> {
    /// Waits for this alone.
    pub fn read(self) -> T {
        match self {
            Self::Host(given) => given,
            Self::Device(numbers) => T::of(list(numbers.into_data())),
        }
    }
}

impl<T: OfNumbers> From<T> for Readback<T> {
    fn from(given: T) -> Self {
        Self::Host(given)
    }
}

impl<T> From<Tensor<1>> for Readback<T> {
    fn from(numbers: Tensor<1>) -> Self {
        Self::Device(Box::new(numbers))
    }
}

/// What operations gave, each with its key: first what is in CPU memory, one by one, then what has to be waited for.
pub(crate) fn read_all<K, T: OfNumbers>(
    all: impl IntoIterator<Item = (K, Readback<T>)>,
) -> impl Iterator<Item = (K, T)> {
    let mut all = all.into_iter().fuse();
    let (mut waiting, mut came) = (Vec::new(), None);
    std::iter::from_fn(move || {
        for (key, readback) in all.by_ref() {
            match readback {
                Readback::Host(given) => return Some((key, given)),
                Readback::Device(numbers) => waiting.push((key, numbers)),
            }
        }
        if waiting.is_empty() && came.is_none() {
            return None;
        }
        let came = came.get_or_insert_with(|| wait(std::mem::take(&mut waiting)));
        came.next().map(|(key, numbers)| (key, T::of(numbers)))
    })
}

/// The first key whose verdict is no.
pub(crate) fn first_false<K>(verdicts: impl IntoIterator<Item = (K, Readback<bool>)>) -> Option<K> {
    read_all(verdicts).find_map(|(key, good)| (!good).then_some(key))
}

/// Reads those tensors of one device that are next to each other at once.
#[cold]
fn wait<K>(waiting: Vec<(K, Box<Tensor<1>>)>) -> std::vec::IntoIter<(K, Vec<f64>)> {
    let (keys, tensors): (Vec<K>, Vec<Box<Tensor<1>>>) = waiting.into_iter().unzip();
    let mut lists = Vec::with_capacity(keys.len());
    for tensors in tensors.chunk_by(|a, b| a.device() == b.device()) {
        let all = tensors.iter().map(|tensor| (**tensor).clone());
        let all = all.fold(Transaction::default(), Transaction::register);
        lists.extend(all.execute().into_iter().map(list));
    }
    let pairs: Vec<(K, Vec<f64>)> = keys.into_iter().zip(lists).collect();
    pairs.into_iter()
}

fn list(data: TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}
