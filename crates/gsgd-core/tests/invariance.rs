//! Rescaling by powers of two leaves every trajectory bit for bit, up to the scaling.

mod common;

use common::{gradients, mlp, network, random_graph, weights};
use gsgd_core::chart::{ChartConfig, Coordinates};
use gsgd_core::matrix::{Dense, Matrix, Real, Rule};
use gsgd_core::paths::path_sgd;
use gsgd_core::rescale::{Balance, Equivalence, Norm, Scaling, balance, balanced_sgd, equivalent};
use gsgd_core::scales::{Kind, ScaleGraph};
use gsgd_core::skeleton::Skeleton;
use gsgd_core::{Error, Moments, PathSpace};
use proptest::prelude::*;

fn scaled<E: Real>(graph: &ScaleGraph, w: &[Dense<E>], by: &Scaling) -> Vec<Dense<E>> {
    let scales = by.of_weights(network(graph, w)).unwrap();
    let pairs = w.iter().zip(&scales);
    pairs.map(|(w, by)| w.clone().scale(by)).collect()
}

/// Gradients of the rescaled weights of the same loss.
fn pulled<E: Real>(graph: &ScaleGraph, g: &[Dense<E>], by: &Scaling) -> Vec<Dense<E>> {
    scaled(graph, g, &by.inverse())
}

type Step<E> = Box<dyn FnMut(&[Dense<E>], Vec<Dense<E>>) -> Result<Vec<Dense<E>>, Error>>;

/// Steppers made for the weights that they start from.
fn steppers<E: Real + 'static>(graph: &ScaleGraph, w: &[Dense<E>]) -> Vec<(String, Step<E>)> {
    let lr = |lr: f64| vec![lr; graph.edges().len()];
    let space = |coordinates, skeleton: Skeleton| {
        let config = ChartConfig {
            coordinates: Some(coordinates),
            skeleton,
            ..ChartConfig::default()
        };
        let chart = config.at(network(graph, w)).unwrap();
        PathSpace::new(graph.clone(), chart, Some(3.0))
    };
    let mut all: Vec<(String, Step<E>)> = Vec::new();
    for coordinates in [Coordinates::Normalised, Coordinates::Norm] {
        let (descent, lifted) = (
            space(coordinates, Skeleton::Largest),
            space(coordinates, Skeleton::Largest),
        );
        let rates = lr(1e-3);
        all.push((
            format!("descent, {coordinates:?}"),
            Box::new(move |w, g| descent.descend(w, g, &rates)),
        ));
        // sign descent with clipped gradients: any rule on path values
        all.push((
            format!("lifted, {coordinates:?}"),
            Box::new(move |w, g| {
                let (mut pairs, way_back) = lifted.lift(w, g)?;
                lifted.clip(&mut pairs);
                let moved = pairs.into_iter().map(|(v, g)| {
                    let pairs = v.entries().iter().zip(g.entries());
                    let entries = pairs.map(|(v, g)| {
                        E::from_f64(v.to_f64() - 1e-3 * g.to_f64().signum() * v.to_f64().abs())
                    });
                    Dense::new(gsgd_core::matrix::Slices::dims(&v), entries.collect())
                });
                way_back.lower(moved.collect())
            }),
        ));
    }
    let ball = |nesterov| Rule::HeavyBall {
        momentum: 0.9,
        nesterov,
    };
    let adam = Rule::Adam {
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-8,
    };
    for rule in [ball(false), ball(true), adam] {
        let space = space(Coordinates::Normalised, Skeleton::Largest);
        if space.advances() {
            let (mut moments, rates) = (Moments::new(rule), lr(1e-3));
            all.push((
                format!("{rule:?}"),
                Box::new(move |w, g| space.advance(&mut moments, w, g, &rates)),
            ));
        }
    }
    let (of, rates) = (graph.clone(), lr(1e-4));
    all.push((
        "balanced".into(),
        Box::new(move |w, g| balanced_sgd(network(&of, w), g, &rates, Balance::default())),
    ));
    if !graph
        .classes()
        .any(|class| graph.kind(class) == Kind::IntoBatchNorm)
    {
        let (of, rates) = (graph.clone(), lr(1e-4));
        all.push((
            "path-sgd".into(),
            Box::new(move |w, g| path_sgd(network(&of, w), g, &rates)),
        ));
    }
    all
}

