//! Comparisons: fair, resumable, isolated, and a page that shows them.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{column, fails_in, folder, gsgd, tiny_set, words, works};

const FLAGS: &str = "--data tiny --arch mlp:4-6-5-2 --batch 8 --epochs 6 --validation 8";

fn compare(folder: &Path, rest: &str) -> String {
    works(folder, &words(&format!("compare {FLAGS} {rest}")))
}

#[test]
fn a_comparison_is_the_runs_that_train_makes() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let table = compare(
        folder.path(),
        "--optimizers sgd,g-sgd,g-adam --lrs 0.01,0.1 --seeds 3,4 --out runs/c",
    );
    for name in ["sgd", "g-sgd", "g-adam"] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{table}");
    }
    assert!(
        table.contains("2 seeds") && table.contains("validation loss"),
        "{table}"
    );

    let alone = format!("train {FLAGS} --optimizer g-sgd --lr 0.1 --seed 4 --quiet --out alone");
    works(folder.path(), &words(&alone));
    let metrics =
        |run: &str| fs::read_to_string(folder.path().join(run).join("metrics.jsonl")).unwrap();
    let (ours, alone) = (metrics("runs/c/runs/g-sgd/lr-0.1-seed-4"), metrics("alone"));
    for key in ["train_loss", "validation_loss", "test_error", "path_norm"] {
        assert_eq!(column(&ours, key), column(&alone, key), "{key}");
    }

    // the same again draws the report only
    let ending = folder
        .path()
        .join("runs/c/runs/sgd/lr-0.01-seed-3/ending.json");
    let before = fs::metadata(&ending).unwrap().modified().unwrap();
    let again = works(
        folder.path(),
        &["compare", "runs/c/plan.toml", "--out", "runs/c", "--quiet"],
    );
    assert_eq!(again, table);
    assert_eq!(fs::metadata(&ending).unwrap().modified().unwrap(), before);

    // another one does not replace it unasked
    let other = words(
        "compare --optimizers sgd --lrs 0.1 --seeds 0 --data tiny --arch mlp:4-6-2 --out runs/c",
    );
    fails_in(
        folder.path(),
        &other,
        &["runs/c", "another comparison", "--force"],
    );
}

