//! Other shapes of the same elements, and elements of a value in other places.

use gsgd_core::graph::{Op, Value};

use super::compute::{axes_of, axis_of, sizes};
use super::known::joint;
use super::things::Thing;
use super::{At, Made, Reader};

impl<'m> Reader<'m> {
    /// The shape that a reshaping node makes of another.
    pub(super) fn new_shape(&self, node: At<'m>, from: &[usize]) -> Option<Vec<usize>> {
        Some(match node.op() {
            "Reshape" => {
                let wanted = match node.proto.read(1) {
                    Some(_) => self.whole(node, 1)?,
                    None => node.ints("shape")?.to_vec(),
                };
                reshaped(from, &wanted, node.int("allowzero") == Some(1))?
            }
            "Flatten" => {
                let axis = node.int("axis").unwrap_or(1);
                let axis = match axis == from.len() as i64 {
                    true => from.len(),
                    false => axis_of(axis, from.len())?,
                };
                let [front, behind] =
                    [&from[..axis], &from[axis..]].map(|part| part.iter().product::<usize>());
                vec![front, behind]
            }
            "Squeeze" => {
                let axes = match self.axes(node)? {
                    Some(axes) => axes_of(&axes, from.len())?,
                    None => (0..from.len()).filter(|&axis| from[axis] == 1).collect(),
                };
                if axes.iter().any(|&axis| from[axis] != 1) {
                    return None;
                }
                super::compute::without(from, &axes)
            }
            "Unsqueeze" => {
                let axes = self.axes(node)??;
                let axes = axes_of(&axes, from.len() + axes.len())?;
                let mut shape = from.to_vec();
                for &axis in &axes {
                    (axis <= shape.len()).then(|| shape.insert(axis, 1))?;
                }
                shape
            }
            _ => return None,
        })
    }

    /// The axes of a node, an input or an attribute; nothing inside where it has none.
    fn axes(&self, node: At<'m>) -> Option<Option<Vec<i64>>> {
        match node.proto.read(1) {
            Some(_) => self.whole(node, 1).map(Some),
            None => Some(node.ints("axes").map(<[i64]>::to_vec)),
        }
    }

    pub(super) fn reshape(&mut self, node: At<'m>) -> Made {
        let from = self.read_shape(node, 0)?;
        let shape = self.new_shape(node, &from)?;
        let x = self.value(node, 0)?;
        self.one(node, Op::Reshape { shape }, &[x])
    }

