//! The plots of a comparison.

use kuva::backend::svg::SvgBackend;
use kuva::prelude::{Layout, LegendPosition, LinePlot, LineStyle, Plot};
use kuva::render::render::{Scene, render_multiple};
use kuva::{RasterBackend, TerminalBackend, Theme};

use crate::compare::stats::Summary;
use crate::compare::{Rate, Results, Run};
use crate::train::{Epoch, OptimizerName};

/// Size of a plot.
pub const WIDTH: f64 = 460.0;
/// Its height.
pub const HEIGHT: f64 = 300.0;

/// A plot: lines over a common axis.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its name in file names.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Its axes.
    pub labels: [&'static str; 2],
    /// Whether they are logarithmic.
    pub logarithmic: [bool; 2],
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line with a band around it.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// How it looks.
    pub style: Style,
    /// Points, rising in x.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper end of the band at every point.
    pub band: Vec<(f64, f64)>,
}

/// Colour and dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// `#rrggbb`
    pub color: &'static str,
    /// As in SVG; nothing for a solid line.
    pub dashes: &'static str,
}

/// A colour for every optimiser, told apart also by those who do not see all colours (Okabe and Ito 2008, darkened
/// where they would not show on white).
fn color(optimizer: OptimizerName) -> &'static str {
    match optimizer {
        OptimizerName::Sgd => "#0072b2",
        OptimizerName::Momentum => "#3d9bd6",
        OptimizerName::Adam => "#b3669b",
        OptimizerName::PathSgd => "#7f7f7f",
        OptimizerName::BalancedSgd => "#a08a00",
        OptimizerName::GSgd => "#d55e00",
        OptimizerName::GMomentum => "#e69f00",
        OptimizerName::GAdam => "#009e73",
    }
}

/// Colours of a method's layers, from inputs to outputs.
const LAYERS: [&str; 6] = [
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#b3669b",
];
/// Dashes of the methods that share an optimiser.
const DASHES: [&str; 4] = ["", "6 3", "2 3", "8 3 2 3"];

/// How an optimiser looks after a number of others of its name.
pub fn style(optimizer: OptimizerName, before: usize) -> Style {
    Style {
        color: color(optimizer),
        dashes: DASHES[before % DASHES.len()],
    }
}

/// How every method looks.
pub fn styles(results: &Results) -> Vec<Style> {
    let mut seen: Vec<OptimizerName> = Vec::new();
    let methods = results.methods.iter();
    methods
        .map(|method| {
            let optimizer = method.settings.optimizer;
            let before = seen.iter().filter(|&&other| other == optimizer).count();
            seen.push(optimizer);
            style(optimizer, before)
        })
        .collect()
}

/// All plots that the results have figures for.
pub fn figures(results: &Results) -> Vec<Figure> {
    let steps = |epoch: &Epoch| epoch.step as f64;
    let seconds = |epoch: &Epoch| epoch.seconds;
    let loss = |epoch: &Epoch| Some(epoch.train_loss);
    let test = |epoch: &Epoch| Some(100.0 * epoch.test_error);
    let validation = |epoch: &Epoch| epoch.validation_error.map(|error| 100.0 * error);
    let imbalance = |epoch: &Epoch| epoch.imbalance.values().copied().reduce(f64::max);
    let path_norm = |epoch: &Epoch| Some(epoch.path_norm);
    let over = |name: &str,
                title: &str,
                labels,
                logarithmic,
                x: &dyn Fn(&Epoch) -> f64,
                y: &dyn Fn(&Epoch) -> Option<f64>| Figure {
        name: name.into(),
        title: title.into(),
        labels,
        logarithmic: [false, logarithmic],
        lines: curves(results, x, y),
    };
    let mut all = vec![
        over(
            "loss-steps",
            "Training loss",
            ["steps", "training loss"],
            true,
            &steps,
            &loss,
        ),
        over(
            "error-steps",
            "Test error",
            ["steps", "test error %"],
            false,
            &steps,
            &test,
        ),
        over(
            "loss-seconds",
            "Training loss over time",
            ["seconds of training", "training loss"],
            true,
            &seconds,
            &loss,
        ),
        over(
            "error-seconds",
            "Test error over time",
            ["seconds of training", "test error %"],
            false,
            &seconds,
            &test,
        ),
        over(
            "validation",
            "Validation error",
            ["steps", "validation error %"],
            false,
            &steps,
            &validation,
        ),
        sensitivity(results),
        over(
            "imbalance",
            "Imbalance of the least balanced layer",
            ["steps", "|log10(in / out)|"],
            false,
            &steps,
            &imbalance,
        ),
        over(
            "path-norm",
            "Path norm",
            ["steps", "l2 norm of all path values"],
            true,
            &steps,
            &path_norm,
        ),
    ];
    all.extend(layers(results));
    for figure in &mut all {
        figure.logarithmic[1] &= figure.spans_decades();
    }
    all.retain(|figure| figure.lines.iter().any(|line| line.points.len() > 1));
    all
}

