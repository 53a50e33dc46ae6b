//! What does not fit is refused, not stepped in part.

mod common;

use common::{gradients, mlp, network, weights};
use gsgd_core::chart::{Chart, ChartConfig, PathChart};
use gsgd_core::graph::{Graph, Param};
use gsgd_core::matrix::Rule;
use gsgd_core::scales::ScaleGraphConfig;
use gsgd_core::{Error, GraphError, Moments, PathSpace};

fn space() -> PathSpace {
    let graph = mlp(&[3, 4, 2], true);
    let w = weights::<f32>(&graph, 1);
    let chart = ChartConfig::default().at(network(&graph, &w)).unwrap();
    PathSpace::new(graph, chart, None)
}

#[test]
#[should_panic(expected = "parameters")]
fn a_gradient_for_each_parameter() {
    let space = space();
    let w = weights::<f32>(space.graph(), 1);
    let mut g = gradients::<f32>(space.graph(), 2);
    g.pop();
    let _ = space.descend(&w, g, &[0.1; 4]);
}

#[test]
#[should_panic(expected = "parameters")]
fn an_lr_for_each_parameter() {
    let space = space();
    let (w, g) = (
        weights::<f32>(space.graph(), 1),
        gradients::<f32>(space.graph(), 2),
    );
    let rule = Rule::HeavyBall {
        momentum: 0.9,
        nesterov: false,
    };
    let _ = space.advance(&mut Moments::new(rule), &w, g, &[0.1]);
}

#[test]
fn states_of_charts_are_checked() {
    let space = space();
    let Chart::Path(chart) = space.chart() else {
        panic!("path values");
    };
    let load = |change: &dyn Fn(&mut gsgd_core::chart::PathChartState)| {
        let mut state = chart.state().clone();
        change(&mut state);
        PathChart::from_state(space.graph(), state)
    };
    assert!(load(&|_| {}).is_ok());
    let changes: [&dyn Fn(&mut gsgd_core::chart::PathChartState); 4] = [
        &|state| state.floor = Some(f64::NAN),
        &|state| state.values[1] = -1.0,
        &|state| state.sizes.head.truncate(1),
        &|state| state.tree.ins[0] = None,
    ];
    for change in changes {
        assert!(matches!(load(change), Err(Error::Skeleton { .. })));
    }
}

#[test]
fn operations_that_do_not_fit_are_refused_by_name() {
    let mut graph = Graph::new();
    let x = graph.input(&[1, 3]).unwrap();
    let weight = graph.param("conv", &[3, 4, 2]).unwrap();
    let error = graph.dense(x, weight, None).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("conv") && said.contains("[3, 4, 2]"),
        "{said}"
    );
    let error = graph.scales(ScaleGraphConfig::new()).unwrap_err();
    assert_eq!(error, GraphError::NoOutput);
    assert!(graph.param("none", &[3, 0]).is_err());
    let key = graph.params()[0].key;
    let again = Param {
        key,
        name: "again".into(),
        shape: vec![1],
        trains: true,
    };
    assert!(matches!(
        graph.declare(again),
        Err(GraphError::Twice { .. })
    ));
}
