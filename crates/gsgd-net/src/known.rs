//! Graphs of files whose architecture has a name, and of plain perceptrons found by their tensors.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use gsgd_core::graph::Graph;

use crate::arch::Arch;
use crate::architecture::{Architecture, perceptron};
use crate::image::ImageShape;
use crate::tensors::Tensors;

/// The graph of an architecture with the tensors of a file.
///
/// # Errors
/// The tensors are those of another network.
pub fn of_arch(arch: &Arch, images: Option<ImageShape>, tensors: &Tensors) -> Result<Graph> {
    let Arch::Mlp(widths) = arch else {
        return Ok(architecture_of(arch, images, tensors)?.graph()?);
    };
    let layers: Vec<String> = match tensors.shape("layers.0.weight") {
        Some(_) => (0..widths.len() - 1)
            .map(|at| format!("layers.{at}"))
            .collect(),
        None => {
            let (layers, _) = dense_layers(tensors)?;
            ensure!(!layers.is_empty(), "there are no tensors of dense layers");
            in_order(layers, tensors)?.0
        }
    };
    let found = all_widths(&layers, tensors)?;
    ensure!(
        found == *widths,
        "the tensors are those of {}, not of {arch}",
        Arch::Mlp(found)
    );
    dense(&layers, tensors)
}

/// The architecture and the images that a file's metadata tell of.
///
/// # Errors
/// They tell of none.
pub fn network_of(about: &str) -> Result<(Arch, ImageShape)> {
    let wrong = || anyhow::anyhow!("its metadata `network` make no sense: `{about}`");
    let (arch, shape) = about.split_once(' ').ok_or_else(wrong)?;
    let shape = shape.parse::<ImageShape>().map_err(anyhow::Error::msg)?;
    Ok((arch.parse().map_err(anyhow::Error::msg)?, shape))
}

/// What an architecture's network in a file has: its images, its outputs, biases and batch norms.
///
/// # Errors
/// There are no such tensors.
pub fn architecture_of(
    arch: &Arch,
    images: Option<ImageShape>,
    tensors: &Tensors,
) -> Result<Architecture> {
    let has = |names: &[&str]| names.iter().any(|name| tensors.shape(name).is_some());
    let shape = match (images, arch) {
        (Some(images), _) => images,
        (None, Arch::Mlp(widths)) => ImageShape::flat(widths[0]),
        (None, Arch::Conv(_)) => ImageShape {
            channels: tensors.known("conv1.weight")?.get(1).copied().unwrap_or(0),
            height: 32,
            width: 32,
        },
    };
    let classes = match arch {
        Arch::Mlp(widths) => widths[widths.len() - 1],
        Arch::Conv(_) => tensors.known("fc.weight")?[0],
    };
    Ok(Architecture {
        arch: arch.clone(),
        bias: has(&["layers.0.bias", "conv1.bias"]),
        norm: has(&["bn1.weight"]),
        shape,
        classes,
    })
}

/// The widths of dense layers in this order.
fn all_widths(layers: &[String], tensors: &Tensors) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for layer in layers {
        let [inputs, outputs] = widths(layer, tensors)?;
        match all.last() {
            Some(&width) => ensure!(
                width == inputs,
                "`{layer}.weight` takes {inputs} features, the layer before gives {width}"
            ),
            None => all.push(inputs),
        }
        all.push(outputs);
    }
    Ok(all)
}

fn dense(layers: &[String], tensors: &Tensors) -> Result<Graph> {
    let widths = all_widths(layers, tensors)?;
    let bias = |layer: &String| tensors.shape(&format!("{layer}.bias")).is_some();
    let biases: Vec<bool> = layers.iter().map(bias).collect();
    Ok(perceptron(&widths, layers, &biases)?)
}

/// A multi-layer perceptron of all the file's tensors, if they are weights and biases that fit one to the next, and what
/// was taken for granted.
///
/// # Errors
/// They do not, or in several orders.
pub fn by_names(tensors: &Tensors) -> Result<(Graph, String)> {
    let unknown = "no metadata say which network it is; give it with --arch";
    let (layers, other) = dense_layers(tensors)?;
    if let Some(other) = other {
        bail!("`{other}` is no tensor of a dense layer, and {unknown}");
    }
    ensure!(
        !layers.is_empty(),
        "there are no tensors of dense layers, and {unknown}"
    );
    let fitting = |error: anyhow::Error| {
        error.context(format!("as dense layers one after the other; {unknown}"))
    };
    let (layers, why) = in_order(layers, tensors).map_err(fitting)?;
    let graph = dense(&layers, tensors).map_err(fitting)?;
    let guess = format!(
        "taken for dense layers with ReLUs between them, in {}: {}. The file tells of no activations; --arch says what they \
         are",
        why.words(),
        listed(&layers)
    );
    Ok((graph, guess))
}

/// Why layers are in the order in which they are.
#[derive(Debug, Clone, Copy)]
enum Why {
    File,
    List,
    Shapes,
}

impl Why {
    fn words(self) -> &'static str {
        match self {
            Self::File => "the file's order",
            Self::List => "the order of the list that they are in",
            Self::Shapes => "the only order that fits their shapes",
        }
    }
}

