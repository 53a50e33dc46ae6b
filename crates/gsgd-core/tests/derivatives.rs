//! dL/dv is the derivative of the loss by path values, for gradients of any kind: on all weights, on those of some units, on
//! those of one parameter. A penalty, a mask and a clipped gradient are of this kind.

mod common;

use common::{flat, gradients, mlp, network, random_graph, rng, weights};
use gsgd_core::PathSpace;
use gsgd_core::chart::{ChartConfig, Coordinates};
use gsgd_core::matrix::{Dense, Matrix};
use gsgd_core::scales::{Kind, ScaleGraph};
use proptest::prelude::*;
use rand::Rng;

/// Which weights have a gradient that is not 0.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Where {
    Everywhere,
    /// On a few entries of every parameter that follow one another, as those of a unit do.
    SomeUnits,
    OneParameter,
}

const ALL: [Where; 3] = [Where::Everywhere, Where::SomeUnits, Where::OneParameter];

/// The loss `sum of G w + G w^2 / 2`: the matrices G.
fn loss_of(graph: &ScaleGraph, place: Where, seed: u64) -> Vec<Dense<f64>> {
    let mut rng = rng(seed);
    let one = rng.random_range(0..graph.edges().len());
    let all = gradients::<f64>(graph, seed).into_iter().enumerate();
    all.map(|(param, g)| {
        let count = g.entries().len();
        let first = rng.random_range(0..count);
        let length = rng.random_range(1..=count.min(64));
        let taken = |at: usize| match place {
            Where::Everywhere => true,
            Where::SomeUnits => (first..first + length).contains(&at),
            Where::OneParameter => param == one,
        };
        let entries = g.entries().iter().enumerate();
        let entries = entries.map(|(at, &g)| if taken(at) { g } else { 0.0 });
        Dense::new(graph.edges()[param].dims(), entries.collect())
    })
    .collect()
}

fn loss(of: &[Dense<f64>], w: &[Dense<f64>]) -> f64 {
    let pairs = flat(of).into_iter().zip(flat(w));
    pairs.map(|(g, w)| g * w + 0.5 * g * w * w).sum()
}

fn gradients_of(of: &[Dense<f64>], w: &[Dense<f64>]) -> Vec<Dense<f64>> {
    let params = of.iter().zip(w);
    params
        .map(|(g, w)| {
            let pairs = g.entries().iter().zip(w.entries());
            let entries = pairs.map(|(g, w)| g * (1.0 + w)).collect();
            Dense::new(gsgd_core::matrix::Slices::dims(w), entries)
        })
        .collect()
}

/// Coordinates without the ratio floor.
fn space(graph: &ScaleGraph, w: &[Dense<f64>], coordinates: Coordinates) -> PathSpace {
    let config = ChartConfig {
        coordinates: Some(coordinates),
        floor: None,
        ..ChartConfig::default()
    };
    let chart = config.at(network(graph, w)).unwrap();
    PathSpace::new(graph.clone(), chart, None)
}

