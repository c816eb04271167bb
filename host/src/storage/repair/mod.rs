//! What is done about damage: noticing it before anything is served, rebuilding what can be rebuilt without a loss, and, when an
//! operator says so, giving up what can't.
//!
//! | file | what |
//! |---|---|
//! | `opening` | a start: compare, rebuild what loses nothing, refuse the rest |
//! | `copied_heads`, `copy` | the snapshot store's copy, by which a stale store is known |
//! | `examination`, `state`, `report` | `granary repair`: what is wrong and what it would cost |
//! | `mending`, `quarantine` | doing it; nothing is deleted |
//! | `ballast`, `panics` | a full disk, threads that stop |

pub(crate) mod ballast;
pub(crate) mod copied_heads;
pub(crate) mod copy;
mod examination;
mod mending;
pub(crate) mod opening;
pub(crate) mod panics;
pub(crate) mod quarantine;
mod report;
mod state;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::report::{LostGrain, LostRevision, RepairReport};

use super::config::StorageConfig;
use super::files::{Files, RealFiles};
use super::identity::lock_folder;
use super::sled::SledStorage;
use super::{Storage, StorageError};

/// A data folder under repair: no host can start on it meanwhile.
pub struct Repair {
    dir: PathBuf,
    files: Arc<dyn Files>,
    found: examination::Examination,
    lock: fs::File,
}

impl Repair {
    /// Examines a data folder; changes nothing in it. Refused while a host runs on it.
    pub fn examine(dir: &Path) -> Result<Repair, StorageError> {
        if !dir.is_dir() {
            let what = format!("there is no folder {}: name a host's data folder", dir.display());
            return Err(StorageError::Io(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                what,
            )));
        }
        let holds_anything = fs::read_dir(dir)?.next().is_some();
        if !holds_anything {
            let what = format!("{} is empty: there is nothing to repair", dir.display());
            return Err(StorageError::Io(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                what,
            )));
        }
        let lock = lock_folder(dir)?;
        panics::watch();
        let files: Arc<dyn Files> = Arc::new(RealFiles::new(dir, false));
        let found = examination::examine(dir, &*files)?;
        Ok(Repair {
            dir: dir.to_owned(),
            files,
            found,
            lock,
        })
    }

    /// What is wrong, and what a repair would lose.
    pub fn report(&self) -> &RepairReport {
        &self.found.report
    }

    /// Repairs, and makes sure that a host starts on the result. Returns the folder that what was given up went to.
    pub fn mend(mut self, config: StorageConfig) -> Result<PathBuf, StorageError> {
        let quarantine = mending::mend(&self.dir, &*self.files, &mut self.found)?;
        drop(self.lock);
        // Its checkpoint also empties the log, so that nothing of it lies beside newer images.
        SledStorage::open(&self.dir, config)?.close();
        Ok(self.dir.join(quarantine.folder()))
    }
}
