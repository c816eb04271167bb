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

use super::config::{Sabotage, StorageConfig};
use super::files::{Files, RealFiles, write_atomically};
use super::identity::lock_folder;
use super::sled::SledStorage;
use super::{Storage, StorageError};

/// A file in the folder of a cluster's member of which a repair has given something up: it mustn't vote again.
pub(crate) const GAVE_UP: &str = "gave-up";

/// Whose folder is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of a host that was never in a cluster: nobody else counts on it.
    Alone,
    /// Of a cluster's member. If the repair gives something up, the folder is marked, and no host starts on it.
    Members,
    /// Of a member that is to be one no longer: a new host, outside of any cluster, with what is left.
    New,
}

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
        let files: Arc<dyn Files> = Arc::new(RealFiles::new(dir, Sabotage::default()));
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

    /// Repairs, and makes sure that storage opens what comes of it. Returns the folder that what was given up went to.
    pub fn mend(mut self, config: StorageConfig, whose: Whose) -> Result<PathBuf, StorageError> {
        match whose {
            // First of all: a repair that is cut off later has given it up, too.
            Whose::Members if self.report().loses() => {
                let report = self.report().to_string();
                write_atomically(&*self.files, "", GAVE_UP, report.as_bytes())?;
            }
            Whose::New => self.found.become_new(&*self.files)?,
            Whose::Alone | Whose::Members => {}
        }
        let quarantine = mending::mend(&self.dir, &*self.files, &mut self.found)?;
        drop(self.lock);
        // Its checkpoint also empties the log, so that nothing of it lies beside newer images.
        SledStorage::open(&self.dir, config)?.close();
        Ok(self.dir.join(quarantine.folder()))
    }
}
