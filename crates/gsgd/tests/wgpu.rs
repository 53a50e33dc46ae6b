//! The step in tensor operations on a GPU. Needs an adapter, of software at least (Mesa's lavapipe):
//! `cargo test --release -p gsgd --features wgpu --test wgpu`.
#![cfg(feature = "wgpu")]

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::Module;
use burn::tensor::{DType, Device, DeviceKind};
use common::{Batch, Mlp, close, grads, values};
use gsgd::rescale::{Scaling, apply};
use gsgd::{Coordinates, Error, GSpaceConfig};

/// Of the second, the first layer's pass gives the sums of its heads.
const WIDTHS: [[usize; 4]; 2] = [[6, 16, 9, 3], [6, 300, 280, 3]];

fn batch(seed: u64, device: &Device) -> Batch {
    let batch = Batch::random(seed, 16, WIDTHS[0][0], WIDTHS[0][3], DType::F32);
    Batch {
        x: batch.x.to_device(device),
        y: batch.y.to_device(device),
    }
}

/// Logits after every tenth of 40 steps on a device.
fn trajectory(model: Mlp, config: &GSpaceConfig, lr: f64, device: &Device) -> Vec<f64> {
    let mut model = model.fork(device);
    let mut optim = config.init_of(&model).unwrap();
    let mut logits = Vec::new();
    for at in 0..40 {
        let batch = batch(at % 20, device);
        let output = model.forward(batch.x.clone());
        if at % 10 == 9 {
            logits.extend(values(output.clone()));
        }
        let grads = grads(&model, batch.loss(output));
        model = optim.step(lr, model, grads).unwrap();
    }
    assert!(logits.iter().all(|x| x.is_finite()));
    logits
}

fn configs() -> [(GSpaceConfig, f64); 4] {
    [
        (GSpaceConfig::sgd(), 0.02),
        (
            GSpaceConfig::sgd().with_coordinates(Coordinates::Norm),
            0.02,
        ),
        (GSpaceConfig::momentum(0.9), 0.005),
        (GSpaceConfig::adam(), 0.001),
    ]
}

#[test]
fn a_gpu_trains_as_the_cpu_does() {
    let gpu = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    let models = WIDTHS.map(|widths| [false, true].map(|bias| (widths, bias)));
    for (widths, bias) in models.concat() {
        for (config, lr) in configs() {
            let model = Mlp::he(3, &widths, bias, DType::F32);
            let on_cpu = trajectory(model.clone(), &config, lr, &common::device());
            close(&trajectory(model, &config, lr, &gpu), &on_cpu, 1e-4);
        }
    }
}

#[test]
fn powers_of_two_leave_every_bit_on_a_gpu() {
    let gpu = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    for widths in WIDTHS {
        let model = Mlp::he(3, &widths, true, DType::F32);
        let graph = scale_graph(&model, Default::default()).unwrap();
        let scaling = Scaling::powers_of_two(&graph, 6, 4);
        let twin = apply(model.clone(), &graph, &scaling).unwrap();
        for (config, lr) in configs() {
            let run = |model: &Mlp| trajectory(model.clone(), &config, lr, &gpu);
            assert_eq!(run(&model), run(&twin));
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_refused_on_a_gpu() {
    let gpu = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    for widths in WIDTHS {
        let model = Mlp::he(3, &widths, true, DType::F32).fork(&gpu);
        let weight = &model.layers[1].weight;
        let batch = batch(0, &gpu);
        for (config, lr) in configs() {
            for wrong in [f32::NAN, f32::INFINITY] {
                let mut optim = config.init_of(&model).unwrap();
                let mut grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
                let gradient = grads.remove::<2>(weight.id).unwrap();
                grads.register(weight.id, gradient.slice_fill([2..3, 3..4], wrong));
                let rejected = optim.step(lr, model.clone(), grads).unwrap_err();
                let refused = matches!(
                    &rejected.error,
                    Error::Core(gsgd::core::Error::NonFiniteGradient { name }) if name == "layers.1.weight"
                );
                assert!(refused, "{}", rejected.error);
                let left = values(rejected.model.layers[1].weight.val());
                assert_eq!(left, values(weight.val()));
            }
        }
    }
}
