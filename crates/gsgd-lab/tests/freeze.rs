//! Parts of a network that do not train.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{contents, fails_in, folder, image_folder, tiny_set, words, works};
use safetensors::SafeTensors;

const OPTIMIZERS: [&str; 7] = [
    "sgd",
    "momentum",
    "adam",
    "balanced-sgd",
    "g-sgd",
    "g-momentum",
    "g-adam",
];

/// A run of 15 steps on an unbalanced start.
fn run(optimizer: &str, rest: &str) -> String {
    format!(
        "train --data tiny --arch mlp:4-6-5-2 --bias --optimizer {optimizer} --lr 0.02 --batch 8 --epochs 3 --unbalance 1 \
         --quiet {rest}"
    )
}

/// The bytes of every tensor in a file.
fn tensors(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let data = fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&data).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect()
}

/// The tensors that a run left as they were at its start.
fn stayed(run: &Path) -> Vec<String> {
    let start = tensors(&run.join("init.safetensors"));
    let end = tensors(&run.join("final.safetensors"));
    let same = start.into_iter().filter(|(name, at)| end[name] == *at);
    same.map(|(name, _)| name).collect()
}

#[test]
fn what_is_frozen_stays_bit_for_bit_and_the_rest_trains() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for (freeze, frozen) in [
        ("layers.0", vec!["layers.0.bias", "layers.0.weight"]),
        (
            "layers.2.bias,layers.1.weight",
            vec!["layers.1.weight", "layers.2.bias"],
        ),
    ] {
        for optimizer in OPTIMIZERS {
            let rest = format!("--save-init --force --out run --freeze {freeze}");
            works(path, &words(&run(optimizer, &rest)));
            let run = path.join("run");
            assert_eq!(stayed(&run), frozen, "{optimizer}");
            // they are of all layers
            let figures = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            assert_eq!(figures.lines().count(), 3);
            for line in figures.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line["path_norm"].as_f64().unwrap() > 0.0);
                assert_eq!(line["imbalance"].as_object().unwrap().len(), 2, "{line}");
            }
        }
    }
}

#[test]
fn decay_and_clipping_pass_over_what_is_frozen() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let rest =
        "--weight-decay 0.1 --clip-norm 0.01 --freeze layers.1 --save-init --force --out run";
    for optimizer in OPTIMIZERS {
        works(path, &words(&run(optimizer, rest)));
        assert_eq!(
            stayed(&path.join("run")),
            ["layers.1.bias", "layers.1.weight"],
            "{optimizer}"
        );
    }
}

#[test]
fn a_start_is_rescaled_and_balanced_before_parts_of_it_are_frozen() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for how in ["", "--balance-first"] {
        let begin = |rest: &str| {
            works(path, &words(&run("sgd", &format!("{how} {rest}"))));
            tensors(&path.join("run/init.safetensors"))
        };
        let whole = begin("--save-init --force --out run");
        assert!(whole == begin("--save-init --force --out run --freeze layers.0,layers.1"));
    }
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_been() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for optimizer in OPTIMIZERS {
        let begin = |rest: &str| {
            let rest = format!("--freeze layers.0.weight,layers.1 --save-init --force {rest}");
            works(path, &words(&run(optimizer, &rest)));
        };
        begin("--out whole");
        begin("--steps 7 --out cut");
        works(path, &words("train --resume cut --steps 15 --quiet"));
        let end = |run: &str| fs::read(path.join(run).join("final.safetensors")).unwrap();
        assert!(end("whole") == end("cut"), "{optimizer}");
        let frozen = ["layers.0.weight", "layers.1.bias", "layers.1.weight"];
        assert_eq!(stayed(&path.join("cut")), frozen);
    }
    works(
        path,
        &words("train --config whole/config.toml --out again --quiet"),
    );
    let end = |run: &str| fs::read(path.join(run).join("final.safetensors")).unwrap();
    assert!(end("whole") == end("again"));
}

#[test]
fn another_freeze_is_another_run() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    works(
        path,
        &words(&run("g-adam", "--freeze layers.1,layers.0.bias --out run")),
    );
    let file = path.join("run/config.toml");
    let config = fs::read_to_string(&file).unwrap();
    let setting = "freeze = \"layers.0.bias,layers.1\"";
    assert!(config.contains(setting));
    let resume = words("train --resume run --epochs 6");
    for other in ["freeze = \"layers.1\"", ""] {
        fs::write(&file, config.replace(setting, other)).unwrap();
        let before = contents(&path.join("run"));
        let now = if other.is_empty() { "no value" } else { other };
        fails_in(path, &resume, &["layers.0.bias,layers.1", now]);
        assert!(contents(&path.join("run")) == before);
    }
    fails_in(
        path,
        &words("train --resume run --freeze layers.0"),
        &["--freeze"],
    );
    fs::write(&file, &config).unwrap();
    works(path, &words("train --resume run --epochs 6 --quiet"));
}

