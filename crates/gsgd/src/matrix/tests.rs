//! The core's passes over memory and tensor operations give the same numbers.

use burn::tensor::{DType, Device, Distribution, Tensor};
use gsgd_core::matrix::{EntryList, Rule};

use super::*;

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

fn lines(shape: [usize; 2], groups: usize, seed: f64) -> RowColScale {
    let line = |n: usize, s: f64| (0..n).map(|i| (s + i as f64).sin() + 1.5).collect();
    RowColScale {
        rows: line(shape[0], seed),
        columns: line(groups * shape[1], seed + 0.5),
    }
}

#[test]
fn passes_and_tensor_operations_agree() {
    use Execution::{Fused, Reference};
    let small = [[1, 1], [3, 5], [16, 16], [49, 64], [7, 33]].map(|shape| (shape, 1));
    let grouped = [([12, 9], 12), ([12, 10], 3), ([500, 300], 5)];
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 5e-5)] {
        for (shape, groups) in small.into_iter().chain(grouped) {
            let (w, g) = (random(shape, dtype), random(shape, dtype) + 0.1);
            let pair = |execution| {
                (
                    BurnMatrix::new(w.clone(), shape, execution),
                    BurnMatrix::new(g.clone(), shape, execution),
                )
            };
            let line = |seed| lines(shape, groups, seed);
            let (a, mut b, c) = (line(0.1), line(0.2), line(0.3));
            b.rows.iter_mut().for_each(|row| *row *= -1.3);
            let places = EntryList::new(vec![(0, 0), (shape[0] * shape[1] - 1, 1)]);
            let fixed = places.with(&[2.0, 3.0]);
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
                    agree(&|execution| pair(execution).0.powers(side, groups, others, p).read());
                }
            }
            agree(&|execution| pair(execution).0.scale(&a).to_vec());
            agree(&|execution| {
                let (w, g) = pair(execution);
                let by = ScaledSum {
                    of_x: &a,
                    of_y: &b,
                    fixed,
                };
                w.combine(&g, &by).matrix.to_vec()
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
                        *squares = BurnMatrix::new(positive, shape, execution);
                    }
                    let by = MomentStep {
                        gradient: &c,
                        coefficients: rule.at(3, 0.1),
                        of_weights: &a,
                        of_change: &b,
                        fixed,
                        fixed_moments: &[vec![0.5, 0.25], vec![1.0, 0.0]],
                    };
                    assert!(g.advances_finitely(&w, &moments, &by).read());
                    let (moved, moments) = g.advance(&w, moments, &by);
                    let all = std::iter::once(&moved).chain(&moments);
                    all.flat_map(Matrix::to_vec).collect()
                });
            }
            agree(&|execution| pair(execution).0.gather(fixed.at).read());
            agree(&|execution| pair(execution).0.scatter(fixed).to_vec());
        }
    }
}

#[test]
fn transposed_tensors_are_read_by_their_layout() {
    let w = random([5, 3], DType::F32).transpose();
    let by = lines([3, 5], 1, 0.4);
    let scaled = |execution| {
        BurnMatrix::new(w.clone(), [3, 5], execution)
            .scale(&by)
            .to_vec()
    };
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
        let matrix = BurnMatrix::new(x, [2, 6], Execution::Fused);
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
    let w = BurnMatrix::new(random([4, 4], DType::F32), [4, 4], Execution::Fused);
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
            let matrix = || BurnMatrix::new(random([9, 70], dtype), [9, 70], execution);
            let y = matrix().scatter(EntryList::new(vec![(333, 0)]).with(&[wrong]));
            assert_eq!(y.is_finite().read(), wrong == 1.0);
            let by = ScaledSum {
                of_x: &by,
                of_y: &by,
                fixed: none,
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
        let matrix = || BurnMatrix::new(random([9, 70], DType::F32), [9, 70], execution);
        let all = |value: f64| {
            let numbers = random([9, 70], DType::F32) * 0.0 + value;
            BurnMatrix::new(numbers, [9, 70], execution)
        };
        for rule in [ball, adam] {
            let by = MomentStep {
                gradient: &by,
                coefficients: rule.at(1, 10.0),
                of_weights: &by,
                of_change: &by,
                fixed: none,
                fixed_moments: &[Vec::new(), Vec::new()],
            };
            let finite = |g: BurnMatrix, w: BurnMatrix| {
                let moments = vec![all(0.0); rule.moments()];
                g.advances_finitely(&w, &moments, &by).read()
            };
            let with = |wrong| matrix().scatter(EntryList::new(vec![(333, 0)]).with(&[wrong]));
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
        let matrix = || BurnMatrix::new(w.clone(), [9, columns], Execution::Fused);
        let line = |seed| lines([9, columns], 1, seed);
        let (mut ones, other) = (line(0.2), line(0.7));
        ones.columns.fill(1.0);
        let scaled = matrix().scale(&ones).to_vec();
        let added = matrix().scale(&other).to_vec();
        let expected = scaled.iter().zip(added);
        let expected: Vec<f64> = expected
            .map(|(&a, b)| (a as f32 + b as f32).into())
            .collect();
        let by = ScaledSum {
            of_x: &other,
            of_y: &ones,
            fixed: Entries::default(),
        };
        assert_eq!(matrix().combine(&matrix(), &by).matrix.to_vec(), expected);
        let wrong = EntryList::new(vec![(8 * columns + columns - 1, 0)]);
        let passed = matrix()
            .scatter(wrong.with(&[f64::NAN]))
            .combine(&matrix(), &by);
        assert!(!passed.finite.read());
    }
}