/// Compares dL/dv of all In edges, whose sums are the matter, and of other entries with numerical derivatives.
fn check(graph: &ScaleGraph, coordinates: Coordinates, place: Where, seed: u64, entries: usize) {
    let w = weights::<f64>(graph, seed);
    let space = space(graph, &w, coordinates);
    let of = loss_of(graph, place, seed);
    let (pairs, _) = space.lift(&w, gradients_of(&of, &w)).unwrap();
    let all = pairs.iter().flat_map(|(_, g)| g.entries());
    let scale = all.fold(0.0f64, |all, g| all.max(g.abs()));
    let mut random = rng(seed);
    let mut places: Vec<(usize, usize)> = (0..entries)
        .map(|_| {
            let param = random.random_range(0..pairs.len());
            (
                param,
                random.random_range(0..pairs[param].0.entries().len()),
            )
        })
        .collect();
    if let gsgd_core::chart::Chart::Path(chart) = space.chart() {
        let ins = chart.tree().ins.iter().flatten();
        let ins = ins.map(|&edge| (edge.param, graph.flat(edge)));
        let all: Vec<(usize, usize)> = ins.collect();
        let step = all.len().div_ceil(entries).max(1);
        places.extend(all.into_iter().step_by(step));
    }
    for (param, at) in places {
        let (v, g) = (pairs[param].0.entries()[at], pairs[param].1.entries()[at]);
        if v == 0.0 {
            continue; // held fixed
        }
        let h = 1e-5 * v.abs().max(1e-2);
        let moved = |h: f64| {
            let (values, lifted) = space.lift(&w, gradients_of(&of, &w)).unwrap();
            let mut values: Vec<Dense<f64>> = values.into_iter().map(|(v, _)| v).collect();
            let mut entries = values[param].to_vec();
            entries[at] += h;
            values[param] = Dense::new(graph.edges()[param].dims(), entries);
            loss(&of, &lifted.lower(values).unwrap())
        };
        let numerical = (moved(h) - moved(-h)) / (2.0 * h);
        assert!(
            (numerical - g).abs() <= 1e-5 * (scale + g.abs()),
            "parameter {param}[{at}], {place:?}, {coordinates:?}, seed {seed}: {numerical}, not {g}"
        );
    }
}

/// New weights have the path values that were asked for. A row into a batch norm has them up to its length.
fn check_the_way_back(graph: &ScaleGraph, coordinates: Coordinates, seed: u64) {
    let w = weights::<f64>(graph, seed);
    let space = space(graph, &w, coordinates);
    let (pairs, lifted) = space.lift(&w, gradients(graph, seed)).unwrap();
    let mut rng = rng(seed + 1);
    let moved = pairs.iter().map(|(v, _)| {
        let entries = v.entries().iter();
        let entries = entries.map(|v| v * (1.0 + 0.1 * rng.random::<f64>()));
        Dense::new(gsgd_core::matrix::Slices::dims(v), entries.collect())
    });
    let moved: Vec<Dense<f64>> = moved.collect();
    let new = lifted.lower(moved.clone()).unwrap();
    let (found, _) = space.lift(&new, gradients(graph, seed)).unwrap();
    for (param, ((found, _), moved)) in found.iter().zip(&moved).enumerate() {
        let edges = &graph.edges()[param];
        let normed = edges
            .heads()
            .iter()
            .any(|&head| graph.kind(head) == Kind::IntoBatchNorm);
        if normed {
            continue;
        }
        for (found, moved) in found.entries().iter().zip(moved.entries()) {
            assert!(
                (found - moved).abs() <= 1e-9 * (1.0 + moved.abs()),
                "parameter {param}, {coordinates:?}, seed {seed}: {found}, not {moved}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn new_weights_have_the_path_values(seed in 0u64..1_000_000, norms: bool) {
        let graph = random_graph(seed, norms);
        check_the_way_back(&graph, Coordinates::Plain, seed);
        check_the_way_back(&graph, Coordinates::Normalised, seed);
    }

    #[test]
    fn on_random_graphs(seed in 0u64..1_000_000, norms: bool, place in 0..3usize) {
        let graph = random_graph(seed, norms);
        for coordinates in [Coordinates::Plain, Coordinates::Normalised, Coordinates::Norm] {
            check(&graph, coordinates, ALL[place], seed, 6);
        }
    }

    #[test]
    fn on_random_widths(
        widths in prop::collection::vec(1usize..40, 3..6),
        bias: bool,
        place in 0..3usize,
        seed in 0u64..1_000_000,
    ) {
        check(&mlp(&widths, bias), Coordinates::Plain, ALL[place], seed, 6);
    }
}

#[test]
fn on_wide_networks() {
    for widths in [[6, 300, 300, 3], [20, 300, 400, 3], [5, 1024, 64, 2100]] {
        let graph = mlp(&widths, true);
        for (seed, place) in ALL.into_iter().enumerate() {
            check(&graph, Coordinates::Plain, place, seed as u64, 6);
        }
    }
}