/// A line per method: means over seeds, in a band from the least to the greatest.
fn curves(
    results: &Results,
    x: &dyn Fn(&Epoch) -> f64,
    y: &dyn Fn(&Epoch) -> Option<f64>,
) -> Vec<Line> {
    let styles = styles(results);
    let judged = results.methods.iter().zip(styles);
    let line = |(method, style): (&crate::compare::MethodResults, Style)| {
        Some(line(&method.name, style, &method.judged()?.runs, x, y))
    };
    judged.filter_map(line).collect()
}

fn line(
    name: &str,
    style: Style,
    runs: &[Run],
    x: &dyn Fn(&Epoch) -> f64,
    y: &dyn Fn(&Epoch) -> Option<f64>,
) -> Line {
    let mut line = Line {
        name: name.into(),
        style,
        points: Vec::new(),
        band: Vec::new(),
    };
    // a run that stopped early ends the mean
    let epochs = runs.iter().map(|run| run.epochs.len()).min().unwrap_or(0);
    for at in 0..epochs {
        let values = |of: &dyn Fn(&Epoch) -> Option<f64>| -> Vec<f64> {
            let values = runs.iter().filter_map(|run| of(&run.epochs[at]));
            values.filter(|value| value.is_finite()).collect()
        };
        let (xs, ys) = (values(&|epoch| Some(x(epoch))), values(y));
        if let (Some(x), Some(y)) = (Summary::from_values(&xs), Summary::from_values(&ys)) {
            line.points.push((x.mean, y.mean));
            line.band.push(ends(&ys));
        }
    }
    line
}

/// The least and the greatest.
fn ends(values: &[f64]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    values.iter().fold(start, |(least, greatest), &value| {
        (least.min(value), greatest.max(value))
    })
}

/// Final loss over the lr.
fn sensitivity(results: &Results) -> Figure {
    let line = |(method, style): (&crate::compare::MethodResults, Style)| {
        let point = |rate: &Rate| {
            let values = rate.last(|epoch| results.loss(epoch))?;
            Some((
                (rate.lr, Summary::from_values(&values)?.mean),
                ends(&values),
            ))
        };
        let (points, band) = method.rates.iter().filter_map(point).unzip();
        Line {
            name: method.name.clone(),
            style,
            points,
            band,
        }
    };
    Figure {
        name: "lr".into(),
        title: "Final loss by learning rate".into(),
        labels: [
            "lr",
            if results.validated {
                "validation loss"
            } else {
                "training loss"
            },
        ],
        logarithmic: [true, true],
        lines: results
            .methods
            .iter()
            .zip(styles(results))
            .map(line)
            .collect(),
    }
}

/// Imbalance by layer, a plot per method.
fn layers(results: &Results) -> Vec<Figure> {
    let figure = |(at, method): (usize, &crate::compare::MethodResults)| {
        let runs = &method.judged()?.runs;
        let names: Vec<&String> = runs.first()?.epochs.first()?.imbalance.keys().collect();
        let lines = names.iter().enumerate().map(|(layer, name)| {
            let style = Style {
                color: LAYERS[layer * LAYERS.len() / names.len()],
                dashes: "",
            };
            let of = |epoch: &Epoch| epoch.imbalance.get(*name).copied();
            line(name, style, runs, &|epoch| epoch.step as f64, &of)
        });
        Some(Figure {
            name: format!("layers-{at}"),
            title: format!("Imbalance by layer: {}", method.name),
            labels: ["steps", "|log10(in / out)|"],
            logarithmic: [false, false],
            lines: lines.collect(),
        })
    };
    results
        .methods
        .iter()
        .enumerate()
        .filter_map(figure)
        .collect()
}

impl Figure {
    /// Whether its greatest value is many times its least.
    fn spans_decades(&self) -> bool {
        let values = || self.lines.iter().flat_map(|line| &line.points).map(|p| p.1);
        let least = values().filter(|&y| y > 0.0).fold(f64::INFINITY, f64::min);
        values().fold(0.0, f64::max) > 8.0 * least
    }

