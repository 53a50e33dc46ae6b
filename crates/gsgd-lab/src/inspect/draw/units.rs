//! Dense networks: a column of units per layer, weights as lines.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use gsgd_core::Network;
use gsgd_core::scales::{ParamEdges, ScaleClass, ScaleGraph};
use gsgd_core::skeleton::{Edge, SkeletonTree};
use gsgd_net::file::NetworkFile;
use maud::{Markup, html};

use super::{GREY, INK, RED, label, line, picture};

/// Units of a column that are drawn.
const SHOWN: usize = 10;
const COLUMN: f64 = 190.0;
const ROW: f64 = 34.0;
const RADIUS: f64 = 9.0;
const TOP: f64 = 64.0;

/// An end of a weight: a hidden unit, or a feature of the inputs or outputs of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Input(usize),
    Hidden(ScaleClass),
    Output(usize),
}

struct Column {
    units: Vec<Unit>,
    name: String,
    shown: BTreeSet<usize>,
}

pub fn drawing(network: &NetworkFile, scales: &ScaleGraph) -> Result<String> {
    let weights = network.weights(scales)?;
    let tree = SkeletonTree::largest(Network {
        graph: scales,
        weights: &weights,
    });
    let mut columns = columns(scales);
    let place: BTreeMap<Unit, (usize, usize)> = columns
        .iter()
        .enumerate()
        .flat_map(|(c, column)| {
            column
                .units
                .iter()
                .enumerate()
                .map(move |(at, &u)| (u, (c, at)))
        })
        .collect();
    choose(&mut columns, &place, scales, &tree);
    let spot = |unit: Unit| -> Option<[f64; 2]> {
        let &(column, at) = place.get(&unit)?;
        let shown = &columns[column].shown;
        let row = shown.iter().position(|&other| other == at)?;
        // a gap where units are left out
        let gap = columns[column].units.len() > shown.len() && row + 1 == shown.len();
        let row = row as f64 + if gap { 1.0 } else { 0.0 };
        Some([70.0 + COLUMN * column as f64, TOP + ROW * row])
    };

    let is_out = |edge: Edge| tree.outs.iter().flatten().any(|&other| other == edge);
    let is_in = |edge: Edge| tree.ins.iter().flatten().any(|&other| other == edge);
    let (mut plain, mut skeleton) = (Vec::new(), Vec::new());
    let dense = scales.edges().iter().zip(&weights).enumerate();
    let dense = dense.filter(|(_, (edges, _))| edges.shape().len() == 2);
    for (param, (edges, weights)) in dense {
        let values = weights.entries();
        let most = values.iter().fold(0.0f64, |most, w| most.max(w.abs()));
        let shown = |count: usize, unit: &dyn Fn(usize) -> Unit| -> Vec<(usize, [f64; 2])> {
            let spots = (0..count).filter_map(|line| Some((line, spot(unit(line))?)));
            spots.collect()
        };
        let tails = shown(edges.tails().len(), &|tail| tail_unit(edges, tail));
        let heads = shown(edges.heads().len(), &|head| head_unit(edges, head));
        for &(tail, from) in &tails {
            for &(head, to) in &heads {
                let (from, to) = ([from[0] + RADIUS, from[1]], [to[0] - RADIUS, to[1]]);
                let edge = Edge { param, tail, head };
                let weight = edges.flat(tail, head).map_or(0.0, |at| values[at]);
                let size = weight.abs() / most.max(1e-300);
                if is_out(edge) {
                    skeleton.push(line(from, to, RED, 2.2, ""));
                } else if is_in(edge) {
                    skeleton.push(line(from, to, RED, 1.6, "6 4"));
                } else {
                    plain.push(line(from, to, GREY, 0.15 + 1.6 * size, ""));
                }
            }
        }
    }
    let rows = columns.iter().map(rows_of).max().unwrap_or(1);
    let bottom = TOP + ROW * rows as f64;
    let content = html! {
        g { @for line in &plain { (line) } }
        g { @for line in &skeleton { (line) } }
        @for (at, column) in columns.iter().enumerate() {
            (heading(at, column))
            @for &unit in column.shown.iter().map(|&at| &column.units[at]) {
                @if let Some([x, y]) = spot(unit) {
                    circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r=(RADIUS) fill="#ffffff" stroke=(INK) stroke-width="1.4" {}
                }
            }
            @if column.units.len() > column.shown.len() {
                (label([70.0 + COLUMN * at as f64, TOP + ROW * (column.shown.len() as f64 - 1.0) + 8.0], "middle", INK, "⋮"))
            }
        }
        (key(bottom))
    };
    let width = 140.0 + COLUMN * (columns.len() as f64 - 1.0);
    Ok(picture(width.max(620.0), bottom + 44.0, &content))
}

