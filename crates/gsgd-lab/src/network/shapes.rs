//! The shape of a layer's result, from the shapes of what it reads; a network that does not fit together is refused.

use anyhow::{Result, bail, ensure};

use super::op::{Op, Orientation, Window};
use super::tensors::Tensors;

/// The shape that `op` makes of those it reads, without the batch: `[features]` or `[channels, height, width]`.
pub fn result(op: &Op, from: &[&[usize]], tensors: &Tensors) -> Result<Vec<usize>> {
    let one = || match from {
        [one] => Ok(*one),
        _ => bail!("it reads one value, not {}", from.len()),
    };
    let map = || -> Result<[usize; 3]> {
        let shape = one()?;
        shape
            .try_into()
            .map_err(|_| anyhow::anyhow!("it reads [channels, height, width], not {shape:?}"))
    };
    let per_channel = |names: &[&String]| -> Result<Vec<usize>> {
        let shape = one()?;
        for name in names {
            let found = tensors.known(name)?;
            ensure!(
                found == &shape[..1],
                "`{name}` has shape {found:?}, the layer before gives {} channels",
                shape[0]
            );
        }
        Ok(shape.to_vec())
    };
    match op {
        Op::Input { shape } => {
            let fits = matches!(shape.len(), 1 | 3) && !shape.contains(&0);
            ensure!(
                fits,
                "an input of shape {shape:?}, not [features] or [channels, height, width]"
            );
            Ok(shape.clone())
        }
        Op::Linear {
            weight,
            bias,
            orientation,
        } => {
            let shape = one()?;
            let &[a, b] = tensors.known(weight)? else {
                bail!(
                    "`{weight}` has shape {:?}, that of a dense layer has two dimensions",
                    tensors.known(weight)?
                );
            };
            let (inputs, outputs) = match orientation {
                Orientation::OutputsFirst => (b, a),
                Orientation::InputsFirst => (a, b),
            };
            ensure!(
                shape == [inputs],
                "`{weight}` takes {inputs} features, the layer before gives {shape:?}{}",
                if shape.len() == 3 {
                    " (flatten it first)"
                } else {
                    ""
                }
            );
            check_bias(bias, outputs, tensors)?;
            Ok(vec![outputs])
        }
        Op::Conv {
            weight,
            bias,
            window,
            groups,
        } => {
            let [channels, height, width] = map()?;
            let &[outputs, inputs, ..] = tensors.known(weight)? else {
                bail!("`{weight}` is no convolution's weight");
            };
            let fits = *groups > 0
                && inputs.checked_mul(*groups) == Some(channels)
                && outputs.is_multiple_of(*groups);
            ensure!(
                fits,
                "`{weight}` has shape {:?} in {groups} groups, the layer before gives {channels} channels",
                tensors.known(weight)?
            );
            check_bias(bias, outputs, tensors)?;
            let [height, width] = window.slides([height, width])?;
            Ok(vec![outputs, height, width])
        }
        Op::BatchNorm {
            weight,
            bias,
            mean,
            variance,
            epsilon,
        } => {
            ensure!(
                *epsilon > 0.0 && epsilon.is_finite(),
                "an epsilon of {epsilon}, not a number > 0"
            );
            per_channel(&[weight, bias, mean, variance])
        }
        Op::Prelu { slopes } => match tensors.known(slopes)?.iter().product::<usize>() {
            1 => Ok(one()?.to_vec()),
            count if count == one()?[0] => Ok(one()?.to_vec()),
            count => bail!(
                "`{slopes}` has {count} slopes, the layer before gives {} channels",
                one()?[0]
            ),
        },
        Op::Relu {} | Op::LeakyRelu { .. } | Op::Identity {} | Op::Function { .. } => {
            Ok(one()?.to_vec())
        }
        Op::MaxPool { window } | Op::AvgPool { window, .. } => {
            let [channels, height, width] = map()?;
            let [height, width] = window.slides([height, width])?;
            Ok(vec![channels, height, width])
        }
        Op::GlobalAvgPool {} => Ok(vec![map()?[0], 1, 1]),
        Op::Flatten {} => Ok(vec![one()?.iter().product()]),
        Op::Add {} => {
            ensure!(from.len() >= 2, "it adds two values or more");
            for other in from {
                ensure!(
                    *other == from[0],
                    "it adds values of shapes {:?} and {other:?}",
                    from[0]
                );
            }
            Ok(from[0].to_vec())
        }
        Op::Concat {} => {
            ensure!(!from.is_empty(), "it reads nothing");
            let mut shape = from[0].to_vec();
            for other in &from[1..] {
                ensure!(
                    other[1..] == shape[1..],
                    "it puts values of shapes {:?} and {other:?} side by side",
                    from[0]
                );
                shape[0] += other[0];
            }
            Ok(shape)
        }
        Op::Opaque { shape, .. } => Ok(shape.clone()),
    }
}

fn check_bias(bias: &Option<String>, outputs: usize, tensors: &Tensors) -> Result<()> {
    let Some(bias) = bias else {
        return Ok(());
    };
    let shape = tensors.known(bias)?;
    ensure!(
        shape == [outputs],
        "`{bias}` has shape {shape:?} for {outputs} outputs"
    );
    Ok(())
}

impl Window {
    /// Rows and columns of places where the window fits in an image.
    fn slides(&self, image: [usize; 2]) -> Result<[usize; 2]> {
        let [top, left, bottom, right] = self.padding;
        let padded = [[top, bottom], [left, right]];
        let mut places = [0; 2];
        for axis in 0..2 {
            let (kernel, stride, dilation) =
                (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            ensure!(
                kernel > 0 && stride > 0 && dilation > 0,
                "kernel, stride and dilation are at least 1"
            );
            let reach = (kernel - 1)
                .checked_mul(dilation)
                .and_then(|reach| reach.checked_add(1));
            let size = padded[axis]
                .iter()
                .try_fold(image[axis], |size, pad| size.checked_add(*pad));
            let room = size
                .zip(reach)
                .and_then(|(size, reach)| size.checked_sub(reach));
            let Some(room) = room else {
                bail!(
                    "a window of {:?} does not fit into an image of {image:?}",
                    self.kernel
                );
            };
            let steps = if self.ceil {
                room.div_ceil(stride)
            } else {
                room / stride
            };
            places[axis] = steps + 1;
            // a last window must begin inside the image or its first padding
            if self.ceil && steps * stride >= image[axis] + padded[axis][0] {
                places[axis] -= 1;
            }
        }
        Ok(places)
    }
}
