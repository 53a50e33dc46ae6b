//! The few operations on whole weight matrices that the method needs.
//!
//! Each stands here once by name and twice in code: in tensor operations ([`dense`], the readable reference, for
//! any backend) and as one pass over the memory of a CPU tensor ([`stream`]). [`Execution`] says which runs on a
//! [`Matrix`]. All that is per unit, not per weight, is done elsewhere in f64.

use std::borrow::Cow;

mod dense;
mod matrix;
mod readback;
mod rule;
mod scale;
#[cfg(feature = "flex")]
mod stream;

pub(crate) use matrix::{Matrix, gather_products};
pub(crate) use readback::{Readback, first_false, read_all};
pub(crate) use rule::{Rule, StepCoefficients};
pub(crate) use scale::{RowColScale, is_ordinary};

/// How whole-matrix operations are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Execution {
    /// One pass over the memory of CPU tensors, in place where they are uniquely owned; tensor operations for
    /// whatever is not an f32 or f64 tensor of Burn's flex backend.
    #[default]
    Fused,
    /// Tensor operations throughout: the readable reference, about eight times the work.
    Reference,
}

/// A side of a matrix: its rows or its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Rows,
    Columns,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Rows => Self::Columns,
            Self::Columns => Self::Rows,
        }
    }
}

/// Where single entries of a matrix go: from these indices into its row-major memory, ascending, to these of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathered<'a> {
    pub at: &'a [usize],
    pub to: &'a [u32],
}

/// Whether all numbers are good. Looks at every one, many at a time: as a number a verdict keeps its place in a vector.
pub(crate) fn all(numbers: &[f64], good: impl Fn(f64) -> bool) -> bool {
    let search = || numbers.iter().fold(0, |bad, &x| bad | u64::from(!good(x))) == 0;
    #[cfg(feature = "flex")]
    let search = || stream::vectorised(search);
    search()
}

/// Values for single entries of a matrix.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Entries<'a> {
    /// Indices into its row-major memory, ascending.
    pub at: Cow<'a, [usize]>,
    /// Where their values stand in lists.
    pub of: Cow<'a, [u32]>,
    pub values: Cow<'a, [f64]>,
}

impl Entries<'_> {
    /// Of two at one place the last counts.
    pub fn new(mut pairs: Vec<(usize, f64)>) -> Self {
        pairs.sort_by_key(|&(at, _)| at);
        let (at, values): (Vec<usize>, Vec<f64>) = pairs.into_iter().unzip();
        Self {
            of: (0..at.len() as u32).collect(),
            at: at.into(),
            values: values.into(),
        }
    }

    /// The same in memory of its own.
    pub fn into_owned(self) -> Entries<'static> {
        Entries {
            at: Cow::Owned(self.at.into_owned()),
            of: Cow::Owned(self.of.into_owned()),
            values: Cow::Owned(self.values.into_owned()),
        }
    }
}

/// `x' = (x * of_x.rows) * of_x.columns + (y * of_y.rows) * of_y.columns`, then single entries set.
#[derive(Debug)]
pub(crate) struct ScaledSum<'a> {
    pub of_x: &'a RowColScale<'a>,
    pub of_y: &'a RowColScale<'a>,
    pub fixed: &'a Entries<'a>,
}

/// What a pass over a matrix gives.
#[derive(Debug)]
pub(crate) struct Passed {
    pub matrix: Matrix,
    /// Whether all was finite, before single entries were set.
    pub finite: Readback<bool>,
}

/// A step of moments in path space and its way back to weights, for the gradient g of weights w:
///
/// ```text
/// g'     = (g * gradient.rows) * gradient.columns
/// change = coefficients(g', moments)
/// w'     = (w * of_weights.rows) * of_weights.columns + (change * of_change.rows) * of_change.columns
/// ```
///
/// then single entries of w' and of the moments set, at the same places.
#[derive(Debug)]
pub(crate) struct MomentStep<'a> {
    pub gradient: &'a RowColScale<'a>,
    pub coefficients: StepCoefficients,
    pub of_weights: &'a RowColScale<'a>,
    pub of_change: &'a RowColScale<'a>,
    pub fixed: &'a Entries<'a>,
    /// Values of every moment for these entries, in the same places of lists.
    pub fixed_moments: &'a [Vec<f64>],
}

/// Sums by head that norm coordinates need, from one pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeadSums {
    /// Sum over tails of (factor w)^2.
    pub squares: Vec<f64>,
    /// Sum over tails of g w.
    pub dots: Vec<f64>,
    /// Sum over tails of (g / factor)^2.
    pub gradient_squares: Vec<f64>,
}

