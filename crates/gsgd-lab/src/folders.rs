//! Whose a folder is. One is written only where it is new, empty, or the program's own; files are removed only by the names
//! that the program gives them.
//!
//! Its own is a folder with a `lock` and the file that says what it is for, whose first line is the program's: a run's
//! `config.toml`, a comparison's `plan.toml`, an experiment's `experiment.toml`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::models::TEMPORARY;
use crate::text;
use crate::train::ENDING;

/// How the first line of such a file begins.
const HEAD: &str = "# gsgd ";
/// The file that a process locks.
pub const LOCK: &str = "lock";

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FolderKind {
    /// A run of `gsgd train`.
    Run,
    /// A comparison.
    Comparison,
    /// An experiment of `gsgd reproduce`.
    Experiment,
}

/// Whose a folder is.
#[derive(Debug, Clone, PartialEq)]
pub enum Owner {
    /// Nobody's: it is new, or there is nothing in it that would be lost.
    Nobody,
    /// One of this kind.
    Ours,
    /// Somebody else's, who has a file of this name in it.
    Other(String),
}

impl FolderKind {
    /// The file that says what the folder is for.
    pub fn file(self) -> &'static str {
        match self {
            Self::Run => "config.toml",
            Self::Comparison => "plan.toml",
            Self::Experiment => "experiment.toml",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Run => "a run",
            Self::Comparison => "a comparison",
            Self::Experiment => "an experiment",
        }
    }

    /// The text of its file.
    pub fn text(self, content: &str) -> String {
        format!("{HEAD}{}\n{content}", crate::version())
    }

    /// Whose a folder is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn owner(self, folder: &Path) -> Result<Owner> {
        if !folder.is_dir() {
            return Ok(Owner::Nobody);
        }
        let read = || format!("cannot read the folder {}", folder.display());
        let mut others = Vec::new();
        for entry in fs::read_dir(folder).with_context(read)? {
            let entry = entry.with_context(read)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !self.leaves_before_its_file(&name, &entry.path()) {
                others.push(name);
            }
        }
        others.sort();
        let ours = folder.join(LOCK).is_file() && begins_as_ours(&folder.join(self.file()))?;
        Ok(match others.into_iter().next() {
            None => Owner::Nobody,
            Some(_) if ours => Owner::Ours,
            Some(name) => Owner::Other(name),
        })
    }

    /// Whether this may be there before the file that says what the folder is for.
    fn leaves_before_its_file(self, name: &str, path: &Path) -> bool {
        let empty = || fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() == 0);
        // how a run ended that could not begin
        name == LOCK && empty() || is_temporary(name) || self == Self::Run && name == ENDING
    }

    /// Refuses a folder that is somebody else's.
    ///
    /// # Errors
    /// It is.
    pub fn refuse_others(self, folder: &Path) -> Result<Owner> {
        match self.owner(folder)? {
            Owner::Other(file) => bail!(
                "{} is not the folder of {}: it holds `{}`, and nothing of other people's is touched; choose an --out that \
                 is new or empty",
                folder.display(),
                self.name(),
                text::printable(&file)
            ),
            owner => Ok(owner),
        }
    }

    /// A new folder or one of this kind, for this process alone as long as the file is open.
    ///
    /// # Errors
    /// It is somebody else's, another process has it, or it cannot be written.
    pub fn claim(self, folder: &Path) -> Result<File> {
        self.refuse_others(folder)?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let Some(lock) = lock(folder)? else {
            bail!(
                "another process is writing {} in {}",
                self.name(),
                folder.display()
            );
        };
        remove_temporary(folder)?;
        Ok(lock)
    }
}

fn begins_as_ours(file: &Path) -> Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(HEAD.len() as u64).read_to_end(&mut head));
    read.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(head == HEAD.as_bytes())
}

/// Locks a folder as long as the file is open, which ends with the process, however that ends; `None` where another process
/// has it.
///
/// # Errors
/// The folder cannot be written.
pub fn lock(folder: &Path) -> Result<Option<File>> {
    let name = folder.join(LOCK);
    let open = OpenOptions::new().create(true).append(true).open(&name);
    let lock = open.with_context(|| format!("cannot write {}", name.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", name.display()))
        }
    }
}

fn is_temporary(name: &str) -> bool {
    let [begin, end] = TEMPORARY;
    let middle = name
        .strip_prefix(begin)
        .and_then(|name| name.strip_suffix(end));
    middle.is_some_and(|middle| {
        middle.len() == 6 && middle.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// Removes what was being written when an earlier process was killed. The folder has to be this process's.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_temporary(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(folder);
    for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if is_temporary(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_ours_by_its_lock_and_the_first_line_of_its_file() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        let owner = || FolderKind::Run.owner(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        assert_eq!(owner(), Owner::Nobody);
        drop(FolderKind::Run.claim(&folder).unwrap());
        write(".gsgd-a1B2c3.tmp", "half");
        write(ENDING, "{}");
        assert_eq!(owner(), Owner::Nobody, "killed before it began");
        write("config.toml", "lr = 0.1");
        assert_eq!(owner(), Owner::Other("config.toml".into()));
        write("config.toml", &FolderKind::Run.text("lr = 0.1"));
        write("notes.txt", "mine");
        assert_eq!(owner(), Owner::Ours);
        assert_eq!(
            FolderKind::Comparison.owner(&folder).unwrap(),
            Owner::Other("config.toml".into())
        );
        fs::remove_file(folder.join(LOCK)).unwrap();
        assert_eq!(owner(), Owner::Other("config.toml".into()));
        assert!(FolderKind::Run.claim(&folder).is_err());
        assert!(!folder.join(LOCK).exists(), "a refusal leaves nothing");
    }

    #[test]
    fn what_was_being_written_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".gsgd-a1B2c3.tmp", ".tmpa1B2c3", ".gsgd-mine.tmp", "a.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_temporary(folder.path()).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3);
        assert!(!folder.path().join(".gsgd-a1B2c3.tmp").exists());
    }
}
