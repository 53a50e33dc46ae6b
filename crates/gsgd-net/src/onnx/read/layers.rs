//! Layers with weights.

use gsgd_core::graph::{Op, Value, Window};

use super::things::Thing;
use super::{At, Made, Reader};

/// Where zeros around a value are said to be.
#[derive(Clone, Copy, PartialEq)]
enum Auto {
    /// As many as the attribute says.
    Said,
    /// None.
    Valid,
    /// So many that the result has the size of what is read, the odd one at the end.
    Upper,
    /// As before, the odd one in front.
    Lower,
}

fn auto(node: At) -> Option<Auto> {
    Some(match node.text("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" | "" => Auto::Said,
        "VALID" => Auto::Valid,
        "SAME_UPPER" => Auto::Upper,
        "SAME_LOWER" => Auto::Lower,
        _ => return None,
    })
}

/// A number cut in two.
fn halves(total: usize, auto: Auto) -> [usize; 2] {
    let half = total / 2;
    match auto {
        Auto::Upper => [half, total - half],
        _ => [total - half, half],
    }
}

/// Numbers for every axis of space.
fn list(node: At, name: &str, axes: usize) -> Option<Vec<usize>> {
    match node.sizes(name) {
        Some(list) if list.len() == axes => Some(list),
        Some(_) => None,
        None if node.attribute(name).is_some() => None,
        None => Some(vec![1; axes]),
    }
}

fn pads(node: At, axes: usize) -> Option<Vec<[usize; 2]>> {
    if node.attribute("pads").is_none() {
        return Some(vec![[0, 0]; axes]);
    }
    let pads = node.sizes("pads")?;
    let pairs = (0..axes).map(|axis| [pads[axis], pads[axes + axis]]);
    (pads.len() == 2 * axes).then(|| pairs.collect())
}

impl<'m> Reader<'m> {
    /// The window of a convolution or a pooling over these axes of space.
    pub(super) fn window(&self, node: At<'m>, space: &[usize], kernel: &[usize]) -> Option<Window> {
        let axes = space.len();
        let mut window = Window {
            kernel: kernel.to_vec(),
            stride: list(node, "strides", axes)?,
            padding: vec![[0, 0]; axes],
            dilation: list(node, "dilations", axes)?,
            ceil: node.int("ceil_mode") == Some(1),
        };
        match auto(node)? {
            Auto::Said => window.padding = pads(node, axes)?,
            Auto::Valid => {}
            way => {
                for (axis, &size) in space.iter().enumerate() {
                    let stride = window.stride[axis];
                    let count = size.div_ceil((stride > 0).then_some(stride)?);
                    let reach = window.reach(axis)?;
                    let long = (count - 1).checked_mul(stride)?.checked_add(reach)?;
                    window.padding[axis] = halves(long.saturating_sub(size), way);
                }
            }
        }
        Some(window)
    }

    pub(super) fn conv(&mut self, node: At<'m>) -> Made {
        let (x, weight) = (self.value(node, 0)?, self.value(node, 1)?);
        let (shape, kernel) = (self.shape(x).to_vec(), self.shape(weight).to_vec());
        let (space, kernel) = (shape.get(2..)?, kernel.get(2..)?);
        if space.len() != kernel.len() {
            return None;
        }
        let window = self.window(node, space, kernel)?;
        let groups = usize::try_from(node.int("group").unwrap_or(1)).ok()?;
        self.layer(node, Op::Conv { window, groups }, x, weight)
    }

    pub(super) fn conv_transpose(&mut self, node: At<'m>) -> Made {
        let (x, weight) = (self.value(node, 0)?, self.value(node, 1)?);
        let (shape, kernel) = (self.shape(x).to_vec(), self.shape(weight).to_vec());
        let (space, kernel) = (shape.get(2..)?, kernel.get(2..)?);
        let axes = space.len();
        if axes != kernel.len() {
            return None;
        }
        let mut window = Window {
            stride: list(node, "strides", axes)?,
            dilation: list(node, "dilations", axes)?,
            ..Window::new(kernel)
        };
        let mut further = match node.attribute("output_padding") {
            Some(_) => node.sizes("output_padding")?,
            None => vec![0; axes],
        };
        if further.len() != axes {
            return None;
        }
        let way = auto(node)?;
        let said = match node.attribute("output_shape") {
            Some(_) => {
                let said = node.sizes("output_shape")?;
                // the axes of space alone count
                Some(said.get(said.len().checked_sub(axes)?..)?.to_vec())
            }
            None => None,
        };
        match (way, said) {
            (Auto::Said, None) => window.padding = pads(node, axes)?,
            (Auto::Valid, None) => {}
            (way, said) => {
                for axis in 0..axes {
                    let stride = window.stride[axis];
                    let wanted = match &said {
                        Some(said) => said[axis],
                        None => space[axis].checked_mul(stride)?,
                    };
                    let steps = space[axis].checked_sub(1)?.checked_mul(stride)?;
                    let long = steps
                        .checked_add(window.reach(axis)?)?
                        .checked_add(further[axis])?;
                    window.padding[axis] = halves(long.saturating_sub(wanted), way);
                    further[axis] += wanted.saturating_sub(long);
                }
            }
        }
        let groups = usize::try_from(node.int("group").unwrap_or(1)).ok()?;
        let op = Op::ConvTranspose {
            window,
            groups,
            output_padding: further,
        };
        self.layer(node, op, x, weight)
    }