/// The power of the absolute value in a path norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Absolute values, p = 1.
    One,
    /// Squares, p = 2.
    Two,
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Distribution, Tensor};

    fn random(shape: [usize; 2], dtype: DType) -> Tensor<2> {
        let device = Device::flex();
        device.seed(7);
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), (&device, dtype))
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} and {b}");
        }
    }

    fn lines(shape: [usize; 2], groups: usize, seed: f64) -> RowColScale<'static> {
        let line = |n: usize, s: f64| (0..n).map(|i| (s + i as f64).sin() + 1.5).collect();
        RowColScale {
            rows: line(shape[0], seed),
            columns: line(groups * shape[1], seed + 0.5),
            times: seed - 1.5,
        }
    }

    #[test]
    fn streamed_and_tensor_operations_agree() {
        use Execution::{Fused, Reference};
        let small = [[1, 1], [3, 5], [16, 16], [49, 64], [7, 33]].map(|shape| (shape, 1));
        let grouped = [([12, 9], 12), ([12, 10], 3), ([500, 300], 5)];
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 5e-5)] {
            for (shape, groups) in small.into_iter().chain(grouped) {
                let (w, g) = (random(shape, dtype), random(shape, dtype) + 0.1);
                let pair = |execution| {
                    (
                        Matrix::of(w.clone(), shape, execution),
                        Matrix::of(g.clone(), shape, execution),
                    )
                };
                let line = |seed| lines(shape, groups, seed);
                let (a, b, c) = (line(0.1), line(0.2), line(0.3));
                let fixed = Entries::new(vec![(0, 2.0), (shape[0] * shape[1] - 1, 3.0)]);
                let agree =
                    |f: &dyn Fn(Execution) -> Vec<f64>| close(&f(Fused), &f(Reference), tolerance);
                for side in [Side::Rows, Side::Columns] {
                    let others = match side {
                        Side::Rows => &a.columns,
                        Side::Columns => &a.rows,
                    };
                    let sums = |execution| {
                        let (w, g) = pair(execution);
                        w.head_sums(&g, side, groups, others).read()
                    };
                    agree(&|execution| {
                        let (w, g) = pair(execution);
                        w.dots(&g, side, groups).read()
                    });
                    agree(&|execution| sums(execution).squares);
                    agree(&|execution| sums(execution).dots);
                    agree(&|execution| sums(execution).gradient_squares);
                    agree(&|execution| pair(execution).0.maxima(side, groups, others).read());
                    for p in [Power::One, Power::Two] {
                        agree(&|execution| {
                            pair(execution).0.powers(side, groups, others, p).read()
                        });
                    }
                }
                agree(&|execution| pair(execution).0.scale(&a).to_vec());
                agree(&|execution| {
                    let (w, g) = pair(execution);
                    let by = ScaledSum {
                        of_x: &a,
                        of_y: &b,
                        fixed: &fixed,
                    };
                    w.combine(&g, &by).matrix.to_vec()
                });
                agree(&|execution| {
                    let (w, g) = pair(execution);
                    let passed = g.allocate(&w, &a, &b, &c, &fixed);
                    assert!(passed.finite.read());
                    passed.matrix.to_vec()
                });
                let ball = Rule::HeavyBall {
                    momentum: 0.9,
                    nesterov: true,
                };
                let adam = Rule::Adam {
                    beta_1: 0.9,
                    beta_2: 0.99,
                    epsilon: 1e-8,
                };
                for rule in [ball, adam] {
                    agree(&|execution| {
                        let (w, g) = pair(execution);
                        let mut moments = vec![g.clone().scale(&c); rule.moments()];
                        if let Some(squares) = moments.get_mut(1) {
                            let positive = Tensor::from(squares.clone()).abs();
                            *squares = Matrix::of(positive, shape, execution);
                        }
                        let by = MomentStep {
                            gradient: &c,
                            coefficients: rule.at(3, 0.1),
                            of_weights: &a,
                            of_change: &b,
                            fixed: &fixed,
                            fixed_moments: &[vec![0.5, 0.25], vec![1.0, 0.0]],
                        };
                        assert!(g.advances_finitely(&w, &moments, &by).read());
                        let (moved, moments) = g.advance(&w, moments, &by);
                        let all = std::iter::once(&moved).chain(&moments);
                        all.flat_map(Matrix::to_vec).collect()
                    });
                }
                agree(&|execution| {
                    let (w, g) = pair(execution);
                    let gathered = Gathered {
                        at: &fixed.at,
                        to: &[2, 0],
                    };
                    let (mut weights, mut products) = (vec![1.0; 3], vec![0.0; 3]);
                    gather_products(
                        [(&w, &g, gathered)].into_iter(),
                        &mut weights,
                        &mut products,
                    );
                    [weights, products].concat()
                });
                agree(&|execution| pair(execution).0.gather(&fixed.at).read());
                agree(&|execution| pair(execution).0.scatter(&fixed).to_vec());
            }
        }
    }

    #[test]
    fn transposed_tensors_are_read_by_their_layout() {
        let w = random([5, 3], DType::F32).transpose();
        let by = lines([3, 5], 1, 0.4);
        let scaled = |execution| Matrix::of(w.clone(), [3, 5], execution).scale(&by).to_vec();
        close(
            &scaled(Execution::Fused),
            &scaled(Execution::Reference),
            1e-6,
        );
    }

    #[test]
    fn only_single_and_double_precision_is_streamed() {
        let streamed = |dtype, device: &Device| {
            let x = Tensor::<3>::ones([2, 3, 2], (device, dtype));
            let matrix = Matrix::of(x, [2, 6], Execution::Fused);
            assert_eq!(matrix.to_vec(), [1.0; 12]);
            matrix.execution() == Execution::Fused
        };
        let devices = [Device::flex(), Device::flex().autodiff()];
        for device in &devices {
            assert!(streamed(DType::F32, device) && streamed(DType::F64, device));
            assert!(!streamed(DType::BF16, device));
        }
    }

    #[test]
    fn shared_memory_is_left_alone() {
        let w = Matrix::of(random([4, 4], DType::F32), [4, 4], Execution::Fused);
        let before = w.to_vec();
        let _changed = w.clone().scale(&lines([4, 4], 1, 0.7));
        assert_eq!(w.to_vec(), before);
    }

    #[test]
    fn sums_that_are_not_finite_are_found() {
        let (by, none) = (lines([9, 70], 1, 0.2), Entries::default());
        let types = [DType::F32, DType::F64].into_iter();
        let cases = types.flat_map(|dtype| {
            [Execution::Fused, Execution::Reference].map(|execution| (dtype, execution))
        });
        for (dtype, execution) in cases {
            for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0] {
                let matrix = || Matrix::of(random([9, 70], dtype), [9, 70], execution);
                let y = matrix().scatter(&Entries::new(vec![(333, wrong)]));
                assert_eq!(y.is_finite().read(), wrong == 1.0);
                let by = ScaledSum {
                    of_x: &by,
                    of_y: &by,
                    fixed: &none,
                };
                assert_eq!(matrix().combine(&y, &by).finite.read(), wrong == 1.0);
            }
        }
    }

    #[test]
    fn a_step_of_moments_that_is_not_finite_is_known_before() {
        let (by, none) = (lines([9, 70], 1, 0.2), Entries::default());
        let ball = Rule::HeavyBall {
            momentum: 0.9,
            nesterov: false,
        };
        let adam = Rule::Adam {
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
        };
        for execution in [Execution::Fused, Execution::Reference] {
            let matrix = || Matrix::of(random([9, 70], DType::F32), [9, 70], execution);
            let all = |value: f64| {
                let numbers = random([9, 70], DType::F32) * 0.0 + value;
                Matrix::of(numbers, [9, 70], execution)
            };
            for rule in [ball, adam] {
                let by = MomentStep {
                    gradient: &by,
                    coefficients: rule.at(1, 10.0),
                    of_weights: &by,
                    of_change: &by,
                    fixed: &none,
                    fixed_moments: &[Vec::new(), Vec::new()],
                };
                let finite = |g: Matrix, w: Matrix| {
                    let moments = vec![all(0.0); rule.moments()];
                    g.advances_finitely(&w, &moments, &by).read()
                };
                let with = |wrong| matrix().scatter(&Entries::new(vec![(333, wrong)]));
                assert!(finite(with(1.0), matrix()));
                for wrong in [f64::NAN, f64::INFINITY] {
                    assert!(!finite(with(wrong), matrix()));
                    assert!(!finite(matrix(), with(wrong)));
                }
                assert!(!finite(all(3e38), matrix()), "a sum overflows");
            }
        }
    }

    #[test]
    fn columns_of_ones_give_the_same_bits() {
        for columns in [1, 7, 8, 10, 15, 16, 17, 21] {
            let w = random([9, columns], DType::F32);
            let matrix = || Matrix::of(w.clone(), [9, columns], Execution::Fused);
            let line = |seed| lines([9, columns], 1, seed);
            let (mut ones, other) = (line(0.2), line(0.7));
            ones.columns.to_mut().fill(1.0);
            let scaled = matrix().scale(&ones).to_vec();
            let added = matrix().scale(&other).to_vec();
            let expected = scaled.iter().zip(added);
            let expected: Vec<f64> = expected
                .map(|(&a, b)| (a as f32 + b as f32).into())
                .collect();
            let by = ScaledSum {
                of_x: &other,
                of_y: &ones,
                fixed: &Entries::default(),
            };
            assert_eq!(matrix().combine(&matrix(), &by).matrix.to_vec(), expected);
            let wrong = Entries::new(vec![(8 * columns + columns - 1, f64::NAN)]);
            let passed = matrix().scatter(&wrong).combine(&matrix(), &by);
            assert!(!passed.finite.read());
        }
    }
}