#[test]
fn the_lr_is_chosen_by_validation_and_divergence_is_a_result() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let table = compare(
        folder.path(),
        "--optimizers sgd --lrs 0.000001,0.05,1e30 --seeds 0,1 --out c",
    );
    let line = table.lines().find(|line| line.starts_with("sgd")).unwrap();
    assert!(line.contains("0.05"), "{table}");
    assert!(table.contains("2 of 6 runs diverged"), "{table}");
    works(
        folder.path(),
        &["report", "c", "--format", "csv,json,md,png"],
    );
    let csv = fs::read_to_string(folder.path().join("c/report.csv")).unwrap();
    assert_eq!(csv.lines().count(), 7);
    assert_eq!(
        csv.lines()
            .filter(|line| line.contains(",diverged,"))
            .count(),
        2
    );
    assert_eq!(
        csv.lines().filter(|line| line.contains(",true,")).count(),
        2
    );
    let json = fs::read_to_string(folder.path().join("c/report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["methods"][0]["chosen_lr"], 0.05);
    let epochs = json["methods"][0]["rates"][1]["runs"][0]["epochs"]
        .as_array()
        .unwrap();
    assert_eq!(epochs.len(), 6);
    let markdown = fs::read_to_string(folder.path().join("c/report.md")).unwrap();
    assert!(markdown.starts_with("| method | lr |"), "{markdown}");
    let png = fs::read(folder.path().join("c/report-loss-steps.png")).unwrap();
    assert!(image::load_from_memory(&png).unwrap().width() > 500);
}

#[test]
fn a_method_that_cannot_be_carried_out_leaves_the_others_alone() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let plan = "seeds = [0]\nlrs = [0.05]\n[settings]\ndata = \"tiny\"\narch = \"mlp:4-6-2\"\nepochs = 3\nbatch = 8\n\
                [[methods]]\nname = \"paper on he\"\noptimizer = \"gsgd\"\nskeleton = \"paper\"\n\
                [[methods]]\nname = \"largest\"\noptimizer = \"gsgd\"\n";
    fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let output = gsgd(folder.path(), &["compare", "plan.toml", "--out", "c"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("1 of 2 runs failed"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("paper on he").contains("failed"), "{table}");
    assert!(line("largest").contains("0.05"), "{table}");
    assert!(
        table.contains("Skeleton::Largest"),
        "says what to do: {table}"
    );
}

#[test]
fn a_killed_comparison_goes_on_and_ends_the_same() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let flags = "--optimizers sgd,g-momentum --lrs 0.02 --seeds 0,1 --data tiny --arch mlp:4-8-8-2 --batch 4 --epochs 150";
    works(
        folder.path(),
        &words(&format!("compare {flags} --out whole --quiet")),
    );
    for kills in 0.. {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gsgd"))
            .current_dir(folder.path())
            .args(words(&format!("compare {flags} --out killed --quiet")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(60 + 40 * kills));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            assert!(kills > 0, "it was never killed");
            break;
        }
        // its runs live on, which the next attempt has to wait for
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for run in [
        "sgd/lr-0.02-seed-0",
        "sgd/lr-0.02-seed-1",
        "g-momentum/lr-0.02-seed-0",
        "g-momentum/lr-0.02-seed-1",
    ] {
        let weights = |out: &str| {
            fs::read(
                folder
                    .path()
                    .join(out)
                    .join("runs")
                    .join(run)
                    .join("final.safetensors"),
            )
            .unwrap()
        };
        assert_eq!(weights("whole"), weights("killed"), "{run}");
    }
}

#[test]
fn wrong_plans_and_flags_are_named() {
    let folder = folder();
    let at = folder.path();
    fails_in(at, &["compare", "nowhere.toml"], &["nowhere.toml"]);
    fails_in(at, &["compare", "--lrs", "0"], &["--lr", "> 0"]);
    fails_in(
        at,
        &["compare", "--optimizers", "sgd,gsdg"],
        &["gsdg", "g-sgd"],
    );
    fails_in(
        at,
        &["compare", "--data", "nowhere"],
        &["--data", "nowhere"],
    );
    assert!(!at.join("runs").exists(), "nothing was begun");
    let all = [
        "compare",
        "--optimizers",
        "g-sgd",
        "--skeleton",
        "paper",
        "--lrs",
        "0.1",
        "--seeds",
        "0",
    ];
    fails_in(at, &all, &["every run failed", "Skeleton::Largest"]);
    fails_in(at, &["compare", "--lrs", "a"], &["--lrs"]);
    fails_in(at, &["report", "."], &["plan.toml"]);
    fs::write(
        at.join("plan.toml"),
        "seeds = [0]\nlrs = [0.1]\n[[methods]]\nname = \"a\"\noptimzer = \"sgd\"\n",
    )
    .unwrap();
    fails_in(
        at,
        &["compare", "plan.toml"],
        &["plan.toml", "method `a`", "--optimzer", "--optimizer"],
    );
    fs::write(at.join("plan.toml"), "seeds = 3\n").unwrap();
    fails_in(
        at,
        &["compare", "plan.toml"],
        &["plan.toml", "seeds", "sequence"],
    );
    fails_in(
        at,
        &["compare", "plan.toml", "--epochs", "3"],
        &["--epochs"],
    );
}

#[test]
fn the_page_is_valid_and_needs_nothing_else() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    compare(
        folder.path(),
        "--optimizers sgd,g-sgd --lrs 0.01,0.1 --seeds 0,1 --out c --unbalance 1",
    );
    let page = fs::read_to_string(folder.path().join("c/report.html")).unwrap();
    let elements = common::elements(&page);
    for element in &elements {
        let name = element.name.as_str();
        assert!(
            !["script", "link", "img", "iframe"].contains(&name),
            "{name}"
        );
        for name in ["src", "href", "xlink:href"] {
            assert_eq!(element.attributes.get(name), None);
        }
    }
    // clip paths are the page's own
    let outside = page.replace("url(#", "");
    assert!(!outside.contains("url(") && !page.contains("@import"));
    assert!(!page.contains("NaN"));
    let plots = elements.iter().filter(|element| {
        let drawn = element.name == "svg" && element.attributes.contains_key("viewbox");
        drawn && element.within.iter().any(|outer| outer == "figure")
    });
    assert!(plots.count() >= 8);
}

/// In a real browser, where there is one.
#[test]
fn the_page_renders_without_an_error() {
    let installed = Command::new("chromium").arg("--version").output();
    if installed.is_err() {
        eprintln!("there is no chromium here: not looked at");
        return;
    }
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    compare(
        folder.path(),
        "--optimizers sgd,g-sgd --lrs 0.1 --seeds 0,1 --out c",
    );
    let page = folder.path().join("c/report.html");
    let log = folder.path().join("net.json");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--window-size=390,800",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .arg(format!("--log-net-log={}", log.display()))
        .arg("--disable-background-networking")
        .arg(format!(
            "--screenshot={}",
            folder.path().join("page.png").display()
        ))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("CONSOLE"), "{said}");
    let image = image::open(folder.path().join("page.png"))
        .unwrap()
        .to_rgb8();
    let colours: std::collections::HashSet<_> = image.pixels().copied().collect();
    assert!(colours.len() > 20, "a page with curves has many colours");
    let log = fs::read_to_string(&log).unwrap();
    let of_page = log.matches("report.html").count();
    assert!(
        of_page == 0 || !log.contains("\"initiator\":\"file://"),
        "the page asked for something"
    );
}

