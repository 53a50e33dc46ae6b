//! The shape of an operation's result.

use super::op::{Op, Window};
use crate::scales::ParamKey;

/// The shape that `op` makes of those that it reads.
///
/// # Errors
/// What does not fit, in words.
pub(super) fn result(
    op: &Op,
    reads: &[&[usize]],
    param: impl Fn(ParamKey) -> Option<Vec<usize>>,
) -> Result<Vec<usize>, String> {
    let count = |least: usize, most: usize| match (least..=most).contains(&reads.len()) {
        true => Ok(()),
        false => Err(format!("it reads {} values", reads.len())),
    };
    let one = || count(1, 1).map(|()| reads[0].to_vec());
    let axis_of = |axis: usize| match axis < reads[0].len() {
        true => Ok(()),
        false => Err(format!("{:?} has no axis {axis}", reads[0])),
    };
    let same_size = |shape: &[usize]| match size(reads[0]) == size(shape) {
        true => Ok(shape.to_vec()),
        false => Err(format!("{:?} cannot become {shape:?}", reads[0])),
    };
    match op {
        Op::Input { shape } | Op::Constant { shape } => {
            count(0, 0)?;
            Ok(shape.clone())
        }
        Op::Param(key) => {
            count(0, 0)?;
            param(*key).ok_or_else(|| "it is no parameter of this graph".into())
        }
        Op::MatMul { transposed } => {
            count(2, 3)?;
            let shape = matmul(reads[0], reads[1], *transposed)?;
            bias(reads.get(2), shape.last().copied())?;
            Ok(shape)
        }
        Op::Conv { window, groups } => {
            count(2, 3)?;
            let (x, w) = (reads[0], reads[1]);
            let [inputs, outputs] = channels(x, w, window)?;
            let fits = *groups > 0
                && x[1].is_multiple_of(*groups)
                && w[0].is_multiple_of(*groups)
                && inputs == x[1] / groups;
            if !fits {
                return Err(format!(
                    "a weight of shape {w:?} in {groups} groups does not take {x:?}"
                ));
            }
            bias(reads.get(2), Some(outputs))?;
            Ok([&[x[0], outputs], &window.places(&x[2..])?[..]].concat())
        }
        Op::ConvTranspose {
            window,
            groups,
            output_padding,
        } => {
            count(2, 3)?;
            let (x, w) = (reads[0], reads[1]);
            let [outputs, inputs] = channels(x, w, window)?;
            let fits = *groups > 0
                && inputs == x[1]
                && inputs.is_multiple_of(*groups)
                && output_padding.len() == window.kernel.len();
            if !fits {
                return Err(format!(
                    "a weight of shape {w:?} in {groups} groups does not take {x:?}"
                ));
            }
            let outputs = outputs * groups;
            bias(reads.get(2), Some(outputs))?;
            let mut shape = vec![x[0], outputs];
            for (axis, &size) in x[2..].iter().enumerate() {
                let [kernel, stride, dilation] =
                    [&window.kernel, &window.stride, &window.dilation].map(|list| list[axis]);
                let [before, after] = window.padding[axis];
                let whole = || {
                    let reach = kernel.saturating_sub(1).checked_mul(dilation)?;
                    let steps = size.saturating_sub(1).checked_mul(stride)?;
                    steps
                        .checked_add(reach)?
                        .checked_add(output_padding[axis])?
                        .checked_add(1)
                };
                let size = whole().ok_or("its stride or dilation is too large")?;
                let size = before
                    .checked_add(after)
                    .and_then(|padding| size.checked_sub(padding));
                shape.push(size.ok_or("its padding takes everything away")?);
            }
            Ok(shape)
        }
        Op::BatchNorm { .. } => {
            count(5, 5)?;
            let channels = channel_count(reads[0]);
            for tensor in &reads[1..] {
                if size(tensor) != Some(channels) {
                    return Err(format!("a tensor {tensor:?} for {channels} channels"));
                }
            }
            Ok(reads[0].to_vec())
        }
        Op::Prelu => {
            count(2, 2)?;
            let slopes = size(reads[1]);
            let fits = slopes == Some(1) || slopes == Some(channel_count(reads[0]));
            match fits || broadcast(&[reads[0], reads[1]]).as_deref() == Ok(reads[0]) {
                true => Ok(reads[0].to_vec()),
                false => Err(format!("slopes {:?} for {:?}", reads[1], reads[0])),
            }
        }
        Op::Activation(_) | Op::Identity | Op::Function(_) => one(),
        Op::Softmax { axis } => {
            count(1, 1)?;
            axis_of(*axis)?;
            one()
        }
        Op::Normalise { axes, groups, .. } => {
            count(1, 1)?;
            axes.iter().try_for_each(|&axis| axis_of(axis))?;
            match groups {
                Some(groups)
                    if *groups == 0 || !channel_count(reads[0]).is_multiple_of(*groups) =>
                {
                    Err(format!("{:?} in {groups} groups", reads[0]))
                }
                _ => one(),
            }
        }
        Op::Pool { window, .. } => {
            count(1, 1)?;
            let x = reads[0];
            if x.len() != window.kernel.len() + 2 {
                return Err(format!("a window of {:?} over {x:?}", window.kernel));
            }
            Ok([&x[..2], &window.places(&x[2..])?[..]].concat())
        }
        Op::Reduce { axes, keep, .. } => {
            count(1, 1)?;
            axes.iter().try_for_each(|&axis| axis_of(axis))?;
            let sizes = reads[0].iter().enumerate();
            Ok(match keep {
                true => sizes
                    .map(|(axis, &size)| if axes.contains(&axis) { 1 } else { size })
                    .collect(),
                false => sizes
                    .filter(|(axis, _)| !axes.contains(axis))
                    .map(|(_, &size)| size)
                    .collect(),
            })
        }
        Op::Resample { shape, .. } => {
            count(1, 1)?;
            match shape.len() == reads[0].len() {
                true => Ok(shape.clone()),
                false => Err(format!("{:?} cannot become {shape:?}", reads[0])),
            }
        }
        Op::Add => {
            count(1, usize::MAX)?;
            broadcast(reads)
        }
        Op::Sub | Op::Mul | Op::Div => {
            count(2, 2)?;
            broadcast(reads)
        }
        Op::Concat { axis } => {
            count(1, usize::MAX)?;
            axis_of(*axis)?;
            let mut shape = reads[0].to_vec();
            for other in &reads[1..] {
                let fits = other.len() == shape.len()
                    && (0..shape.len()).all(|at| at == *axis || other[at] == shape[at]);
                if !fits {
                    return Err(format!("{:?} and {other:?} side by side", reads[0]));
                }
                shape[*axis] += other[*axis];
            }
            Ok(shape)
        }
        Op::Slice {
            axis,
            start,
            step,
            count: places,
        } => {
            count(1, 1)?;
            axis_of(*axis)?;
            let last = (*places as isize - 1)
                .checked_mul(*step)
                .and_then(|way| way.checked_add(*start as isize));
            let inside = |at: isize| (0..reads[0][*axis] as isize).contains(&at);
            if *places == 0 || !inside(*start as isize) || !last.is_some_and(inside) {
                return Err(format!(
                    "{places} places from {start} in steps of {step} of {:?}",
                    reads[0]
                ));
            }
            let mut shape = reads[0].to_vec();
            shape[*axis] = *places;
            Ok(shape)
        }
        Op::Select { axis, places } => {
            count(1, 1)?;
            axis_of(*axis)?;
            if places.is_empty() || places.iter().any(|&at| at >= reads[0][*axis]) {
                return Err(format!("places {places:?} of {:?}", reads[0]));
            }
            let mut shape = reads[0].to_vec();
            shape[*axis] = places.len();
            Ok(shape)
        }
        Op::Gather { axis, shape } => {
            count(1, 2)?;
            axis_of(*axis)?;
            let (before, behind) = (&reads[0][..*axis], &reads[0][*axis + 1..]);
            let fits = shape.starts_with(before)
                && shape.ends_with(behind)
                && shape.len() >= before.len() + behind.len();
            match fits {
                true => Ok(shape.clone()),
                false => Err(format!("{:?} cannot become {shape:?}", reads[0])),
            }
        }
        Op::Reshape { shape } => {
            count(1, 1)?;
            same_size(shape)
        }
        Op::Transpose { order } => {
            count(1, 1)?;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            match sorted.iter().copied().eq(0..reads[0].len()) {
                true => Ok(order.iter().map(|&axis| reads[0][axis]).collect()),
                false => Err(format!("axes {order:?} of {:?}", reads[0])),
            }
        }
        Op::Expand { shape } => {
            count(1, 1)?;
            match broadcast(&[reads[0], shape]).as_deref() == Ok(shape) {
                true => Ok(shape.clone()),
                false => Err(format!("{:?} cannot become {shape:?}", reads[0])),
            }
        }
        Op::Opaque { shape, .. } => Ok(shape.clone()),
    }
}