fn bits_stay<E: Real + 'static>(graph: &ScaleGraph, seed: u64, steps: u64) {
    let by = Scaling::powers_of_two(graph, 6, seed);
    let start = weights::<E>(graph, seed);
    let twin = scaled(graph, &start, &by);
    let pairs = steppers(graph, &start)
        .into_iter()
        .zip(steppers(graph, &twin));
    for ((name, mut a), (_, mut b)) in pairs {
        let (mut ours, mut others) = (start.clone(), twin.clone());
        for step in 0..steps {
            let g = gradients::<E>(graph, 1000 * seed + step);
            // balanced SGD ends at one representative, whatever it came from
            let same = name == "balanced";
            let of_twin = match same && step > 0 {
                true => g.clone(),
                false => pulled(graph, &g, &by),
            };
            match (a(&ours, g), b(&others, of_twin)) {
                (Ok(moved), Ok(of_twin)) => (ours, others) = (moved, of_twin),
                // both end in a pole, at the same step
                (Err(_), Err(_)) => break,
                (a, b) => panic!("{name}, step {step}: {:?} and {:?}", a.err(), b.err()),
            }
            let expected = match same {
                true => ours.clone(),
                false => scaled(graph, &ours, &by),
            };
            assert!(expected == others, "{name}, step {step}, seed {seed}");
        }
        assert!(ours != start, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn powers_of_two_keep_every_bit(seed in 0u64..1_000_000, norms: bool) {
        let graph = random_graph(seed, norms);
        bits_stay::<f32>(&graph, seed, 30);
        bits_stay::<f64>(&graph, seed, 30);
    }

    #[test]
    fn a_scaling_is_found_again(seed in 0u64..1_000_000) {
        let graph = random_graph(seed, false);
        let w = weights::<f64>(&graph, seed);
        let by = Scaling::random(&graph, 1.0, seed).unwrap();
        let twin = scaled(&graph, &w, &by);
        let none = [vec![Vec::new(); 0], vec![Vec::new(); 0]];
        let networks = [network(&graph, &w), network(&graph, &twin)];
        match equivalent(networks, none.clone(), 1e-9).unwrap() {
            Equivalence::Equivalent { scaling, .. } => {
                for (found, expected) in scaling.factors().iter().zip(by.factors()) {
                    prop_assert!((found / expected - 1.0).abs() < 1e-9);
                }
            }
            different => prop_assert!(false, "{different:?}"),
        }
        let mut other = twin.clone();
        other[0] = other[0].clone().scale(&gsgd_core::matrix::RowColScale {
            rows: (0..graph.edges()[0].dims()[0]).map(|row| 1.0 + row as f64).collect(),
            columns: vec![-1.0; graph.edges()[0].dims()[1]],
        });
        let networks = [network(&graph, &w), network(&graph, &other)];
        let found = equivalent(networks, none, 1e-9).unwrap();
        let is_different = matches!(found, Equivalence::Different { .. });
        prop_assert!(is_different);
    }
}

#[test]
fn large_networks_and_threads() {
    bits_stay::<f32>(&mlp(&[9, 300, 280, 3], true), 5, 10);
}

#[test]
fn one_balanced_representative() {
    for seed in 0..8 {
        let graph = random_graph(seed, seed % 2 == 0);
        let w = weights::<f64>(&graph, seed);
        for norm in [Norm::L2, Norm::MaxAbs] {
            let until = Balance {
                norm,
                ..Balance::default()
            };
            let balanced = |w: &[Dense<f64>]| {
                let found = balance(network(&graph, w), until).unwrap();
                scaled(&graph, w, &found.scaling)
            };
            let twin = scaled(&graph, &w, &Scaling::powers_of_two(&graph, 9, seed));
            assert!(balanced(&w) == balanced(&twin), "{norm:?}, seed {seed}");
        }
    }
}
