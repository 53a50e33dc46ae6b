//! An experiment as a page: the paper's claim, our tables and figures.

use maud::{Markup, html};

use super::{Experiment, ExperimentPart, Name};
use crate::compare::Results;
use crate::page::document;
use crate::report::html::{key_of, plot, table_of};

/// The page of an experiment with the parts that have results.
pub fn page(name: Name, experiment: &Experiment, parts: &[(&ExperimentPart, Results)]) -> Markup {
    let content = html! {
        p { (experiment.claim) }
        p.quiet { "Here: " (experiment.differs) }
        p.quiet { "gsgd " (crate::version()) }
        @if let Some(overview) = name.overview(parts) {
            (key_of(&overview))
            div.plots { (plot(&overview)) }
        }
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
    };
    document(experiment.title, content)
}
