//! A comparison as one page: no script, nothing to load, for light and dark screens, wide and narrow ones.

use maud::{Markup, PreEscaped, html};

use super::figures::{Figure, HEIGHT, Style, WIDTH, figures, styles};
use super::summary::rows;
use super::text::{against, around_with_deviation, notes};
use crate::compare::Results;
use crate::compare::stats::Summary;
use crate::inspect::svg;
use crate::page::document;
use gsgd_net::file::{Hints, NetworkFile};

/// The page.
pub fn page(results: &Results) -> Markup {
    let title = title(results);
    let (styles, all) = (styles(results), figures(results));
    let (layers, main): (Vec<&Figure>, Vec<&Figure>) = all
        .iter()
        .partition(|figure| figure.name.starts_with("layers-"));
    let content = html! {
        p.quiet { "gsgd " (crate::version()) ", " (count(results.plan.methods.len(), "method")) ", "
            (count(results.plan.seeds.len(), "seed")) }
        h2 { "Figures" }
        (table_of(results))
        h2 { "Curves" }
        p.quiet { "Of the chosen learning rates: means over seeds, in bands from the least to the greatest." }
        (key(results, &styles))
        div.plots { @for figure in main { (plot(figure)) } }
        @if !layers.is_empty() {
            h2 { "Balance by layer" }
            p.quiet { "Median over a layer's units of |log10| of the ratio of incoming to outgoing norm: 0 is \
                balanced, 1 a factor of ten. From blue at the inputs to red at the outputs." }
            div.plots { @for figure in layers { (plot(figure)) } }
        }
        (networks(results))
        h2 { "Settings" }
        p.quiet { "As plan.toml: " code { "gsgd compare plan.toml" } " repeats the comparison." }
        pre { (toml::to_string(&results.plan).unwrap_or_default()) }
    };
    document(&title, content)
}

/// Networks that are drawn.
const DRAWN: usize = 3;

/// A drawing of each architecture, with the weights of the first of its runs that is through.
fn networks(results: &Results) -> Markup {
    let mut drawings: Vec<(String, String)> = Vec::new();
    for method in &results.methods {
        let name = method.settings.arch.to_string();
        if drawings.len() < DRAWN && drawings.iter().all(|(known, _)| *known != name) {
            let mut runs = method.rates.iter().flat_map(|rate| &rate.runs);
            let run = runs.find(|run| run.is_done());
            let drawing = run.and_then(|run| {
                let network =
                    NetworkFile::open(&run.folder.join("final.safetensors"), &Hints::default())
                        .ok()?;
                svg(&network).ok()
            });
            drawings.extend(drawing.map(|drawing| (name, drawing)));
        }
    }
    html! {
        @if !drawings.is_empty() {
            h2 { "Network" }
            @for (name, drawing) in &drawings {
                p.quiet { (name) ", trained by the first method, with its largest skeleton." }
                div.scroll { (PreEscaped(drawing)) }
            }
        }
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

fn title(results: &Results) -> String {
    let mut subjects: Vec<String> = Vec::new();
    for settings in results.methods.iter().map(|method| &method.settings) {
        let data = settings.data.rsplit('/').next().unwrap_or_default();
        let subject = format!("{} on {data}", settings.arch);
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    subjects.join(", ")
}

fn table(results: &Results, styles: &[Style]) -> Markup {
    let number = |summary: Option<Summary>, unit: f64, digits: usize| {
        summary.map_or("-".into(), |s| around_with_deviation(&s, unit, digits))
    };
    html! {
        div.scroll { table {
            thead { tr {
                th { "method" } th { "lr" } th { "training loss" }
                @if results.validated { th { "validation error, %" } }
                th { "test error, %" } th { "best epoch, %" }
                th { "against, points" } th { "diverged" } th { "ms a step" } th { "x first" } th { "MB" }
            } }
            tbody { @for (row, style) in rows(results).iter().zip(styles) { tr {
                td { (swatch(style)) " " (row.name) }
                td { (row.lr_or_outcome()) }
                td { (number(row.train_loss, 1.0, 4)) }
                @if results.validated { td { (number(row.validation_error, 100.0, 2)) } }
                td { (number(row.test_error, 100.0, 2)) }
                td { (number(row.best_test_error, 100.0, 2)) }
                td { (row.against.as_ref().map_or("-".into(), |(_, paired)| against(paired))) }
                td { (row.diverged) " of " (row.runs) }
                td { (row.milliseconds.map_or("-".into(), |s| format!("{:.3}", s.mean))) }
                td { (row.slowdown.map_or("-".into(), |s| format!("{s:.2}"))) }
                td { (row.megabytes.map_or("-".into(), |m| format!("{m:.0}"))) }
            } } }
        } }
    }
}

fn swatch(style: &Style) -> Markup {
    html! {
        svg width="26" height="8" viewBox="0 0 26 8" aria-hidden="true" {
            line x1="0" y1="4" x2="26" y2="4" stroke=(style.color) stroke-width="3" stroke-dasharray=(style.dashes) {}
        }
    }
}

/// The table of a comparison.
pub fn table_of(results: &Results) -> Markup {
    html! {
        (table(results, &styles(results)))
        @for note in notes(results) { p.quiet { (note) } }
    }
}

/// What the lines of a plot are.
pub fn key_of(figure: &Figure) -> Markup {
    html! {
        ul.key { @for line in &figure.lines { li { (swatch(&line.style)) (line.name) } } }
    }
}

fn key(results: &Results, styles: &[Style]) -> Markup {
    html! {
        ul.key { @for (method, style) in results.methods.iter().zip(styles) { li { (swatch(style)) (method.name) } } }
    }
}

/// A plot with its title.
pub fn plot(figure: &Figure) -> Markup {
    html! {
        figure {
            figcaption { (figure.title) }
            (PreEscaped(inline(&figure.svg(), &figure.title)))
        }
    }
}

/// A drawing as part of a page: without what only a file needs, as wide as its place.
fn inline(svg: &str, title: &str) -> String {
    let inside = svg.find("<svg").and_then(|at| {
        let (_, rest) = svg[at..].split_once('>')?;
        Some(rest)
    });
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" fill=\"currentColor\" \
         font-family=\"system-ui, sans-serif\">{}",
        title.replace('"', "'"),
        inside.unwrap_or_default()
    )
}
