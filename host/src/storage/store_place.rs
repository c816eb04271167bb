//! The folder of the snapshot store, and how another takes its place.
//!
//! ```text
//! snapshots.new    a copy that is being made
//! snapshots.next   one that's whole and on the disk
//! snapshots.old    the store that it replaces
//! ```
//!
//! The steps, each on the disk before the next but one: `new` is written and synced; `new` becomes `next`; `snapshots` becomes
//! `old`; `next` becomes `snapshots`; `old` is removed. Whenever `snapshots` is there, it's the store; when it isn't, `next` is.
//! sled opens its files once and goes on with them under the new name.
//!
//! **Not here:** when a copy is made, and of what (`sled_heads`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// See the module.
pub(crate) struct StorePlace {
    dir: PathBuf,
}

impl StorePlace {
    /// The place of the store in `dir`.
    pub(crate) fn new(dir: &Path) -> StorePlace {
        StorePlace { dir: dir.to_owned() }
    }

    /// Finishes or undoes what a crash left half done. Called before the store is opened.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.remove_unfinished()?;
        if !self.dir.exists() && self.next().exists() {
            fs::rename(self.next(), &self.dir)?;
            self.sync_names()?;
        }
        remove(&self.next())?;
        self.remove_old()
    }

    /// Where a copy is made.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.dir.with_extension("new")
    }

    /// Puts the copy, which is on the disk, in the place of the store.
    pub(crate) fn swap(&self) -> io::Result<()> {
        fs::rename(self.unfinished(), self.next())?;
        self.sync_names()?;
        fs::rename(&self.dir, self.old())?;
        fs::rename(self.next(), &self.dir)?;
        self.sync_names()
    }

    /// Removes a copy that isn't whole.
    pub(crate) fn remove_unfinished(&self) -> io::Result<()> {
        remove(&self.unfinished())
    }

    /// Removes what was replaced. Readers that have it open go on until they close it.
    pub(crate) fn remove_old(&self) -> io::Result<()> {
        remove(&self.old())
    }

    /// Bytes of the store's files.
    pub(crate) fn bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .map(|about| about.len())
            .sum()
    }

    fn next(&self) -> PathBuf {
        self.dir.with_extension("next")
    }

    fn old(&self) -> PathBuf {
        self.dir.with_extension("old")
    }

    fn sync_names(&self) -> io::Result<()> {
        let above = self.dir.parent().unwrap_or(Path::new("."));
        fs::File::open(above)?.sync_all()
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