#[test]
fn early_stopping_clipping_and_images_held_back() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let base = "train --data tiny --arch mlp:4-6-2 --batch 8 --quiet --force --optimizer";
    let train = |rest: &str| works(folder.path(), &words(&format!("{base} {rest}")));
    let metrics =
        |run: &str| fs::read_to_string(folder.path().join(run).join("metrics.jsonl")).unwrap();

    // an lr that moves nothing: no epoch after the first is better
    train("sgd --lr 1e-30 --epochs 50 --validation 8 --early-stop 3 --out early");
    assert_eq!(metrics("early").lines().count(), 4);
    let ending = fs::read_to_string(folder.path().join("early/ending.json")).unwrap();
    assert!(ending.contains("\"early\""), "{ending}");
    let resumed = gsgd(folder.path(), &words("train --resume early --quiet"));
    assert!(resumed.status.success());
    assert_eq!(metrics("early").lines().count(), 4);

    // with a norm that is never reached nothing changes, with a small one no step is longer than lr x norm
    for optimizer in ["sgd", "adam", "g-sgd"] {
        for (norm, out) in [
            ("", "free"),
            ("--clip-norm 1e9", "wide"),
            ("--clip-norm 1e-3", "tight"),
        ] {
            train(&format!(
                "{optimizer} --lr 0.1 --epochs 3 {norm} --out {out}"
            ));
        }
        let losses = |run: &str| column(&metrics(run), "train_loss");
        let near = losses("free")
            .iter()
            .zip(losses("wide"))
            .all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near, "{optimizer}");
        assert_ne!(losses("free"), losses("tight"), "{optimizer}");
    }
    let start = works(
        folder.path(),
        &words(&format!(
            "{base} sgd --lr 0.1 --epochs 1 --steps 1 --clip-norm 1e-3 --save-init --out step"
        )),
    );
    assert!(!start.is_empty());
    let weights = |name: &str| {
        let bytes = fs::read(folder.path().join("step").join(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<&str> = file.names().into_iter().collect();
        names.sort_unstable();
        let values = names
            .iter()
            .flat_map(|name| file.tensor(name).unwrap().data().to_vec());
        let values: Vec<u8> = values.collect();
        let values = values
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        values.map(f64::from).collect::<Vec<f64>>()
    };
    let moved = weights("init.safetensors")
        .into_iter()
        .zip(weights("final.safetensors"));
    let length = moved.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!((length - 1e-4).abs() < 1e-6, "{length}");

    fails_in(
        folder.path(),
        &words("train --data tiny --arch mlp:4-6-2 --validation 40"),
        &["--validation 40", "40 training images"],
    );
    fails_in(
        folder.path(),
        &words("train --data tiny --arch mlp:4-6-2 --early-stop 3"),
        &["--early-stop", "--validation"],
    );
}

/// A disk that takes no more, by a limit on the size of files.
#[cfg(unix)]
#[test]
fn a_full_disk_is_reported_and_what_is_saved_stays() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let run = |epochs: usize, limit: &str| {
        let flags = format!(
            "--data tiny --arch mlp:4-300-300-2 --batch 8 --epochs {epochs} --lr 0.01 --quiet"
        );
        let script = format!(
            "trap '' XFSZ; {limit} exec {} train {flags} --out run --force",
            env!("CARGO_BIN_EXE_gsgd")
        );
        let mut command = Command::new("bash");
        command
            .current_dir(folder.path())
            .args(["-c", &script])
            .output()
            .unwrap()
    };
    let output = run(3, "ulimit -f 16;");
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("cannot write") && said.contains("run/checkpoints"),
        "{said}"
    );
    let metrics = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 1, "the epoch's figures are kept");
    assert!(metrics.ends_with('\n'));

    fails_in(
        folder.path(),
        &words("train --epochs 1 --out /proc/run"),
        &["/proc/run"],
    );
    fs::write(folder.path().join("file"), "").unwrap();
    fails_in(
        folder.path(),
        &words("train --epochs 1 --out file/run"),
        &["cannot make the folder file/run"],
    );
}

