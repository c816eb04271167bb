//! The file system as storage sees it: few operations, each of which a test can make fail.
//!
//! Paths are relative to the data folder and use `/`. What is promised is what POSIX promises and no more: a write lasts once
//! [`File::sync`] has returned, a name (new, renamed or removed) once [`Files::sync_dir`] of its folder has.
//!
//! **Not here:** the snapshot store's files, it opens them itself.

#[cfg(test)]
pub(crate) mod faulty;
mod real;

use std::io;
use std::sync::Arc;

pub(crate) use real::RealFiles;

/// The disk's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes that this user may still write.
    pub(crate) free: u64,
    /// The disk's size.
    pub(crate) total: u64,
}

/// A data folder.
pub(crate) trait Files: Send + Sync {
    /// Makes a folder and those above it; fine when it's there.
    fn make_dir(&self, path: &str) -> io::Result<()>;
    /// Makes an empty file, whatever was there.
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a file that takes `bytes` of the disk; what it holds is of no interest.
    fn allocate(&self, path: &str, bytes: u64) -> io::Result<()>;
    /// Makes the names in a folder last.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// The disk's room.
    fn space(&self) -> io::Result<Space>;
}

/// An open file.
pub(crate) trait File: Send + Sync {
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills all of `bytes`; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Makes everything written last.
    fn sync(&self) -> io::Result<()>;
    /// The file's length.
    fn len(&self) -> io::Result<u64>;
}

/// All of a file's bytes.
pub(crate) fn read_all(files: &dyn Files, path: &str) -> io::Result<Vec<u8>> {
    let file = files.open(path)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Puts a file in place such that after a crash there is the old one or the new one, never a part. Lasts on return.
pub(crate) fn write_atomically(files: &dyn Files, dir: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = join(dir, name);
    let unfinished = format!("{path}{UNFINISHED}");
    let file = files.create(&unfinished)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    files.rename(&unfinished, &path)?;
    files.sync_dir(dir)
}

/// Ends the names of files that a crash left half-written; they are removed at the next start.
pub(crate) const UNFINISHED: &str = ".new";

/// Removes what a crash left half-written in `dir`, and returns the other names.
pub(crate) fn list_finished(files: &dyn Files, dir: &str) -> io::Result<Vec<String>> {
    let (unfinished, finished): (Vec<_>, Vec<_>) = files
        .list(dir)?
        .into_iter()
        .partition(|name| name.ends_with(UNFINISHED));
    unfinished.iter().try_for_each(|name| files.remove(&join(dir, name)))?;
    Ok(finished)
}

/// The path of `name` in `dir`; the data folder itself is the empty path.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}
