//! Every pass against a loop in f64 that says what it means.

use gsgd_core::matrix::{
    Combined, Dense, Entries, EntryList, Matrix, MomentStep, Power, Real, RowColScale, Rule,
    ScaledSum, Side, Slices,
};

const SHAPES: [([usize; 2], usize); 9] = [
    ([1, 1], 1),
    ([3, 5], 1),
    ([16, 16], 1),
    ([49, 64], 1),
    ([7, 33], 1),
    ([9, 10], 1),
    ([12, 9], 12),
    ([12, 10], 3),
    ([500, 300], 5),
];

/// Numbers without order.
fn mixed(count: usize, seed: f64) -> Vec<f64> {
    (0..count)
        .map(|at| (seed + 37.0 * at as f64).sin())
        .collect()
}

fn dense<E: Real>(dims: [usize; 2], seed: f64) -> Dense<E> {
    let values = mixed(dims[0] * dims[1], seed).into_iter();
    Dense::new(dims, values.map(E::from_f64).collect())
}

fn factors([rows, columns]: [usize; 2], groups: usize, seed: f64) -> RowColScale {
    let list = |count, seed| mixed(count, seed).iter().map(|x| x + 1.5).collect();
    RowColScale {
        rows: list(rows, seed),
        columns: list(groups * columns, seed + 0.5),
    }
}

/// Every entry: its place, and its row and column line.
fn entries([rows, columns]: [usize; 2], groups: usize) -> impl Iterator<Item = [usize; 3]> {
    let all = (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)));
    all.map(move |(row, column)| {
        let group = row / (rows / groups);
        [row * columns + column, row, group * columns + column]
    })
}

/// Sums of `of(place, factor of the other line)` by line.
fn by_line(
    dims: [usize; 2],
    groups: usize,
    side: Side,
    others: &[f64],
    of: impl Fn(usize, f64) -> f64,
) -> Vec<f64> {
    let lines = match side {
        Side::Rows => dims[0],
        Side::Columns => groups * dims[1],
    };
    let mut sums = vec![0.0; lines];
    for [at, row, column] in entries(dims, groups) {
        let (line, other) = match side {
            Side::Rows => (row, column),
            Side::Columns => (column, row),
        };
        sums[line] += of(at, others[other]);
    }
    sums
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let near = (found - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(near, "{found}, not {expected}");
    }
}

fn sums_are_right<E: Real>(tolerance: f64) {
    for (dims, groups) in SHAPES {
        let (w, g): (Dense<E>, Dense<E>) = (dense(dims, 0.1), dense(dims, 0.7));
        let (of_w, of_g) = (w.to_vec(), g.to_vec());
        let by = factors(dims, groups, 0.3);
        for side in [Side::Rows, Side::Columns] {
            let others = match side {
                Side::Rows => &by.columns,
                Side::Columns => &by.rows,
            };
            let sums = |of: &dyn Fn(usize, f64) -> f64| by_line(dims, groups, side, others, of);
            let dots = sums(&|at, _| of_w[at] * of_g[at]);
            close(&w.dots(&g, side, groups).read(), &dots, tolerance);
            let all = w.head_sums(&g, side, groups, others).read();
            close(&all.dots, &dots, tolerance);
            close(
                &all.squares,
                &sums(&|at, c| (of_w[at] * c).powi(2)),
                tolerance,
            );
            let squares = sums(&|at, c| (of_g[at] / c).powi(2));
            close(&all.gradient_squares, &squares, tolerance);
            let one = w.powers(side, groups, others, Power::One).read();
            close(&one, &sums(&|at, c| c * of_w[at].abs()), tolerance);
            let two = w.powers(side, groups, others, Power::Two).read();
            close(&two, &sums(&|at, c| c * of_w[at].powi(2)), tolerance);
            let largest = w.maxima(side, groups, others).read();
            let mut expected = vec![0.0f64; largest.len()];
            for [at, row, column] in entries(dims, groups) {
                let (line, other) = match side {
                    Side::Rows => (row, column),
                    Side::Columns => (column, row),
                };
                expected[line] = expected[line].max(others[other] * of_w[at].abs());
            }
            close(&largest, &expected, tolerance);
        }
    }
}

#[test]
fn sums_by_line() {
    sums_are_right::<f64>(1e-12);
    sums_are_right::<f32>(5e-5);
}

