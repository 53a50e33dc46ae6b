//! Signals, several processes, streams that take nothing.
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{contents, fails_in, folder, tiny_set, words, works};

/// Two runs at once whose first epoch takes seconds, so that every checkpoint of theirs is one of a stop.
const SLOW: &str = "compare --optimizers sgd,adam --lrs 0.001 --seeds 0 --batch 1 --jobs 2 --out c";
const RUNS: [&str; 2] = ["c/runs/sgd/lr-0.001-seed-0", "c/runs/adam/lr-0.001-seed-0"];
const PATIENCE: Duration = Duration::from_secs(60);

fn spawn(folder: &Path, args: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gsgd"));
    command.current_dir(folder).args(words(args));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5));
    }
}

/// Whether no process has a run's folder.
fn is_free(run: &Path) -> bool {
    File::open(run.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// Steps in an epoch of those runs.
const EPOCH: usize = 60_000;

/// The step of a run's only checkpoint.
fn step(run: &Path) -> Option<usize> {
    let mut files = fs::read_dir(run.join("checkpoints")).ok()?;
    let name = files.next()?.unwrap().file_name().into_string().unwrap();
    assert!(files.next().is_none());
    let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
    Some(step.parse().unwrap())
}

fn bash(folder: &Path, script: &str) -> Output {
    let script = script.replace("gsgd", env!("CARGO_BIN_EXE_gsgd"));
    let mut command = Command::new("bash");
    command.current_dir(folder).args(["-c", &script]);
    command.output().unwrap()
}

#[test]
fn a_signal_to_a_comparison_reaches_its_runs() {
    for signal in ["-TERM", "-HUP", "-INT"] {
        let folder = folder();
        let path = folder.path();
        let child = spawn(path, SLOW);
        let runs = RUNS.map(|run| path.join(run));
        until("the runs begin", || {
            runs.iter().all(|run| run.join("metrics.jsonl").exists())
        });
        let pid = child.id().to_string();
        Command::new("kill").args([signal, &pid]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal}: {said}");
        assert!(said.contains("the same command goes on"), "{said}");
        for run in &runs {
            assert!(is_free(run), "{signal}");
            // at once, in the middle of the first epoch
            assert!(step(run).is_some_and(|step| step < EPOCH), "{signal}");
            assert!(!run.join("ending.json").exists());
        }
    }
}

#[test]
fn runs_do_not_outlive_a_comparison_that_is_killed() {
    let folder = folder();
    let path = folder.path();
    let mut child = spawn(path, SLOW);
    let runs = RUNS.map(|run| path.join(run));
    until("the runs begin", || {
        runs.iter().all(|run| run.join("metrics.jsonl").exists())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("the runs end", || runs.iter().all(|run| is_free(run)));
    for run in &runs {
        assert!(step(run).is_some_and(|step| step < EPOCH));
    }
}

#[test]
fn two_comparisons_do_not_write_one_folder() {
    let folder = folder();
    let path = folder.path();
    let mut child = spawn(path, SLOW);
    let runs = RUNS.map(|run| path.join(run));
    until("the runs begin", || {
        runs.iter().all(|run| run.join("metrics.jsonl").exists())
    });
    for force in ["", "--force"] {
        let second = format!("{SLOW} {force}");
        fails_in(
            path,
            &words(&second),
            &["another process is writing a comparison in c"],
        );
    }
    assert!(child.try_wait().unwrap().is_none());
    assert!(runs.iter().all(|run| !run.join("ending.json").exists()));
    child.kill().unwrap();
    child.wait().unwrap();
    until("the runs end", || runs.iter().all(|run| is_free(run)));
}

#[test]
fn a_reader_that_leaves_does_not_end_a_run() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let flags = "--data tiny --arch mlp:4-6-2 --epochs 40";
    bash(
        path,
        &format!("gsgd train {flags} --out run 2>&1 | head -n 1"),
    );
    assert!(path.join("run/final.safetensors").exists());
    let compare =
        format!("gsgd compare {flags} --optimizers sgd --seeds 0,1 --out c 2>&1 | head -n 1");
    bash(path, &compare);
    assert!(path.join("c/report.html").exists());
    let full = bash(path, &format!("gsgd train {flags} --out full 2> /dev/full"));
    assert_eq!(full.status.code(), Some(0));
    for command in [
        "--help",
        "completions bash",
        "inspect run/final.safetensors",
        "report c",
    ] {
        let output = bash(
            path,
            &format!("set -o pipefail; gsgd {command} | head -n 1"),
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && !said.contains("error"),
            "{command}: {said}"
        );
    }
}

#[test]
fn output_that_takes_nothing_is_an_error() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let run = "--data tiny --arch mlp:4-6-2 --epochs 1";
    works(path, &words(&format!("train {run} --out run --quiet")));
    for command in [
        &format!("train {run} --out other"),
        &format!("compare {run} --optimizers sgd --seeds 0 --out c"),
        "demo --epochs 1 --unbalance 0",
        "reproduce overhead --only mlp-49-64-64-10 --quiet",
        "report run",
        "inspect run/final.safetensors",
        "inspect run/final.safetensors --json",
        "rescale run/final.safetensors rescaled.safetensors",
        "balance run/final.safetensors balanced.safetensors",
        "equivalent run/final.safetensors rescaled.safetensors",
        "equivalent run/final.safetensors rescaled.safetensors --json",
        "completions bash",
        "--help",
        "train --help",
        "--version",
    ] {
        let output = bash(path, &format!("gsgd {command} > /dev/full"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(
            said.contains("error: cannot write to standard output"),
            "{command}: {said}"
        );
        assert!(!said.contains("panicked"), "{command}: {said}");
    }
}

#[test]
fn what_a_kill_left_half_written_is_removed() {
    let folder = folder();
    let path = folder.path();
    tiny_set(&path.join("tiny"));
    let run = "--data tiny --arch mlp:4-6-2 --quiet";
    let train = format!("train {run} --out run");
    works(path, &words(&format!("{train} --epochs 1")));
    let half = || {
        for name in [
            "c/.gsgd-a1b2C3.tmp",
            "run/.gsgd-a1b2C3.tmp",
            "run/checkpoints/.gsgd-Z1b2C3.tmp",
        ] {
            fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            fs::write(path.join(name), "half").unwrap();
        }
        fs::write(path.join("run/.tmpMine12"), "mine").unwrap();
    };
    let left = |folder: &str| {
        let all = contents(&path.join(folder));
        all.into_keys()
            .filter(|name| name.contains("tmp"))
            .collect::<Vec<_>>()
    };
    half();
    works(path, &words("train --resume run --epochs 2 --quiet"));
    assert_eq!(left("run"), [".tmpMine12"]);
    half();
    works(path, &words(&format!("{train} --epochs 1 --force")));
    assert_eq!(left("run"), [".tmpMine12"]);
    works(
        path,
        &words(&format!(
            "compare {run} --epochs 1 --optimizers sgd --seeds 0 --lrs 0.1 --out c"
        )),
    );
    assert_eq!(left("c"), Vec::<String>::new());
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let folder = folder();
    let path = folder.path();
    // one step takes longer than the signals
    let args = "train --arch mlp:49-1024-1024-10 --batch 20000 --epochs 9 --quiet --out run";
    let mut child = spawn(path, args);
    until("the run begins", || path.join("run/metrics.jsonl").exists());
    let pid = child.id().to_string();
    sleep(Duration::from_millis(200));
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        sleep(Duration::from_millis(50));
        assert!(begun.elapsed() < PATIENCE);
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(step(&path.join("run")), None);
}
