//! Runs that are killed, stopped, damaged, repeated.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{column, fails_in, folder, gsgd, tiny_set, words, works};
use rand::{Rng, SeedableRng};

fn spawn(folder: &Path, args: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gsgd"))
        .current_dir(folder)
        .args(words(args))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

const EPOCHS: usize = 120;

fn begin(optimizer: &str, out: &str) -> String {
    format!(
        "train --data tiny --arch mlp:4-8-6-2 --bias --optimizer {optimizer} --lr 0.01 --batch 8 --epochs {EPOCHS} \
         --schedule cosine --quiet --force --out {out}"
    )
}

/// Weights, and figures without times.
fn result(folder: &Path, run: &str) -> (Vec<u8>, Vec<Vec<f64>>) {
    let metrics = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    assert!(metrics.ends_with('\n'));
    let keys = ["epoch", "step", "train_loss", "test_error"];
    let figures = keys.map(|key| column(&metrics, key)).to_vec();
    let epochs: Vec<f64> = (1..=EPOCHS).map(|epoch| epoch as f64).collect();
    assert_eq!(figures[0], epochs, "no gap, no line twice");
    let weights = fs::read(folder.join(run).join("final.safetensors")).unwrap();
    (weights, figures)
}

/// Kills a run at random moments, goes on each time, until it is through; the number of kills.
///
/// The moment is chosen by the run's own progress, so that a fast machine kills as often as a slow one: a random number
/// of epochs on, and some microseconds later.
fn through_kills(folder: &Path, optimizer: &str, seed: u64) -> usize {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let metrics = folder.join("killed/metrics.jsonl");
    let lines = || fs::read(&metrics).map_or(0, |m| m.iter().filter(|&&b| b == b'\n').count());
    let checkpoints = folder.join("killed/checkpoints");
    for kills in 0..2000 {
        let begun = fs::read_dir(&checkpoints).is_ok_and(|mut files| files.next().is_some());
        let args = match begun {
            true => "train --resume killed --quiet".to_string(),
            false => begin(optimizer, "killed"),
        };
        let epochs = if begun { lines() } else { 0 } + rng.random_range(0..20);
        let mut child = spawn(folder, &args);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if lines() >= epochs => break None,
                None => sleep(Duration::from_micros(200)),
            }
        };
        if let Some(status) = status {
            let output = child.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).to_string();
            assert!(status.success(), "after {kills} kills: {error}");
            return kills;
        }
        sleep(Duration::from_micros(rng.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("the run does not get on");
}

#[test]
fn killed_runs_go_on_bit_for_bit() {
    let mut kills = 0;
    for (seed, optimizer) in [
        "g-adam",
        "adam",
        "g-sgd",
        "g-momentum",
        "momentum",
        "path-sgd",
    ]
    .iter()
    .enumerate()
    {
        let folder = folder();
        tiny_set(&folder.path().join("tiny"));
        works(folder.path(), &words(&begin(optimizer, "whole")));
        kills += through_kills(folder.path(), optimizer, seed as u64);
        let (whole, killed) = (
            result(folder.path(), "whole"),
            result(folder.path(), "killed"),
        );
        assert!(
            whole.0 == killed.0,
            "{optimizer}: other weights after {kills} kills"
        );
        assert_eq!(whole.1, killed.1, "{optimizer}");
    }
    assert!(kills >= 20, "only {kills} kills");
}

#[test]
fn batch_norm_and_augmentation_go_on_bit_for_bit() {
    let folder = folder();
    let path = folder.path();
    common::image_folder(&path.join("two"));
    let begin = |steps: usize, out: &str| {
        format!(
            "train --data two --arch resnet:8 --optimizer g-momentum --lr 0.02 --batch 8 --epochs 30 --steps {steps} \
             --augment crop-flip --quiet --out {out}"
        )
    };
    works(path, &words(&begin(80, "whole")));
    // stopped in the middle of an epoch
    let child = spawn(path, &begin(80, "stopped"));
    let pid = child.id().to_string();
    while !path.join("stopped/checkpoints").is_dir() {
        sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("gsgd train --resume stopped"), "{text}");
    works(path, &words("train --resume stopped --quiet"));
    let weights = |run: &str| fs::read(path.join(run).join("final.safetensors")).unwrap();
    assert!(weights("whole") == weights("stopped"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    works(path, &words(&begin("g-adam", "whole")));
    works(path, &words(&begin("g-adam", "cut")));
    let mut checkpoints: Vec<_> = fs::read_dir(path.join("cut/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    checkpoints.sort();
    assert_eq!(checkpoints.len(), 2);
    let newest = &checkpoints[1];
    let data = fs::read(newest).unwrap();
    fs::write(newest, &data[..data.len() / 2]).unwrap();
    fs::remove_file(path.join("cut/final.safetensors")).unwrap();
    let output = gsgd(path, &words("train --resume cut --quiet"));
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success(), "{text}");
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name) && text.contains("damaged"), "{text}");
    assert!(result(path, "whole") == result(path, "cut"));

    for checkpoint in &checkpoints {
        fs::write(checkpoint, b"nothing").unwrap();
    }
    fails_in(
        path,
        &words("train --resume cut"),
        &["cut", "no checkpoint", "damaged"],
    );
    fails_in(
        path,
        &words("train --resume nowhere"),
        &["--resume", "nowhere"],
    );
}

#[test]
fn two_processes_do_not_write_one_folder() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let long = begin("g-sgd", "one").replace(&format!("--epochs {EPOCHS}"), "--epochs 1000000");
    let mut child = spawn(path, &long);
    while !path.join("one/checkpoints").is_dir() {
        sleep(Duration::from_millis(1));
    }
    fails_in(
        path,
        &words("train --resume one"),
        &["another process", "one"],
    );
    fails_in(path, &words(&long), &["another process", "one"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_config_repeats_a_run_and_flags_go_before_it() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    works(path, &words(&begin("g-momentum", "first")));
    works(
        path,
        &words("train --config first/config.toml --out second --quiet"),
    );
    assert!(result(path, "first") == result(path, "second"));
    let config = |run: &str| fs::read_to_string(path.join(run).join("config.toml")).unwrap();
    assert_eq!(config("first"), config("second"));
    works(
        path,
        &words("train --config first/config.toml --lr 0.02 --out third --quiet"),
    );
    assert!(config("third").contains("lr = 0.02") && config("third").contains("bias = true"));

    for (text, says) in [
        ("lrr = 0.1", vec!["--config", "--lrr", "--lr"]),
        ("lr = \"fast\"", vec!["--config", "fast", "> 0"]),
        ("lr = ", vec!["--config", "bad.toml"]),
    ] {
        fs::write(path.join("bad.toml"), text).unwrap();
        fails_in(path, &words("train --config bad.toml"), &says);
    }
    fails_in(
        path,
        &words("train --config no.toml"),
        &["--config", "no.toml"],
    );
    // a resumed run takes no settings but those that may change
    let output = gsgd(path, &words("train --resume first --batch 4"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--batch"));
    fails_in(
        path,
        &words("train --checkpoint-every 0"),
        &["--checkpoint-every", "10m"],
    );
}
