//! Which channel every element of a value belongs to.

use std::rc::Rc;

/// A number for every element of a value, as a strided view: views of the value are the same views of its numbers, and an
/// axis along which they do not change takes no memory.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    shape: Vec<usize>,
    /// Distance of neighbours along each axis; 0 where the numbers do not change, and of axes of one element.
    strides: Vec<isize>,
    offset: isize,
    data: Rc<[u32]>,
}

impl Ids {
    /// The same number everywhere.
    pub fn constant(shape: &[usize], id: u32) -> Self {
        Self {
            strides: vec![0; shape.len()],
            shape: shape.to_vec(),
            offset: 0,
            data: Rc::from([id]),
        }
    }

    /// Numbers from 0 along one axis.
    pub fn along(shape: &[usize], axis: usize) -> Self {
        let data: Vec<u32> = (0..shape[axis] as u32).collect();
        let mut ids = Self::constant(shape, 0);
        ids.data = data.into();
        if shape[axis] > 1 {
            ids.strides[axis] = 1;
        }
        ids
    }

    /// Numbers in row-major order over the axes in `varying`, the same along the others.
    fn over(shape: &[usize], varying: &[usize], data: Vec<u32>) -> Self {
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for &axis in varying.iter().rev() {
            if shape[axis] > 1 {
                strides[axis] = stride;
            }
            stride *= shape[axis] as isize;
        }
        Self {
            shape: shape.to_vec(),
            strides,
            offset: 0,
            data: data.into(),
        }
    }

    /// The value's shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The axes along which numbers change.
    pub fn varying(&self) -> Vec<usize> {
        let axes = 0..self.shape.len();
        axes.filter(|&axis| self.strides[axis] != 0).collect()
    }

    /// The numbers in row-major order over these axes, the first elsewhere.
    pub fn listed(&self, axes: &[usize]) -> Vec<u32> {
        let count = axes.iter().map(|&axis| self.shape[axis]).product();
        let mut list = Vec::with_capacity(count);
        let mut index = vec![0usize; axes.len()];
        let mut at = self.offset;
        for _ in 0..count {
            list.push(self.data[at as usize]);
            for (place, &axis) in index.iter_mut().zip(axes).rev() {
                *place += 1;
                at += self.strides[axis];
                if *place < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * *place as isize;
                *place = 0;
            }
        }
        list
    }

    /// For every place along `axis`, the numbers there.
    pub fn lines(&self, axis: usize) -> Vec<Vec<u32>> {
        let mut axes = vec![axis];
        axes.extend(self.varying().into_iter().filter(|&other| other != axis));
        let list = self.listed(&axes);
        let distinct = |line: &[u32]| {
            let mut line = line.to_vec();
            if line.len() > 1 {
                line.sort_unstable();
                line.dedup();
            }
            line
        };
        list.chunks(list.len() / self.shape[axis])
            .map(distinct)
            .collect()
    }

    /// All numbers, each once, in rising order.
    pub fn distinct(&self) -> Vec<u32> {
        let mut all = self.listed(&self.varying());
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same elements in another shape.
    pub fn reshape(&self, shape: &[usize]) -> Self {
        if let Some(strides) = self.reshaped_strides(shape) {
            return Self {
                shape: shape.to_vec(),
                strides,
                ..self.clone()
            };
        }
        let all: Vec<usize> = (0..self.shape.len()).collect();
        let axes: Vec<usize> = (0..shape.len()).collect();
        Self::over(shape, &axes, self.listed(&all)).thinned()
    }

    /// Strides of the view in another shape, if there are any: where the shapes agree in a product of neighbouring axes, those
    /// must lie evenly in memory.
    fn reshaped_strides(&self, shape: &[usize]) -> Option<Vec<isize>> {
        let old: Vec<(usize, isize)> = self
            .shape
            .iter()
            .copied()
            .zip(self.strides.iter().copied())
            .filter(|&(size, _)| size != 1)
            .collect();
        let mut strides = vec![0; shape.len()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (first, begin) = (i, j);
            let (mut have, mut want) = (old[i].0, *shape.get(j)?);
            while have != want {
                if have < want {
                    i += 1;
                    have *= old.get(i)?.0;
                } else {
                    j += 1;
                    want *= *shape.get(j)?;
                }
            }
            let even = old[first..=i]
                .windows(2)
                .all(|pair| pair[0].1 == pair[1].1 * pair[1].0 as isize);
            if !even {
                return None;
            }
            let mut stride = old[i].1;
            for axis in (begin..=j).rev() {
                if shape[axis] > 1 {
                    strides[axis] = stride;
                }
                stride *= shape[axis] as isize;
            }
            (i, j) = (i + 1, j + 1);
        }
        Some(strides)
    }

    /// Without the axes along which a list turned out to stay the same.
    fn thinned(self) -> Self {
        let mut ids = self;
        for axis in 0..ids.shape.len() {
            let stays = ids.strides[axis] != 0 && ids.lines_agree(axis);
            if stays {
                ids.strides[axis] = 0;
            }
        }
        ids
    }

    fn lines_agree(&self, axis: usize) -> bool {
        let mut axes = vec![axis];
        axes.extend(self.varying().into_iter().filter(|&other| other != axis));
        let list = self.listed(&axes);
        let mut lines = list.chunks(list.len() / self.shape[axis]);
        let first = lines.next();
        lines.all(|line| Some(line) == first)
    }

    /// Axes in another order.
    pub fn permute(&self, order: &[usize]) -> Self {
        Self {
            shape: order.iter().map(|&axis| self.shape[axis]).collect(),
            strides: order.iter().map(|&axis| self.strides[axis]).collect(),
            ..self.clone()
        }
    }

    /// `count` places along an axis, from `start` in steps of `step`.
    pub fn slice(&self, axis: usize, start: usize, step: isize, count: usize) -> Self {
        let mut ids = self.clone();
        ids.offset += ids.strides[axis] * start as isize;
        ids.strides[axis] *= step;
        ids.shape[axis] = count;
        if count == 1 {
            ids.strides[axis] = 0;
        }
        ids
    }

    /// The places along an axis that a list says.
    pub fn select(&self, axis: usize, places: &[usize]) -> Self {
        let mut axes = vec![axis];
        axes.extend(self.varying().into_iter().filter(|&other| other != axis));
        let list = self.listed(&axes);
        let line = list.len() / self.shape[axis];
        let data = places
            .iter()
            .flat_map(|&at| list[at * line..(at + 1) * line].iter().copied())
            .collect();
        let mut shape = self.shape.clone();
        shape[axis] = places.len();
        Self::over(&shape, &axes, data)
    }

    /// Repeated along axes of one element, and along new ones in front.
    pub fn expand(&self, shape: &[usize]) -> Self {
        let mut strides = vec![0; shape.len() - self.shape.len()];
        strides.extend(&self.strides);
        Self {
            shape: shape.to_vec(),
            strides,
            ..self.clone()
        }
    }

    /// The same numbers with other sizes along some axes, along which they do not change.
    pub fn resized(&self, shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            ..self.clone()
        }
    }

