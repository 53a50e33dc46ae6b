//! Runs that meet other data, other settings or damaged files than they were begun with.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{column, contents, fails_in, folder, gsgd, tiny_set, words, works};

/// A run of three epochs of five steps, and what it is called with.
const RUN: &str = "train --arch mlp:4-6-5-2 --bias --batch 8 --lr 0.02 --quiet";

fn begin(folder: &Path, rest: &str) {
    works(folder, &words(&format!("{RUN} --data tiny {rest}")));
}

/// Weights, and figures without times.
fn result(folder: &Path, run: &str) -> (Vec<u8>, Vec<Vec<f64>>) {
    let metrics = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let keys = ["epoch", "step", "train_loss", "test_error"];
    let weights = fs::read(folder.join(run).join("final.safetensors")).unwrap();
    (weights, keys.map(|key| column(&metrics, key)).to_vec())
}

fn flip(file: &Path, at: usize) {
    let mut data = fs::read(file).unwrap();
    data[at] ^= 1;
    fs::write(file, data).unwrap();
}

#[test]
fn images_that_changed_are_named_and_nothing_is_done() {
    let folder = folder();
    let path = folder.path();
    let set = path.join("tiny");
    tiny_set(&set);
    begin(path, "--optimizer g-adam --epochs 3 --out run");
    let (run, images) = (contents(&path.join("run")), contents(&set));
    let bring_back = || {
        for (name, data) in &images {
            fs::write(set.join(name), data).unwrap();
        }
    };
    let refused = |says: &[&str]| {
        fails_in(path, &words("train --resume run --epochs 6"), says);
        assert!(contents(&path.join("run")) == run, "{says:?}");
        bring_back();
    };
    let file = |name: &str| set.join(name);
    flip(&file("train-labels-idx1-ubyte"), 9);
    refused(&["labels of training images", "Bring them back"]);
    flip(&file("train-images-idx3-ubyte"), 40);
    refused(&["pixels of training images"]);
    flip(&file("t10k-labels-idx1-ubyte"), 9);
    refused(&["labels of test images"]);
    flip(&file("t10k-images-idx3-ubyte"), 40);
    refused(&["pixels of test images"]);
    // one image more
    for (name, more) in [("images-idx3", &[1, 2, 3, 4][..]), ("labels-idx1", &[1])] {
        let name = file(&format!("train-{name}-ubyte"));
        let mut data = fs::read(&name).unwrap();
        data[7] += 1;
        data.extend(more);
        fs::write(name, data).unwrap();
    }
    refused(&["number of training images (41, it was 40)"]);
    // the same pixels as images of one row
    for part in ["train", "t10k"] {
        let name = file(&format!("{part}-images-idx3-ubyte"));
        let mut data = fs::read(&name).unwrap();
        (data[11], data[15]) = (1, 4);
        fs::write(name, data).unwrap();
    }
    refused(&["shape of images (1x1x4, it was 1x2x2)"]);
    works(path, &words("train --resume run --epochs 6 --quiet"));
}

#[test]
fn settings_that_changed_are_named_with_both_values() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    begin(path, "--optimizer momentum --epochs 3 --out run");
    let file = path.join("run/config.toml");
    let config = fs::read_to_string(&file).unwrap();
    for (old, new) in [
        ("batch = 8", "batch = 5"),
        ("seed = 0", "seed = 7"),
        ("optimizer = \"momentum\"", "optimizer = \"adam\""),
        ("optimizer = \"momentum\"", "optimizer = \"g-momentum\""),
        ("momentum = 0.9", "momentum = 0.8"),
        ("bias = true", "bias = false"),
        ("augment = \"none\"", "augment = \"crop-flip\""),
    ] {
        let other = config.replace(old, new);
        assert!(other != config, "{old}");
        fs::write(&file, other).unwrap();
        let before = contents(&path.join("run"));
        fails_in(
            path,
            &words("train --resume run --epochs 6"),
            &[
                "step-0000000015",
                old,
                new,
                "config.toml",
                "--epochs, --steps, --lr, --schedule",
            ],
        );
        assert!(contents(&path.join("run")) == before);
    }
    fs::write(&file, &config).unwrap();
    works(path, &words("train --resume run --epochs 6 --quiet"));
}

