//! Poolings, reductions and resizings.

use gsgd_core::graph::{Op, Pooling, Reduction};

use super::compute::axes_of;
use super::things::Thing;
use super::{At, Made, Reader};

impl<'m> Reader<'m> {
    pub(super) fn pool(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let space = self.shape(x).get(2..)?.to_vec();
        let kernel = node.sizes("kernel_shape")?;
        if kernel.len() != space.len() {
            return None;
        }
        let window = self.window(node, &space, &kernel)?;
        let pooling = match node.op() {
            "MaxPool" => Pooling::Max,
            _ => Pooling::Mean {
                counts_padding: node.int("count_include_pad") == Some(1),
            },
        };
        self.one(node, Op::Pool { pooling, window }, &[x])
    }

    pub(super) fn global_pool(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let op = Op::Reduce {
            reduction: match node.op() {
                "GlobalMaxPool" => Reduction::Max,
                _ => Reduction::Mean,
            },
            axes: (2..self.shape(x).len()).collect(),
            keep: true,
        };
        self.one(node, op, &[x])
    }

    /// The axes that a node reduces, and whether they stay.
    pub(super) fn reduced_axes(&self, node: At<'m>, rank: usize) -> Option<(Vec<usize>, bool)> {
        let keep = node.int("keepdims").unwrap_or(1) != 0;
        let axes = match node.proto.read(1) {
            Some(_) => Some(self.whole(node, 1)?),
            None => node.ints("axes").map(<[i64]>::to_vec),
        };
        let axes = match axes {
            Some(axes) if !axes.is_empty() => axes_of(&axes, rank)?,
            _ if node.int("noop_with_empty_axes").unwrap_or(0) != 0 => Vec::new(),
            _ => (0..rank).collect(),
        };
        Some((axes, keep))
    }

    pub(super) fn reduce(&mut self, node: At<'m>) -> Made {
        let x = self.value(node, 0)?;
        let (axes, keep) = self.reduced_axes(node, self.shape(x).len())?;
        if axes.is_empty() {
            return self.one(node, Op::Identity, &[x]);
        }
        let op = Op::Reduce {
            reduction: match node.op() {
                "ReduceMean" => Reduction::Mean,
                "ReduceSum" => Reduction::Sum,
                "ReduceMax" => Reduction::Max,
                _ => Reduction::Min,
            },
            axes,
            keep,
        };
        self.one(node, op, &[x])
    }

    pub(super) fn resize(&mut self, node: At<'m>) -> Made {
        let cropped = node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        let shape = self.resized(node)?;
        if cropped {
            // outside there is a number of its own
            return None;
        }
        let x = self.value(node, 0)?;
        let kind = "resize".to_string();
        let y = self.push(node, Op::Resample { kind, shape }, &[x])?;
        Some(vec![Thing::Value(y)])
    }

    /// The shape that a resizing gives.
    pub(super) fn resized(&self, node: At<'m>) -> Option<Vec<usize>> {
        let from = self.read_shape(node, 0)?;
        let rank = from.len();
        let axes = match node.ints("axes") {
            Some(axes) => {
                let axes = axes.iter().map(|&axis| super::compute::axis_of(axis, rank));
                axes.collect::<Option<Vec<usize>>>()?
            }
            None => (0..rank).collect(),
        };
        // scales, then sizes, in the order of the node's inputs
        let scales_at = if node.op() == "Upsample" || self.opset < 11 {
            1
        } else {
            2
        };
        let given = |at: usize| {
            let numbers = self.numbers(node, at)?;
            let all = numbers.all()?;
            (!all.is_empty()).then_some(all)
        };
        let mut shape = from.clone();
        if let Some(sizes) = given(3).filter(|_| scales_at == 2) {
            if sizes.len() != axes.len() {
                return None;
            }
            let policy = node.text("keep_aspect_ratio_policy").unwrap_or("stretch");
            let scales = axes
                .iter()
                .zip(&sizes)
                .map(|(&axis, size)| size / from[axis] as f64);
            let scale = match policy {
                "not_larger" => Some(scales.fold(f64::INFINITY, f64::min)),
                "not_smaller" => Some(scales.fold(0.0, f64::max)),
                _ => None,
            };
            for (&axis, size) in axes.iter().zip(&sizes) {
                let size = match scale {
                    Some(scale) => (scale * from[axis] as f64).round(),
                    None => *size,
                };
                shape[axis] = whole(size)?;
            }
            return Some(shape);
        }
        let scales = match node.attribute("scales") {
            Some(scales) => scales.floats.iter().map(|&x| f64::from(x)).collect(),
            None => given(scales_at)?,
        };
        if scales.len() != axes.len() {
            return None;
        }
        for (&axis, scale) in axes.iter().zip(scales) {
            // as it is computed with numbers of 32 bits
            shape[axis] = whole(f64::from((from[axis] as f32 * scale as f32).floor()))?;
        }
        Some(shape)
    }
}

fn whole(x: f64) -> Option<usize> {
    let sizes = 1.0..=f64::from(1 << 28);
    sizes.contains(&x).then_some(x as usize)
}
