//! m - H basis paths, independent for every graph; and norms over all paths.

mod common;

use common::{flat, gradients, network, random_graph, weights};
use gsgd_core::chart::{ChartConfig, Coordinates};
use gsgd_core::paths::{Paths, Power, basis_path_norm, path_norm};
use gsgd_core::skeleton::SkeletonTree;
use gsgd_core::{Error, PathSpace};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_rank_is_m_less_h(seed in 0u64..1_000_000) {
        let graph = random_graph(seed, false);
        let w = weights::<f64>(&graph, seed);
        let paths = match Paths::enumerate(network(&graph, &w)) {
            Err(Error::TooManyPaths { .. }) => return Ok(()),
            paths => paths.unwrap(),
        };
        prop_assume!(paths.paths().len() < 3000);
        prop_assert_eq!(paths.rank(), graph.basis_paths());
        let sums = [Power::One, Power::Two].map(|p| path_norm(network(&graph, &w), p).unwrap());
        let values = paths.values();
        let one: f64 = values.iter().map(|v| v.abs()).sum();
        let two: f64 = values.iter().map(|v| v * v).sum();
        prop_assert!((sums[0] - one).abs() < 1e-9 * one);
        prop_assert!((sums[1] - two).abs() < 1e-9 * two);
    }

    #[test]
    fn the_basis_path_norm_is_that_of_plain_coordinates(seed in 0u64..1_000_000, norms: bool) {
        let graph = random_graph(seed, norms);
        let w = weights::<f64>(&graph, seed);
        let config = ChartConfig {
            coordinates: Some(Coordinates::Plain),
            floor: None,
            ..ChartConfig::default()
        };
        let chart = config.at(network(&graph, &w)).unwrap();
        let space = PathSpace::new(graph.clone(), chart, None);
        let (pairs, _) = space.lift(&w, gradients(&graph, seed)).unwrap();
        let values: Vec<_> = pairs.into_iter().map(|(v, _)| v).collect();
        let expected: f64 = flat(&values).iter().map(|v| v * v).sum();
        let tree = SkeletonTree::largest(network(&graph, &w));
        let found = basis_path_norm(network(&graph, &w), &tree).unwrap();
        prop_assert!((found - expected).abs() < 1e-9 * expected, "{} and {}", found, expected);
    }
}
