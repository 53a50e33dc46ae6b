//! A network's figures for the terminal.

use std::fmt::Write;

use super::{LISTED, Layer, Report};
use crate::text::printable;

/// The figures as lines of text.
pub fn text(report: &Report, file: &str) -> String {
    let mut lines = String::new();
    // writing to a string cannot fail
    let _ = write(report, file, &mut lines);
    lines
}

fn write(report: &Report, file: &str, to: &mut String) -> std::fmt::Result {
    writeln!(to, "{}  {}", printable(file), printable(&report.arch))?;
    for (name, value) in figures(report) {
        writeln!(to, "{name:<18} {value}")?;
    }
    let widest = report.layers.iter().map(|layer| layer.name.len()).max();
    let width = widest.unwrap_or(0).max(5);
    writeln!(
        to,
        "\n{:<width$} {:>18} {:>10}  in/out norm: smallest, quartiles, largest",
        "layer", "shape", "int8 error"
    )?;
    for layer in &report.layers {
        writeln!(
            to,
            "{:<width$} {:>18} {:>10}  {}",
            printable(&layer.name),
            sizes(&layer.shape),
            format!("{:.2} %", 100.0 * layer.int8_error),
            imbalance(layer).join("  ")
        )?;
    }
    if !report.least_balanced.is_empty() {
        writeln!(to, "\nleast balanced     in/out norm")?;
    }
    for (unit, ratio) in &report.least_balanced {
        writeln!(to, "{:<width$} {ratio:>18.3e}", printable(unit))?;
    }
    Ok(())
}

/// A shape such as `64 x 49`.
pub fn sizes(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    sizes.join(" x ")
}

/// Five ratios, or why there are none.
pub fn imbalance(layer: &Layer) -> Vec<String> {
    match layer.imbalance {
        Some(ratios) => ratios.map(|ratio| format!("{ratio:.3e}")).to_vec(),
        None if layer.classes == 0 => vec!["output".into()],
        None if layer.dead > 0 => vec!["nothing but zeros on one side".into()],
        None => vec!["batch norm follows".into()],
    }
}

/// The figures of the whole network: name and value, fit for a terminal.
pub fn figures(report: &Report) -> Vec<(&'static str, String)> {
    let all = unescaped(report).into_iter();
    all.map(|(name, value)| (name, printable(&value).into_owned()))
        .collect()
}

fn unescaped(report: &Report) -> Vec<(&'static str, String)> {
    let mut all = vec![("hidden classes H", report.hidden_classes.to_string())];
    if report.classes_into_batch_norm > 0 {
        all.push((
            "  among them",
            format!(
                "{} behind batch norm, {} into batch norm",
                report.classes_behind_batch_norm, report.classes_into_batch_norm
            ),
        ));
    }
    all.push(("weights m", report.weights.to_string()));
    all.push(("basis paths m - H", report.basis_paths.to_string()));
    all.push(("invariant ratio", format!("{:.4}", report.invariant_ratio)));
    if let (Some(one), Some(two)) = (report.path_norm_1, report.path_norm_2) {
        all.push(("path norm", format!("l1 {one:.4e}, l2 {two:.4e}")));
    }
    if let Some(norm) = report.basis_path_norm {
        all.push((
            "basis path norm",
            format!("l2 {norm:.4e} on the largest skeleton"),
        ));
    }
    if let Some(none) = &report.no_skeleton {
        all.push(("skeleton", none.clone()));
    }
    if let Some(smallest) = &report.smallest_skeleton_weight {
        all.push((
            "skeleton weights",
            format!(
                "at least {:.3e} on the paper's skeleton, {:.3e} on the largest",
                smallest.paper, smallest.largest
            ),
        ));
    }
    if !report.dead_units.is_empty() {
        let units = report.dead_units.iter().map(String::as_str);
        all.push(("dead units", listed(units)));
    }
    for layers in &report.shared {
        all.push(("one class", layers.join(", ")));
    }
    if !report.unknown.is_empty() {
        let nodes = report.unknown.iter();
        let nodes: Vec<String> = nodes.map(|(name, kind)| format!("{kind} {name}")).collect();
        all.push(("unknown", listed(nodes.iter().map(String::as_str))));
    }
    if !report.held.is_empty() {
        let held = report.held.iter();
        let held: Vec<String> = held.map(|(name, why)| format!("{name} ({why})")).collect();
        all.push(("stay as they are", listed(held.iter().map(String::as_str))));
    }
    if !report.grounded.is_empty() {
        let places = report.grounded.iter();
        let places: Vec<String> = places
            .map(|(value, by)| format!("{value} ({by})"))
            .collect();
        let places = places.iter().map(String::as_str);
        all.push(("no scaling through", listed(places)));
    }
    if !report.null_biases.is_empty() {
        all.push((
            "without effect",
            format!("{} (batch norm follows)", report.null_biases.join(", ")),
        ));
    }
    all
}

fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = names.len();
    let named: Vec<&str> = names.take(LISTED).collect();
    let more = match count - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{count}: {}{more}", named.join(", "))
}
