//! What is computed of known numbers alone, as shapes are.

use super::super::numbers::is_float;
use super::super::proto::data_type::{BOOL, FLOAT};
use super::known::{Numbers, joint};
use super::things::{Thing, View};
use super::{At, Made, Reader};
use gsgd_core::graph::Op;

impl Numbers {
    /// Axes in another order.
    pub fn transposed(&self, order: &[usize]) -> Option<Self> {
        let shape: Option<Vec<usize>> = order
            .iter()
            .map(|&axis| self.shape.get(axis).copied())
            .collect();
        (order.len() == self.shape.len()).then_some(())?;
        self.picked(&shape?, |index| {
            let mut from = vec![0; order.len()];
            for (&at, &axis) in index.iter().zip(order) {
                from[axis] = at;
            }
            from
        })
    }
}

/// A function of numbers, by its name; whether the results are true and false.
fn function(op: &str, whole: bool, like_c: bool) -> Option<(fn(&[f64]) -> f64, bool)> {
    Some(match op {
        "Add" | "Sum" => (|x| x.iter().sum(), false),
        "Sub" => (|x| x[0] - x[1], false),
        "Mul" => (|x| x.iter().product(), false),
        "Div" if whole => (|x| (x[0] / x[1]).trunc(), false),
        "Div" => (|x| x[0] / x[1], false),
        "Mod" if like_c => (|x| x[0] % x[1], false),
        "Mod" => (|x| x[0] - x[1] * (x[0] / x[1]).floor(), false),
        "Pow" => (|x| x[0].powf(x[1]), false),
        "Max" => (
            |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            false,
        ),
        "Min" => (|x| x.iter().copied().fold(f64::INFINITY, f64::min), false),
        "Neg" => (|x| -x[0], false),
        "Abs" => (|x| x[0].abs(), false),
        "Floor" => (|x| x[0].floor(), false),
        "Ceil" => (|x| x[0].ceil(), false),
        "Round" => (|x| x[0].round_ties_even(), false),
        "Sqrt" => (|x| x[0].sqrt(), false),
        "Reciprocal" => (|x| 1.0 / x[0], false),
        "Exp" => (|x| x[0].exp(), false),
        "Log" => (|x| x[0].ln(), false),
        "Sign" => (|x| if x[0] == 0.0 { 0.0 } else { x[0].signum() }, false),
        "Not" => (|x| f64::from(u8::from(x[0] == 0.0)), true),
        "Equal" => (|x| f64::from(u8::from(x[0] == x[1])), true),
        "Less" => (|x| f64::from(u8::from(x[0] < x[1])), true),
        "Greater" => (|x| f64::from(u8::from(x[0] > x[1])), true),
        "LessOrEqual" => (|x| f64::from(u8::from(x[0] <= x[1])), true),
        "GreaterOrEqual" => (|x| f64::from(u8::from(x[0] >= x[1])), true),
        "And" => (|x| f64::from(u8::from(x[0] != 0.0 && x[1] != 0.0)), true),
        "Or" => (|x| f64::from(u8::from(x[0] != 0.0 || x[1] != 0.0)), true),
        "Xor" => (
            |x| f64::from(u8::from((x[0] != 0.0) != (x[1] != 0.0))),
            true,
        ),
        _ => return None,
    })
}

/// How many values a function of numbers reads.
fn arity(op: &str) -> std::ops::RangeInclusive<usize> {
    match op {
        "Sum" | "Max" | "Min" => 1..=usize::MAX,
        "Neg" | "Abs" | "Floor" | "Ceil" | "Round" | "Sqrt" | "Reciprocal" | "Exp" | "Log"
        | "Sign" | "Not" => 1..=1,
        _ => 2..=2,
    }
}

impl<'m> Reader<'m> {
    /// The results of a node as tensors or numbers that are known; none where it has to be a part of the graph.
    pub(super) fn compute(&mut self, node: At<'m>) -> Made {
        if let "Shape" | "Size" = node.op() {
            return self.sizes(node);
        }
        if let Some(view) = self.viewed(node) {
            return Some(vec![Thing::Tensor(view)]);
        }
        // whether all it reads is known, without a copy of it
        let is_small = |at: usize| match self.thing(node, at) {
            None => node.proto.read(at).is_none(),
            Some(Thing::Numbers(_) | Thing::Tensor(_)) => true,
            Some(_) => false,
        };
        if !(0..node.input.len()).all(is_small) && node.op() != "CastLike" {
            return None;
        }
        let parts: Option<Vec<Numbers>> = (0..node.input.len())
            .filter(|&at| node.proto.read(at).is_some())
            .map(|at| match (node.op(), at) {
                ("CastLike", 1) => Some(Numbers::list([0])?),
                _ => self.numbers(node, at),
            })
            .collect();
        let parts = parts?;
        let made = self.results(node, &parts)?;
        // for other sizes of the inputs, a tensor would be another
        let of_tensors =
            (0..node.input.len()).any(|at| matches!(self.thing(node, at), Some(Thing::Tensor(_))));
        let varies = made
            .iter()
            .any(|numbers| numbers.varies && numbers.is_float());
        let is_zero = |numbers: &Numbers| numbers.everywhere() == Some(0.0);
        if of_tensors && varies && !made.iter().all(is_zero) {
            return None;
        }
        Some(made.into_iter().map(Thing::Numbers).collect())
    }

