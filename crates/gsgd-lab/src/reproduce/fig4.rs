//! Figure 4 and Table 5: the influence of the invariant ratio.

use toml::Value;

use super::plans::{method, table};
use super::{Experiment, ExperimentPart, Scale};
use crate::compare::stats::{Paired, Summary};
use crate::compare::{MethodResults, Plan, Results};
use crate::models::{Arch, NetworkName};
use crate::report::{Figure, Line, Style};

/// Methods at every width: name, flags.
const METHODS: [(&str, &str, &str); 3] = [
    ("sgd from he", "sgd", "he"),
    ("sgd from skeleton one", "sgd", "skeleton-one"),
    ("g-sgd", "g-sgd", "skeleton-one"),
];
const COLORS: [&str; 3] = ["#56b4e9", "#0072b2", "#d55e00"];

pub fn experiment(scale: Scale) -> Experiment {
    let widths = scale.pick(
        vec![16, 64],
        vec![8, 16, 32, 64, 128],
        vec![8, 16, 32, 64, 128, 256, 512, 1024],
    );
    let grid = scale.pick(vec![0.1], vec![0.03, 0.1, 0.3], vec![0.03, 0.1, 0.3, 1.0]);
    let part = |normalise: &str, inputs: &str, tuned: Option<&[f64]>| {
        let (lrs, held_back, lr) = match tuned {
            Some(grid) => (grid.to_vec(), 5000, "lr tuned"),
            None => (vec![0.01], 0, "lr 0.01 as in the paper"),
        };
        ExperimentPart {
            name: format!(
                "{normalise}-{}",
                if tuned.is_some() { "tuned" } else { "paper-lr" }
            ),
            title: format!("{inputs}, {lr}"),
            plan: Plan {
                seeds: (0..scale.pick(2, 5, 5)).collect(),
                lrs,
                settings: table(&[
                    ("epochs", Value::Integer(scale.pick(5, 100, 100))),
                    ("batch", Value::Integer(64)),
                    ("normalise", normalise.into()),
                    ("validation", Value::Integer(held_back)),
                ]),
                methods: widths
                    .iter()
                    .flat_map(|&h| METHODS.map(|method| method_of_width(h, method)))
                    .collect(),
            },
            timed: false,
        }
    };
    Experiment {
        title: "Figure 4: the influence of the invariant ratio",
        claim: "Section 5.2, Figure 4 and Table 5: on Fashion-MNIST pooled to 7x7, [49:h:h:10], lr 0.01, batch 64, 100 \
                epochs, 5 seeds, G-SGD is below SGD in training loss and test error at every h from 8 to 1024, and the \
                gap shrinks as h grows, that is as H/m falls.",
        differs: scale
            .pick(
                "Two widths, 5 epochs, 2 seeds.",
                "Widths up to 128; epochs, batch, lr and seeds as in the paper.",
                "As in the paper.",
            )
            .to_string()
            + " Besides: both normalisations of the inputs, SGD also from an ordinary He start, and an lr tuned for each \
               method on held back images.",
        parts: vec![
            part("unit", "pixels in [0, 1]", None),
            part("standard", "standardised inputs", None),
            part("unit", "pixels in [0, 1]", Some(&grid)),
            part("standard", "standardised inputs", Some(&grid)),
        ],
    }
}

fn method_of_width(
    h: usize,
    (name, optimizer, init): (&str, &str, &str),
) -> crate::compare::Method {
    let arch = format!("mlp:49-{h}-{h}-10");
    let mut method = method(
        &format!("h = {h}, {name}"),
        &[
            ("arch", arch.into()),
            ("optimizer", optimizer.into()),
            ("init", init.into()),
            (
                "skeleton",
                if init == "he" { "largest" } else { "paper" }.into(),
            ),
        ],
    );
    // at the same width, from the same weights
    method.against = Some(format!("h = {h}, {}", METHODS[1].0));
    method
}

/// The width of every method, in the order of the plan.
fn widths(results: &Results) -> Vec<f64> {
    let width = |method: &MethodResults| match &method.settings.arch {
        NetworkName::Known(Arch::Mlp(widths)) => Some(*widths.get(1)? as f64),
        _ => None,
    };
    results.methods.iter().filter_map(width).collect()
}

/// Loss and error by width, and the gaps by invariant ratio.
pub fn figures(results: &Results) -> Vec<Figure> {
    let widths = widths(results);
    let values = |at: usize, error: bool| -> Option<Vec<f64>> {
        results.methods.get(at)?.judged()?.last(|epoch| {
            Some(if error {
                100.0 * epoch.test_error
            } else {
                epoch.train_loss
            })
        })
    };
    let by_width = |name: &str, title: &str, label, error: bool| Figure {
        name: name.into(),
        title: title.into(),
        labels: ["h", label],
        logarithmic: [true, false],
        lines: (0..METHODS.len())
            .map(|method| {
                let at = (method..results.methods.len()).step_by(METHODS.len());
                let points = at.filter_map(|at| {
                    let summary = Summary::from_values(&values(at, error)?)?;
                    Some((widths[at], summary.mean, summary.interval.unwrap_or(0.0)))
                });
                line(METHODS[method].0, COLORS[method], points)
            })
            .collect(),
    };
    let gap = |name: &str, title: &str, label, error: bool| Figure {
        name: name.into(),
        title: title.into(),
        labels: ["H / m", label],
        logarithmic: [true, false],
        lines: (0..METHODS.len() - 1)
            .map(|baseline| {
                let at = (0..results.methods.len()).step_by(METHODS.len()).rev();
                let points = at.filter_map(|at| {
                    let sgd = values(at + baseline, error)?;
                    let gsgd = values(at + METHODS.len() - 1, error)?;
                    let gap = Paired::new(&gsgd, &sgd)?.difference;
                    Some((ratio(widths[at]), gap.mean, gap.interval.unwrap_or(0.0)))
                });
                line(METHODS[baseline].0, COLORS[baseline], points)
            })
            .collect(),
    };
    vec![
        by_width(
            "loss-width",
            "Training loss by width",
            "training loss",
            false,
        ),
        by_width("error-width", "Test error by width", "test error %", true),
        gap(
            "loss-gap",
            "How much lower G-SGD's training loss is",
            "training loss less",
            false,
        ),
        gap(
            "error-gap",
            "How much lower G-SGD's test error is",
            "test error % less",
            true,
        ),
    ]
}

/// H / m of [49:h:h:10].
fn ratio(h: f64) -> f64 {
    2.0 * h / (49.0 * h + h * h + 10.0 * h)
}

/// Points with half the width of their 95 % intervals.
fn line(name: &str, color: &'static str, points: impl Iterator<Item = (f64, f64, f64)>) -> Line {
    let (points, band) = points
        .map(|(x, y, half)| ((x, y), (y - half, y + half)))
        .unzip();
    Line {
        name: name.into(),
        style: Style { color, dashes: "" },
        points,
        band,
    }
}

#[cfg(test)]
mod tests {
    /// Table 5 prints h / m; H is 2 h.
    #[test]
    fn ratios_are_those_of_table_5() {
        for (h, m) in [(8.0, 536.0), (64.0, 7872.0), (1024.0, 1108992.0)] {
            assert!((super::ratio(h) - 2.0 * h / m).abs() < 1e-15);
        }
    }
}