#[test]
fn what_is_not_allowed_is_refused_wherever_it_stands() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    begin(path, "--optimizer sgd --epochs 3 --out run");
    let file = path.join("run/config.toml");
    let config: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
    for (key, value, says) in [
        ("batch", "0", "at least 1"),
        ("lr", "nan", "> 0"),
        ("lr", "-1", "> 0"),
        ("momentum", "1.5", "[0, 1)"),
        ("weight_decay", "inf", ">= 0"),
        ("epochs", "true", "epochs"),
        ("optimizer", "false", "optimizer"),
        ("grey", "\"yes\"", "grey"),
        ("lrr", "0.1", "--lrr"),
        ("lrr", "false", "--lrr"),
        ("help", "true", "--help"),
        ("out", "\"elsewhere\"", "--out"),
        ("seed", "-1", "seed"),
        ("batch", "[8]", "single value"),
    ] {
        let mut table = config.clone();
        let value: toml::Table = format!("x = {value}").parse().unwrap();
        table.insert(key.into(), value["x"].clone());
        let text = table.to_string();
        fs::write(&file, &text).unwrap();
        let long = key.replace('_', "-");
        let named = |output: &str| output.contains(key) || output.contains(&long);
        let resume = gsgd(path, &words("train --resume run"));
        let said = String::from_utf8(resume.stderr).unwrap();
        assert_eq!(resume.status.code(), Some(2), "{said}");
        assert!(
            said.contains("run/config.toml") && said.contains(says) && named(&said),
            "{said}"
        );
        let with = gsgd(path, &words("train --config run/config.toml --out other"));
        let said = String::from_utf8(with.stderr).unwrap();
        assert_eq!(with.status.code(), Some(2), "{said}");
        assert!(
            said.contains("run/config.toml") && said.contains(says) && named(&said),
            "{said}"
        );
        fails_in(path, &words("report run"), &["run/config.toml", says]);
        if !["lr", "seed"].contains(&key) {
            let plan =
                format!("seeds = [0]\nlrs = [0.1]\n[settings]\n{text}[[methods]]\nname = \"a\"\n");
            let plan = plan.replace("lr = 0.02\n", "").replace("seed = 0\n", "");
            fs::write(path.join("plan.toml"), plan).unwrap();
            fails_in(path, &words("compare plan.toml"), &["plan.toml", says]);
        }
    }
    assert!(!path.join("other").exists() && !path.join("runs").exists());
}

#[test]
fn a_run_that_is_made_longer_is_the_long_run() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for optimizer in ["g-adam", "sgd"] {
        let run = |rest: &str| begin(path, &format!("--force --optimizer {optimizer} {rest}"));
        run("--epochs 6 --validation 8 --early-stop 6 --out whole");
        // ended after an epoch, and in the middle of one
        for first in ["--epochs 3", "--epochs 6 --steps 7", "--epochs 6 --steps 3"] {
            run(&format!("{first} --validation 8 --early-stop 6 --out run"));
            let before = contents(&path.join("run"));
            let on = "train --resume run --epochs 6 --steps 100 --quiet";
            works(path, &words(&format!("{on} --out other")));
            assert!(
                contents(&path.join("run")) == before,
                "the old folder stays"
            );
            works(path, &words(on));
            assert!(
                result(path, "run") == result(path, "whole"),
                "{optimizer} {first}"
            );
            assert!(
                result(path, "other") == result(path, "whole"),
                "{optimizer} {first}"
            );
            fs::remove_dir_all(path.join("other")).unwrap();
        }
    }
}

#[test]
fn what_may_change_is_changed_by_flags() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    begin(path, "--optimizer g-momentum --epochs 3 --out run");
    works(
        path,
        &words("train --resume run --epochs 5 --lr 0.5 --schedule cosine --quiet"),
    );
    let config = fs::read_to_string(path.join("run/config.toml")).unwrap();
    for setting in ["epochs = 5", "lr = 0.5", "schedule = \"cosine\""] {
        assert!(config.contains(setting), "{config}");
    }
    assert_eq!(result(path, "run").1[0], [1.0, 2.0, 3.0, 4.0, 5.0]);
    let before = contents(&path.join("run"));
    for (flags, says) in [
        ("--epochs 0", &["epochs", "at least 1"][..]),
        ("--lr fast", &["lr", "> 0"]),
        ("--epochs 2", &["step 25", "--epochs 2"]),
        ("--steps 24", &["step 25", "--steps 24"]),
        ("--batch 4", &["--batch"]),
        ("--optimizer sgd", &["--optimizer"]),
        ("--config run/config.toml", &["--config"]),
        ("--out run", &["run holds an earlier run"]),
    ] {
        fails_in(path, &words(&format!("train --resume run {flags}")), says);
    }
    let complete = gsgd(path, &words("train --resume run"));
    let said = String::from_utf8(complete.stderr).unwrap();
    assert!(
        complete.status.success() && said.contains("complete: 25 steps"),
        "{said}"
    );
    let after = contents(&path.join("run"));
    let names = |all: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<String> {
        all.keys().cloned().collect()
    };
    assert_eq!(names(&before), names(&after));
    assert!(before["final.safetensors"] == after["final.safetensors"]);
}