    /// The shape or size of a value.
    fn sizes(&self, node: At<'m>) -> Made {
        let shape = self.read_shape(node, 0)?;
        let varies = match self.thing(node, 0)? {
            Thing::Numbers(numbers) => numbers.varies,
            Thing::Value(_) => self.varies,
            _ => false,
        };
        let numbers = match node.op() {
            "Size" => Numbers::list([shape.iter().product::<usize>() as i64])?.reshaped(&[])?,
            _ => {
                let rank = shape.len() as i64;
                let place = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
                let start = place(node.int("start").unwrap_or(0));
                let end = place(node.int("end").unwrap_or(rank));
                let part = shape.get(start..end.max(start))?;
                Numbers::list(part.iter().map(|&size| size as i64))?
            }
        };
        Some(vec![Thing::Numbers(numbers.varying(varies))])
    }

    /// A tensor seen through the node, if it changes no more than its shape, the order of its axes or its type.
    fn viewed(&self, node: At<'m>) -> Option<View> {
        let Some(Thing::Tensor(view)) = self.thing(node, 0) else {
            return None;
        };
        let op = match node.op() {
            "Identity" => Op::Identity,
            "Cast" if is_float(node.int("to")? as i32) => Op::Identity,
            "CastLike" => Op::Identity,
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let shape = self.new_shape(node, &view.shape)?;
                Op::Reshape { shape }
            }
            "Transpose" => Op::Transpose {
                order: self.order(node, view.shape.len())?,
            },
            _ => return None,
        };
        let mut view = view.clone();
        match &op {
            Op::Reshape { shape } => view.shape = shape.clone(),
            Op::Transpose { order } => {
                view.shape = order.iter().map(|&axis| view.shape[axis]).collect();
            }
            _ => {}
        }
        view.steps.push((op, Some(node.first_output().to_string())));
        Some(view)
    }

    fn results(&self, node: At<'m>, parts: &[Numbers]) -> Option<Vec<Numbers>> {
        let op = node.op();
        let varies = parts.iter().any(|part| part.varies);
        let whole = parts.first().is_some_and(|part| !part.is_float());
        let like_c = node.int("fmod") == Some(1);
        if let Some((f, is_truth)) = function(op, whole, like_c) {
            if !arity(op).contains(&parts.len()) || (self.opset < 7 && node.int("axis").is_some()) {
                return None;
            }
            let number = if is_truth { BOOL } else { parts[0].number };
            let parts: Vec<&Numbers> = parts.iter().collect();
            let rounded = |x: &[f64]| match number {
                FLOAT => f64::from(f(x) as f32),
                _ => f(x),
            };
            return Some(vec![Numbers::joined(number, &parts, rounded)?]);
        }
        let x = parts.first();
        let one = match (op, x) {
            ("Identity", Some(x)) => x.clone(),
            ("Cast", Some(x)) => x.cast(i32::try_from(node.int("to")?).ok()?)?,
            ("CastLike", Some(x)) => match self.thing(node, 1) {
                Some(Thing::Numbers(like)) => x.cast(like.number)?,
                _ => x.cast(FLOAT)?,
            },
            ("Reshape" | "Flatten" | "Squeeze" | "Unsqueeze", Some(x)) => {
                x.reshaped(&self.new_shape(node, &x.shape)?)?
            }
            ("Transpose", Some(x)) => x.transposed(&self.order(node, x.shape.len())?)?,
            ("Gather", Some(x)) => {
                let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
                let indices = parts.get(1)?;
                let places = places(&indices.whole()?, x.shape[axis])?;
                let (before, behind) = (&x.shape[..axis], &x.shape[axis + 1..]);
                let lines = [before, &[places.len()], behind].concat();
                let picked = x.picked(&lines, |index| {
                    let mut index = index.to_vec();
                    index[axis] = places[index[axis]];
                    index
                })?;
                picked.reshaped(&[before, &indices.shape, behind].concat())?
            }
            ("Slice", Some(x)) => {
                let mut x = x.clone();
                for (axis, start, step, count) in self.slices(node, &x.shape)? {
                    let mut shape = x.shape.clone();
                    shape[axis] = count;
                    x = match count {
                        0 => Numbers::new(x.number, &shape, Vec::new())?,
                        _ => x.picked(&shape, |index| {
                            let mut index = index.to_vec();
                            let at = start as i64 + step * index[axis] as i64;
                            index[axis] = at as usize;
                            index
                        })?,
                    };
                }
                x
            }
            ("Concat", Some(x)) => {
                let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
                let parts: Vec<&Numbers> = parts.iter().collect();
                Numbers::concat(&parts, axis)?
            }
            ("Split", Some(x)) => {
                let axis = axis_of(node.int("axis").unwrap_or(0), x.shape.len())?;
                let mut start = 0;
                let sizes = self.split_sizes(node, x.shape[axis])?;
                let parts = sizes.iter().map(|&size| {
                    let mut shape = x.shape.clone();
                    shape[axis] = size;
                    let part = x.picked(&shape, |index| {
                        let mut index = index.to_vec();
                        index[axis] += start;
                        index
                    });
                    start += size;
                    part
                });
                return parts.collect();
            }
            ("Expand", Some(x)) => {
                let sizes = sizes(&parts.get(1)?.whole()?)?;
                x.expanded(&joint(&[&x.shape, &sizes])?)?
            }
            ("Where", Some(_)) if parts.len() == 3 => {
                let parts: Vec<&Numbers> = parts.iter().collect();
                Numbers::joined(parts[1].number, &parts, |x| match x[0] != 0.0 {
                    true => x[1],
                    false => x[2],
                })?
            }
            ("Range", Some(x)) if parts.len() == 3 => {
                let [start, limit, step] = [0, 1, 2].map(|at| parts[at].single());
                let (start, limit, step) = (start?, limit?, step?);
                let count = ((limit - start) / step).ceil().max(0.0);
                // NaN too
                if !(count <= super::known::LARGEST as f64) {
                    return None;
                }
                let count = count as usize;
                let values = (0..count).map(|at| start + step * at as f64);
                Numbers::new(x.number, &[count], values.collect())?
            }
            ("ConstantOfShape", Some(x)) => {
                let shape = sizes(&x.whole()?)?;
                let value = node.tensor("value");
                let number = value.map_or(Some(FLOAT), |tensor| tensor.data_type)?;
                let value = match value {
                    Some(tensor) => super::super::numbers::values(tensor).ok()??,
                    None => vec![0.0],
                };
                Numbers::filled(number, &shape, *value.first()?)?
            }
            ("ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" | "ReduceMean", Some(x)) => {
                let (axes, keep) = self.reduced_axes(node, x.shape.len())?;
                let f = match op {
                    "ReduceSum" => |all: &[f64]| all.iter().sum(),
                    "ReduceProd" => |all: &[f64]| all.iter().product(),
                    "ReduceMax" => |all: &[f64]| all.iter().copied().fold(f64::MIN, f64::max),
                    "ReduceMin" => |all: &[f64]| all.iter().copied().fold(f64::MAX, f64::min),
                    _ => |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64,
                };
                let reduced = x.reduced(&axes, f)?;
                match keep {
                    true => reduced,
                    false => {
                        let shape = without(&x.shape, &axes);
                        reduced.reshaped(&shape)?
                    }
                }
            }
            _ => return None,
        };
        Some(vec![one.varying(varies)])
    }
}

/// A shape without some axes.
pub(super) fn without(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let sizes = shape.iter().enumerate();
    let kept = sizes.filter(|(axis, _)| !axes.contains(axis));
    kept.map(|(_, &size)| size).collect()
}

/// An axis, counted from the end where negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 {
        axis.checked_add(rank)?
    } else {
        axis
    };
    (0..rank).contains(&axis).then_some(axis as usize)
}

/// Axes, each once.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let axes: Option<Vec<usize>> = axes.iter().map(|&axis| axis_of(axis, rank)).collect();
    let mut axes = axes?;
    axes.sort_unstable();
    axes.dedup();
    Some(axes)
}

/// Places along an axis, counted from the end where negative.
pub(super) fn places(indices: &[i64], size: usize) -> Option<Vec<usize>> {
    indices.iter().map(|&at| axis_of(at, size)).collect()
}

/// Whole numbers as sizes.
pub(super) fn sizes(sizes: &[i64]) -> Option<Vec<usize>> {
    sizes
        .iter()
        .map(|&size| usize::try_from(size).ok())
        .collect()
}
