//! Parameters that do not train, by their names in files.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::Serialize;

use crate::models::{Model, file_name};

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

    /// Refuses names that the model does not have, and a model of which nothing would train.
    ///
    /// # Errors
    /// With the names that there are.
    pub fn check(&self, model: &Model) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let names = parameters(model);
        let list = || names.join(", ");
        for frozen in &self.0 {
            ensure!(
                names.iter().any(|name| is_in(name, frozen)),
                "--freeze: no tensor and no layer of the network is called `{frozen}`; its tensors are {}; a layer is the \
                 beginning of such a name, up to a dot",
                list()
            );
        }
        ensure!(
            !names.iter().all(|name| self.has(name)),
            "--freeze {self} leaves nothing that trains; there are {}",
            list()
        );
        Ok(())
    }

    /// The model with these parameters frozen.
    pub fn apply(&self, model: Model) -> Model {
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
                match self.freeze.has(&file_name(&self.path.join("."))) {
                    true => param.set_require_grad(false),
                    false => param,
                }
            }
        }
        model.map(&mut Freezer {
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

/// The names in files of a model's parameters; running statistics are none.
fn parameters(model: &Model) -> Vec<String> {
    #[derive(Default)]
    struct Names {
        path: Vec<String>,
        found: Vec<String>,
    }
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.found.push(file_name(&self.path.join(".")));
            }
        }
    }
    let mut names = Names::default();
    model.visit(&mut names);
    names.found
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::ImageShape;
    use crate::models::Plan;

    fn names(plan: &Plan) -> Vec<String> {
        parameters(&Model::he(plan, 0, &Device::flex().autodiff()))
    }

    #[test]
    fn a_narrow_network_has_the_names_of_the_whole_one() {
        for arch in ["mlp:4-3-2", "plain:8", "resnet:14"] {
            for (bias, norm) in [(false, false), (true, false), (false, true)] {
                let plan = |shape, classes| Plan {
                    arch: arch.parse().unwrap(),
                    bias,
                    norm,
                    shape,
                    classes,
                };
                let whole = plan(ImageShape::grey(8, 8), 3);
                let mut narrow = plan(ImageShape::grey(1, 1), 1);
                narrow.arch = narrow.arch.narrow();
                assert_eq!(names(&whole), names(&narrow), "{arch} {bias} {norm}");
            }
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
