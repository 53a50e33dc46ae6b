//! Running the program.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

pub fn gsgd(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gsgd"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

pub fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Every file under a folder, by its path in it, with what is in it.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            let inner = contents(&path).into_iter();
            found.extend(inner.map(|(inner, data)| (format!("{name}/{inner}"), data)));
        } else {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
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

/// Four IDX files of tiny images.
pub fn tiny_set(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (prefix, count) in [("train", 40u8), ("t10k", 10)] {
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 2];
        let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
        for i in 0..count {
            let label = i % 2;
            images.extend([200 * label, 10 + i, 100, 200 * (1 - label)]);
            labels.push(label);
        }
        fs::write(folder.join(format!("{prefix}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// `train/<class>/*.png` and `test/...` of small colour images in two classes.
pub fn image_folder(folder: &Path) {
    for (split, count) in [("train", 12u8), ("test", 4)] {
        for (class, name) in ["blue", "red"].iter().enumerate() {
            let inner = folder.join(split).join(name);
            fs::create_dir_all(&inner).unwrap();
            for at in 0..count {
                let colour = |x: u32, y: u32| {
                    let grey = (x * 13 + y * 29 + u32::from(at) * 7) as u8;
                    let mut pixel = [grey / 2; 3];
                    pixel[2 * (1 - class)] = 200;
                    image::Rgb(pixel)
                };
                let image = image::RgbImage::from_fn(8, 8, colour);
                image.save(inner.join(format!("{at:02}.png"))).unwrap();
            }
        }
    }
}

/// An element of a page: its name, the names of those around it, its attributes.
pub struct Element {
    pub name: String,
    pub within: Vec<String>,
    pub attributes: HashMap<String, String>,
}

/// The elements of a page whose tags are without error and close one another in order.
#[track_caller]
pub fn elements(page: &str) -> Vec<Element> {
    const VOID: [&str; 4] = ["meta", "link", "br", "img"];
    let text = |bytes: &html5gum::HtmlString| String::from_utf8(bytes.0.clone()).unwrap();
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for Ok(token) in html5gum::Tokenizer::new(page) {
        match token {
            html5gum::Token::Error(error) => panic!("{error:?}"),
            html5gum::Token::StartTag(tag) => {
                let name = text(&tag.name);
                found.push(Element {
                    name: name.clone(),
                    within: open.clone(),
                    attributes: tag
                        .attributes
                        .iter()
                        .map(|(name, value)| (text(name), text(value)))
                        .collect(),
                });
                if !tag.self_closing && !VOID.contains(&name.as_str()) {
                    open.push(name);
                }
            }
            html5gum::Token::EndTag(tag) => assert_eq!(open.pop(), Some(text(&tag.name))),
            _ => {}
        }
    }
    assert_eq!(open, Vec::<String>::new());
    found
}