#[test]
fn a_run_needs_nothing_but_its_folder_and_its_images() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    tiny_set(&path.join("sets"));
    fs::create_dir_all(path.join("shared")).unwrap();
    fs::rename(path.join("sets"), path.join("shared/named")).unwrap();
    begin(path, "--optimizer sgd --epochs 1 --out first");
    fs::rename(
        path.join("first/final.safetensors"),
        path.join("start.safetensors"),
    )
    .unwrap();
    let begin = |rest: &str| {
        let args =
            format!("{RUN} --optimizer g-adam --init start.safetensors --unbalance 1 {rest}");
        let begun = Command::new(env!("CARGO_BIN_EXE_gsgd"))
            .current_dir(path)
            .env("GSGD_DATA", path.join("shared"))
            .args(words(&args))
            .output()
            .unwrap();
        assert!(begun.status.success(), "{begun:?}");
    };
    begin("--epochs 6 --data tiny --out whole");
    begin("--epochs 3 --data tiny --out run");
    begin("--epochs 3 --out named --data named");
    let config = fs::read_to_string(path.join("named/config.toml")).unwrap();
    assert!(
        config.contains("data = \"named\""),
        "a name stays one: {config}"
    );
    fs::remove_file(path.join("start.safetensors")).unwrap();
    let elsewhere = path.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let run = path.join("run");
    let resume = [
        "train",
        "--quiet",
        "--epochs",
        "6",
        "--resume",
        run.to_str().unwrap(),
    ];
    works(&elsewhere, &resume);
    assert!(result(path, "run") == result(path, "whole"));
    let embedded = "train --steps 1 --train-examples 64 --quiet --out embedded";
    works(path, &words(embedded));
    let config = fs::read_to_string(path.join("embedded/config.toml")).unwrap();
    assert!(config.contains("data = \"fashion-7x7\""), "{config}");
}

#[test]
fn figures_that_were_cut_off_are_named_and_stay_missing() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let metrics = path.join("run/metrics.jsonl");
    let lines = |text: &str, of: &[usize]| -> String {
        let all: Vec<&str> = text.split_inclusive('\n').collect();
        of.iter().map(|&at| all[at]).collect()
    };
    for (of, says) in [
        (&[0][..], "epochs 2 to 3"),
        (&[], "epochs 1 to 3"),
        (&[0, 2], "epoch 2"),
    ] {
        begin(path, "--optimizer g-adam --epochs 3 --force --out run");
        let text = fs::read_to_string(&metrics).unwrap();
        fs::write(&metrics, lines(&text, of)).unwrap();
        if of.is_empty() {
            fs::remove_file(&metrics).unwrap();
        }
        let output = gsgd(path, &words("train --resume run --epochs 5 --quiet"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("metrics.jsonl") && said.contains(says),
            "{said}"
        );
        let text = fs::read_to_string(&metrics).unwrap();
        let epochs: Vec<f64> = of
            .iter()
            .map(|&at| at as f64 + 1.0)
            .chain([4.0, 5.0])
            .collect();
        assert_eq!(column(&text, "epoch"), epochs);
        works(path, &["report", "run"]);
    }
}

