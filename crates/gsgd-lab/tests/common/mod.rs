//! Running the program.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

pub fn gsgd(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gsgd"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Fails with exit status 2, without a panic, and says all of this.
#[track_caller]
pub fn fails_in(folder: &Path, args: &[&str], says: &[&str]) {
    let output = gsgd(folder, args);
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    for part in says {
        assert!(
            text.contains(part),
            "{args:?}: `{part}` is missing in\n{text}"
        );
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[track_caller]
pub fn fails(args: &[&str], says: &[&str]) {
    fails_in(folder().path(), args, says);
}

#[track_caller]
pub fn works(folder: &Path, args: &[&str]) -> String {
    let output = gsgd(folder, args);
    let error = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).to_string()
}

/// One figure of every line of a metrics file.
pub fn column(metrics: &str, key: &str) -> Vec<f64> {
    let value = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()[key]
            .as_f64()
            .unwrap()
    };
    metrics.lines().map(value).collect()
}