    /// The plot for a page that says what its lines are; its frame takes the colour of the text around it.
    pub fn svg(&self) -> String {
        let plots: Vec<Plot> = self.plots().map(|plot| self.banded(plot).into()).collect();
        let layout = self
            .layout(&plots)
            .with_theme(frame("currentColor", "#8886"));
        SvgBackend::new().render_scene(&render_multiple(plots, layout))
    }

    /// The plot as a drawing that stands alone.
    pub fn svg_alone(&self) -> String {
        let plots = self.plots().map(|plot| self.banded(plot));
        SvgBackend::new().render_scene(&self.alone(plots, Theme::light()))
    }

    /// The plot as an image that stands alone.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let plots = self.plots().map(|plot| self.banded(plot));
        let scene = self.alone(plots, Theme::light());
        RasterBackend::new().with_scale(2.0).render_scene(&scene)
    }

    /// The plot in characters of a terminal, light or dark, without bands.
    pub fn text(&self, columns: usize, rows: usize) -> String {
        let plots = self.plots().map(|(_, plot)| plot);
        let scene = self.alone(plots, frame("#8a8a8a", "#8a8a8a"));
        TerminalBackend::new(columns, rows).render_scene(&scene)
    }

    /// With title and legend.
    fn alone(&self, plots: impl Iterator<Item = LinePlot>, theme: Theme) -> Scene {
        let named = plots.zip(&self.lines);
        let plots: Vec<Plot> = named
            .map(|(plot, line)| plot.with_legend(line.name.clone()).into())
            .collect();
        let layout = self
            .layout(&plots)
            .with_theme(theme)
            .with_title(self.title.clone())
            .with_title_size(14)
            .with_legend_position(LegendPosition::OutsideRightTop);
        render_multiple(plots, layout)
    }

    /// What is shown of a line.
    fn shown<'a>(
        &'a self,
        line: &'a Line,
    ) -> impl Iterator<Item = (&'a (f64, f64), &'a (f64, f64))> {
        line.points.iter().zip(&line.band).filter(|((x, y), _)| {
            (!self.logarithmic[0] || *x > 0.0) && (!self.logarithmic[1] || *y > 0.0)
        })
    }

    /// The least and the greatest x that is shown.
    fn ends(&self) -> Option<(f64, f64)> {
        let shown = self.lines.iter().flat_map(|line| self.shown(line));
        let xs: Vec<f64> = shown.map(|(&(x, _), _)| x).collect();
        (!xs.is_empty()).then(|| ends(&xs))
    }

    fn plots(&self) -> impl Iterator<Item = (&Line, LinePlot)> {
        self.lines.iter().map(|line| {
            let style = match line.style.dashes {
                "" => LineStyle::Solid,
                dashes => LineStyle::Custom(dashes.into()),
            };
            let plot = LinePlot::new()
                .with_data(self.shown(line).map(|(&point, _)| point))
                .with_color(line.style.color)
                .with_stroke_width(1.8)
                .with_line_style(style);
            (line, plot)
        })
    }

    fn banded(&self, (line, plot): (&Line, LinePlot)) -> LinePlot {
        let lower: Vec<f64> = self.shown(line).map(|(_, band)| band.0).collect();
        let upper: Vec<f64> = self.shown(line).map(|(_, band)| band.1).collect();
        plot.with_band(lower, upper)
    }

    fn layout(&self, plots: &[Plot]) -> Layout {
        let layout = Layout::auto_from_plots(plots)
            .with_width(WIDTH)
            .with_height(HEIGHT)
            .with_x_label(self.labels[0])
            .with_y_label(self.labels[1]);
        let layout = match self.ends() {
            // whole decades would crowd the ticks
            Some((least, greatest)) if self.logarithmic[0] => layout
                .with_x_axis_min(least / 1.2)
                .with_x_axis_max(greatest * 1.2),
            _ => layout,
        };
        match self.logarithmic {
            [true, true] => layout.with_log_scale(),
            [true, false] => layout.with_log_x(),
            [false, true] => layout.with_log_y(),
            [false, false] => layout,
        }
    }
}

/// Axes, ticks and text in one colour, on nothing.
fn frame(color: &str, grid: &str) -> Theme {
    Theme {
        background: "none".into(),
        axis_color: color.into(),
        grid_color: grid.into(),
        tick_color: color.into(),
        text_color: color.into(),
        legend_bg: "none".into(),
        legend_border: "none".into(),
        ..Theme::light()
    }
}