fn changes_are_right<E: Real>(tolerance: f64) {
    for (dims, groups) in SHAPES {
        let matrix = |seed| dense::<E>(dims, seed);
        let values = |seed| matrix(seed).to_vec();
        let [a, b, c] = [0.1, 0.2, 0.3].map(|seed| factors(dims, groups, seed));
        let last = dims[0] * dims[1] - 1;
        let places = EntryList::new(vec![(0, 1), (last, 0)]);
        let fixed = places.with(&[3.0, 2.0]);
        let set = |mut all: Vec<f64>, [first, end]: [f64; 2]| {
            (all[0], all[last]) = (first, end);
            all[last] = end;
            all
        };
        let scaled = |x: &[f64], by: &RowColScale| -> Vec<f64> {
            let of = |[at, row, column]: [usize; 3]| x[at] * by.rows[row] * by.columns[column];
            entries(dims, groups).map(of).collect()
        };
        let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x + y).collect();

        close(
            &matrix(0.4).scale(&a).to_vec(),
            &scaled(&values(0.4), &a),
            tolerance,
        );
        let by = ScaledSum {
            of_x: &a,
            of_y: &b,
            fixed,
        };
        let Combined {
            matrix: found,
            finite,
        } = matrix(0.4).combine(&matrix(0.5), &by);
        assert!(finite.read());
        let expected = sum(&scaled(&values(0.4), &a), &scaled(&values(0.5), &b));
        close(&found.to_vec(), &set(expected, [2.0, 3.0]), tolerance);

        let ball = |nesterov| Rule::HeavyBall {
            momentum: 0.9,
            nesterov,
        };
        let adam = Rule::Adam {
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
        };
        for rule in [ball(false), ball(true), adam] {
            let (w, g) = (matrix(0.6), matrix(0.8));
            let squares = matrix(0.2).to_vec().into_iter().map(|x| E::from_f64(x * x));
            let squares = Dense::new(dims, squares.collect());
            let moments = [matrix(0.9), squares][..rule.moments()].to_vec();
            let mut expected: Vec<Vec<f64>> = moments.iter().map(Matrix::to_vec).collect();
            let by = MomentStep {
                gradient: &c,
                coefficients: rule.at(3, 0.1),
                of_weights: &a,
                of_change: &b,
                fixed,
                fixed_moments: &[vec![0.25, 0.5], vec![0.0, 1.0]],
            };
            let of_g = scaled(&g.to_vec(), &c).into_iter().enumerate();
            let change = of_g.map(|(at, g)| {
                let mut own: Vec<f64> = expected.iter().map(|moment| moment[at]).collect();
                let change = by.coefficients.change(g, &mut own);
                for (moment, own) in expected.iter_mut().zip(own) {
                    moment[at] = own;
                }
                change
            });
            let change: Vec<f64> = change.collect();
            let moved = sum(&scaled(&w.to_vec(), &a), &scaled(&change, &b));
            assert!(g.advances_finitely(&w, &moments, &by).read());
            let (found, moments) = g.advance(&w, moments, &by);
            close(&found.to_vec(), &set(moved, [2.0, 3.0]), 10.0 * tolerance);
            let fixed = [[0.5, 0.25], [1.0, 0.0]];
            for ((found, expected), fixed) in moments.iter().zip(expected).zip(fixed) {
                close(&found.to_vec(), &set(expected, fixed), tolerance);
            }
        }
        let own = values(0.4);
        let at = matrix(0.4).gather(places.at()).read();
        close(&at, &[own[0], own[last]][..at.len()], 0.0);
        let found = matrix(0.4).scatter(fixed).to_vec();
        close(&found, &set(own, [2.0, 3.0]), 0.0);
    }
}

#[test]
fn changed_matrices() {
    changes_are_right::<f64>(1e-12);
    changes_are_right::<f32>(5e-6);
}

#[test]
fn what_is_not_finite_is_found() {
    for (dims, groups) in SHAPES {
        let by = factors(dims, groups, 0.2);
        let last = EntryList::new(vec![(dims[0] * dims[1] - 1, 0)]);
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0] {
            let y = dense::<f32>(dims, 0.3).scatter(last.with(&[wrong]));
            assert_eq!(y.is_finite().read(), wrong == 1.0);
            let sum = ScaledSum {
                of_x: &by,
                of_y: &by,
                fixed: Entries::default(),
            };
            let x = dense::<f32>(dims, 0.4);
            assert_eq!(x.combine(&y, &sum).finite.read(), wrong == 1.0);
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let dims = [700, 300];
    let all = || {
        let (w, g) = (dense::<f32>(dims, 0.1), dense::<f32>(dims, 0.2));
        let rows = w.dots(&g, Side::Rows, 1).read();
        let columns = w.dots(&g, Side::Columns, 1).read();
        [rows, columns].concat()
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(all)
    };
    assert_eq!(on(1), on(3));
}

#[test]
#[should_panic]
fn numbers_of_another_type_are_not_given() {
    let _: &[f32] = Slices::values(&Dense::new([1, 1], vec![1.0f64]));
}