/// The number of elements, if it is a number.
pub(super) fn size(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |size, &axis| size.checked_mul(axis))
}

/// Channels of `[batch, channels, ..]`; of `[features]` those.
fn channel_count(shape: &[usize]) -> usize {
    shape.get(1).or(shape.first()).copied().unwrap_or(1)
}

/// The shape that all have once those of size 1 are repeated, and axes are added in front.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut joint = vec![1; rank];
    for shape in shapes {
        for (to, &size) in joint[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*to, size) {
                (_, 1) => {}
                (1, _) => *to = size,
                (a, b) if a == b => {}
                _ => return Err(format!("{shapes:?} do not fit together")),
            }
        }
    }
    Ok(joint)
}

fn matmul(a: &[usize], b: &[usize], transposed: bool) -> Result<Vec<usize>, String> {
    let wrong = || format!("{a:?} times {b:?}");
    let ([.., rows, inner], &[.., k, m]) = (a, b) else {
        // a vector
        return match (a, b) {
            (&[inner], &[.., k, m]) => {
                let (k, m) = if transposed { (m, k) } else { (k, m) };
                let front = &b[..b.len() - 2];
                (inner == k)
                    .then(|| [front, &[m]].concat())
                    .ok_or_else(wrong)
            }
            _ => Err(wrong()),
        };
    };
    let (k, m) = if transposed { (m, k) } else { (k, m) };
    if *inner != k {
        return Err(wrong());
    }
    let mut shape = broadcast(&[&a[..a.len() - 2], &b[..b.len() - 2]])?;
    shape.extend([*rows, m]);
    Ok(shape)
}