fn rows_of(column: &Column) -> usize {
    column.shown.len() + usize::from(column.units.len() > column.shown.len())
}

fn heading(at: usize, column: &Column) -> Markup {
    let x = 70.0 + COLUMN * at as f64;
    html! {
        (label([x, 22.0], "middle", INK, &column.name))
        (label([x, 40.0], "middle", GREY, &format!("{}", column.units.len())))
    }
}

fn key(y: f64) -> Markup {
    let (y, words) = (y + 18.0, y + 22.0);
    html! {
        (line([20.0, y], [52.0, y], RED, 2.2, ""))
        (label([58.0, words], "start", INK, "fixed skeleton weight (Out)"))
        (line([230.0, y], [262.0, y], RED, 1.6, "6 4"))
        (label([268.0, words], "start", INK, "other skeleton weight (In)"))
        (line([440.0, y], [472.0, y], GREY, 1.4, ""))
        (label([478.0, words], "start", INK, "weight, width by size"))
    }
}

/// Inputs, the hidden units by the layer that first writes them, outputs.
fn columns(scales: &ScaleGraph) -> Vec<Column> {
    let column = |name: String, units: Vec<Unit>| Column {
        units,
        name,
        shown: BTreeSet::new(),
    };
    let layers = || {
        scales
            .edges()
            .iter()
            .filter(|edges| edges.shape().len() == 2)
    };
    let grounds = |classes: &[ScaleClass]| classes.iter().filter(|class| class.is_ground()).count();
    let inputs = layers()
        .map(|edges| grounds(edges.tails()))
        .max()
        .unwrap_or(0);
    let outputs = layers()
        .map(|edges| grounds(edges.heads()))
        .max()
        .unwrap_or(0);
    let mut columns = vec![column(
        "inputs".into(),
        (0..inputs).map(Unit::Input).collect(),
    )];
    let mut seen = BTreeSet::new();
    for edges in scales.edges().iter().filter(|edges| !edges.is_bias()) {
        let fresh = edges.heads().iter().copied();
        let fresh: Vec<Unit> = fresh
            .filter(|&class| !class.is_ground() && seen.insert(class))
            .map(Unit::Hidden)
            .collect();
        if !fresh.is_empty() {
            let name = edges.name();
            let name = name.strip_suffix(".weight").unwrap_or(name).to_string();
            columns.push(column(name, fresh));
        }
    }
    columns.push(column(
        "outputs".into(),
        (0..outputs).map(Unit::Output).collect(),
    ));
    columns
}

fn tail_unit(edges: &ParamEdges, tail: usize) -> Unit {
    match edges.tails()[tail] {
        class if class.is_ground() => Unit::Input(tail),
        class => Unit::Hidden(class),
    }
}

fn head_unit(edges: &ParamEdges, head: usize) -> Unit {
    match edges.heads()[head] {
        class if class.is_ground() => Unit::Output(head),
        class => Unit::Hidden(class),
    }
}

/// Chooses the units that are drawn: all of a narrow layer; of a wide one the first ones, the ends of their skeleton
/// weights, and the last.
fn choose(
    columns: &mut [Column],
    place: &BTreeMap<Unit, (usize, usize)>,
    scales: &ScaleGraph,
    tree: &SkeletonTree,
) {
    for column in columns.iter_mut() {
        let all = column.units.len();
        let first = if all <= SHOWN { all } else { SHOWN / 3 };
        column.shown = (0..first).collect();
        column.shown.extend(all.checked_sub(1));
    }
    // several rounds, since an end that comes in brings its own skeleton weights
    for _ in 0..SHOWN {
        for &edge in tree.outs.iter().chain(&tree.ins).flatten() {
            let edges = &scales.edges()[edge.param];
            let ends = [tail_unit(edges, edge.tail), head_unit(edges, edge.head)];
            let [Some(&tail), Some(&head)] = ends.map(|unit| place.get(&unit)) else {
                continue;
            };
            let is_shown =
                |columns: &[Column], (c, at): (usize, usize)| columns[c].shown.contains(&at);
            for (one, other) in [(tail, head), (head, tail)] {
                let has_room = columns[other.0].shown.len() < SHOWN;
                if is_shown(columns, one) && !is_shown(columns, other) && has_room {
                    columns[other.0].shown.insert(other.1);
                }
            }
        }
    }
}
