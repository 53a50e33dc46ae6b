//! A network as a TOML file: layers in order, sums and concatenations by name.
//!
//! - `kinds`: the kinds of layers; `build`: from a layer to an operation; `write`: from operations to layers.

mod build;
mod kinds;
mod write;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use gsgd_core::graph::{Graph, Value};
use serde::Deserialize;

use crate::layers::Layers;
use crate::tensors::Tensors;
use build::{Place, add};
use kinds::{From, LayerKind};

pub use write::write;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    #[serde(default)]
    input: Option<Vec<usize>>,
    #[serde(default)]
    output: Option<Vec<String>>,
    layers: Vec<toml::Table>,
}

/// What all layers may read by this name.
const INPUT: &str = "input";

/// The graph that the file describes, of layers that the tensors belong to.
///
/// # Errors
/// The file cannot be read or is no such description, or does not fit the tensors.
pub fn read(path: &Path, tensors: &Tensors) -> Result<Graph> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, tensors).with_context(|| format!("in {}", path.display()))
}

/// The graph of a text, of layers that the tensors belong to.
///
/// # Errors
/// As for [`read`].
pub fn parse(text: &str, tensors: &Tensors) -> Result<Graph> {
    let layout: Layout = toml::from_str(text)?;
    layout.graph(None, Some(tensors))
}

/// The graph of a text that itself says the sizes of all layers; `input` is the shape of an example where the text has none.
///
/// # Errors
/// It is no such description, or leaves a size or the input out.
pub fn parse_alone(text: &str, input: Option<&[usize]>) -> Result<Graph> {
    let layout: Layout = toml::from_str(text)?;
    layout.graph(input, None)
}

impl Layout {
    fn graph(self, input: Option<&[usize]>, tensors: Option<&Tensors>) -> Result<Graph> {
        let shape = self.input.as_deref().or(input);
        let shape = shape
            .context("it has no `input`: give the shape of one example, such as [3, 32, 32]")?;
        let mut net = Layers::default();
        let input = net.graph.input(&[&[1], shape].concat())?;
        let mut last = input;
        let mut places = HashMap::from([(INPUT.to_string(), input)]);
        for (at, mut layer) in self.layers.into_iter().enumerate() {
            let name = match layer.remove("name") {
                Some(toml::Value::String(name)) => name,
                None => numbered(at),
                Some(other) => bail!("layer {}: its name is {other}, not a text", at + 1),
            };
            let inside = || format!("layer `{name}`");
            ensure!(
                !places.contains_key(&name),
                "two layers have the name `{name}`"
            );
            let prefix = match layer.remove("tensors") {
                Some(toml::Value::String(prefix)) => prefix,
                None => name.clone(),
                Some(other) => bail!("layer `{name}`: its tensors are {other}, not a text"),
            };
            let from = layer.remove("from");
            let said = from.is_some();
            let from = match from {
                None => vec![last],
                Some(value) => {
                    let from: From = value
                        .try_into()
                        .context("`from` is a name or a list of names")
                        .with_context(inside)?;
                    let names = match from {
                        From::One(name) => vec![name],
                        From::Many(names) => names,
                    };
                    let place = |name: &String| {
                        let place = places.get(name).copied();
                        place.with_context(|| {
                            format!("it reads `{name}`, which is no layer before it")
                        })
                    };
                    let places: Result<_> = names.iter().map(place).collect();
                    places.with_context(inside)?
                }
            };
            let kind: LayerKind = toml::Value::Table(layer).try_into().with_context(inside)?;
            let place = Place {
                name: &name,
                prefix: &prefix,
                from: &from,
                said,
                tensors,
            };
            last = add(&mut net, &place, kind).with_context(inside)?;
            places.insert(name, last);
        }
        let outputs: Vec<Value> = match self.output {
            None => vec![last],
            Some(names) => {
                let place = |name: &String| {
                    let place = places.get(name).copied();
                    place.with_context(|| format!("the output `{name}` is no layer"))
                };
                names.iter().map(place).collect::<Result<_>>()?
            }
        };
        outputs
            .into_iter()
            .for_each(|value| net.graph.output(value));
        Ok(net.graph)
    }
}

/// The name of a layer without one.
fn numbered(at: usize) -> String {
    format!("#{}", at + 1)
}

#[cfg(test)]
mod tests;
