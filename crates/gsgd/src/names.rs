//! What a module's parameters are called, and which of them train.

use std::collections::HashSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Tensor};

/// Every float parameter with its path and shape, in visit order.
pub(crate) fn shapes<M: Module>(model: &M) -> Vec<(ParamId, String, Vec<usize>)> {
    #[derive(Default)]
    struct Names {
        path: Vec<String>,
        found: Vec<(ParamId, String, Vec<usize>)>,
    }
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.val().dims().to_vec();
            self.found.push((param.id, self.path.join("."), shape));
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

/// The device and the number type of a module's first parameter.
fn first<M: Module>(model: &M) -> Option<(Device, DType)> {
    struct First(Option<(Device, DType)>);
    impl ModuleVisitor for First {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            self.0
                .get_or_insert_with(|| (value.device(), value.dtype()));
        }
    }
    let mut found = First(None);
    model.visit(&mut found);
    found.0
}

/// The number type of a module; f32 without parameters.
pub(crate) fn dtype<M: Module>(model: &M) -> DType {
    first(model).map_or(DType::F32, |(_, dtype)| dtype)
}

/// The device of a module.
pub(crate) fn device<M: Module>(model: &M) -> Device {
    first(model).map_or_else(Device::default, |(device, _)| device)
}
