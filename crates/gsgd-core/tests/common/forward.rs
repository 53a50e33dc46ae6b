//! The forward pass of a graph in f64, element by element.

use std::collections::HashMap;

use gsgd_core::graph::{Activation, Function, Graph, Op, Pooling, Reduction, Value, Window};
use gsgd_core::scales::ParamKey;

/// An array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn from_fn(shape: &[usize], mut value: impl FnMut(&[usize]) -> f64) -> Self {
        let mut index = vec![0; shape.len()];
        let data = (0..shape.iter().product::<usize>()).map(|_| {
            let x = value(&index);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
            x
        });
        Self {
            data: data.collect(),
            shape: shape.to_vec(),
        }
    }

    /// The element at an index, of which axes in front are left out and those of size 1 are taken at 0.
    pub fn at(&self, index: &[usize]) -> f64 {
        let index = &index[index.len() - self.shape.len()..];
        let place = self.shape.iter().zip(index);
        let flat = place.fold(0, |flat, (&size, &at)| {
            flat * size + if size == 1 { 0 } else { at }
        });
        self.data[flat]
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            data: self.data.iter().map(|&x| f(x)).collect(),
            shape: self.shape.clone(),
        }
    }
}

/// The outputs at these inputs, in the order of the graph.
pub fn outputs(graph: &Graph, params: &HashMap<ParamKey, Array>, inputs: &[Array]) -> Vec<Array> {
    let mut values: Vec<Array> = Vec::new();
    let mut inputs = inputs.iter();
    for node in graph.nodes() {
        let read = |at: usize| &values[node.reads[at].index()];
        let shape = &node.shape;
        let each = |f: &dyn Fn(&[f64]) -> f64| {
            Array::from_fn(shape, |index| {
                let read: Vec<f64> = (0..node.reads.len()).map(|at| read(at).at(index)).collect();
                f(&read)
            })
        };
        values.push(match &node.op {
            Op::Input { .. } => inputs.next().unwrap().clone(),
            Op::Param(key) => params[key].clone(),
            Op::Constant { .. } => Array::from_fn(shape, |_| 0.7),
            Op::MatMul { transposed } => {
                let (a, b) = (read(0), read(1));
                let inner = *a.shape.last().unwrap();
                let rank = shape.len();
                Array::from_fn(shape, |index| {
                    let (mut left, mut right) = (index.to_vec(), index.to_vec());
                    let column = index[rank - 1];
                    let bias = node.reads.get(2).map_or(0.0, |_| read(2).at(&[column]));
                    (0..inner)
                        .map(|k| {
                            left[rank - 1] = k;
                            let [row, column] = if *transposed {
                                [column, k]
                            } else {
                                [k, column]
                            };
                            right[rank - 2] = row;
                            right[rank - 1] = column;
                            a.at(&left) * b.at(&right)
                        })
                        .sum::<f64>()
                        + bias
                })
            }
            Op::Conv { window, groups } => {
                let (x, w) = (read(0), read(1));
                let of_group = [x.shape[1] / groups, w.shape[0] / groups];
                Array::from_fn(shape, |index| {
                    let group = index[1] / of_group[1];
                    let bias = node.reads.get(2).map_or(0.0, |_| read(2).at(&[index[1]]));
                    let mut sum = bias;
                    taps(window, &x.shape[2..], &index[2..], |tap, place| {
                        for channel in 0..of_group[0] {
                            let from = group * of_group[0] + channel;
                            let x = x.at(&[&[index[0], from], place].concat());
                            sum += x * w.at(&[&[index[1], channel], tap].concat());
                        }
                    });
                    sum
                })
            }
            Op::ConvTranspose { window, groups, .. } => {
                let (x, w) = (read(0), read(1));
                let of_group = [x.shape[1] / groups, w.shape[1]];
                let mut y = Array::from_fn(shape, |index| {
                    node.reads.get(2).map_or(0.0, |_| read(2).at(&[index[1]]))
                });
                let strides = |index: &[usize]| {
                    let places = index.iter().zip(shape);
                    places.fold(0, |flat, (at, size)| flat * size + at)
                };
                Array::from_fn(&x.shape, |from| {
                    taps(window, &shape[2..], &from[2..], |tap, place| {
                        let group = from[1] / of_group[0];
                        for channel in 0..of_group[1] {
                            let to = [&[from[0], group * of_group[1] + channel], place].concat();
                            let w = w.at(&[&[from[1], channel], tap].concat());
                            y.data[strides(&to)] += x.at(from) * w;
                        }
                    });
                    0.0
                });
                y
            }
            Op::BatchNorm { epsilon } => {
                let axis = shape.len().min(2) - 1;
                Array::from_fn(shape, |index| {
                    let [gamma, beta, mean, variance] =
                        [1, 2, 3, 4].map(|at| read(at).at(&[index[axis]]));
                    (read(0).at(index) - mean) / (variance.abs() + epsilon).sqrt() * gamma + beta
                })
            }
            Op::Activation(Activation::Relu) => each(&|x| x[0].max(0.0)),
            Op::Activation(Activation::LeakyRelu(slope)) => {
                each(&|x| if x[0] > 0.0 { x[0] } else { slope * x[0] })
            }
            Op::Activation(Activation::Abs) => each(&|x| x[0].abs()),
            Op::Activation(Activation::Neg) => each(&|x| -x[0]),
            Op::Prelu => Array::from_fn(shape, |index| {
                let slopes = read(1);
                let slope = match slopes.shape.len() {
                    1 => slopes.at(&[index[1]]),
                    _ => slopes.at(index),
                };
                let x = read(0).at(index);
                if x > 0.0 { x } else { slope * x }
            }),
            Op::Pool { pooling, window } => Array::from_fn(shape, |index| {
                let (mut best, mut sum, mut count) = (f64::MIN, 0.0, 0.0);
                taps(window, &read(0).shape[2..], &index[2..], |_, place| {
                    let x = read(0).at(&[&index[..2], place].concat());
                    (best, sum, count) = (best.max(x), sum + x, count + 1.0);
                });
                match pooling {
                    Pooling::Max => best,
                    Pooling::Mean { .. } => sum / count,
                }
            }),
            Op::Reduce {
                reduction,
                axes,
                keep,
            } => {
                let x = read(0);
                Array::from_fn(shape, |index| {
                    let mut kept = index.iter();
                    let base: Vec<usize> = (0..x.shape.len())
                        .map(|axis| match axes.contains(&axis) {
                            true if *keep => kept.next().map_or(0, |_| 0),
                            true => 0,
                            false => *kept.next().unwrap(),
                        })
                        .collect();
                    let sizes: Vec<usize> = axes.iter().map(|&axis| x.shape[axis]).collect();
                    let all = Array::from_fn(&sizes, |inner| {
                        let mut at = base.clone();
                        axes.iter().zip(inner).for_each(|(&axis, &i)| at[axis] = i);
                        x.at(&at)
                    });
                    let all = all.data.iter().copied();
                    match reduction {
                        Reduction::Max => all.fold(f64::MIN, f64::max),
                        Reduction::Min => all.fold(f64::MAX, f64::min),
                        Reduction::Sum => all.sum(),
                        Reduction::Mean => {
                            all.sum::<f64>() / sizes.iter().product::<usize>() as f64
                        }
                    }
                })
            }
            Op::Resample { .. } => Array::from_fn(shape, |index| {
                let x = read(0);
                let inside = index.iter().zip(&x.shape).all(|(at, size)| at < size);
                if inside { x.at(index) } else { 0.0 }
            }),
            Op::Add => each(&|x| x.iter().sum()),
            Op::Sub => each(&|x| x[0] - x[1]),
            Op::Mul => each(&|x| x[0] * x[1]),
            Op::Div => each(&|x| x[0] / (x[1] + 3.0)),
            Op::Concat { axis } => Array::from_fn(shape, |index| {
                let mut index = index.to_vec();
                let mut part = 0;
                while index[*axis] >= read(part).shape[*axis] {
                    index[*axis] -= read(part).shape[*axis];
                    part += 1;
                }
                read(part).at(&index)
            }),
            Op::Slice {
                axis, start, step, ..
            } => Array::from_fn(shape, |index| {
                let mut index = index.to_vec();
                index[*axis] = (*start as isize + step * index[*axis] as isize) as usize;
                read(0).at(&index)
            }),
            Op::Select { axis, places } => Array::from_fn(shape, |index| {
                let mut index = index.to_vec();
                index[*axis] = places[index[*axis]];
                read(0).at(&index)
            }),
            Op::Gather { axis, .. } => Array::from_fn(shape, |index| {
                let x = read(0);
                let places = shape.len() + 1 - x.shape.len();
                let mut at = index[..*axis].to_vec();
                at.push(index[*axis..*axis + places].iter().sum::<usize>() % x.shape[*axis]);
                at.extend(&index[axis + places..]);
                x.at(&at)
            }),
            Op::Reshape { .. } => Array {
                shape: shape.clone(),
                data: read(0).data.clone(),
            },
            Op::Transpose { order } => Array::from_fn(shape, |index| {
                let mut at = vec![0; index.len()];
                order.iter().zip(index).for_each(|(&axis, &i)| at[axis] = i);
                read(0).at(&at)
            }),
            Op::Expand { .. } => Array::from_fn(shape, |index| read(0).at(index)),
            Op::Identity => read(0).clone(),
            Op::Function(Function::Relu6) => read(0).map(|x| x.clamp(0.0, 6.0)),
            Op::Function(_) => read(0).map(f64::tanh),
            Op::Softmax { axis } => {
                let x = read(0);
                Array::from_fn(shape, |index| {
                    let all = (0..shape[*axis]).map(|at| {
                        let mut index = index.to_vec();
                        index[*axis] = at;
                        x.at(&index).exp()
                    });
                    x.at(index).exp() / all.sum::<f64>()
                })
            }
            Op::Normalise { axes, .. } => {
                let x = read(0);
                Array::from_fn(shape, |index| {
                    let sizes: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
                    let all = Array::from_fn(&sizes, |inner| {
                        let mut at = index.to_vec();
                        axes.iter().zip(inner).for_each(|(&axis, &i)| at[axis] = i);
                        x.at(&at)
                    });
                    let count = all.data.len() as f64;
                    let mean = all.data.iter().sum::<f64>() / count;
                    let square = all.data.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
                    (x.at(index) - mean) / (square / count + 1e-5).sqrt()
                })
            }
            Op::Opaque { .. } => {
                let all = node
                    .reads
                    .iter()
                    .map(|value: &Value| &values[value.index()]);
                let sum: f64 = all
                    .map(|x| x.data.iter().map(|x| x.sin()).sum::<f64>())
                    .sum();
                Array::from_fn(shape, |index| {
                    (sum + index.iter().sum::<usize>() as f64).sin()
                })
            }
        });
    }
    let outputs = graph.outputs().iter();
    outputs.map(|value| values[value.index()].clone()).collect()
}

/// Calls `each` with every tap of a window and the place it falls on, where that is inside.
fn taps(window: &Window, sizes: &[usize], at: &[usize], mut each: impl FnMut(&[usize], &[usize])) {
    Array::from_fn(&window.kernel, |tap| {
        let place: Option<Vec<usize>> = (0..sizes.len())
            .map(|axis| {
                let place = at[axis] * window.stride[axis] + tap[axis] * window.dilation[axis];
                let place = place.checked_sub(window.padding[axis][0])?;
                (place < sizes[axis]).then_some(place)
            })
            .collect();
        if let Some(place) = place {
            each(tap, &place);
        }
        0.0
    });
}
