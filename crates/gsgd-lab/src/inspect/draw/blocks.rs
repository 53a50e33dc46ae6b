//! Networks with convolutions: layers as boxes from left to right, streams of classes as lanes that they write and read.

use std::collections::BTreeMap;

use gsgd_core::scales::{ParamEdges, ScaleClass, ScaleGraph};
use maud::{Markup, html};

use super::{GREY, INK, label, line, picture};

const STEP: f64 = 124.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 54.0;
const LANE: f64 = 30.0;
const BOX: [f64; 2] = [108.0, 40.0];
/// Told apart also by those who see few colours (Okabe and Ito).
const COLORS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4fbb",
];

/// A weight layer, with the batch norm behind it.
struct Layer {
    name: String,
    shape: Vec<usize>,
    norm: bool,
    reads: Vec<ScaleClass>,
    writes: Vec<ScaleClass>,
}

/// Classes that go together, from the first layer that writes them to the last that reads them.
struct Stream {
    classes: usize,
    first: usize,
    last: usize,
    lane: usize,
}

pub fn drawing(scales: &ScaleGraph) -> String {
    let layers = layers(scales);
    let mut streams = streams(&layers);
    let lanes = lay_out(&mut streams);
    let boxes = TOP + LANE * (lanes as f64 + 1.0);
    let x = |at: usize| LEFT + STEP * at as f64;
    let y = |lane: usize| TOP + LANE * (lane as f64 + 0.5);
    let width = LEFT + STEP * layers.len() as f64 + 60.0;
    let ground = boxes + BOX[1] + 26.0;
    let color = |lane: usize, first: usize| COLORS[(lane + 3 * first) % COLORS.len()];
    let content = html! {
        (label([16.0, 24.0], "start", INK, &format!(
            "{} classes in {} streams, {} weights; a stream is one class per channel, whoever writes it",
            scales.hidden(), streams.len(), scales.weights())))
        (line([16.0, ground], [width - 16.0, ground], GREY, 3.0, ""))
        (label([16.0, ground + 18.0], "start", GREY, "ground: inputs, outputs, biases"))
        @for stream in streams.values() {
            @let shade = color(stream.lane, stream.first);
            @let from = [x(stream.first) + 34.0, y(stream.lane)];
            @let to = [x(stream.last) - 34.0, y(stream.lane)];
            (line(from, to, shade, 4.0, ""))
            (label([from[0] + 4.0, from[1] - 5.0], "start", shade, &format!("{}", stream.classes)))
        }
        @for (at, layer) in layers.iter().enumerate() {
            (wires(layer, &streams, [x(at), boxes, ground], &y, &color))
            rect x=(format!("{:.1}", x(at) - BOX[0] / 2.0)) y=(format!("{boxes:.1}")) width=(BOX[0]) height=(BOX[1])
                rx="5" fill="#f6f8fa" stroke=(INK) {}
            (label([x(at), boxes + 16.0], "middle", INK, &layer.name))
            (label([x(at), boxes + 32.0], "middle", GREY, &caption(layer)))
        }
    };
    picture(width.max(560.0), ground + 34.0, &content)
}

fn caption(layer: &Layer) -> String {
    let sizes: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
    format!(
        "{}{}",
        sizes.join("x"),
        if layer.norm { " + bn" } else { "" }
    )
}

/// What leads from lanes into a layer's box, and from the box to lanes.
fn wires(
    layer: &Layer,
    streams: &BTreeMap<Vec<ScaleClass>, Stream>,
    [x, top, ground]: [f64; 3],
    y: &dyn Fn(usize) -> f64,
    color: &dyn Fn(usize, usize) -> &'static str,
) -> Markup {
    let ends = |classes: &[ScaleClass], side: f64| {
        let mut wires = Vec::new();
        let found = streams_of(classes, streams);
        for stream in &found {
            let shade = color(stream.lane, stream.first);
            let lane = y(stream.lane);
            wires.push(line([x + side, lane], [x + side, top], shade, 1.8, ""));
            wires.push(html! {
                circle cx=(format!("{:.1}", x + side)) cy=(format!("{lane:.1}")) r="4" fill=(shade) {}
            });
        }
        let in_ground = found.is_empty() || classes.iter().any(|class| class.is_ground());
        if in_ground {
            wires.push(line(
                [x + side, top + BOX[1]],
                [x + side, ground],
                GREY,
                1.8,
                "",
            ));
        }
        wires
    };
    html! {
        @for wire in ends(&layer.reads, -34.0) { (wire) }
        @for wire in ends(&layer.writes, 34.0) { (wire) }
    }
}

/// The streams that the classes belong to.
fn streams_of<'s>(
    classes: &[ScaleClass],
    streams: &'s BTreeMap<Vec<ScaleClass>, Stream>,
) -> Vec<&'s Stream> {
    let found = streams.iter().filter(|(of, _)| classes.contains(&of[0]));
    found.map(|(_, stream)| stream).collect()
}

fn hidden(classes: &[ScaleClass]) -> Vec<ScaleClass> {
    let mut classes = classes.to_vec();
    classes.dedup();
    classes
}

/// Convolutions and dense layers in order; a batch norm belongs to the layer before it.
fn layers(scales: &ScaleGraph) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for edges in scales.edges().iter().filter(|edges| !edges.is_bias()) {
        let is_norm = edges.shape().len() == 1;
        match layers.last_mut() {
            Some(layer) if is_norm && !layer.norm => {
                layer.norm = true;
                layer.writes = hidden(edges.heads());
            }
            _ => layers.push(layer(edges, is_norm)),
        }
    }
    layers
}

fn layer(edges: &ParamEdges, norm: bool) -> Layer {
    let name = edges.name();
    Layer {
        name: name.strip_suffix(".weight").unwrap_or(name).to_string(),
        shape: edges.shape().to_vec(),
        norm,
        reads: hidden(edges.tails()),
        writes: hidden(edges.heads()),
    }
}

/// The streams by their classes: what one layer writes, taken apart where another writes a part of it.
fn streams(layers: &[Layer]) -> BTreeMap<Vec<ScaleClass>, Stream> {
    let mut streams: BTreeMap<Vec<ScaleClass>, Stream> = BTreeMap::new();
    for (at, layer) in layers.iter().enumerate() {
        let mut classes = layer.writes.clone();
        classes.retain(|class| !class.is_ground());
        classes.sort();
        classes.dedup();
        if !classes.is_empty() {
            let stream = streams.entry(classes.clone()).or_insert(Stream {
                classes: classes.len(),
                first: at,
                last: at,
                lane: 0,
            });
            stream.last = at;
        }
    }
    for (classes, stream) in &mut streams {
        let readers = layers.iter().enumerate();
        let mut readers = readers.filter(|(_, layer)| layer.reads.contains(&classes[0]));
        if let Some((last, _)) = readers.next_back() {
            stream.last = stream.last.max(last);
        }
    }
    streams
}

/// Gives every stream a lane that no other takes at the same time; the number of lanes.
fn lay_out(streams: &mut BTreeMap<Vec<ScaleClass>, Stream>) -> usize {
    let mut order: Vec<&mut Stream> = streams.values_mut().collect();
    order.sort_by_key(|stream| stream.first);
    let mut ends: Vec<usize> = Vec::new();
    for stream in order {
        let free = ends.iter().position(|&end| end < stream.first);
        stream.lane = free.unwrap_or(ends.len());
        match free {
            Some(lane) => ends[lane] = stream.last,
            None => ends.push(stream.last),
        }
    }
    ends.len()
}
