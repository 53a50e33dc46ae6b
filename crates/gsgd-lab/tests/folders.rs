//! Folders of other people: they are not written, and what is not the program's is not removed.

mod common;

use std::fs;
use std::path::Path;

use common::{contents, fails_in, folder, tiny_set, words, works};

const TRAIN: &str = "train --data tiny --arch mlp:4-6-2 --batch 8 --epochs 2 --lr 0.02 --quiet";
const COMPARE: &str =
    "compare --data tiny --arch mlp:4-6-2 --batch 8 --epochs 2 --optimizers sgd --seeds 0 --quiet";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every command with a folder of results refuses the folder `mine`, and leaves it as it was.
#[track_caller]
fn all_refuse(at: &Path, says: &str) {
    let before = contents(&at.join("mine"));
    for command in [
        TRAIN,
        &format!("{COMPARE} --lrs 0.1"),
        "compare plan.toml",
        "demo --epochs 1",
        "reproduce overhead --only mlp-49-64-64-10",
    ] {
        for force in ["", "--force"] {
            let args = format!("{command} {force} --out mine");
            fails_in(at, &words(&args), &["mine", says, "choose an --out"]);
            assert!(contents(&at.join("mine")) == before, "{args}");
        }
    }
}

#[test]
fn other_peoples_folders_are_refused_also_by_force() {
    let folder = folder();
    let at = folder.path();
    tiny_set(&at.join("tiny"));
    let plan = "# mine\nseeds = [0]\nlrs = [0.1]\n[settings]\ndata = \"tiny\"\narch = \"mlp:4-6-2\"\n[[methods]]\nname = \"a\"\n";
    write(at, "plan.toml", plan);
    let mine = at.join("mine");
    for name in [
        "checkpoints/step-0000000001.safetensors",
        "metrics.jsonl",
        "final.safetensors",
        "runs/a/notes.txt",
        "config.toml",
        "plan.toml",
        "experiment.toml",
        "report.html",
        "lock",
        ".hidden",
    ] {
        write(&mine, name, "# mine");
        let first = name.split('/').next().unwrap();
        all_refuse(at, &format!("`{first}`"));
        fs::remove_dir_all(&mine).unwrap();
    }
    // all of them at once, and with a lock that is empty
    for name in [
        "config.toml",
        "plan.toml",
        "runs/a/notes.txt",
        "checkpoints/a",
    ] {
        write(&mine, name, "# mine");
    }
    write(&mine, "lock", "");
    all_refuse(at, "`checkpoints`");
    assert_eq!(fs::read_to_string(at.join("plan.toml")).unwrap(), plan);
}

#[test]
fn force_replaces_a_run_and_leaves_what_is_not_its_own() {
    let folder = folder();
    let at = folder.path();
    tiny_set(&at.join("tiny"));
    works(at, &words(&format!("{TRAIN} --save-init --out run")));
    let run = at.join("run");
    write(&run, "notes.txt", "mine");
    write(&run, "checkpoints/mine.safetensors", "mine");
    let before = contents(&run);
    fails_in(
        at,
        &words(&format!("{TRAIN} --out run")),
        &["earlier run", "--force", "--resume run"],
    );
    assert!(contents(&run) == before);
    let shorter = TRAIN.replace("--epochs 2", "--epochs 1");
    works(at, &words(&format!("{shorter} --force --out run")));
    let after = contents(&run);
    assert_eq!(after["notes.txt"], b"mine");
    assert_eq!(after["checkpoints/mine.safetensors"], b"mine");
    assert!(
        !after.contains_key("init.safetensors")
            && !after.contains_key("checkpoints/step-0000000010.safetensors")
    );
    // a folder that is known as a run's stays one when a run is killed before it begins
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    works(at, &words(&format!("{TRAIN} --force --out run")));
}

