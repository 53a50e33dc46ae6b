//! Convolutional networks on colour images: CIFAR's files, image folders, checkpoints.

mod common;

use std::fs;
use std::path::Path;

use common::{fails_in, folder, gsgd, image_folder, words, works};

/// CIFAR-10 in its binary layout, `records` a file.
fn cifar(folder: &Path, records: u8) {
    fs::create_dir_all(folder).unwrap();
    let names = (1..=5).map(|n| format!("data_batch_{n}.bin"));
    for name in names.chain(["test_batch.bin".to_string()]) {
        let mut data = Vec::new();
        for at in 0..records {
            data.push(at % 10);
            data.extend((0..3072).map(|p| (p as u8).wrapping_mul(at + 1)));
        }
        fs::write(folder.join(name), data).unwrap();
    }
}

fn run(folder: &Path, args: &str) -> String {
    works(folder, &args.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn every_treatment_learns_on_an_image_folder() {
    let folder = folder();
    image_folder(&folder.path().join("two"));
    for flags in [
        "plain:8 --optimizer gsgd --lr 0.02",
        "plain:8 --optimizer gsgd --batch-norm off --coordinates norm --lr 0.3",
        "plain:8 --optimizer gsgd --batch-norm paper --skeleton paper --init skeleton-one --lr 0.02",
        "resnet:8 --optimizer g-momentum --lr 0.02",
        "resnet:8 --optimizer gsgd --skips block --batch-norm off --bias --lr 0.02",
        "resnet:8 --optimizer balanced-sgd --lr 0.02",
        "resnet:8 --optimizer adam --lr 0.005",
    ] {
        let args = format!(
            "train --data two --arch {flags} --batch 8 --epochs 6 --augment crop-flip --schedule cosine \
             --warmup 3 --quiet --force --out a"
        );
        run(folder.path(), &args);
        let metrics = fs::read_to_string(folder.path().join("a/metrics.jsonl")).unwrap();
        let losses = common::column(&metrics, "train_loss");
        assert_eq!(losses.len(), 6, "{flags}");
        // guessing costs ln 2
        assert!(losses[5] < 0.6, "{flags}: {losses:?}");
    }
}

#[test]
fn runs_repeat_with_background_loading_and_augmentation() {
    let folder = folder();
    cifar(&folder.path().join("ten"), 6);
    let train = |out: &str, seed: u64| {
        let args = format!(
            "train --data ten --arch plain:8 --batch 24 --steps 3 --augment crop-flip --train-examples 25 --quiet \
             --seed {seed} --out {out}"
        );
        run(folder.path(), &args);
        fs::read(folder.path().join(out).join("final.safetensors")).unwrap()
    };
    let first = train("a", 1);
    assert!(first == train("b", 1));
    assert!(first != train("c", 2));
    let config = fs::read_to_string(folder.path().join("a/config.toml")).unwrap();
    assert!(config.contains("augment = \"crop-flip\"") && config.contains("train_examples = 25"));
}

#[test]
fn residual_checkpoints_go_round_and_rescale() {
    let folder = folder();
    let path = folder.path();
    image_folder(&path.join("two"));
    run(
        path,
        "train --data two --arch resnet:8 --batch 8 --epochs 2 --lr 0.02 --quiet --out first",
    );
    let report = run(path, "inspect first/final.safetensors --json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["arch"], "resnet:8");
    // classes into 9 batch norms of 16, 32 and 64 channels; their results, three streams among them
    assert_eq!(report["classes_into_batch_norm"], 3 * 16 + 3 * 32 + 3 * 64);
    assert_eq!(report["hidden_classes"], 336 + 2 * (16 + 32 + 64));
    assert_eq!(report["layers"][0]["name"], "conv1.weight");
    run(
        path,
        "rescale first/final.safetensors other.safetensors --spread 0.5",
    );
    run(
        path,
        "rescale first/final.safetensors twos.safetensors --powers-of-two 3",
    );

    // the rescaled network is the same function in evaluation, and goes on the same way
    let train = |init: &str, out: &str| {
        run(
            path,
            &format!(
                "train --data two --arch resnet:8 --batch 8 --epochs 2 --lr 0.01 --quiet --init {init} --out {out}"
            ),
        );
        let metrics = fs::read_to_string(path.join(out).join("metrics.jsonl")).unwrap();
        common::column(&metrics, "test_loss")
    };
    let (one, two) = (
        train("first/final.safetensors", "on-from-one"),
        train("twos.safetensors", "on-from-two"),
    );
    for (a, b) in one.iter().zip(&two) {
        // the layers' epsilon keeps this from being exact
        assert!((a - b).abs() < 1e-3 * a.abs(), "{one:?} {two:?}");
    }
    fails_in(
        path,
        &[
            "train",
            "--data",
            "two",
            "--arch",
            "plain:8",
            "--init",
            "twos.safetensors",
        ],
        &["--init", "resnet:8", "plain:8"],
    );
}

#[test]
fn damaged_images_are_named() {
    let folder = folder();
    let path = folder.path();
    let set = path.join("ten");
    cifar(&set, 2);
    let train = ["train", "--data", "ten", "--arch", "plain:8"];
    let file = set.join("data_batch_3.bin");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..3000]).unwrap();
    fails_in(path, &train, &["data_batch_3.bin", "3073", "cut off"]);
    let mut label = whole.clone();
    label[3073] = 10;
    fs::write(&file, &label).unwrap();
    fails_in(path, &train, &["data_batch_3.bin", "record 1", "label 10"]);
    fs::remove_file(&file).unwrap();
    fails_in(path, &train, &["data_batch_3.bin"]);

    let images = path.join("two");
    image_folder(&images);
    let train = ["train", "--data", "two", "--arch", "plain:8"];
    let file = images.join("test/red/01.png");
    fs::write(&file, b"no image").unwrap();
    fails_in(path, &train, &["01.png"]);
    image::RgbImage::new(9, 8).save(&file).unwrap();
    fails_in(path, &train, &["01.png", "3x8x9", "3x8x8"]);
    fs::remove_dir_all(images.join("test/red")).unwrap();
    fails_in(path, &train, &["test/red"]);

    fails_in(
        path,
        &["train", "--arch", "resnet34"],
        &["resnet34", "halves images 3 times", "1x7x7"],
    );
    fails_in(
        path,
        &["train", "--schedule", "step:5"],
        &["--schedule", "step:32000"],
    );
}

#[test]
fn the_data_folder_of_the_environment_is_found() {
    let folder = folder();
    cifar(&folder.path().join("sets/ten/cifar-10-batches-bin"), 4);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gsgd"))
        .current_dir(folder.path())
        .env("GSGD_DATA", folder.path().join("sets"))
        .args("train --data ten --arch plain:8 --steps 1 --batch 4 --out a".split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_lies_among_images_is_passed_over_and_said_once() {
    let folder = folder();
    let path = folder.path();
    image_folder(&path.join("clean"));
    image_folder(&path.join("two"));
    let two = path.join("two");
    for name in [
        ".DS_Store",
        "train/.DS_Store",
        "train/red/Thumbs.db",
        "train/red/notes.txt",
        "train/.ipynb_checkpoints/red.png",
        "test/README",
        "test/blue/.hidden.png",
        "test/blue/more/00.png",
    ] {
        fs::create_dir_all(two.join(name).parent().unwrap()).unwrap();
        fs::write(two.join(name), "no image").unwrap();
    }
    let upper = two.join("train/red/00.PNG");
    fs::rename(two.join("train/red/00.png"), upper).unwrap();
    let train = |set: &str, flags: &str| {
        let args = format!(
            "train --data {set} --arch plain:8 --batch 8 --steps 2 {flags} --out on-{set} --force"
        );
        gsgd(path, &words(&args))
    };
    let output = train("two", "--plain");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    // not what lies beside the splits
    assert_eq!(said.matches("passed over").count(), 1, "{said}");
    assert!(
        said.contains("7 files and folders") && said.contains(".png, .jpg, .jpeg"),
        "{said}"
    );
    assert!(train("clean", "--quiet").status.success());
    let weights = |run: &str| fs::read(path.join(run).join("final.safetensors")).unwrap();
    assert!(weights("on-two") == weights("on-clean"));
    let quiet = train("two", "--quiet");
    assert_eq!(String::from_utf8(quiet.stderr).unwrap(), "");
    // a comparison says it once, and not with every run
    let args = "compare --data two --arch mlp:192-4-2 --epochs 1 --optimizers sgd --seeds 0,1 --lrs 0.1 --out c";
    let output = gsgd(path, &words(args));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("passed over").count(), 1, "{said}");
}

#[test]
fn a_class_on_one_side_is_named() {
    let folder = folder();
    let path = folder.path();
    let train = ["train", "--data", "two", "--arch", "plain:8"];
    for (part, other) in [("train", "test"), ("test", "train")] {
        image_folder(&path.join("two"));
        let class = path.join("two").join(part).join("green");
        fs::create_dir(&class).unwrap();
        fs::copy(path.join("two/test/red/00.png"), class.join("a.png")).unwrap();
        let (here, there) = (format!("two/{part}/green"), format!("two/{other}/green"));
        fails_in(path, &train, &[&here, &there, "no such folder"]);
        // a class without images
        fs::create_dir(path.join(&there)).unwrap();
        fails_in(path, &train, &[&there, "no images of this class"]);
        fs::remove_dir_all(path.join("two")).unwrap();
    }
}

#[test]
fn grey_images_among_coloured_ones_are_taken_as_coloured() {
    let folder = folder();
    let path = folder.path();
    image_folder(&path.join("two"));
    image_folder(&path.join("rgb"));
    // the first that is read, and one for tests
    for name in ["train/blue/00.png", "test/red/02.png"] {
        let grey = image::open(path.join("two").join(name)).unwrap().to_luma8();
        grey.save(path.join("two").join(name)).unwrap();
        let same = image::DynamicImage::from(grey).to_rgb8();
        same.save(path.join("rgb").join(name)).unwrap();
    }
    let train = |set: &str| {
        let args =
            format!("train --data {set} --arch plain:8 --batch 8 --steps 2 --plain --out on-{set}");
        let output = gsgd(path, &words(&args));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let weights = path.join(format!("on-{set}/final.safetensors"));
        (fs::read(weights).unwrap(), said)
    };
    let ((mixed, said), (coloured, nothing)) = (train("two"), train("rgb"));
    assert!(mixed == coloured);
    assert_eq!(said.matches("2 grey images").count(), 1, "{said}");
    assert!(
        said.contains("train/blue/00.png") && !nothing.contains("grey"),
        "{said}"
    );
}
