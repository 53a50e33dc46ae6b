//! The program as its users meet it.

mod common;

use std::fs;

use common::{column, fails, folder, gsgd, tiny_set, works};

#[test]
fn wrong_flags_are_named_with_what_is_allowed() {
    fails(&["train", "--lr", "0"], &["--lr", "> 0"]);
    fails(&["train", "--lr", "NaN"], &["--lr"]);
    fails(&["train", "--batch", "0"], &["--batch", "at least 1"]);
    fails(&["train", "--momentum", "1"], &["--momentum", "[0, 1)"]);
    fails(&["train", "--floor", "2"], &["--floor", "off"]);
    fails(&["train", "--optimizer", "gsdg"], &["gsdg", "g-sgd"]);
    fails(&["train", "--arch", "cnn"], &["--arch", "mlp:49-64-64-10"]);
    fails(
        &["train", "--arch", "mlp:49-0-10"],
        &["--arch", "between 1"],
    );
    fails(
        &["train", "--arch", "mlp:50-10"],
        &["--arch", "50 inputs", "49 pixels"],
    );
    fails(
        &["train", "--arch", "mlp:49-5"],
        &["5 outputs", "10 classes"],
    );
    fails(&["train", "--unbalance", "99"], &["--unbalance", "[0, 30]"]);
    fails(
        &["train", "--skeleton", "paper"],
        &["Skeleton::Paper", "Skeleton::Largest"],
    );
    fails(&["train", "--data", "nowhere"], &["--data", "nowhere"]);
    fails(
        &["train", "--init", "nowhere.safetensors"],
        &["--init", "nowhere.safetensors"],
    );
    fails(
        &["inspect", "nowhere.safetensors"],
        &["nowhere.safetensors"],
    );
    fails(&["fly"], &["fly"]);
}

#[test]
fn completions_know_the_commands() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish"] {
        let script = works(folder.path(), &["completions", shell]);
        assert!(
            script.contains("compare") && script.contains("--optimizers")
                || shell == "fish" && script.contains("optimizers")
        );
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_panic() {
    let script = format!(
        "{} completions bash 2> said | head -n 1",
        env!("CARGO_BIN_EXE_gsgd")
    );
    let folder = folder();
    let mut command = std::process::Command::new("bash");
    let output = command
        .current_dir(folder.path())
        .args(["-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read_to_string(folder.path().join("said")).unwrap(), "");
}

#[test]
fn damaged_files_are_named() {
    let folder = folder();
    let file = folder.path().join("bad.safetensors");
    let name = file.to_str().unwrap();
    for content in [&b""[..], b"no", &[0xff; 64], b"\x02\0\0\0\0\0\0\0{}"] {
        fs::write(&file, content).unwrap();
        fails(&["inspect", name], &["bad.safetensors"]);
    }
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let images = data.join("train-images-idx3-ubyte");
    let set = data.to_str().unwrap();
    for (content, says) in [
        (&b"\0\0\x08"[..], "too few"),
        (b"\0\0\x08\x01\0\0\0\0\0\0\0\0\0\0\0\0", "starts with"),
        (
            b"\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "promises",
        ),
        (
            b"\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x01\x07",
            "promises",
        ),
    ] {
        fs::write(&images, content).unwrap();
        fails(
            &["train", "--data", set],
            &["train-images-idx3-ubyte", says],
        );
    }
    fs::remove_file(&images).unwrap();
    fs::write(data.join("train-images-idx3-ubyte.gz"), b"no gzip").unwrap();
    fails(&["train", "--data", set], &["train-images-idx3-ubyte.gz"]);
}

#[test]
fn runs_repeat_and_every_optimiser_learns() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    for optimizer in [
        "sgd",
        "momentum",
        "adam",
        "path-sgd",
        "balanced-sgd",
        "g-sgd",
        "g-momentum",
        "g-adam",
    ] {
        for out in ["a", "b"] {
            let args = format!(
                "train --data tiny --arch mlp:4-6-2 --optimizer {optimizer} --lr 0.02 --batch 8 --epochs 30 --bias --quiet \
                 --force --out {out}"
            );
            works(folder.path(), &args.split_whitespace().collect::<Vec<_>>());
        }
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert_eq!(read("a/final.safetensors"), read("b/final.safetensors"));
        assert_eq!(read("a/config.toml"), read("b/config.toml"));
        let metrics = String::from_utf8(read("a/metrics.jsonl")).unwrap();
        let losses = column(&metrics, "train_loss");
        assert_eq!(losses.len(), 30);
        assert!(losses[29] < losses[0], "{optimizer}: {losses:?}");
    }
}

#[test]
fn what_people_type_first_works() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let config = |optimizer: &str, flags: &str| {
        let args = format!(
            "train --data tiny --arch mlp:4-6-2 --optimizer {optimizer} --epochs 1 --quiet --force --out run {flags}"
        );
        works(folder.path(), &args.split_whitespace().collect::<Vec<_>>());
        let text = fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
        text.parse::<toml::Table>().unwrap()
    };
    let lr = |optimizer, flags| config(optimizer, flags)["lr"].as_float().unwrap();
    assert_eq!((lr("adam", ""), lr("sgd", "")), (0.003, 0.3));
    assert_eq!(lr("adam", "--lr 0.01"), 0.01);
    // the name without the hyphen too, on the command line and in files
    for name in ["g-sgd", "gsgd"] {
        assert_eq!(config(name, "")["optimizer"].as_str(), Some("g-sgd"));
    }
    let run = folder.path().join("run/config.toml");
    let text = fs::read_to_string(&run).unwrap();
    fs::write(&run, text.replace("\"g-sgd\"", "\"gsgd\"")).unwrap();
    works(folder.path(), &["train", "--resume", "run"]);
}

