//! Parameters that do not train, by their names in files.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use serde::Serialize;

use crate::models::Net;

/// Names of tensors, and of layers for all tensors in them, as in `layers.0.weight,layers.1`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(into = "String")]
pub struct Freeze(BTreeSet<String>);

impl FromStr for Freeze {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let names: BTreeSet<String> = text.split(',').map(|name| name.trim().into()).collect();
        match names.contains("") {
            true => Err(format!("`{text}` has an empty name between commas")),
            false => Ok(Self(names)),
        }
    }
}

impl From<Freeze> for String {
    fn from(freeze: Freeze) -> Self {
        freeze.to_string()
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&names.join(","))
    }
}

impl Freeze {
    /// Whether everything trains.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses names that no parameter of a network has, and a network of which nothing would train.
    ///
    /// # Errors
    /// With the names that there are.
    pub fn check(&self, names: &[&str]) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        for frozen in &self.0 {
            ensure!(
                names.iter().any(|name| is_in(name, frozen)),
                "--freeze: no tensor and no layer of the network is called `{frozen}`; there are {}",
                beside(names, frozen).join(", ")
            );
        }
        ensure!(
            !names.iter().all(|name| self.has(name)),
            "--freeze {self} leaves nothing that trains: leave a layer out"
        );
        Ok(())
    }

    /// The network with these parameters frozen.
    pub fn apply(&self, net: Net) -> Net {
        struct Freezer<'a> {
            freeze: &'a Freeze,
            path: Vec<String>,
        }
        impl ModuleMapper for Freezer<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.into());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                match self.freeze.has(&self.path.join(".")) {
                    true => param.set_require_grad(false),
                    false => param,
                }
            }
        }
        net.map(&mut Freezer {
            freeze: self,
            path: Vec::new(),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|frozen| is_in(name, frozen))
    }
}

/// Whether a tensor is the one of this name, or in the layer of this name.
fn is_in(tensor: &str, name: &str) -> bool {
    let rest = tensor.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The names that there are where a wrong one parts from all of them: of layers, or of tensors in one.
fn beside(names: &[&str], wrong: &str) -> Vec<String> {
    let shared = |name: &&&str| {
        let pairs = name.split('.').zip(wrong.split('.'));
        pairs.take_while(|(part, wrong)| part == wrong).count()
    };
    let most = names.iter().map(|name| shared(&name)).max().unwrap_or(0);
    let near = names.iter().filter(|name| shared(name) == most);
    let near: Vec<Vec<&str>> = near.map(|name| name.split('.').collect()).collect();
    // a part that all have says nothing
    let same = |&at: &usize| {
        let first = near.first().and_then(|name| name.get(at));
        first.is_some() && near.iter().all(|name| name.get(at) == first)
    };
    let depth = most + (most..).take_while(same).count();
    let cut = |name: &Vec<&str>| name[..name.len().min(depth + 1)].join(".");
    let mut found: Vec<String> = near.iter().map(cut).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageShape;
    use crate::models::{Architecture, Design};

    fn names(of: &Architecture) -> Vec<String> {
        let design = Design::try_from(of).unwrap();
        design.parameters().into_iter().map(String::from).collect()
    }

    #[test]
    fn a_wrong_name_is_answered_with_those_beside_it() {
        let of = |arch: &str, bias, norm| {
            names(&Architecture {
                arch: arch.parse().unwrap(),
                bias,
                norm,
                shape: ImageShape::grey(8, 8),
                classes: 3,
            })
        };
        let dense = of("mlp:4-3-2", true, false);
        let deep = of("resnet:20", false, true);
        for (names, wrong, says) in [
            (&dense, "layer.0", "layers.0, layers.1"),
            (&dense, "layers.2", "layers.0, layers.1"),
            (&dense, "layers.0.", "layers.0.weight, layers.0.bias"),
            (&dense, "layers.0.bias.x", "layers.0.bias"),
            (
                &of("mlp:4-3-2", false, false),
                "layers.1.bias",
                "layers.1.weight",
            ),
            (&deep, "stem", "conv1, bn1, layer1, layer2, layer3, fc"),
            (&deep, "layer2.3", "layer2.0, layer2.1, layer2.2"),
            (&deep, "bn1.running_mean", "bn1.weight, bn1.bias"),
        ] {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(beside(&names, wrong).join(", "), says, "{wrong}");
        }
    }

    #[test]
    fn names_are_written_in_one_order() {
        let freeze: Freeze = "layers.1, layers.0.bias,layers.1".parse().unwrap();
        assert_eq!(freeze.to_string(), "layers.0.bias,layers.1");
        assert_eq!(freeze.to_string().parse(), Ok(freeze));
        assert!("".parse::<Freeze>().unwrap().is_empty());
        assert!("layers.0,".parse::<Freeze>().is_err());
        assert!(is_in("layers.1.weight", "layers.1") && is_in("fc.bias", "fc.bias"));
        assert!(!is_in("layers.10.weight", "layers.1") && !is_in("layers.1", "layers.1."));
    }
}
