//! What a module's parameters are called, and which of them train.

use std::collections::HashSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

/// Every float parameter with its path, in visit order.
pub(crate) fn names<M: Module>(model: &M) -> Vec<(ParamId, String)> {
    #[derive(Default)]
    struct Names {
        path: Vec<String>,
        found: Vec<(ParamId, String)>,
    }
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((param.id, self.path.join(".")));
        }
    }
    let mut names = Names::default();
    model.visit(&mut names);
    names.found
}

/// The parameters that have no gradient on a device that makes gradients.
pub(crate) fn frozen<M: Module>(model: &M) -> HashSet<ParamId> {
    struct Frozen(HashSet<ParamId>);
    impl ModuleVisitor for Frozen {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_autodiff() && !value.is_require_grad() {
                self.0.insert(param.id);
            }
        }
    }
    let mut frozen = Frozen(HashSet::new());
    model.visit(&mut frozen);
    frozen.0
}