    /// A layer with the bias that a node reads behind its weight.
    fn layer(&mut self, node: At<'m>, op: Op, x: Value, weight: Value) -> Made {
        match self.bias(node)? {
            Some(bias) => self.one(node, op, &[x, weight, bias]),
            None => self.one(node, op, &[x, weight]),
        }
    }

    /// The third value that a node reads; none inside where there is none, or zeros that are computed.
    fn bias(&mut self, node: At<'m>) -> Option<Option<Value>> {
        if node.proto.read(2).is_none() || self.is_zero(node, 2) {
            return Some(None);
        }
        self.value(node, 2).map(Some)
    }

    /// Whether a node reads zeros that are no tensor of the file, or a single one.
    pub(super) fn is_zero(&self, node: At<'m>, at: usize) -> bool {
        match self.thing(node, at) {
            Some(Thing::Numbers(numbers)) => numbers.everywhere() == Some(0.0),
            Some(Thing::Tensor(view)) if view.shape.iter().all(|&size| size == 1) => {
                let zero = self.numbers(node, at).and_then(|numbers| numbers.single());
                view.shape.is_empty() && zero == Some(0.0)
            }
            _ => false,
        }
    }

    pub(super) fn gemm(&mut self, node: At<'m>) -> Made {
        let mut a = self.value(node, 0)?;
        let b = self.value(node, 1)?;
        if node.int("transA").unwrap_or(0) != 0 {
            let order = vec![1, 0];
            a = self.push(node, Op::Transpose { order }, &[a])?;
        }
        let op = Op::MatMul {
            transposed: node.int("transB").unwrap_or(0) != 0,
        };
        if self.shape(a).len() != 2 || self.shape(b).len() != 2 {
            return None;
        }
        let [alpha, beta] = ["alpha", "beta"].map(|name| node.float(name).unwrap_or(1.0));
        let bias = match beta == 0.0 {
            true => None,
            false => self.bias(node)?,
        };
        if let Some(bias) = bias
            && (alpha, beta) == (1.0, 1.0)
            && let Ok(y) = self.graph.push(node.label(), op.clone(), &[a, b, bias])
        {
            self.note_dependence(&[a, b, bias], false);
            return Some(vec![Thing::Value(y)]);
        }
        let mut y = self.push(node, op, &[a, b])?;
        if alpha != 1.0 {
            y = self.times(node, y)?;
        }
        let Some(mut bias) = bias else {
            return Some(vec![Thing::Value(y)]);
        };
        if beta != 1.0 {
            bias = self.times(node, bias)?;
        }
        self.one(node, Op::Add, &[y, bias])
    }

    /// A value times a number that stays.
    fn times(&mut self, node: At<'m>, x: Value) -> Option<Value> {
        let number = self.fixed(node, &[1])?;
        self.push(node, Op::Mul, &[x, number])
    }

    pub(super) fn matmul(&mut self, node: At<'m>) -> Made {
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        let op = Op::MatMul { transposed: false };
        let columns = self.shape(b).to_vec();
        if let [size] = columns[..] {
            let shape = vec![size, 1];
            let b = self.push(node, Op::Reshape { shape }, &[b])?;
            let y = self.push(node, op, &[a, b])?;
            let mut shape = self.shape(y).to_vec();
            shape.pop();
            return self.one(node, Op::Reshape { shape }, &[y]);
        }
        self.one(node, op, &[a, b])
    }
}

/// What a window reaches over.
trait Reach {
    fn reach(&self, axis: usize) -> Option<usize>;
}

impl Reach for Window {
    fn reach(&self, axis: usize) -> Option<usize> {
        let steps = self.kernel[axis].checked_sub(1)?;
        steps.checked_mul(self.dilation[axis])?.checked_add(1)
    }
}
