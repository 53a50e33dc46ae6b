//! A network with its skeleton as a drawing: units and weights where all layers are dense, else layers and streams.

mod blocks;
mod units;

use anyhow::Result;
use gsgd_net::file::NetworkFile;
use maud::{Markup, PreEscaped, html};

use crate::text::printable;

const RED: &str = "#d1242f";
const GREY: &str = "#8a8f98";
const INK: &str = "#24292f";

/// The drawing as an SVG file's text.
///
/// # Errors
/// The layers do not fit together.
pub fn svg(network: &NetworkFile) -> Result<String> {
    let scales = network.scale_graph()?;
    let dense = scales.edges().iter().all(|edges| edges.shape().len() <= 2);
    match dense && !scales.edges().is_empty() {
        true => units::drawing(network, &scales),
        false => Ok(blocks::drawing(&scales)),
    }
}

/// A drawing of this size.
fn picture(width: f64, height: f64, content: &Markup) -> String {
    let (width, height) = (width.ceil(), height.ceil());
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
            viewBox=(format!("0 0 {width} {height}")) font-family="system-ui, sans-serif" font-size="12" {
            rect width=(width) height=(height) fill="#ffffff" {}
            (PreEscaped(content.0.as_str()))
        }
    };
    markup.into_string()
}

fn line(from: [f64; 2], to: [f64; 2], color: &str, width: f64, dashes: &str) -> Markup {
    let coordinate = |value: f64| format!("{value:.1}");
    html! {
        line x1=(coordinate(from[0])) y1=(coordinate(from[1])) x2=(coordinate(to[0])) y2=(coordinate(to[1]))
            stroke=(color) stroke-width=(format!("{width:.2}")) stroke-dasharray=[(!dashes.is_empty()).then_some(dashes)] {}
    }
}

fn label(at: [f64; 2], anchor: &str, color: &str, words: &str) -> Markup {
    html! {
        text x=(format!("{:.1}", at[0])) y=(format!("{:.1}", at[1])) text-anchor=(anchor) fill=(color) { (printable(words)) }
    }
}
