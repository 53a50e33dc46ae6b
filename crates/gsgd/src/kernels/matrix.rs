//! A matrix and the operations on it.

#[cfg(feature = "flex")]
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{DType, Tensor};

#[cfg(feature = "flex")]
use super::stream;
use super::{
    Entries, Execution, Gathered, HeadSums, MomentStep, Passed, Power, Readback, RowColScale,
    ScaledSum, Side, dense, readback,
};

/// A matrix of weights, gradients or path values, ready for the operations below.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    /// Whole rows of CPU memory, one after the other.
    #[cfg(feature = "flex")]
    Memory(FlexTensor),
    /// In a box, for it is three times as large.
    Tensor(Box<Tensor<2>>),
}

macro_rules! dispatch {
    ($name:ident($x:expr $(, $rest:expr)*)) => {
        match $x {
            #[cfg(feature = "flex")]
            Matrix::Memory(x) => stream::$name(x $(, $rest)*).into(),
            Matrix::Tensor(x) => dense::$name(&*x $(, $rest)*).into(),
        }
    };
    ($name:ident($x:expr, $y:expr; $($rest:expr),*)) => {
        match ($x, $y) {
            #[cfg(feature = "flex")]
            (Matrix::Memory(x), Matrix::Memory(y)) => stream::$name(x, y, $($rest),*).into(),
            (x, y) => dense::$name(x.clone().into(), y.clone().into(), $($rest),*).into(),
        }
    };
}

impl Matrix {
    /// A tensor in this shape, off the autodiff tape.
    pub fn of<const D: usize>(tensor: Tensor<D>, shape: [usize; 2], execution: Execution) -> Self {
        match execution {
            #[cfg(feature = "flex")]
            Execution::Fused => stream::matrix(tensor, shape),
            _ => dense::matrix(tensor, shape).into(),
        }
    }

    /// How operations on it are carried out.
    pub fn execution(&self) -> Execution {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(_) => Execution::Fused,
            Self::Tensor(_) => Execution::Reference,
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(x) => x.dtype(),
            Self::Tensor(x) => x.dtype(),
        }
    }

    /// All entries, row by row.
    pub fn to_vec(&self) -> Vec<f64> {
        let tensor = Tensor::from(self.clone());
        tensor.into_data().iter::<f64>().collect()
    }

    /// Whether all entries are finite.
    pub fn is_finite(&self) -> Readback<bool> {
        dispatch!(is_finite(self))
    }

    /// Sum of w g over every line of a side.
    pub fn dots(&self, g: &Self, side: Side, groups: usize) -> Readback<Vec<f64>> {
        dispatch!(dots(self, g; side, groups))
    }

    /// Squares and dot products by head, with a factor per tail; see [`HeadSums`].
    pub fn head_sums(
        &self,
        g: &Self,
        heads: Side,
        groups: usize,
        tails: &[f64],
    ) -> Readback<HeadSums> {
        dispatch!(head_sums(self, g; heads, groups, tails))
    }

    /// Sum of factor |w|^p over every line of a side, with a factor per line of the other side; p is 1 or 2.
    pub fn powers(
        &self,
        side: Side,
        groups: usize,
        others: &[f64],
        p: Power,
    ) -> Readback<Vec<f64>> {
        dispatch!(powers(self, side, groups, others, p))
    }

    /// Largest factor |w| on every line of a side, with a factor per line of the other side.
    pub fn maxima(&self, side: Side, groups: usize, others: &[f64]) -> Readback<Vec<f64>> {
        dispatch!(maxima(self, side, groups, others))
    }

    /// `(x * rows) * columns`.
    pub fn scale(self, by: &RowColScale) -> Self {
        dispatch!(scale(self, by))
    }

    /// x and another matrix, scaled and added, in the memory of x where it is uniquely owned; see [`ScaledSum`].
    pub fn combine(self, y: &Self, by: &ScaledSum) -> Passed {
        match (self, y) {
            #[cfg(feature = "flex")]
            (Self::Memory(x), Self::Memory(y)) => stream::combine(x, y, by).into(),
            (x, y) => dense::combine(x.into(), y.clone().into(), by).into(),
        }
    }

    /// Weights for these moved path values, in their memory where it is uniquely owned:
    /// `(w * a_rows) * a_columns + ((v' - v) * b_rows) * b_columns` where `v = (w * rows) * columns`, then `fixed` entries set.
    pub fn allocate(
        self,
        w: &Self,
        v: &RowColScale,
        of_w: &RowColScale,
        of_change: &RowColScale,
        fixed: &Entries,
    ) -> Passed {
        match (self, w) {
            #[cfg(feature = "flex")]
            (Self::Memory(moved), Self::Memory(w)) => {
                stream::allocate(moved, w, v, of_w, of_change, fixed).into()
            }
            (moved, w) => {
                dense::allocate(moved.into(), w.clone().into(), v, of_w, of_change, fixed).into()
            }
        }
    }

    /// Whether [`advance`](Self::advance) gives weights and moments that are finite; nothing is changed.
    pub fn advances_finitely(&self, w: &Self, moments: &[Self], by: &MomentStep) -> Readback<bool> {
        #[cfg(feature = "flex")]
        if let (Self::Memory(g), Self::Memory(w)) = (self, w) {
            let moments: Option<Vec<&FlexTensor>> = moments.iter().map(Self::memory).collect();
            if let Some(moments) = moments {
                return stream::advances_finitely(g, w, &moments, by).into();
            }
        }
        let moments = moments.iter().cloned().map(Tensor::from).collect();
        dense::advances_finitely(self.clone().into(), w.clone().into(), moments, by).into()
    }

    /// Weights and moments after a step from this gradient, in its memory and that of the moments where they are
    /// uniquely owned; see [`MomentStep`].
    pub fn advance(self, w: &Self, moments: Vec<Self>, by: &MomentStep) -> (Self, Vec<Self>) {
        #[cfg(feature = "flex")]
        if let (Self::Memory(w), Self::Memory(_)) = (w, &self)
            && moments.iter().all(|m| matches!(m, Self::Memory(_)))
        {
            let memory = |matrix| match matrix {
                Self::Memory(x) => x,
                Self::Tensor(_) => unreachable!("all are memory"),
            };
            let moments = moments.into_iter().map(memory).collect();
            let (moved, moments) = stream::advance(memory(self), w, moments, by);
            return (moved.into(), moments.into_iter().map(Self::from).collect());
        }
        let moments = moments.into_iter().map(Tensor::from).collect();
        let (moved, moments) = dense::advance(self.into(), w.clone().into(), moments, by);
        (moved.into(), moments.into_iter().map(Self::from).collect())
    }

    #[cfg(feature = "flex")]
    fn memory(&self) -> Option<&FlexTensor> {
        match self {
            Self::Memory(x) => Some(x),
            Self::Tensor(_) => None,
        }
    }

    /// Single entries, by index into the row-major matrix.
    pub fn gather(&self, at: &[usize]) -> Readback<Vec<f64>> {
        if at.is_empty() {
            return Vec::new().into();
        }
        dispatch!(gather(self, at))
    }

    /// The matrix with single entries replaced.
    pub fn scatter(self, entries: &Entries) -> Self {
        if entries.at.is_empty() {
            return self;
        }
        match self {
            #[cfg(feature = "flex")]
            Self::Memory(x) => stream::scatter(x, entries).into(),
            Self::Tensor(x) => dense::scatter(*x, entries).into(),
        }
    }
}