/// Layers that are listed by name.
const LISTED: usize = 12;

fn listed(layers: &[String]) -> String {
    let named = layers[..layers.len().min(LISTED)].join(", ");
    match layers.len().saturating_sub(LISTED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Dense layers in the order of the file where it has one, of the list that they are in (`net.0`, `net.2`), else in the only
/// one that their shapes allow.
fn in_order(mut layers: Vec<String>, tensors: &Tensors) -> Result<(Vec<String>, Why)> {
    let order = tensors.order().iter().enumerate();
    let place: HashMap<&str, usize> = order.map(|(at, name)| (name.as_str(), at)).collect();
    let place = |layer: &String| place.get(format!("{layer}.weight").as_str()).copied();
    if layers.iter().all(|layer| place(layer).is_some()) {
        layers.sort_by_key(place);
        if fit(&layers, tensors)? {
            return Ok((layers, Why::File));
        }
    }
    layers.sort_by_key(|name| natural(name));
    if one_list(&layers) && fit(&layers, tensors)? {
        return Ok((layers, Why::List));
    }
    match &orders(&layers, tensors)?[..] {
        // the shapes' own error says what does not fit
        [] => Ok((layers, Why::Shapes)),
        [only] => Ok((only.clone(), Why::Shapes)),
        [one, other, ..] => bail!(
            "the layers' shapes allow several orders ({}; {}), and the file tells of none: describe it in a TOML file",
            listed(one),
            listed(other)
        ),
    }
}

/// Whether layers are told apart by nothing but whole parts of their names that are numbers: members of one list, or of lists
/// in a list. `fc1` and `fc2` are names, and whoever chose them is free to call `fc2` first.
fn one_list(layers: &[String]) -> bool {
    let words = |layer: &str| -> Vec<Option<String>> {
        let parts = layer.split('.');
        let word = |part: &str| part.parse::<u64>().is_err().then(|| part.to_string());
        parts.map(word).collect()
    };
    layers.iter().all(|layer| words(layer) == words(&layers[0]))
}

/// What a dense layer reads and gives.
fn widths(layer: &str, tensors: &Tensors) -> Result<[usize; 2]> {
    match *tensors.known(&format!("{layer}.weight"))? {
        [outputs, inputs] => Ok([inputs, outputs]),
        _ => bail!("`{layer}.weight` is no dense layer's"),
    }
}

/// Whether each layer reads what the one before it gives.
fn fit(layers: &[String], tensors: &Tensors) -> Result<bool> {
    let widths = layers.iter().map(|layer| widths(layer, tensors));
    let widths = widths.collect::<Result<Vec<_>>>()?;
    Ok(widths.windows(2).all(|pair| pair[0][1] == pair[1][0]))
}

/// Orders in which each layer reads what the one before it gives: two of them where there are several. Where the search
/// takes long, there are several or none.
fn orders(layers: &[String], tensors: &Tensors) -> Result<Vec<Vec<String>>> {
    let widths = layers.iter().map(|layer| widths(layer, tensors));
    let widths = widths.collect::<Result<Vec<_>>>()?;
    let mut steps = 1_000_000usize;
    let mut found: Vec<Vec<String>> = Vec::new();
    let (mut order, mut used): (Vec<usize>, Vec<bool>) = (Vec::new(), vec![false; layers.len()]);
    let mut next = 0;
    while steps > 0 && found.len() < 2 {
        let width = order.last().map(|&last| widths[last][1]);
        let fits = |&at: &usize| !used[at] && width.is_none_or(|width| widths[at][0] == width);
        let candidate = (next..layers.len()).find(fits);
        let tried = candidate.unwrap_or(layers.len()) - next;
        steps = steps.saturating_sub(tried + 1);
        match candidate {
            Some(at) => {
                used[at] = true;
                order.push(at);
                next = 0;
                if order.len() == layers.len() {
                    found.push(order.iter().map(|&at| layers[at].clone()).collect());
                }
            }
            None => match order.pop() {
                Some(last) => {
                    used[last] = false;
                    next = last + 1;
                }
                None => break,
            },
        }
    }
    Ok(found)
}

/// The prefixes of a file's dense layers, and a tensor that belongs to none, if there is one.
fn dense_layers(tensors: &Tensors) -> Result<(Vec<String>, Option<&str>)> {
    let (mut layers, mut other) = (Vec::new(), None);
    for name in tensors.names() {
        if let Some(layer) = name.strip_suffix(".bias")
            && tensors.shape(&format!("{layer}.weight")).is_some()
        {
            continue;
        }
        match name.strip_suffix(".weight") {
            Some(layer) if tensors.known(name)?.len() == 2 => layers.push(layer.to_string()),
            _ => other = other.or(Some(name)),
        }
    }
    Ok((layers, other))
}

/// Text and numbers of a name, so that `fc10` comes after `fc9`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (before, after) = rest.split_at(text);
        let digits = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let (number, left) = after.split_at(digits);
        parts.push((before.to_string(), number.parse().unwrap_or(0)));
        rest = left;
    }
    parts
}
