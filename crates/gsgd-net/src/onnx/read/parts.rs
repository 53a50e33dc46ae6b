//! Values side by side, and parts of values.

use gsgd_core::graph::{Op, Value};

use super::compute::{axis_of, places, sizes};
use super::things::Thing;
use super::{At, Made, Reader};

/// An axis, its first place, the step to the next, and how many.
type Slice = (usize, usize, i64, usize);

impl<'m> Reader<'m> {
    pub(super) fn concat(&mut self, node: At<'m>) -> Made {
        let mut parts: Vec<Value> = Vec::new();
        for at in 0..node.input.len() {
            // parts without elements add nothing
            let shape = self.read_shape(node, at)?;
            if !shape.contains(&0) {
                parts.push(self.value(node, at)?);
            }
        }
        let rank = self.shape(*parts.first()?).len();
        let axis = axis_of(node.int("axis").unwrap_or(1), rank)?;
        self.one(node, Op::Concat { axis }, &parts)
    }

    /// The sizes of the parts of a split.
    pub(super) fn split_sizes(&self, node: At<'m>, size: usize) -> Option<Vec<usize>> {
        let given = match node.proto.read(1) {
            Some(_) => Some(self.whole(node, 1)?),
            None => node.ints("split").map(<[i64]>::to_vec),
        };
        if let Some(given) = given {
            let sizes = sizes(&given)?;
            let whole = sizes
                .iter()
                .try_fold(0usize, |all, &part| all.checked_add(part));
            return (whole == Some(size)).then_some(sizes);
        }
        let parts = match node.int("num_outputs") {
            Some(parts) => usize::try_from(parts).ok()?,
            None => node.output.len(),
        };
        if parts == 0 || parts > size {
            return None;
        }
        // the last part is smaller where they are not equal
        let part = size.div_ceil(parts);
        let last = size.checked_sub(part * (parts - 1))?;
        let mut sizes = vec![part; parts];
        sizes[parts - 1] = last;
        Some(sizes)
    }

    pub(super) fn split(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let shape = self.shape(x).to_vec();
        let axis = axis_of(node.int("axis").unwrap_or(0), shape.len())?;
        let sizes = self.split_sizes(node, shape[axis])?;
        let mut start = 0;
        let mut parts = Vec::new();
        for count in sizes {
            let op = Op::Slice {
                axis,
                start,
                step: 1,
                count,
            };
            parts.push(Thing::Value(self.push(node, op, &[x])?));
            start += count;
        }
        Some(parts)
    }