#[test]
fn a_users_plan_is_never_rewritten() {
    let folder = folder();
    let at = folder.path();
    tiny_set(&at.join("tiny"));
    let data = at.join("tiny");
    let plan = "seeds = [0]\nlrs = [0.1]\n[settings]\ndata = \"tiny\"\narch = \"mlp:4-6-2\"\nepochs = 1\n[[methods]] # mine\nname = \"a\"\n";
    let plan = &plan.replace("\"tiny\"", &format!("{data:?}"));
    write(at, "plans/plan.toml", plan);
    works(at, &words("compare plans/plan.toml --out c --quiet"));
    let copy = fs::read_to_string(at.join("c/plan.toml")).unwrap();
    assert!(copy.starts_with("# gsgd "), "{copy}");
    for text in [plan, &copy] {
        write(at, "plans/plan.toml", text);
        write(at, "plans/runs/a/notes.txt", "mine");
        for force in ["", "--force"] {
            let before = contents(&at.join("plans"));
            let args = format!("compare plan.toml --out . --quiet {force}");
            fails_in(
                &at.join("plans"),
                &words(&args),
                &["comparison", "choose an --out"],
            );
            assert!(contents(&at.join("plans")) == before);
        }
    }
    // the plan in a comparison's folder, with a remark, is the comparison's
    let remark = copy.replace("[[methods]]", "# mine\n[[methods]]");
    write(at, "c/plan.toml", &remark);
    works(at, &words("compare c/plan.toml --out c --quiet --force"));
    assert_eq!(fs::read_to_string(at.join("c/plan.toml")).unwrap(), remark);
}

#[test]
fn runs_of_a_comparison_are_replaced_only_if_all_are_runs() {
    let folder = folder();
    let at = folder.path();
    tiny_set(&at.join("tiny"));
    let compare = |rest: &str| format!("{COMPARE} {rest} --out c");
    works(at, &words(&compare("--lrs 0.1,0.2")));
    write(at, "c/notes.txt", "mine");
    write(at, "c/runs/mine/results/notes.txt", "mine");
    let before = contents(&at.join("c"));
    fails_in(
        at,
        &words(&compare("--lrs 0.3")),
        &["another comparison", "--force"],
    );
    fails_in(
        at,
        &words(&compare("--lrs 0.3 --force")),
        &["c/runs/mine/results", "`notes.txt`"],
    );
    assert!(contents(&at.join("c")) == before);
    fs::remove_dir_all(at.join("c/runs/mine")).unwrap();
    write(at, "c/runs/sgd/lr-0.1-seed-0/notes.txt", "mine");
    works(at, &words(&compare("--lrs 0.3 --force")));
    let after = contents(&at.join("c"));
    let runs: Vec<&str> = after
        .keys()
        .map(String::as_str)
        .filter(|name| !name.contains("0.3"))
        .collect();
    assert_eq!(
        runs,
        [
            "lock",
            "notes.txt",
            "plan.toml",
            "report.html",
            "runs/sgd/lr-0.1-seed-0/notes.txt"
        ]
    );

    // a demo has another folder
    let before = contents(&at.join("c"));
    fails_in(
        at,
        &words("demo --epochs 1 --out c"),
        &["c holds another comparison", "--force"],
    );
    fails_in(
        at,
        &words("train --out c --force"),
        &["c", "choose an --out"],
    );
    fails_in(
        at,
        &words("reproduce overhead --out c --force"),
        &["c", "choose an --out"],
    );
    assert!(contents(&at.join("c")) == before);
}

#[test]
fn a_comparison_does_not_go_on_with_runs_of_another_kind() {
    let folder = folder();
    let at = folder.path();
    tiny_set(&at.join("tiny"));
    let compare = format!("{COMPARE} --lrs 0.1 --out c");
    works(at, &words(&compare));
    let plan = fs::read_to_string(at.join("c/plan.toml")).unwrap();
    fs::write(
        at.join("c/plan.toml"),
        plan.replace("batch = 8", "batch = 4"),
    )
    .unwrap();
    let edited = words("compare c/plan.toml --out c");
    fails_in(
        at,
        &edited,
        &[
            "runs/sgd/lr-0.1-seed-0",
            "batch = 8",
            "batch = 4",
            "--force",
        ],
    );
    fs::write(at.join("c/plan.toml"), plan).unwrap();
    let labels = at.join("tiny/t10k-labels-idx1-ubyte");
    let mut data = fs::read(&labels).unwrap();
    data[9] ^= 1;
    fs::write(&labels, data).unwrap();
    let before = contents(&at.join("c"));
    fails_in(
        at,
        &words(&compare),
        &["lr-0.1-seed-0", "labels of test images", "--force"],
    );
    assert!(contents(&at.join("c")) == before);
    works(at, &words(&format!("{compare} --force")));
    // the same from another working directory
    fs::create_dir(at.join("elsewhere")).unwrap();
    works(
        &at.join("elsewhere"),
        &words("compare ../c/plan.toml --out ../c --quiet"),
    );
}