fn bias(bias: Option<&&[usize]>, outputs: Option<usize>) -> Result<(), String> {
    match bias {
        Some(bias) if size(bias) != outputs || bias.last().copied() != outputs => {
            Err(format!("a bias {bias:?} for {outputs:?} outputs"))
        }
        _ => Ok(()),
    }
}

/// The second and the first size of a convolution's weight.
fn channels(x: &[usize], weight: &[usize], window: &Window) -> Result<[usize; 2], String> {
    let axes = window.kernel.len();
    let lists = [
        window.stride.len(),
        window.padding.len(),
        window.dilation.len(),
    ];
    let fits = lists == [axes; 3] && x.len() == axes + 2 && weight.len() == axes + 2;
    match fits && weight[2..] == window.kernel {
        true => Ok([weight[1], weight[0]]),
        false => Err(format!(
            "a window of {:?} and a weight of shape {weight:?} over {x:?}",
            window.kernel
        )),
    }
}

impl Window {
    /// The number of places along each axis where the window fits.
    pub fn places(&self, sizes: &[usize]) -> Result<Vec<usize>, String> {
        let axes = self.kernel.len();
        let lists = [
            self.stride.len(),
            self.padding.len(),
            self.dilation.len(),
            sizes.len(),
        ];
        if lists != [axes; 4] {
            return Err("a window needs a stride, a padding and a dilation for every axis".into());
        }
        let along = |axis: usize| {
            let (kernel, stride, dilation) =
                (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            if kernel == 0 || stride == 0 || dilation == 0 {
                return Err("kernel, stride and dilation are at least 1".to_string());
            }
            let [before, after] = self.padding[axis];
            let reach = (kernel - 1).checked_mul(dilation);
            let padded = sizes[axis]
                .checked_add(before)
                .and_then(|size| size.checked_add(after));
            let room = padded
                .zip(reach)
                .and_then(|(size, reach)| size.checked_sub(reach)?.checked_sub(1));
            let room = room.ok_or_else(|| {
                format!("a window of {:?} does not fit into {sizes:?}", self.kernel)
            })?;
            let steps = match self.ceil {
                true => room.div_ceil(stride),
                false => room / stride,
            };
            // a last window must begin inside or in the first padding
            let over = self.ceil && steps * stride >= sizes[axis] + before;
            Ok(steps + 1 - usize::from(over))
        };
        (0..axes).map(along).collect()
    }
}