#[test]
fn an_experiment_is_carried_out_and_has_a_page() {
    let folder = folder();
    let args = "reproduce overhead --scale quick --only mlp-49-64-64-10 --quiet --out o";
    let said = works(folder.path(), &words(args));
    assert!(said.contains("path-sgd"), "{said}");
    let page = fs::read_to_string(folder.path().join("o/report.html")).unwrap();
    let elements = common::elements(&page);
    let rows = elements.iter().filter(|element| {
        element.name == "tr" && element.within.iter().any(|outer| outer == "tbody")
    });
    assert_eq!(rows.count(), 8);
    let csv = fs::read_to_string(folder.path().join("o/mlp-49-64-64-10/report.csv")).unwrap();
    assert_eq!(csv.lines().count(), 9);
    fails_in(
        folder.path(),
        &words("reproduce overhead --only mlp"),
        &["--only mlp", "mlp-49-64-64-10"],
    );
}

#[test]
fn skeletons_start_with_the_signs_and_sizes_that_were_asked_for() {
    let folder = folder();
    tiny_set(&folder.path().join("tiny"));
    let start = |init: &str| {
        let args = format!(
            "train --data tiny --arch mlp:4-4-4-4 --epochs 1 --steps 1 --quiet --force --save-init --out s --skeleton \
             paper --seed 5 --init {init}"
        );
        works(folder.path(), &words(&args));
        let bytes = fs::read(folder.path().join("s/init.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let diagonal = |layer: usize| {
            let data = file
                .tensor(&format!("layers.{layer}.weight"))
                .unwrap()
                .data()
                .to_vec();
            let values = data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            values.step_by(5).collect::<Vec<f32>>()
        };
        [0, 1, 2].map(diagonal).concat()
    };
    assert_eq!(start("skeleton-one"), [1.0; 12]);
    assert_eq!(start("skeleton-one:0.5"), [0.5; 12]);
    let signs = start("skeleton-signs:2");
    assert!(signs.iter().all(|w| w.abs() == 2.0));
    assert!(signs.contains(&2.0) && signs.contains(&-2.0), "{signs:?}");
    assert_eq!(signs, start("skeleton-signs:2"));
    fails_in(
        folder.path(),
        &["train", "--init", "skeleton-one:0"],
        &["--init", "> 0"],
    );
}

#[test]
fn methods_that_do_not_fit_their_images_are_refused_before_anything_runs() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    for (second, says) in [
        ("arch = \"mlp:5-2\"", "takes 5 inputs"),
        ("validation = 40", "--validation 40"),
        ("early_stop = 2", "--validation N"),
        ("data = \"nowhere\"", "nowhere: no such folder"),
        ("init = [\"he\"]", "one text with commas"),
    ] {
        let plan = format!(
            "seeds = [0]\nlrs = [0.1]\n[settings]\ndata = \"tiny\"\narch = \"mlp:4-3-2\"\nepochs = 1\n\
             [[methods]]\nname = \"one\"\n[[methods]]\nname = \"two\"\n{second}\n"
        );
        fs::write(path.join("plan.toml"), plan).unwrap();
        fails_in(path, &words("compare plan.toml --out c"), &[says]);
        assert!(!path.join("c").exists(), "{second}");
    }
}
