//! A network's figures and drawing as a page.

use maud::{Markup, PreEscaped, html};

use super::Report;
use super::text::{figures, imbalance, sizes};
use crate::page::document;
use crate::text::printable;

/// The page of a network with its drawing.
pub fn page(report: &Report, file: &str, drawing: &str) -> Markup {
    let content = html! {
        p.quiet { "gsgd " (crate::version()) ", " (printable(&report.arch)) }
        div.scroll { table { tbody {
            @for (name, value) in figures(report) { tr { td { (name) } td style="text-align: left; white-space: normal" { (value) } } }
        } } }
        h2 { "Network" }
        div.scroll { (PreEscaped(drawing)) }
        h2 { "Layers" }
        p.quiet { "Ratios of incoming to outgoing l2 norm of the units a layer writes: 1 is balanced. The int8 error is that of \
            rounding the tensor to 8 bits with one scale, relative to its size." }
        div.scroll { table {
            thead { tr {
                th { "layer" } th { "shape" } th { "int8 error, %" }
                th { "smallest" } th { "lower quartile" } th { "median" } th { "upper quartile" } th { "largest" }
            } }
            tbody { @for layer in &report.layers { tr {
                td { (printable(&layer.name)) }
                td { (sizes(&layer.shape)) }
                td { (format!("{:.2}", 100.0 * layer.int8_error)) }
                @let cells = imbalance(layer);
                @if cells.len() == 1 { td colspan="5" { (cells[0]) } }
                @else { @for cell in cells { td { (cell) } } }
            } } }
        } }
        @if !report.least_balanced.is_empty() {
            h2 { "Least balanced units" }
            div.scroll { table { tbody {
                @for (unit, ratio) in &report.least_balanced { tr { td { (printable(unit)) } td { (format!("{ratio:.3e}")) } } }
            } } }
        }
    };
    document(&printable(file), content)
}
