//! Networks that a TOML file describes, trained.

mod common;

use std::fs;

use common::{column, fails_in, folder, image_folder, tiny_set, words, works};

/// A dense network on four pixels, of two classes.
const DENSE: &str = "\
[[layers]]
kind = \"flatten\"

[[layers]]
name = \"layers.0\"
kind = \"linear\"
outputs = 6
bias = false

[[layers]]
kind = \"relu\"

[[layers]]
name = \"layers.1\"
kind = \"linear\"
outputs = 2
bias = false
";

/// Convolutions in groups, with a residual sum and a transposed convolution, on coloured images of 8 x 8.
const MAPS: &str = "\
input = [3, 8, 8]

[[layers]]
name = \"stem\"
kind = \"conv\"
outputs = 8
size = 3
padding = 1
bias = false

[[layers]]
name = \"norm\"
kind = \"batch-norm\"

[[layers]]
name = \"act\"
kind = \"relu\"

[[layers]]
name = \"block\"
kind = \"conv\"
outputs = 8
size = [3, 3]
padding = 1
groups = 4

[[layers]]
name = \"slopes\"
kind = \"prelu\"
slopes = 8

[[layers]]
kind = \"add\"
from = [\"slopes\", \"act\"]

[[layers]]
kind = \"max-pool\"
size = 2

[[layers]]
name = \"up\"
kind = \"conv-transpose\"
outputs = 6
size = 2
stride = 2

[[layers]]
kind = \"relu\"

[[layers]]
kind = \"global-avg-pool\"

[[layers]]
kind = \"flatten\"

[[layers]]
name = \"fc\"
kind = \"linear\"
outputs = 2
";

#[test]
fn a_dense_network_trains_as_the_one_with_a_name() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    fs::write(path.join("layers.toml"), DENSE).unwrap();
    let train = |arch: &str, out: &str| {
        let args =
            format!("train --data tiny --arch {arch} --batch 8 --epochs 2 --quiet --out {out}");
        works(path, &words(&args));
        let metrics = fs::read_to_string(path.join(out).join("metrics.jsonl")).unwrap();
        column(&metrics, "train_loss")
    };
    let losses = train("layers.toml", "file");
    assert_eq!(losses, train("mlp:4-6-2", "name"));
    assert_eq!(losses, train("mlp:6", "hidden"));
    let config = |out: &str| fs::read_to_string(path.join(out).join("config.toml")).unwrap();
    assert!(config("hidden").contains("arch = \"mlp:4-6-2\""));
    assert_eq!(config("hidden"), config("name"));
    assert!(config("file").contains("layers.toml"));
}

#[test]
fn any_layers_train_and_go_on_from_their_own_folder() {
    let folder = folder();
    let path = folder.path();
    image_folder(&path.join("two"));
    let toml = path.join("maps.toml");
    fs::write(&toml, MAPS).unwrap();
    let train = |flags: &str| {
        let args = format!("train --data two --arch maps.toml --batch 8 --lr 0.02 --quiet {flags}");
        works(path, &words(&args));
    };
    for optimizer in ["g-sgd", "g-adam", "adam"] {
        train(&format!(
            "--optimizer {optimizer} --epochs 6 --force --out a"
        ));
        let metrics = fs::read_to_string(path.join("a/metrics.jsonl")).unwrap();
        let losses = column(&metrics, "train_loss");
        assert!(losses[5] < 0.69, "{optimizer}: {losses:?}");
    }
    train("--optimizer g-momentum --epochs 2 --out whole");
    train("--optimizer g-momentum --epochs 1 --out half");
    // another file, or none, is nothing to a run that goes on
    fs::write(&toml, DENSE).unwrap();
    works(
        path,
        &words("train --resume half --epochs 2 --quiet --out there"),
    );
    fs::remove_file(&toml).unwrap();
    works(path, &words("train --resume half --epochs 2 --quiet"));
    let weights = |run: &str| fs::read(path.join(run).join("final.safetensors")).unwrap();
    assert!(weights("whole") == weights("half") && weights("whole") == weights("there"));
    // the layers that a run keeps are a file like any other
    works(
        path,
        &words(
            "train --data two --arch half/layers.toml --init half/final.safetensors --batch 8 --steps 1 --quiet --out on",
        ),
    );
    let said = works(
        path,
        &words("inspect half/final.safetensors --arch half/layers.toml --json"),
    );
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["layers"][0]["name"], "stem.weight");
}

#[test]
fn wrong_layers_are_named() {
    let folder = folder();
    let path = folder.path();
    image_folder(&path.join("two"));
    let train = words("train --data two --arch maps.toml --steps 1 --out a");
    fails_in(path, &train, &["--arch", "maps.toml", "cannot read"]);
    let constant = "[[layers]]\nkind = \"constant\"\nshape = [1, 2]\n";
    for (from, to, says) in [
        (
            "input = [3, 8, 8]",
            "input = [3, 9, 8]",
            ["[3, 9, 8]", "3x8x8"],
        ),
        (
            "outputs = 8\nsize = 3",
            "size = 3",
            ["layer `stem`", "`outputs`"],
        ),
        ("groups = 4", "groups = 3", ["layer `block`", "3 groups"]),
        ("outputs = 2", "outputs = 1", ["1 outputs", "2 classes"]),
        ("\"prelu\"", "\"swish\"", ["layer `slopes`", "swish"]),
        (
            "\"global-avg-pool\"",
            "\"relu\"\nslope = 1",
            ["layer `#10`", "slope"],
        ),
    ] {
        fs::write(path.join("maps.toml"), MAPS.replace(from, to)).unwrap();
        fails_in(
            path,
            &train,
            &[&["--arch", "maps.toml"], &says[..]].concat(),
        );
    }
    let text = format!("{MAPS}{constant}[[layers]]\nkind = \"add\"\nfrom = [\"fc\", \"#13\"]\n");
    fs::write(path.join("maps.toml"), text).unwrap();
    fails_in(
        path,
        &train,
        &["--arch", "maps.toml", "`#13`, a `constant`"],
    );
    fs::write(path.join("maps.toml"), MAPS).unwrap();
    let frozen = [&train[..], &["--freeze", "stemm"]].concat();
    fails_in(path, &frozen, &["--freeze", "stemm", "stem, norm, block"]);
}

#[test]
fn hidden_widths_are_compared_by_their_full_name() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let args = "compare --data tiny --arch mlp:5-6 --epochs 1 --optimizers sgd,g-sgd --lrs 0.1 --seeds 0 --quiet --out c";
    works(path, &words(args));
    let config = path.join("c/runs/sgd/lr-0.1-seed-0/config.toml");
    let text = fs::read_to_string(config).unwrap();
    assert!(text.contains("arch = \"mlp:4-5-6-2\""), "{text}");
    // the same command finds its runs done
    works(path, &words(args));
}