#[test]
fn a_flipped_byte_in_weights_state_or_progress_is_found() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    begin(path, "--optimizer g-adam --epochs 6 --out whole");
    begin(path, "--optimizer g-adam --epochs 3 --out run");
    let checkpoint = path.join("run/checkpoints/step-0000000015.safetensors");
    let whole = fs::read(&checkpoint).unwrap();
    for share in [1, 3, 5, 7, 9] {
        fs::write(&checkpoint, &whole).unwrap();
        flip(&checkpoint, whole.len() * share / 10);
        let out = format!("on-{share}");
        let args = format!("train --resume run --epochs 6 --quiet --out {out}");
        let output = gsgd(path, &words(&args));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("step-0000000015.safetensors is damaged"),
            "{said}"
        );
        assert!(result(path, &out) == result(path, "whole"));
    }
}

#[test]
fn every_seed_can_be_used_and_written_down() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for seed in [
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
    ] {
        let train =
            format!("--optimizer g-sgd --skeleton random --unbalance 1 --seed {seed} --force");
        begin(path, &format!("{train} --epochs 4 --out whole"));
        begin(path, &format!("{train} --epochs 2 --out run"));
        works(path, &words("train --resume run --epochs 4 --quiet"));
        assert!(result(path, "run") == result(path, "whole"), "{seed}");
        works(
            path,
            &words("train --config run/config.toml --force --out again --quiet"),
        );
        assert!(result(path, "again") == result(path, "whole"), "{seed}");
        works(path, &words("report run --format json,csv,html"));
        let compare =
            "--data tiny --arch mlp:4-6-2 --epochs 1 --optimizers sgd,adam --lrs 0.1 --quiet";
        let compare = format!("compare {compare} --seeds {seed},1 --out c --force");
        works(path, &words(&compare));
        works(path, &words("compare c/plan.toml --out c --quiet"));
        assert!(
            path.join(format!("c/runs/sgd/lr-0.1-seed-{seed}/final.safetensors"))
                .exists()
        );
    }
    let plan = |seeds: &str| {
        let plan = format!("seeds = [{seeds}]\nlrs = [0.1]\n[[methods]]\nname = \"a\"\n");
        fs::write(path.join("plan.toml"), plan).unwrap();
    };
    for wrong in ["\"-1\"", "-1", "\"18446744073709551616\"", "1.5"] {
        plan(wrong);
        fails_in(path, &words("compare plan.toml"), &["plan.toml", "seed"]);
    }
}

/// Names from files and plans cannot speak to the terminal.
#[test]
fn control_characters_in_names_are_written_out() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let plan = "seeds = [0]\nlrs = [0.1]\n[settings]\ndata = \"tiny\"\narch = \"mlp:4-6-2\"\nepochs = 1\n[[methods]]\n\
                name = \"a\\u001b[31mred\\n\\u0007\"\n[[methods]]\nname = \"b\"\nskeleton = \"paper\"\noptimizer = \"g-sgd\"\n\
                against = \"a\\u001b[31mred\\n\\u0007\"\n";
    fs::write(path.join("plan.toml"), plan).unwrap();
    let odd = "out\u{1b}[2J";
    let clean = |output: &std::process::Output| {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let control = said
            .iter()
            .find(|&&byte| byte < 32 && byte != b'\n' || byte == 127);
        assert_eq!(control, None, "{}", String::from_utf8_lossy(&said));
        String::from_utf8(said).unwrap()
    };
    let said = clean(&gsgd(path, &["compare", "plan.toml", "--out", odd]));
    assert!(
        said.contains("a\\u{1b}[31mred\\n\\u{7}  lr 0.1") && said.contains("out\\u{1b}[2J"),
        "{said}"
    );
    clean(&gsgd(path, &["report", odd, "--format", "md,csv,html,svg"]));
    for name in ["report.md", "report.csv", "report.html"] {
        let text = fs::read_to_string(path.join(odd).join(name)).unwrap();
        assert!(
            !text.contains('\u{1b}') && text.contains("\\u{1b}[31mred"),
            "{name}"
        );
    }
    let wrong = [
        "lr = \"\\u001b[31m\"",
        "\"\\u001b[31m\" = 1",
        "data = \"\\u001b[31m\"",
        "arch = \"\\u001b[31m\"",
    ];
    for text in wrong {
        fs::write(path.join("bad.toml"), text).unwrap();
        let output = gsgd(path, &["train", "--config", "bad.toml"]);
        assert_eq!(output.status.code(), Some(2));
        clean(&output);
    }
    clean(&gsgd(path, &["train", "--resume", odd]));
    clean(&gsgd(path, &["inspect", odd]));
}
