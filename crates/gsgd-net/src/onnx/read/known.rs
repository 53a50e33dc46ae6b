//! Numbers that are known when a file is read: sizes, places and small constants, and what is computed of them.

use super::super::numbers::{is_float, is_whole};
use super::super::proto::data_type;

/// Elements of what is computed here at most, but for numbers that are the same everywhere.
pub(super) const LARGEST: usize = 1 << 16;

/// Elements of numbers that are the same everywhere at most.
const LARGEST_FILLED: usize = 1 << 28;

/// A tensor of numbers that are known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    /// The type of its numbers in the file.
    pub number: i32,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers in row-major order, or the one that is everywhere.
    values: Vec<f64>,
    /// Whether they may be others for other sizes of the inputs.
    pub varies: bool,
}

fn size(shape: &[usize]) -> Option<usize> {
    let mut sizes = shape.iter();
    sizes.try_fold(1usize, |all, &size| all.checked_mul(size))
}

impl Numbers {
    /// With a number for every element.
    pub fn new(number: i32, shape: &[usize], values: Vec<f64>) -> Option<Self> {
        let fits = size(shape) == Some(values.len()) && values.len() <= LARGEST;
        fits.then(|| Self {
            number,
            shape: shape.to_vec(),
            values,
            varies: false,
        })
    }

    /// With the same number everywhere.
    pub fn filled(number: i32, shape: &[usize], value: f64) -> Option<Self> {
        let size = size(shape)?;
        (size <= LARGEST_FILLED).then(|| Self {
            number,
            shape: shape.to_vec(),
            values: if size == 0 { Vec::new() } else { vec![value] },
            varies: false,
        })
    }

    /// Whole numbers in a list.
    pub fn list(values: impl IntoIterator<Item = i64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().map(|x| x as f64).collect();
        Self::new(data_type::INT64, &[values.len()], values)
    }

    /// With other numbers for other sizes of the inputs, if `varies`.
    pub fn varying(self, varies: bool) -> Self {
        Self {
            varies: varies || self.varies,
            ..self
        }
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        size(&self.shape).unwrap_or(0)
    }

    /// Whether they are floating point numbers.
    pub fn is_float(&self) -> bool {
        is_float(self.number)
    }

    /// The only number.
    pub fn single(&self) -> Option<f64> {
        (self.count() == 1).then(|| self.values[0])
    }

    /// The number that is everywhere.
    pub fn everywhere(&self) -> Option<f64> {
        let first = *self.values.first()?;
        self.values.iter().all(|&x| x == first).then_some(first)
    }

    /// All numbers, if there are not too many.
    pub fn all(&self) -> Option<Vec<f64>> {
        match (self.count(), self.values.len()) {
            (count, have) if count == have => Some(self.values.clone()),
            (count, _) if count <= LARGEST => Some(vec![self.values[0]; count]),
            _ => None,
        }
    }

    /// All numbers as whole ones.
    pub fn whole(&self) -> Option<Vec<i64>> {
        if self.count() > LARGEST {
            return None;
        }
        Some(self.all()?.into_iter().map(|x| x as i64).collect())
    }

    fn at(&self, flat: usize) -> f64 {
        match self.values.len() {
            1 => self.values[0],
            _ => self.values[flat],
        }
    }

    fn is_filled(&self) -> bool {
        self.values.len() == 1
    }

