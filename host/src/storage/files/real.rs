//! The operating system's files.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{File, Files, Space};
use crate::storage::config::Sabotage;

/// How often a sync that is held looks whether it still is.
const HELD: Duration = Duration::from_millis(1);

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct RealFiles {
    root: PathBuf,
    sabotage: Sabotage,
}

impl RealFiles {
    /// The folder `root`, which must exist. Of `sabotage` only what it says of syncs matters here.
    pub(crate) fn new(root: &Path, sabotage: Sabotage) -> RealFiles {
        RealFiles {
            root: root.to_owned(),
            sabotage,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn file(&self, inner: fs::File) -> Arc<dyn File> {
        Arc::new(RealFile {
            inner,
            sabotage: self.sabotage,
        })
    }
}

impl Files for RealFiles {
    fn make_dir(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        fs::create_dir_all(&path).map_err(|error| named(&path, &error))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(self.file(options.open(self.path(path))?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let inner = fs::OpenOptions::new().read(true).write(true).open(self.path(path))?;
        Ok(self.file(inner))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn allocate(&self, path: &str, bytes: u64) -> io::Result<()> {
        let file = fs::File::create(self.path(path))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        fs::File::open(self.path(path))?.sync_all()
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            let name = entry?.file_name();
            names.push(
                name.into_string().map_err(|name| {
                    io::Error::other(format!("{name:?} in {path} is not a name that this host gives"))
                })?,
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            free: stat.f_bavail * stat.f_frsize,
            total: stat.f_blocks * stat.f_frsize,
        })
    }
}

/// An error that says where it was.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

struct RealFile {
    inner: fs::File,
    sabotage: Sabotage,
}

impl File for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.sabotage.no_sync {
            return Ok(());
        }
        while self.sabotage.held_sync.is_some_and(|path| Path::new(path).exists()) {
            std::thread::sleep(HELD);
        }
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.metadata()?.len())
    }
}