    /// Every number replaced.
    pub fn map(&self, new: impl Fn(u32) -> u32) -> Self {
        Self {
            data: self.data.iter().map(|&id| new(id)).collect(),
            ..self.clone()
        }
    }

    /// A number for every combination of those of several values of one shape, and the combinations.
    pub fn combined(parts: &[Self]) -> (Self, Vec<Vec<u32>>) {
        let shape = &parts[0].shape;
        let axes: Vec<usize> = (0..shape.len())
            .filter(|&axis| parts.iter().any(|part| part.strides[axis] != 0))
            .collect();
        let lists: Vec<Vec<u32>> = parts.iter().map(|part| part.listed(&axes)).collect();
        let mut numbers = std::collections::HashMap::new();
        let mut combinations: Vec<Vec<u32>> = Vec::new();
        let data = (0..lists[0].len())
            .map(|at| {
                let one: Vec<u32> = lists.iter().map(|list| list[at]).collect();
                *numbers.entry(one).or_insert_with_key(|one| {
                    combinations.push(one.clone());
                    combinations.len() as u32 - 1
                })
            })
            .collect();
        (Self::over(shape, &axes, data), combinations)
    }

    /// Side by side along an axis.
    pub fn concat(parts: &[Self], axis: usize) -> Self {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let mut axes = vec![axis];
        let varies = |other: usize| parts.iter().any(|part| part.strides[other] != 0);
        axes.extend((0..shape.len()).filter(|&other| other != axis && varies(other)));
        let data = parts.iter().flat_map(|part| part.listed(&axes)).collect();
        Self::over(&shape, &axes, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ids: &Ids) -> Vec<u32> {
        let axes: Vec<usize> = (0..ids.shape.len()).collect();
        ids.listed(&axes)
    }

    #[test]
    fn views_of_numbers_are_those_of_the_value() {
        // channels of [1, 4, 2, 1]: flattened, and shuffled as by reshape, transpose, reshape
        let x = Ids::along(&[1, 4, 2, 1], 1);
        assert_eq!(all(&x.reshape(&[1, 8])), [0, 0, 1, 1, 2, 2, 3, 3]);
        let shuffled = x.reshape(&[1, 2, 2, 2, 1]).permute(&[0, 2, 1, 3, 4]);
        let shuffled = shuffled.reshape(&[1, 4, 2, 1]);
        assert_eq!(all(&shuffled), [0, 0, 2, 2, 1, 1, 3, 3]);
        assert_eq!(shuffled.varying(), [1]);
        assert_eq!(all(&x.slice(1, 3, -2, 2)), [3, 3, 1, 1]);
        assert_eq!(all(&x.select(1, &[2, 2, 0])), [2, 2, 2, 2, 0, 0]);
        let flat = x.reshape(&[1, 8]).reshape(&[4, 2]);
        assert_eq!(flat.lines(0), [[0], [1], [2], [3]]);
        assert_eq!(flat.lines(1), [[0, 1, 2, 3], [0, 1, 2, 3]]);
    }

    #[test]
    fn values_are_combined_and_put_side_by_side() {
        let x = Ids::along(&[2, 3], 1);
        let y = Ids::along(&[2, 3], 0);
        let (sum, pairs) = Ids::combined(&[x.clone(), y.clone()]);
        assert_eq!(all(&sum), [0, 1, 2, 3, 4, 5]);
        assert_eq!(pairs[4], [1, 1]);
        let (sum, pairs) = Ids::combined(&[x.clone(), x.clone()]);
        assert_eq!(
            (all(&sum), pairs.len(), sum.varying()),
            (vec![0, 1, 2, 0, 1, 2], 3, vec![1])
        );
        assert_eq!(
            all(&Ids::concat(&[x, y], 0)),
            [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1]
        );
    }
}
