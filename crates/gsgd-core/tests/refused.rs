//! What does not fit is refused, not stepped in part.

mod common;

use common::{gradients, mlp, network, weights};
use gsgd_core::chart::{Chart, ChartConfig, PathChart};
use gsgd_core::matrix::Rule;
use gsgd_core::scales::{ScaleGraphBuilder, ScaleGraphConfig, WeightForm};
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
fn weights_of_another_form_are_refused() {
    let key = gsgd_core::scales::ParamKey(0);
    let names = [(key, "conv".to_string())];
    let mut builder = ScaleGraphBuilder::new(ScaleGraphConfig::new(), names, []);
    let x = builder.input(3);
    let y = builder.layer(x, key, &[3, 4, 2], WeightForm::Dense, None);
    builder.output(y);
    let error = builder.finish().unwrap_err();
    assert!(matches!(error, GraphError::Form { .. }), "{error}");
}
