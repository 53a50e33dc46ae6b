//! A comparison as a page, a table, figures.

mod figures;
pub mod html;
mod summary;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::compare::Results;
use crate::models::{save_text, write_whole};
use crate::text::visible;

pub use figures::{Figure, Line, Style, figures, style};
pub use html::page;
pub use summary::{Row, rows};
pub use text::{csv, markdown, table};

/// How a comparison is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One page with tables and curves that needs nothing else: report.html
    Html,
    /// The tables in Markdown: report.md
    Md,
    /// A line per run: report.csv
    Csv,
    /// Everything, curves too: report.json
    Json,
    /// An image per plot: report-PLOT.png
    Png,
    /// A drawing per plot: report-PLOT.svg
    Svg,
}

/// Writes a comparison into its folder; the files' paths.
///
/// # Errors
/// A file cannot be written.
pub fn write(results: &Results, folder: &Path, format: Format) -> Result<Vec<PathBuf>> {
    let text = |name: &str, content: String| -> Result<Vec<PathBuf>> {
        let path = folder.join(name);
        save_text(&path, &visible(&content))?;
        Ok(vec![path])
    };
    match format {
        Format::Html => text("report.html", page(results).into_string()),
        Format::Md => text("report.md", markdown(results)),
        Format::Csv => text("report.csv", csv(results)),
        Format::Json => {
            let json = serde_json::to_string_pretty(&summary::whole(results))?;
            text("report.json", json)
        }
        Format::Png => each_figure(results, folder, "png", save_png),
        Format::Svg => each_figure(results, folder, "svg", |figure, path| {
            save_text(path, &figure.svg_alone())
        }),
    }
}

/// Writes every plot with `save`; the files' paths.
fn each_figure(
    results: &Results,
    folder: &Path,
    kind: &str,
    save: impl Fn(&Figure, &Path) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    let written = figures(results).into_iter().map(|figure| {
        let path = folder.join(format!("report-{}.{kind}", figure.name));
        save(&figure, &path)?;
        Ok(path)
    });
    written.collect()
}

/// Writes a plot as an image.
///
/// # Errors
/// It cannot be drawn, or the file cannot be written.
pub fn save_png(figure: &Figure, path: &Path) -> Result<()> {
    let image = figure.png().map_err(anyhow::Error::msg);
    write_whole(path, &image.context("cannot draw the plots")?)
}