/// Puts single weights of matrices into one list and their products with gradients into another.
pub(crate) fn gather_products<'a>(
    all: impl Iterator<Item = (&'a Matrix, &'a Matrix, Gathered<'a>)>,
    weights: &mut [f64],
    products: &mut [f64],
) {
    let mut on_devices = Vec::new();
    for (w, g, gathered) in all {
        match (w, g) {
            #[cfg(feature = "flex")]
            (Matrix::Memory(w), Matrix::Memory(g)) => {
                stream::gather_products(w, g, gathered, weights, products)
            }
            pair => on_devices.push((pair, gathered)),
        }
    }
    if !on_devices.is_empty() {
        gather_products_on_devices(&on_devices, weights, products);
    }
}

#[cold]
fn gather_products_on_devices(
    all: &[((&Matrix, &Matrix), Gathered)],
    weights: &mut [f64],
    products: &mut [f64],
) {
    let all = all.iter().filter(|(_, gathered)| !gathered.at.is_empty());
    let pairs = all.map(|((w, g), gathered)| {
        let pairs = dense::gather_products((*w).clone().into(), (*g).clone().into(), gathered.at);
        (gathered.to, Readback::<Vec<f64>>::from(pairs))
    });
    for (to, lists) in readback::read_all(pairs) {
        let (w, g) = lists.split_at(to.len());
        for (&to, (w, g)) in to.iter().zip(w.iter().zip(g)) {
            (weights[to as usize], products[to as usize]) = (*w, w * g);
        }
    }
}

impl<M, F> From<(M, F)> for Passed
where
    M: Into<Matrix>,
    F: Into<Readback<bool>>,
{
    fn from((matrix, finite): (M, F)) -> Self {
        Self {
            matrix: matrix.into(),
            finite: finite.into(),
        }
    }
}

#[cfg(feature = "flex")]
impl From<FlexTensor> for Matrix {
    fn from(memory: FlexTensor) -> Self {
        Self::Memory(memory)
    }
}

impl From<Tensor<2>> for Matrix {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Tensor(Box::new(tensor))
    }
}

impl From<Matrix> for Tensor<2> {
    fn from(matrix: Matrix) -> Self {
        match matrix {
            #[cfg(feature = "flex")]
            Matrix::Memory(x) => Tensor::from_primitive::<Flex>(x),
            Matrix::Tensor(x) => *x,
        }
    }
}