#[test]
fn epoch_lines_fit_a_terminal() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let args = "train --data tiny --arch mlp:4-6-2 --validation 8 --epochs 2 --out run";
    let output = gsgd(folder.path(), &args.split_whitespace().collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "a head and a line per epoch: {said}");
    assert!(lines[0].contains("validation loss"), "{said}");
    for line in lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn checkpoints_go_round() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let run = |args: &str| works(folder.path(), &args.split_whitespace().collect::<Vec<_>>());
    run(
        "train --data tiny --arch mlp:4-6-5-2 --bias --steps 7 --batch 8 --quiet --save-init --out first",
    );
    run("rescale first/final.safetensors rescaled.safetensors --spread 2 --seed 4");
    run("rescale first/final.safetensors twos.safetensors --powers-of-two 5");
    run("balance rescaled.safetensors balanced.safetensors");
    for other in ["rescaled", "twos", "balanced"] {
        let said = run(&format!(
            "equivalent first/final.safetensors {other}.safetensors"
        ));
        assert!(said.contains("one function: 11 units"), "{said}");
    }
    let json = run("equivalent first/final.safetensors twos.safetensors --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for factor in json["factors"].as_array().unwrap() {
        let exponent = factor[1].as_f64().unwrap().log2();
        assert!(
            (exponent - exponent.round()).abs() < 1e-6,
            "a power of two: {factor}"
        );
    }
    run(
        "train --data tiny --arch mlp:4-6-5-2 --bias --steps 7 --batch 8 --quiet --seed 1 --out second",
    );
    let different = [
        "equivalent",
        "first/final.safetensors",
        "second/final.safetensors",
    ];
    let different = gsgd(folder.path(), &different);
    assert_eq!(different.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&different.stdout).contains("unit layers.0."),
        "names the unit"
    );
    run("train --data tiny --arch mlp:4-6-2 --steps 7 --batch 8 --quiet --seed 1 --out third");
    common::fails_in(
        folder.path(),
        &[
            "equivalent",
            "first/final.safetensors",
            "third/final.safetensors",
        ],
        &["third/final.safetensors"],
    );
    let report = |file: &str| -> serde_json::Value {
        serde_json::from_str(&run(&format!("inspect {file} --json"))).unwrap()
    };
    let (a, b) = (
        report("first/final.safetensors"),
        report("rescaled.safetensors"),
    );
    assert_eq!(a["hidden_classes"], 11);
    assert_eq!(a["weights"], 4 * 6 + 6 + 6 * 5 + 5 + 5 * 2 + 2);
    assert_eq!(a["basis_paths"], 77 - 11);
    let norm = |r: &serde_json::Value| r["path_norm_2"].as_f64().unwrap();
    assert!((norm(&a) - norm(&b)).abs() < 1e-4 * norm(&a));
    assert_ne!(a["layers"], b["layers"]);
    for layer in report("balanced.safetensors")["layers"].as_array().unwrap() {
        for ratio in layer["imbalance"].as_array().unwrap_or(&Vec::new()) {
            assert!((ratio.as_f64().unwrap() - 1.0).abs() < 1e-4, "{layer}");
        }
    }
    assert!(run("inspect first/final.safetensors").contains("invariant ratio"));

    assert_eq!(a["dead_units"], serde_json::json!([]));
    assert_eq!(a["least_balanced"].as_array().unwrap().len(), 10);
    let basis = |r: &serde_json::Value| r["basis_path_norm"].as_f64().unwrap();
    assert!((basis(&a) - basis(&b)).abs() < 1e-4 * basis(&a));

    // A unit that nothing enters is listed, not an error.
    let mut bytes = fs::read(folder.path().join("first/final.safetensors")).unwrap();
    let start = bytes.as_ptr() as usize;
    let rows: Vec<std::ops::Range<usize>> = {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let entries = |name: &str, range: std::ops::Range<usize>| {
            let at = file.tensor(name).unwrap().data().as_ptr() as usize - start;
            at + 4 * range.start..at + 4 * range.end
        };
        vec![
            entries("layers.0.weight", 8..12),
            entries("layers.0.bias", 2..3),
        ]
    };
    rows.into_iter().for_each(|row| bytes[row].fill(0));
    fs::write(folder.path().join("dead.safetensors"), bytes).unwrap();
    let dead = report("dead.safetensors");
    assert_eq!(
        dead["dead_units"],
        serde_json::json!(["layers.0.weight[2]"])
    );
    assert_eq!(dead["basis_path_norm"], serde_json::Value::Null);
    assert!(run("inspect dead.safetensors").contains("dead units         1: layers.0.weight[2]"));

    // The same trajectory of the function from the rescaled start, and the start is as it was saved.
    let train = |init: &str, out: &str| {
        run(&format!(
            "train --data tiny --arch mlp:4-6-5-2 --bias --epochs 3 --batch 8 --lr 0.05 --quiet --init {init} --out {out}"
        ));
        fs::read_to_string(folder.path().join(out).join("metrics.jsonl")).unwrap()
    };
    // how the weights are scaled differs, and nothing else
    let of_function = |text: String| {
        let keys = [
            "step",
            "train_loss",
            "train_error",
            "test_loss",
            "test_error",
            "path_norm",
        ];
        keys.map(|key| column(&text, key))
    };
    let (one, two) = (
        train("first/final.safetensors", "one"),
        train("twos.safetensors", "two"),
    );
    assert_eq!(of_function(one), of_function(two));

    let again = gsgd(
        folder.path(),
        &[
            "train",
            "--data",
            "tiny",
            "--arch",
            "mlp:4-6-5-2",
            "--out",
            "one",
        ],
    );
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    let other = gsgd(
        folder.path(),
        &[
            "train",
            "--data",
            "tiny",
            "--arch",
            "mlp:4-7-2",
            "--init",
            "twos.safetensors",
            "--out",
            "three",
        ],
    );
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("mlp:4-6-5-2"));
}