    /// What a slicing takes of a shape.
    pub(super) fn slices(&self, node: At<'m>, shape: &[usize]) -> Option<Vec<Slice>> {
        let [starts, ends, axes, steps] = match self.opset {
            ..10 => {
                ["starts", "ends", "axes", "steps"].map(|name| node.ints(name).map(<[i64]>::to_vec))
            }
            _ => {
                let given = |at: usize| match node.proto.read(at) {
                    Some(_) => self.whole(node, at).map(Some),
                    None => Some(None),
                };
                [given(1)?, given(2)?, given(3)?, given(4)?]
            }
        };
        let (starts, ends) = (starts?, ends?);
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return None;
        }
        let slices = (0..starts.len()).map(|at| {
            let axis = axis_of(axes[at], shape.len())?;
            let size = i64::try_from(shape[axis]).ok()?;
            let step = steps[at];
            let place = |x: i64| if x < 0 { x.saturating_add(size) } else { x };
            let (start, end) = (place(starts[at]), place(ends[at]));
            let (start, way) = match step {
                0 => return None,
                1.. => {
                    let start = start.clamp(0, size);
                    (start, end.clamp(0, size) - start)
                }
                _ => {
                    let start = start.clamp(0, size - 1);
                    (start, start - end.clamp(-1, size - 1))
                }
            };
            let count = (way.max(0) as u64).div_ceil(step.unsigned_abs());
            Some((axis, start as usize, step, count as usize))
        });
        slices.collect()
    }

    pub(super) fn slice(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let shape = self.shape(x).to_vec();
        let slices = self.slices(node, &shape)?;
        let ops = slices.into_iter().filter_map(|(axis, start, step, count)| {
            // the whole axis, whatever its end is said to be
            let whole = start == 0 && step == 1 && count == shape[axis];
            (!whole).then_some(Op::Slice {
                axis,
                start,
                step: step as isize,
                count,
            })
        });
        let ops: Vec<Op> = ops.collect();
        let y = self.chain(node, ops, x)?;
        Some(vec![Thing::Value(y)])
    }

    pub(super) fn gather(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let shape = self.shape(x).to_vec();
        let axis = axis_of(node.int("axis").unwrap_or(0), shape.len())?;
        let (before, behind) = (&shape[..axis], &shape[axis + 1..]);
        let known = self.numbers(node, 1).filter(|numbers| !numbers.is_float());
        let of = self.read_shape(node, 1)?;
        let new = [before, &of, behind].concat();
        let Some(known) = known else {
            let at = self.value(node, 1)?;
            let op = Op::Gather { axis, shape: new };
            return self.one(node, op, &[x, at]);
        };
        let places = places(&known.whole()?, shape[axis])?;
        let y = self.push(node, Op::Select { axis, places }, &[x])?;
        self.one(node, Op::Reshape { shape: new }, &[y])
    }

    /// Rows around a value.
    pub(super) fn pad(&mut self, node: At<'m>) -> Made {
        let shape = self.read_shape(node, 0)?;
        let rank = shape.len();
        let (pads, value) = match self.opset {
            ..11 => {
                let pads = node.ints("pads").or(node.ints("paddings"))?.to_vec();
                (pads, node.float("value").unwrap_or(0.0))
            }
            _ => {
                let value = match node.proto.read(2) {
                    Some(_) => self.numbers(node, 2)?.everywhere().unwrap_or(0.0),
                    None => 0.0,
                };
                (self.whole(node, 1)?, value)
            }
        };
        let axes = match node.proto.read(3) {
            Some(_) => {
                let axes = self.whole(node, 3)?.into_iter();
                axes.map(|axis| axis_of(axis, rank))
                    .collect::<Option<Vec<usize>>>()?
            }
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return None;
        }
        let mode = node.text("mode").unwrap_or("constant");
        if mode == "constant" && value != 0.0 {
            return None;
        }
        let mut x = self.value(node, 0)?;
        for (at, &axis) in axes.iter().enumerate() {
            let [before, after] = [pads[at], pads[axes.len() + at]];
            if [before, after] != [0, 0] {
                x = self.padded(node, x, axis, [before, after], mode)?;
            }
        }
        Some(vec![Thing::Value(x)])
    }

    /// Rows before and behind one axis; fewer than none are taken away.
    fn padded(
        &mut self,
        node: At<'m>,
        x: Value,
        axis: usize,
        pads: [i64; 2],
        mode: &str,
    ) -> Option<Value> {
        let size = i64::try_from(self.shape(x)[axis]).ok()?;
        let long = size.checked_add(pads[0])?.checked_add(pads[1])?;
        if !(1..=super::known::LARGEST as i64).contains(&long) || pads.iter().any(|&pad| pad < 0) {
            return None;
        }
        let select = |from: &dyn Fn(i64) -> i64| {
            let places = (-pads[0]..size + pads[1]).map(|at| from(at) as usize);
            let places = places.collect();
            Op::Select { axis, places }
        };
        match mode {
            "constant" if axis >= 2 => {
                let mut shape = self.shape(x).to_vec();
                shape[axis] = long as usize;
                let kind = "pad".to_string();
                self.push(node, Op::Resample { kind, shape }, &[x])
            }
            "constant" => {
                // the rows at the ends times zero: they have their channels, and join no others
                let mut parts = vec![x];
                for (end, &count) in pads.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let place = if end == 0 { 0 } else { size as usize - 1 };
                    let places = vec![place; count as usize];
                    let rows = self.push(node, Op::Select { axis, places }, &[x])?;
                    let zero = self.fixed(node, &[1])?;
                    let rows = self.push(node, Op::Mul, &[rows, zero])?;
                    let at = if end == 0 { 0 } else { parts.len() };
                    parts.insert(at, rows);
                }
                self.push(node, Op::Concat { axis }, &parts)
            }
            "edge" => self.push(node, select(&|at| at.clamp(0, size - 1)), &[x]),
            "wrap" => self.push(node, select(&|at| at.rem_euclid(size)), &[x]),
            "reflect" if size > 1 => {
                let round = 2 * (size - 1);
                let mirrored = |at: i64| {
                    let at = at.rem_euclid(round);
                    at.min(round - at)
                };
                self.push(node, select(&mirrored), &[x])
            }
            _ => None,
        }
    }
}