    /// The order of axes of a node.
    pub(super) fn order(&self, node: At<'m>, rank: usize) -> Option<Vec<usize>> {
        let order = match node.ints("perm") {
            Some(order) => order
                .iter()
                .map(|&axis| axis_of(axis, rank))
                .collect::<Option<_>>()?,
            None => (0..rank).rev().collect::<Vec<usize>>(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..rank).then_some(order)
    }

    pub(super) fn transpose(&mut self, node: At<'m>) -> Made {
        let rank = self.read_shape(node, 0)?.len();
        let order = self.order(node, rank)?;
        let x = self.value(node, 0)?;
        self.one(node, Op::Transpose { order }, &[x])
    }

    pub(super) fn expand(&mut self, node: At<'m>) -> Made {
        let wanted = sizes(&self.whole(node, 1)?)?;
        let from = self.read_shape(node, 0)?;
        let shape = joint(&[&from, &wanted])?;
        let x = self.value(node, 0)?;
        self.one(node, Op::Expand { shape }, &[x])
    }

    pub(super) fn tile(&mut self, node: At<'m>) -> Made {
        let from = self.read_shape(node, 0)?;
        let times = match self.opset {
            ..6 => {
                let (times, axis) = (self.whole(node, 1)?, self.whole(node, 2)?);
                let mut all = vec![1; from.len()];
                all[axis_of(*axis.first()?, from.len())?] =
                    usize::try_from(*times.first()?).ok()?;
                all
            }
            _ => sizes(&self.whole(node, 1)?)?,
        };
        if times.len() != from.len() {
            return None;
        }
        let mut x = self.value(node, 0)?;
        for (axis, &times) in times.iter().enumerate() {
            let mut shape = self.shape(x).to_vec();
            let long = shape[axis].checked_mul(times)?;
            if times == 1 {
                continue;
            }
            x = match shape[axis] {
                1 => {
                    shape[axis] = times;
                    self.push(node, Op::Expand { shape }, &[x])?
                }
                _ if long <= super::known::LARGEST => {
                    self.push(node, Op::Concat { axis }, &vec![x; times])?
                }
                _ => return None,
            };
        }
        Some(vec![Thing::Value(x)])
    }

    /// Blocks of places that become channels, or the other way around: reshaped, transposed, reshaped.
    pub(super) fn depth_and_space(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let &[batch, channels, height, width] = self.shape(x) else {
            return None;
        };
        let block = usize::try_from(node.int("blocksize")?).ok()?;
        let square = block.checked_mul(block).filter(|&square| square > 0)?;
        let (inside, order, shape) = match (node.op(), node.text("mode").unwrap_or("DCR")) {
            ("SpaceToDepth", _) => {
                let fits = height.is_multiple_of(block) && width.is_multiple_of(block);
                fits.then_some(())?;
                let (rows, columns) = (height / block, width / block);
                (
                    vec![batch, channels, rows, block, columns, block],
                    [0, 3, 5, 1, 2, 4],
                    [batch, channels.checked_mul(square)?, rows, columns],
                )
            }
            (_, mode) => {
                channels.is_multiple_of(square).then_some(())?;
                let depth = channels / square;
                let shape = [
                    batch,
                    depth,
                    height.checked_mul(block)?,
                    width.checked_mul(block)?,
                ];
                match mode {
                    "CRD" => (
                        vec![batch, depth, block, block, height, width],
                        [0, 1, 4, 2, 5, 3],
                        shape,
                    ),
                    _ => (
                        vec![batch, block, block, depth, height, width],
                        [0, 3, 4, 1, 5, 2],
                        shape,
                    ),
                }
            }
        };
        let x = self.push(node, Op::Reshape { shape: inside }, &[x])?;
        let order = order.to_vec();
        let x = self.push(node, Op::Transpose { order }, &[x])?;
        let shape = shape.to_vec();
        self.one(node, Op::Reshape { shape }, &[x])
    }

    pub(super) fn identity(&mut self, node: At<'m>) -> Made {
        match node.op() {
            "Cast" if !super::super::numbers::is_float(node.int("to")? as i32) => return None,
            "CastLike" if self.is_whole(node.proto.read(1)?) => return None,
            "Dropout" if node.proto.read(2).is_some() => {
                let trains = self.numbers(node, 2)?.single()?;
                (trains == 0.0).then_some(())?;
            }
            _ => {}
        }
        let x = self.value(node, 0)?;
        let y = self.push(node, Op::Identity, &[x])?;
        Some(vec![Thing::Value(y)])
    }

    /// Whether a name stands for whole numbers, as far as that is known.
    fn is_whole(&self, name: &str) -> bool {
        if let Some(Thing::Numbers(numbers)) = self.things.get(name) {
            return !numbers.is_float();
        }
        let info = self.infos.get(name).copied();
        let input = || {
            let mut inputs = self.file.input.iter();
            inputs.find(|input| super::name_of(input) == name)
        };
        let found = info.or_else(input);
        let number = found
            .and_then(super::inputs::tensor_type)
            .and_then(|tensor| tensor.elem_type);
        number.is_some_and(super::super::numbers::is_whole)
    }

    /// Operations of one value, one after the other.
    pub(super) fn chain(&mut self, node: At<'m>, ops: Vec<Op>, x: Value) -> Option<Value> {
        let mut ops = ops.into_iter();
        ops.try_fold(x, |x, op| self.push(node, op, &[x]))
    }
}

/// The shape that numbers of a reshaping make of another.
fn reshaped(from: &[usize], wanted: &[i64], zeros_count: bool) -> Option<Vec<usize>> {
    let mut shape = Vec::new();
    let mut open = None;
    for (at, &size) in wanted.iter().enumerate() {
        shape.push(match size {
            0 if !zeros_count => *from.get(at)?,
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            size => usize::try_from(size).ok()?,
        });
    }
    let count = |shape: &[usize]| {
        let mut sizes = shape.iter();
        sizes.try_fold(1usize, |all, &size| all.checked_mul(size))
    };
    let (have, rest) = (count(from)?, count(&shape)?);
    if let Some(at) = open {
        (rest > 0 && have.is_multiple_of(rest)).then_some(())?;
        shape[at] = have / rest;
    }
    (count(&shape)? == have).then_some(shape)
}