#[test]
fn a_folder_without_images_says_what_there_could_be() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir(path.join("empty")).unwrap();
    let says = [
        "empty: there are no images",
        "`fashion-7x7`",
        "train/<class>",
    ];
    common::fails_in(path, &["train", "--data", "empty"], &says);
    // with one of four files it is known what is missing, and the reason is said once
    fs::write(path.join("empty/t10k-labels-idx1-ubyte.gz"), "").unwrap();
    let output = gsgd(path, &["train", "--data", "empty"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot read") && said.contains("train-images-idx3-ubyte"));
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
}

#[test]
fn folders_of_nothing_and_other_flags_are_named() {
    let folder = folder();
    let path = folder.path();
    let says = ["nowhere", "neither plan.toml nor config.toml"];
    common::fails_in(path, &["report", "nowhere"], &says);
    common::fails_in(path, &["compare", "--jobs", "0"], &["--jobs", "at least 1"]);
    common::fails_in(
        path,
        &["demo", "--epochs", "0"],
        &["'--epochs", "at least 1"],
    );
    common::fails_in(path, &["demo", "--unbalance=-1"], &["'--unbalance", ">= 0"]);
    let says = ["--batch", "Usage: gsgd train --resume"];
    common::fails_in(path, &["train", "--resume", "a", "--batch", "3"], &says);
    let says = ["--lr", "Usage: gsgd compare <PLAN>"];
    common::fails_in(path, &["compare", "a.toml", "--lr", "3"], &says);
}
