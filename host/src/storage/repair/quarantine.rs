//! Where damaged files go instead of being deleted: `quarantine/<seconds since 1970>/`, under the names that they had.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock::since_1970;

pub(crate) const QUARANTINE: &str = "quarantine";

/// One folder in the quarantine, made when the first file goes there.
#[derive(Debug)]
pub(crate) struct Quarantine {
    root: PathBuf,
    /// Relative to the root.
    folder: PathBuf,
}

impl Quarantine {
    /// A folder of its own for this moment. The clock only names it: one that jumps can't make two of them the same.
    pub(crate) fn new(root: &Path) -> Quarantine {
        let seconds = since_1970().as_secs();
        let names = (0u32..).map(|n| match n {
            0 => seconds.to_string(),
            n => format!("{seconds}-{n}"),
        });
        let mut folders = names.map(|name| Path::new(QUARANTINE).join(name));
        let folder = folders
            .find(|folder| !root.join(folder).exists())
            .expect("there are fewer folders than numbers");
        Quarantine {
            root: root.to_owned(),
            folder,
        }
    }

    /// The folder's path within the data folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a file or folder there; lasts on return. Fine when it's gone already.
    pub(crate) fn take(&self, path: &str) -> io::Result<()> {
        let from = self.root.join(path);
        if !from.exists() {
            return Ok(());
        }
        let to = self.place(path)?;
        step()?;
        fs::rename(&from, to)?;
        sync(from.parent().unwrap_or(&self.root))
    }

    /// Copies a file there; lasts on return.
    pub(crate) fn copy(&self, path: &str) -> io::Result<()> {
        let to = self.place(path)?;
        fs::copy(self.root.join(path), &to)?;
        sync(&to)
    }

    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let to = self.root.join(&self.folder).join(path);
        let above = to.parent().expect("it has a name");
        fs::create_dir_all(above)?;
        sync(above)?;
        sync(&self.root.join(QUARANTINE))?;
        sync(&self.root)?;
        Ok(to)
    }
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Called between the steps of a repair, where a test ends one.
#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "the other form fails")]
pub(super) fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use self::steps::step;

#[cfg(test)]
pub(super) mod steps {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// Steps after which a repair on this thread is cut off.
        pub(crate) static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    pub(crate) fn step() -> io::Result<()> {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        if left == 0 {
            return Err(io::Error::other("the repair was cut off"));
        }
        Ok(())
    }
}
