//! Files that are written whole or not at all.

use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file whole or not at all.
///
/// # Errors
/// The folder is not writable, or the disk full.
pub fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    move_into_place(path, |file| Ok(std::fs::write(file, data)?))
}

/// Writes a file beside its place and moves it there.
///
/// # Errors
/// Those of `write`, or the file cannot be moved.
pub fn move_into_place(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> Result<()> {
        let file = temporary().tempfile_in(folder)?;
        write(file.path())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// How the names of files that are being written begin and end.
pub const TEMPORARY: [&str; 2] = [".gsgd-", ".tmp"];

/// Temporary files with the rights that files of this user have.
fn temporary() -> tempfile::Builder<'static, 'static> {
    #[allow(unused_mut)]
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY[0]).suffix(TEMPORARY[1]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}
