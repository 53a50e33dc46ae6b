//! Saving, loading, going on bit for bit.

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use burn::module::Module;
use burn::optim::{AdamWConfig, SgdConfig};
use burn::tensor::{Bytes, DType};
use common::{Batch, Mlp, grads, weights};
use gsgd::{Coordinates, Error, GSpace, GSpaceConfig};

const WIDTHS: [usize; 4] = [5, 12, 7, 3];

fn step(optim: &mut GSpace, model: Mlp, at: u64) -> Mlp {
    let batch = Batch::random(at, 8, WIDTHS[0], WIDTHS[3], DType::F32);
    let grads = grads(&model, batch.loss(model.forward(batch.x.clone())));
    optim.step(0.02, model, grads).unwrap()
}

/// A model built anew, with other parameter ids, and the weights of `model`.
fn rebuilt(model: &Mlp) -> Mlp {
    let layers = model.layers.iter().map(|layer| {
        let data =
            |t: burn::tensor::TensorData| burn::tensor::Tensor::from_data(t, &common::device());
        let bias = layer
            .bias
            .as_ref()
            .map(|b| burn::tensor::Tensor::<1>::from_data(b.val().into_data(), &common::device()));
        common::linear(data(layer.weight.val().into_data()), bias)
    });
    Mlp {
        layers: layers.collect(),
    }
}

fn configs() -> Vec<GSpaceConfig> {
    vec![
        GSpaceConfig::sgd(),
        GSpaceConfig::momentum(0.9),
        GSpaceConfig::adam().with_coordinates(Coordinates::Plain),
        GSpaceConfig::new(AdamWConfig::new().with_weight_decay(1e-3).init()),
        GSpaceConfig::momentum(0.9).with_coordinates(Coordinates::Norm),
        GSpaceConfig::sgd().without_floor(),
    ]
}

#[test]
fn a_resumed_run_continues_bit_for_bit() {
    for config in configs() {
        for bias in [false, true] {
            let model = Mlp::he(3, &WIDTHS, bias, DType::F32);
            let mut optim = config.init_of(&model).unwrap();
            let model = (0..20).fold(model, |model, at| step(&mut optim, model, at));

            let file = tempfile::NamedTempFile::new().unwrap();
            optim.save(file.path()).unwrap();
            let twin = rebuilt(&model);
            let mut resumed = config.load(file.path(), &twin, &twin.graph()).unwrap();

            let model = (20..60).fold(model, |model, at| step(&mut optim, model, at));
            let twin = (20..60).fold(twin, |model, at| step(&mut resumed, model, at));
            assert_eq!(weights(&twin), weights(&model));
        }
    }
}

#[test]
fn without_its_state_a_run_would_not_continue_the_same() {
    let config = GSpaceConfig::momentum(0.9);
    let model = Mlp::he(3, &WIDTHS, false, DType::F32);
    let mut optim = config.init_of(&model).unwrap();
    let model = (0..20).fold(model, |model, at| step(&mut optim, model, at));
    let twin = rebuilt(&model);
    let mut fresh = config.init_of(&twin).unwrap();
    let a = step(&mut optim, model, 20);
    let b = step(&mut fresh, twin, 20);
    assert_ne!(weights(&a), weights(&b));
}

fn refused(config: &GSpaceConfig, bytes: Bytes, model: &Mlp) -> Error {
    config
        .from_bytes(bytes, model, &model.graph())
        .err()
        .expect("this state must be refused")
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let model = Mlp::he(3, &WIDTHS, false, DType::F32);
    let config = GSpaceConfig::momentum(0.9);
    let mut optim = config.init_of(&model).unwrap();
    let model = step(&mut optim, model, 0);

    let other = Mlp::he(3, &[5, 12, 6, 3], false, DType::F32);
    let bytes = || optim.to_bytes().unwrap();
    assert!(matches!(
        refused(&config, bytes(), &other),
        Error::State { .. }
    ));

    let nothing = Bytes::from_bytes_vec(b"not a state".to_vec());
    assert!(matches!(
        refused(&config, nothing, &model),
        Error::State { .. }
    ));

    let plain = GSpaceConfig::sgd()
        .init_of(&model)
        .unwrap()
        .to_bytes()
        .unwrap();
    assert!(matches!(
        refused(&config, plain, &model),
        Error::State { .. }
    ));

    let missing = config
        .load("no/such/file", &model, &model.graph())
        .err()
        .unwrap();
    assert!(matches!(missing, Error::File { .. }));
    let unwritable = optim.save("no/such/folder/file").unwrap_err();
    assert!(matches!(unwritable, Error::File { .. }));
}