    /// In another shape.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        (size(shape) == Some(self.count())).then(|| Self {
            shape: shape.to_vec(),
            ..self.clone()
        })
    }

    /// In a shape where the element of every index is the one that `from` says.
    pub fn picked(&self, shape: &[usize], from: impl Fn(&[usize]) -> Vec<usize>) -> Option<Self> {
        if self.is_filled() || size(shape)? == 0 {
            let filled = Self::filled(self.number, shape, self.values.first().copied()?)?;
            return Some(Self {
                varies: self.varies,
                ..filled
            });
        }
        let mut values = Vec::new();
        each(shape, |index| {
            let from = from(index);
            let flat = from.iter().zip(&self.shape);
            values.push(self.at(flat.fold(0, |flat, (at, size)| flat * size + at)));
        })?;
        let picked = Self::new(self.number, shape, values)?;
        Some(Self {
            varies: self.varies,
            ..picked
        })
    }

    /// Repeated to a shape.
    pub fn expanded(&self, shape: &[usize]) -> Option<Self> {
        let fits = shape.len() >= self.shape.len() && {
            let own = self.shape.iter().rev().zip(shape.iter().rev());
            own.into_iter().all(|(&own, &to)| own == to || own == 1)
        };
        let front = shape.len().checked_sub(self.shape.len())?;
        if !fits {
            return None;
        }
        self.picked(shape, |index| {
            let own = self.shape.iter().zip(&index[front..]);
            own.map(|(&size, &at)| if size == 1 { 0 } else { at })
                .collect()
        })
    }

    /// A function of every number.
    pub fn map(&self, number: i32, f: impl Fn(f64) -> f64) -> Self {
        Self {
            number,
            values: self.values.iter().map(|&x| f(x)).collect(),
            ..self.clone()
        }
    }

    /// A function of the numbers of several tensors, repeated to one shape.
    pub fn joined(number: i32, parts: &[&Self], f: impl Fn(&[f64]) -> f64) -> Option<Self> {
        let shapes: Vec<&[usize]> = parts.iter().map(|part| &part.shape[..]).collect();
        let shape = joint(&shapes)?;
        let varies = parts.iter().any(|part| part.varies);
        let result = match parts.iter().all(|part| part.is_filled()) {
            true => {
                let values: Vec<f64> = parts.iter().map(|part| part.values[0]).collect();
                Self::filled(number, &shape, f(&values))?
            }
            false if size(&shape)? > LARGEST => return None,
            false => {
                let parts = parts.iter().map(|part| part.expanded(&shape));
                let parts = parts.collect::<Option<Vec<Self>>>()?;
                let values = (0..size(&shape)?).map(|at| {
                    let read: Vec<f64> = parts.iter().map(|part| part.at(at)).collect();
                    f(&read)
                });
                Self::new(number, &shape, values.collect())?
            }
        };
        Some(Self { varies, ..result })
    }

    /// Side by side along an axis.
    pub fn concat(parts: &[&Self], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let mut shape = first.shape.clone();
        let fits = |part: &&&Self| {
            part.shape.len() == shape.len()
                && (0..shape.len()).all(|at| at == axis || part.shape[at] == shape[at])
        };
        if axis >= shape.len() || !parts.iter().all(|part| fits(&part)) {
            return None;
        }
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        if size(&shape)? > LARGEST {
            return None;
        }
        let mut values = Vec::new();
        each(&shape, |index| {
            let mut index = index.to_vec();
            for part in parts {
                if index[axis] < part.shape[axis] {
                    let flat = index.iter().zip(&part.shape);
                    values.push(part.at(flat.fold(0, |flat, (at, size)| flat * size + at)));
                    return;
                }
                index[axis] -= part.shape[axis];
            }
        })?;
        let joined = Self::new(first.number, &shape, values)?;
        Some(Self {
            varies: parts.iter().any(|part| part.varies),
            ..joined
        })
    }

    /// Over whole axes, which stay with size 1.
    pub fn reduced(&self, axes: &[usize], f: impl Fn(&[f64]) -> f64) -> Option<Self> {
        if self.count() > LARGEST || self.count() == 0 {
            return None;
        }
        let mut shape = self.shape.clone();
        axes.iter().for_each(|&axis| shape[axis] = 1);
        let mut groups: Vec<Vec<f64>> = vec![Vec::new(); size(&shape)?];
        let mut flat = 0;
        each(&self.shape, |index| {
            let to = index.iter().zip(&shape);
            let to = to.fold(0, |to, (&at, &size)| to * size + at.min(size - 1));
            groups[to].push(self.at(flat));
            flat += 1;
        })?;
        let values = groups.iter().map(|group| f(group)).collect();
        let result = Self::new(self.number, &shape, values)?;
        Some(Self {
            varies: self.varies,
            ..result
        })
    }

    /// As numbers of another type.
    pub fn cast(&self, number: i32) -> Option<Self> {
        use data_type::BOOL;
        match (self.is_float(), number) {
            (_, BOOL) => Some(self.map(BOOL, |x| f64::from(u8::from(x != 0.0)))),
            (true, to) if is_whole(to) => Some(self.map(to, f64::trunc)),
            (_, data_type::FLOAT) => Some(self.map(number, |x| f64::from(x as f32))),
            (_, to) if is_float(to) || is_whole(to) => Some(self.map(to, |x| x)),
            _ => None,
        }
    }
}

/// Calls `f` with every index of a shape.
fn each(shape: &[usize], mut f: impl FnMut(&[usize])) -> Option<()> {
    let count = size(shape)?;
    if count > LARGEST {
        return None;
    }
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        f(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Some(())
}

/// The shape that all have once those of size 1 are repeated.
pub(super) fn joint(shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max()?;
    let mut joint = vec![1; rank];
    for shape in shapes {
        for (to, &size) in joint[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*to, size) {
                (_, 1) => {}
                (1, size) => *to = size,
                (a, b) if a == b => {}
                _ => return None,
            }
        }
    }
    Some(joint)
}
