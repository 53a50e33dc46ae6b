//! Rescaled starts: what invariance is for.

use toml::Value;

use super::plans::{method, table};
use super::{Experiment, ExperimentPart, Scale};
use crate::compare::stats::Summary;
use crate::compare::{Method, Plan, Results};
use crate::report::{Figure, Line, style};
use crate::train::OptimizerName;

/// The methods of the figure: those in weight space that part from their own figures, and their forms in path space.
const SHOWN: [(OptimizerName, &str); 4] = [
    (OptimizerName::Sgd, "SGD"),
    (OptimizerName::Adam, "Adam"),
    (OptimizerName::GSgd, "G-SGD"),
    (OptimizerName::GAdam, "G-Adam"),
];

pub fn experiment(scale: Scale) -> Experiment {
    let part = |spread: &str| {
        let value = spread.parse::<f64>().unwrap_or_default();
        let mut methods: Vec<Method> = OptimizerName::ALL
            .iter()
            .map(|o| method(o.as_str(), &[("optimizer", o.as_str().into())]))
            .collect();
        for name in ["sgd", "momentum", "adam"] {
            methods.push(method(
                &format!("{name}, balanced first"),
                &[("optimizer", name.into()), ("balance_first", true.into())],
            ));
        }
        ExperimentPart {
            name: format!("spread-{spread}"),
            title: format!("units rescaled by 10^U(-{spread}, {spread})"),
            plan: Plan {
                seeds: (0..scale.pick(2, 5, 10)).collect(),
                lrs: scale.pick(
                    vec![0.003, 0.03, 0.3],
                    vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
                    vec![0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
                ),
                settings: table(&[
                    ("epochs", Value::Integer(scale.pick(3, 10, 40))),
                    ("validation", Value::Integer(5000)),
                    ("unbalance", value.into()),
                ]),
                methods,
            },
            timed: false,
        }
    };
    Experiment {
        title: "Unbalanced starts",
        claim: "Not in the paper: what its invariance is for. The starts compute the same function; only how it is spread \
                over the weights differs.",
        differs: "[49:64:64:10] on Fashion-MNIST 7x7; the lr is tuned anew for every start.".into(),
        parts: ["0", "0.5", "1", "1.5", "2"].map(part).to_vec(),
    }
}

/// Test error by how far the start's units are rescaled, with 95 % intervals; a method's line ends where its runs diverge.
pub fn figure(parts: &[(&ExperimentPart, Results)]) -> Figure {
    let line = |(optimizer, name): (OptimizerName, &str)| {
        let point = |(_, results): &(&ExperimentPart, Results)| {
            let mut methods = results.methods.iter();
            let method = methods.find(|method| method.name == optimizer.as_str())?;
            let errors = method
                .judged()?
                .last(|epoch| Some(100.0 * epoch.test_error))?;
            let error = Summary::from_values(&errors)?;
            let half = error.interval.unwrap_or(0.0);
            let ends = (error.mean - half, error.mean + half);
            Some(((method.settings.unbalance, error.mean), ends))
        };
        let (points, band) = parts.iter().filter_map(point).unzip();
        Line {
            name: name.into(),
            style: style(optimizer, 0),
            points,
            band,
        }
    };
    Figure {
        name: "error-rescaled".into(),
        title: "One network, its units rescaled by 10^U(-s, s)".into(),
        labels: ["s", "test error %"],
        logarithmic: [false, false],
        lines: SHOWN.map(line).into(),
    }
}
