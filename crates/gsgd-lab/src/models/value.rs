//! Values of a forward pass: tensors of one to six axes.

use burn::tensor::Tensor;

/// The axes that a value can have at most.
pub const MOST_AXES: usize = 6;

/// A tensor.
#[derive(Debug, Clone)]
pub enum Value {
    /// Of one axis.
    D1(Tensor<1>),
    /// Of two.
    D2(Tensor<2>),
    /// Of three.
    D3(Tensor<3>),
    /// Of four.
    D4(Tensor<4>),
    /// Of five.
    D5(Tensor<5>),
    /// Of six.
    D6(Tensor<6>),
}

/// What an expression makes of a value's tensor.
macro_rules! any {
    ($value:expr, $x:ident => $result:expr) => {
        match $value {
            $crate::models::value::Value::D1($x) => $result,
            $crate::models::value::Value::D2($x) => $result,
            $crate::models::value::Value::D3($x) => $result,
            $crate::models::value::Value::D4($x) => $result,
            $crate::models::value::Value::D5($x) => $result,
            $crate::models::value::Value::D6($x) => $result,
        }
    };
}
pub(super) use any;

/// The value of as many axes that an expression makes of a value's tensor.
macro_rules! same {
    ($value:expr, $x:ident => $result:expr) => {
        $crate::models::value::any!($value, $x => $crate::models::value::Value::from($result))
    };
}
pub(super) use same;

impl<const D: usize> From<Tensor<D>> for Value {
    fn from(tensor: Tensor<D>) -> Self {
        let tensor = tensor.into_dispatch();
        match D {
            1 => Self::D1(Tensor::from_dispatch(tensor)),
            2 => Self::D2(Tensor::from_dispatch(tensor)),
            3 => Self::D3(Tensor::from_dispatch(tensor)),
            4 => Self::D4(Tensor::from_dispatch(tensor)),
            5 => Self::D5(Tensor::from_dispatch(tensor)),
            6 => Self::D6(Tensor::from_dispatch(tensor)),
            _ => unreachable!("no operation makes a tensor of {D} axes"),
        }
    }
}

impl Value {
    /// Its sizes.
    pub fn dims(&self) -> Vec<usize> {
        any!(self, x => x.dims().to_vec())
    }

    /// The number of its axes.
    pub fn rank(&self) -> usize {
        any!(self, x => x.dims().len())
    }

    /// The tensor of a value that has this many axes.
    ///
    /// # Panics
    /// It has others.
    pub fn tensor<const D: usize>(self) -> Tensor<D> {
        assert_eq!(self.rank(), D, "the axes of a value");
        any!(self, x => Tensor::from_dispatch(x.into_dispatch()))
    }

    /// The same numbers in another shape, for nothing where it is the same.
    pub fn reshape(self, shape: &[usize]) -> Self {
        if self.dims() == shape {
            return self;
        }
        any!(self, x => match *shape {
            [] => x.reshape([1]).into(),
            [a] => x.reshape([a]).into(),
            [a, b] => x.reshape([a, b]).into(),
            [a, b, c] => x.reshape([a, b, c]).into(),
            [a, b, c, d] => x.reshape([a, b, c, d]).into(),
            [a, b, c, d, e] => x.reshape([a, b, c, d, e]).into(),
            [a, b, c, d, e, f] => x.reshape([a, b, c, d, e, f]).into(),
            _ => unreachable!("no operation makes a tensor of {} axes", shape.len()),
        })
    }

    /// With axes of size 1 in front, up to this many.
    pub fn with_rank(self, rank: usize) -> Self {
        let dims = self.dims();
        let mut shape = vec![1; rank.saturating_sub(dims.len())];
        shape.extend(dims);
        self.reshape(&shape)
    }

    /// Repeated along axes of size 1, up to this shape, with new axes in front.
    pub fn expand(self, shape: &[usize]) -> Self {
        let x = self.with_rank(shape.len());
        if x.dims() == shape {
            return x;
        }
        fn expanded<const D: usize>(x: Tensor<D>, shape: &[usize]) -> Tensor<D> {
            x.expand::<D, _>(std::array::from_fn::<_, D, _>(|axis| shape[axis]))
        }
        same!(x, x => expanded(x, shape))
    }

    /// Its axes in another order.
    pub fn permute(self, order: &[usize]) -> Self {
        fn permuted<const D: usize>(x: Tensor<D>, order: &[usize]) -> Tensor<D> {
            x.permute(std::array::from_fn::<_, D, _>(|axis| order[axis]))
        }
        same!(self, x => permuted(x, order))
    }

    /// The last two axes in the other order.
    pub fn transpose(self) -> Self {
        let mut order: Vec<usize> = (0..self.rank()).collect();
        if let [.., a, b] = &mut order[..] {
            std::mem::swap(a, b);
        }
        self.permute(&order)
    }
}

/// Two values brought to as many axes, and what a function of two tensors makes of them.
macro_rules! both {
    ($a:expr, $b:expr, $x:ident, $y:ident => $result:expr) => {{
        use $crate::models::value::Value;
        let (a, b): (Value, Value) = ($a, $b);
        let rank = a.rank().max(b.rank());
        match (a.with_rank(rank), b.with_rank(rank)) {
            (Value::D1($x), Value::D1($y)) => Value::from($result),
            (Value::D2($x), Value::D2($y)) => Value::from($result),
            (Value::D3($x), Value::D3($y)) => Value::from($result),
            (Value::D4($x), Value::D4($y)) => Value::from($result),
            (Value::D5($x), Value::D5($y)) => Value::from($result),
            (Value::D6($x), Value::D6($y)) => Value::from($result),
            _ => unreachable!("both have {rank} axes"),
        }
    }};
}
pub(super) use both;
