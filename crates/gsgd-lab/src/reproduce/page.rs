//! An experiment as a page: the paper's claim, our tables and figures.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Experiment, Name, Part};
use crate::compare::Results;
use crate::report::html::{STYLE, key_of, plot, table_of};

/// The page of an experiment with the parts that have results.
pub fn page(name: Name, experiment: &Experiment, parts: &[(&Part, Results)]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (experiment.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (experiment.title) }
                p { (experiment.claim) }
                p.quiet { "Here: " (experiment.differs) }
                p.quiet { "gsgd " (crate::version()) }
                @for (part, results) in parts {
                    h2 { (part.title) }
                    @let figures = name.figures(results);
                    @if let Some(first) = figures.first() {
                        (key_of(first))
                        div.plots { @for figure in &figures { (plot(figure)) } }
                    }
                    (table_of(results))
                    p.quiet { "Curves and settings: " a href=(format!("{}/report.html", part.name)) { (part.name) } }
                }
            }
        }
    }
}
