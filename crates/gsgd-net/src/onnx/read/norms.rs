//! Normalisation.

use gsgd_core::graph::{Op, Value};

use super::compute::axis_of;
use super::things::Thing;
use super::{At, Made, Reader};

impl<'m> Reader<'m> {
    pub(super) fn batch_norm(&mut self, node: At<'m>) -> Made {
        let trains = match self.opset {
            ..7 => node.int("is_test").unwrap_or(0) == 0,
            7..14 => false,
            _ => node.int("training_mode").unwrap_or(0) != 0,
        };
        if trains || (self.opset < 9 && node.int("spatial") == Some(0)) {
            return None;
        }
        // statistics of a batch
        if node.output.iter().skip(1).any(|name| !name.is_empty()) {
            return None;
        }
        let x = self.value(node, 0)?;
        let channels = *self.shape(x).get(1)?;
        let mut reads = vec![x];
        for at in 1..5 {
            reads.push(self.value_as(node, at, &[channels])?);
        }
        let epsilon = node.float("epsilon").unwrap_or(1e-5);
        self.one(node, Op::BatchNorm { epsilon }, &reads)
    }

    /// Times a gain, plus a shift, each in this shape, where the node reads them.
    fn gain_and_shift(
        &mut self,
        node: At<'m>,
        mut y: Value,
        shape: Option<&[usize]>,
    ) -> Option<Value> {
        for (at, op) in [(1, Op::Mul), (2, Op::Add)] {
            if node.proto.read(at).is_some() {
                let other = match shape {
                    Some(shape) => self.value_as(node, at, shape)?,
                    None => self.value(node, at)?,
                };
                y = self.push(node, op, &[y, other])?;
            }
        }
        Some(y)
    }

    pub(super) fn layer_norm(&mut self, node: At<'m>, centred: bool) -> Made {
        let x = self.value(node, 0)?;
        let rank = self.shape(x).len();
        let op = Op::Normalise {
            axes: (axis_of(node.int("axis").unwrap_or(-1), rank)?..rank).collect(),
            groups: None,
            centred,
            epsilon: node.float("epsilon").unwrap_or(1e-5),
        };
        let y = self.push(node, op, &[x])?;
        let y = self.gain_and_shift(node, y, None)?;
        Some(vec![Thing::Value(y)])
    }

    pub(super) fn instance_norm(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let rank = self.shape(x).len();
        let channels = *self.shape(x).get(1)?;
        let op = Op::Normalise {
            axes: (2..rank).collect(),
            groups: None,
            centred: true,
            epsilon: node.float("epsilon").unwrap_or(1e-5),
        };
        let y = self.push(node, op, &[x])?;
        let mut shape = vec![1; rank - 1];
        shape[0] = channels;
        let y = self.gain_and_shift(node, y, Some(&shape))?;
        Some(vec![Thing::Value(y)])
    }

    pub(super) fn group_norm(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let whole = self.shape(x).to_vec();
        let (rank, channels) = (whole.len(), *whole.get(1)?);
        let groups = usize::try_from(node.int("num_groups")?).ok()?;
        let op = Op::Normalise {
            axes: (2..rank).collect(),
            groups: Some(groups),
            centred: true,
            epsilon: node.float("epsilon").unwrap_or(1e-5),
        };
        let y = self.push(node, op, &[x])?;
        if self.opset >= 21 {
            let mut shape = vec![1; rank - 1];
            shape[0] = channels;
            let y = self.gain_and_shift(node, y, Some(&shape))?;
            return Some(vec![Thing::Value(y)]);
        }
        // a gain for every group
        let of_group = whole[1..].iter().product::<usize>().checked_div(groups)?;
        let shape = vec![whole[0], groups, of_group];
        let y = self.push(node, Op::Reshape { shape }, &[y])?;
        let y = self.gain_and_shift(node, y, Some(&[groups, 1]))?;
        self.one(node, Op::Reshape { shape: whole }, &[y])
    }
}