#[test]
fn states_of_other_coordinates_are_refused() {
    let model = Mlp::he(3, &WIDTHS, false, DType::F32);
    let norm = GSpaceConfig::sgd().with_coordinates(Coordinates::Norm);
    for (saved, loaded) in [
        (GSpaceConfig::sgd(), &norm),
        (norm.clone(), &GSpaceConfig::sgd()),
    ] {
        let bytes = saved.init_of(&model).unwrap().to_bytes().unwrap();
        let error = refused(loaded, bytes, &model).to_string();
        assert!(error.contains("other coordinates"), "{error}");
    }
}

/// Burn restores its optimisers' states in f32.
#[test]
fn states_that_burn_would_restore_in_another_type_are_refused() {
    let model = Mlp::he(3, &WIDTHS, false, DType::F64);
    let config = GSpaceConfig::new(AdamWConfig::new().init());
    let mut optim = config.init_of(&model).unwrap();
    let batch = Batch::random(0, 8, WIDTHS[0], WIDTHS[3], DType::F64);
    let gradients = grads(&model, batch.loss(model.forward(batch.x.clone())));
    let model = optim.step(0.02, model, gradients).unwrap();
    let error = refused(&config, optim.to_bytes().unwrap(), &model).to_string();
    assert!(error.contains("F64") && error.contains("f32"), "{error}");
}

#[test]
fn damaged_states_never_panic() {
    let model = Mlp::he(3, &WIDTHS, false, DType::F32);
    let config = GSpaceConfig::momentum(0.9);
    let mut optim = config.init_of(&model).unwrap();
    let model = step(&mut optim, model, 0);
    let whole = optim.to_bytes().unwrap().to_vec();
    for cut in (0..whole.len()).step_by(97) {
        let _ = config.from_bytes(
            Bytes::from_bytes_vec(whole[..cut].to_vec()),
            &model,
            &model.graph(),
        );
    }
    for at in (0..whole.len().min(4000)).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        let _ = config.from_bytes(Bytes::from_bytes_vec(damaged), &model, &model.graph());
    }
}

#[test]
fn states_go_with_the_inner_optimiser() {
    let model = Mlp::he(3, &WIDTHS, false, DType::F32).no_grad();
    let config = GSpaceConfig::new(SgdConfig::new().init());
    let optim = config.init_of(&model).unwrap();
    assert!(
        config
            .from_bytes(optim.to_bytes().unwrap(), &model, &model.graph())
            .is_ok()
    );
}

/// Wherever a byte is another, and wherever the file ends.
#[test]
fn a_flipped_byte_is_found() {
    for config in [GSpaceConfig::sgd(), GSpaceConfig::adam()] {
        let model = Mlp::he(3, &[3, 4, 2], true, DType::F32);
        let batch = Batch::random(0, 8, 3, 2, DType::F32);
        let mut optim = config.init_of(&model).unwrap();
        let gradients = grads(&model, batch.loss(model.forward(batch.x.clone())));
        let model = optim.step(0.02, model, gradients).unwrap();
        let state = optim.to_bytes().unwrap().to_vec();
        let load = |bytes| config.from_bytes(Bytes::from_bytes_vec(bytes), &model, &model.graph());
        assert!(load(state.clone()).is_ok());
        for at in 0..state.len() {
            let mut flipped = state.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(matches!(load(flipped), Err(Error::State { .. })), "{at}");
            let cut = state[..at].to_vec();
            assert!(matches!(load(cut), Err(Error::State { .. })), "{at}");
        }
    }
}