#[test]
fn names_that_there_are_not_and_what_leaves_nothing_to_train_are_refused() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for (freeze, says) in [
        (
            "layers.3",
            vec![
                "--freeze",
                "`layers.3`; there are layers.0, layers.1, layers.2",
            ],
        ),
        (
            "layers.0,layer.1",
            vec!["`layer.1`; there are layers.0, layers.1, layers.2"],
        ),
        (
            "layers.0.",
            vec!["`layers.0.`", "layers.0.weight, layers.0.bias"],
        ),
        (
            "layers.0.weights",
            vec!["`layers.0.weights`", "layers.0.weight, layers.0.bias"],
        ),
        ("layers", vec!["--freeze layers leaves nothing"]),
        ("layers.0,,layers.1", vec!["--freeze", "empty name"]),
    ] {
        let rest = format!("--out run --freeze {freeze}");
        fails_in(path, &words(&run("sgd", &rest)), &says);
        let config = format!("arch = \"mlp:4-6-5-2\"\nbias = true\nfreeze = \"{freeze}\"");
        fs::write(path.join("config.toml"), config).unwrap();
        fails_in(
            path,
            &words("train --config config.toml --data tiny --out run"),
            &says,
        );
    }
    let rest = "--out run --freeze layers.1.bias";
    let says = [
        "--freeze: Path-SGD",
        "`layers.1.bias`",
        "another --optimizer",
    ];
    fails_in(path, &words(&run("path-sgd", rest)), &says);
    assert!(!path.join("run").exists());
    // what a file freezes is looked for in the network that flags ask for
    let config = "arch = \"mlp:4-2\"\nfreeze = \"layers.1\"";
    fs::write(path.join("config.toml"), config).unwrap();
    works(
        path,
        &words(
            "train --config config.toml --data tiny --arch mlp:4-3-2 --out run --epochs 1 --quiet",
        ),
    );
}

#[test]
fn comparisons_freeze_by_method_and_refuse_wrong_names_before_they_begin() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let plan = |of_two: &str| {
        let plan = format!(
            "seeds = [0]\nlrs = [0.1]\n[settings]\ndata = \"tiny\"\narch = \"mlp:4-6-2\"\nepochs = 2\nfreeze = \"layers.0\"\n\
             [[methods]]\nname = \"one\"\noptimizer = \"sgd\"\n[[methods]]\nname = \"two\"\noptimizer = \"g-sgd\"\n{of_two}\n"
        );
        fs::write(path.join("plan.toml"), plan).unwrap();
    };
    plan("freeze = \"layers.2\"");
    fails_in(
        path,
        &words("compare plan.toml --out c"),
        &["method `two`", "`layers.2`", "layers.0, layers.1"],
    );
    assert!(!path.join("c").exists());
    plan("freeze = \"\"");
    works(path, &words("compare plan.toml --out c --quiet"));
    let first = |method: &str| {
        let file = format!("c/runs/{method}/lr-0.1-seed-0/final.safetensors");
        tensors(&path.join(file))["layers.0.weight"].clone()
    };
    assert!(first("one") != first("two"));
    works(
        path,
        &words(
            "compare --data tiny --arch mlp:4-6-2 --epochs 2 --optimizers sgd,g-sgd --lrs 0.1 --seeds 0 --freeze layers.0 \
             --out d --quiet",
        ),
    );
    let file = |method: &str| format!("d/runs/{method}/lr-0.1-seed-0/final.safetensors");
    for method in ["sgd", "g-sgd"] {
        assert!(tensors(&path.join(file(method)))["layers.0.weight"] == first("one"));
    }
}

#[test]
fn frozen_batch_norms_keep_gamma_and_beta_and_go_on_with_their_statistics() {
    let folder = folder();
    let path = folder.path();
    image_folder(&path.join("two"));
    for optimizer in ["momentum", "g-momentum"] {
        works(
            path,
            &words(&format!(
                "train --data two --arch resnet:8 --optimizer {optimizer} --lr 0.02 --batch 8 --epochs 1 --quiet --force \
                 --save-init --freeze conv1,bn1,layer1.0 --out run"
            )),
        );
        let stayed = stayed(&path.join("run"));
        let frozen = [
            "bn1.bias",
            "bn1.weight",
            "conv1.weight",
            "layer1.0.bn1.bias",
            "layer1.0.bn1.weight",
            "layer1.0.bn2.bias",
            "layer1.0.bn2.weight",
            "layer1.0.conv1.weight",
            "layer1.0.conv2.weight",
        ];
        // a G method may have every gamma of a layer in its skeleton, which it does not step
        let other_gamma = |name: &String| !frozen.contains(&name.as_str()) && name.contains("bn");
        let stayed: Vec<String> = stayed
            .into_iter()
            .filter(|name| !other_gamma(name))
            .collect();
        assert_eq!(stayed, frozen, "{optimizer}");
    }
    fails_in(
        path,
        &words("train --data two --arch resnet:8 --freeze bn1.running_mean"),
        &["`bn1.running_mean`", "bn1.weight"],
    );
}
