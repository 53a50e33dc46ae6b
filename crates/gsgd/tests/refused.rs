//! A refused step has no effect: weights, moments and the number of steps stay bit for bit.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams};
use burn::tensor::{DType, Tensor};
use common::convnet::families;
use common::{Batch, Mlp, grads, normal, rng, tensor, values, weights};
use gsgd::{Coordinates, Error, Execution, GSpace, GSpaceConfig};

fn optimisers() -> Vec<GSpaceConfig> {
    let moments = [
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::nesterov(0.9),
        GSpaceConfig::adam(),
    ];
    let reference = moments
        .iter()
        .map(|config| config.clone().with_execution(Execution::Reference));
    let others = [
        GSpaceConfig::sgd(),
        GSpaceConfig::sgd().with_clip_norm(1.0),
        GSpaceConfig::adam().with_clip_norm(1.0),
        GSpaceConfig::momentum(0.9).with_coordinates(Coordinates::Norm),
        GSpaceConfig::new(AdamConfig::new().init()),
        GSpaceConfig::new(AdamWConfig::new().init()),
    ];
    reference.chain(moments.clone()).chain(others).collect()
}

/// Puts a value into the last entry of one parameter's gradient, by the parameter's place in a visit; its name.
fn spoil<M: Module>(model: &M, grads: &mut GradientsParams, place: usize, value: f64) -> String {
    struct Spoil<'a>(&'a mut GradientsParams, usize, f64, Vec<String>, String);
    impl ModuleVisitor for Spoil<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.3.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.3.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(g) = self.0.get::<D>(param.id) {
                if self.1 == 0 {
                    self.4 = self.3.join(".");
                    let (shape, dtype) = (g.dims(), g.dtype());
                    let mut entries = values(self.0.remove::<D>(param.id).unwrap());
                    *entries.last_mut().unwrap() = self.2;
                    let spoilt = tensor(entries, shape, dtype).inner();
                    self.0.register::<D>(param.id, spoilt);
                }
                self.1 = self.1.wrapping_sub(1);
            }
        }
    }
    let mut spoil = Spoil(grads, place, value, Vec::new(), String::new());
    model.visit(&mut spoil);
    spoil.4
}

/// Steps three times, is refused in many ways, and goes on as an optimiser that was never refused.
fn check<M: Described>(
    model: &M,
    config: &GSpaceConfig,
    parameters: usize,
    loss: impl Fn(&M) -> Tensor<1>,
) {
    let gradients = |model: &M| grads(model, loss(model));
    let step = |optim: &mut GSpace, model: M| {
        let gradients = gradients(&model);
        optim.step(1e-3, model, gradients).unwrap()
    };
    let mut optim = config.init_of(model).unwrap();
    let first = refused(&mut optim, model, parameters, &gradients);
    let fresh = config.init_of(model).unwrap();
    assert_eq!(first, fresh.to_bytes().unwrap().to_vec());

    let model = (0..3).fold(model.clone(), |model, _| step(&mut optim, model));
    let state = optim.to_bytes().unwrap().to_vec();
    let mut undisturbed = optim.clone();
    assert_eq!(
        refused(&mut optim, &model, parameters, &gradients),
        state,
        "moments or the number of steps moved"
    );
    // clones of a batch norm share running statistics
    let copy = model.valid().train();
    let after = weights(&step(&mut optim, model));
    assert_eq!(after, weights(&step(&mut undisturbed, copy)));
}

/// The optimiser's state after refused steps, each of which hands the model back as it was.
fn refused<M: Module>(
    optim: &mut GSpace,
    model: &M,
    parameters: usize,
    gradients: &impl Fn(&M) -> GradientsParams,
) -> Vec<u8> {
    let spoilt = |place, value| {
        let mut grads = gradients(model);
        let name = spoil(model, &mut grads, place, value);
        (name, grads)
    };
    let refuse = |optim: &mut GSpace, lr: f64, grads: GradientsParams| {
        let before = weights(model);
        let refused = optim.step(lr, model.clone(), grads).err()?;
        assert_eq!(weights(&refused.model), before);
        Some(refused.error)
    };
    for place in 0..parameters {
        for value in [f64::NAN, f64::INFINITY] {
            let (name, grads) = spoilt(place, value);
            // nobody steps a bias that a batch norm takes away again
            if optim.scale_graph().null_biases().all(|bias| bias != name) {
                let error = refuse(optim, 1e-3, grads).unwrap();
                assert_eq!(
                    error,
                    Error::Core(gsgd::core::Error::NonFiniteGradient { name })
                );
            }
        }
    }
    let error = refuse(optim, f64::NAN, gradients(model)).unwrap();
    assert!(matches!(error, Error::LearningRate { .. }), "{error}");
    let error = refuse(optim, 1e-3, GradientsParams::new()).unwrap();
    assert!(matches!(error, Error::MissingGradient { .. }), "{error}");
    let state = optim.to_bytes().unwrap().to_vec();
    // finite, but what comes of it is not, unless a rule bounds its steps
    for place in [0, parameters - 1] {
        let mut other = optim.clone();
        if refuse(&mut other, 1e38, spoilt(place, -3e38).1).is_some() {
            assert_eq!(other.to_bytes().unwrap().to_vec(), state);
        }
    }
    state
}

/// A large step of plain momentum cannot be taken, whatever the chart.
#[test]
fn a_step_out_of_range_is_refused_before_moments_move() {
    let model = Mlp::he(3, &[6, 40, 30, 3], true, DType::F32);
    let batch = Batch::random(1, 8, 6, 3, DType::F32);
    let gradients = || grads(&model, batch.loss(model.forward(batch.x.clone())));
    let lifted = GSpaceConfig::new(burn::optim::SgdConfig::new().init());
    for config in [
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::momentum(0.9).with_execution(Execution::Reference),
        lifted.clone(),
        lifted.with_execution(Execution::Reference),
    ] {
        let mut optim = config.init_of(&model).unwrap();
        let state = optim.to_bytes().unwrap().to_vec();
        let mut grads = gradients();
        spoil(&model, &mut grads, 0, -3e38);
        let refused = optim.step(1e3, model.clone(), grads).unwrap_err();
        let error = refused.error;
        assert!(
            matches!(error, Error::Core(gsgd::core::Error::OutOfRange { .. })),
            "{error}"
        );
        assert_eq!(weights(&refused.model), weights(&model));
        assert_eq!(optim.to_bytes().unwrap().to_vec(), state);
    }
}

#[test]
fn dense_networks() {
    let model = Mlp::he(3, &[6, 40, 30, 3], true, DType::F32);
    let batch = Batch::random(1, 8, 6, 3, DType::F32);
    for config in optimisers() {
        check(&model, &config, 6, |model| {
            batch.loss(model.forward(batch.x.clone()))
        });
    }
}

#[test]
fn convolutions_residual_networks_and_batch_norm() {
    let mut rng = rng(5);
    let x = (0..8 * 2 * 36).map(|_| normal(&mut rng)).collect();
    let x: Tensor<4> = tensor(x, [8, 2, 6, 6], DType::F32);
    let labels = Batch::random(1, 8, 1, 3, DType::F32);
    for (_, model) in families(DType::F32, 1e-5) {
        for config in optimisers() {
            check(&model, &config, 4, |model| {
                labels.loss(model.forward(x.clone()))
            });
        }
    }
}
