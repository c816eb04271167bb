//! Modules' bytes, a file each, named by their blake3.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use granary_core::id::ModuleHash;

use super::files::{Files, join, list_finished, read_all, write_atomically};
use super::{ModuleRecord, StorageError};

const MODULE_DIR: &str = "modules";

/// The module files of a data folder.
pub(crate) struct ModuleFiles {
    files: Arc<dyn Files>,
}

impl ModuleFiles {
    /// Opens the folder and removes what a crash left half-written.
    pub(crate) fn open(files: Arc<dyn Files>) -> Result<ModuleFiles, StorageError> {
        files.make_dir(MODULE_DIR)?;
        files.sync_dir("")?;
        list_finished(&*files, MODULE_DIR)?;
        Ok(ModuleFiles { files })
    }

    /// Removes modules that no record names: deploys that failed leave them, and revisions that were forgotten. Only at a start,
    /// when no deploy is under way. Without any record nothing is removed: then it's the records that are missing.
    pub(crate) fn sweep(&self, records: &[ModuleRecord]) -> Result<(), StorageError> {
        if records.is_empty() {
            return Ok(());
        }
        let named: HashSet<_> = records.iter().map(|record| record.module.to_string()).collect();
        for name in list_finished(&*self.files, MODULE_DIR)? {
            // Whatever else somebody put there isn't ours to remove.
            if !is_module_name(&name) {
                continue;
            }
            if !named.contains(&name) {
                tracing::info!(module = name, "removed a module that no revision names");
                self.files.remove(&join(MODULE_DIR, &name))?;
            }
        }
        Ok(())
    }

    /// Keeps a module's bytes; they last on return. A damaged file in their place is replaced.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<ModuleHash, StorageError> {
        let module = ModuleHash(*blake3::hash(bytes).as_bytes());
        if !matches!(self.read(&module), Ok(Some(_))) {
            write_atomically(&*self.files, MODULE_DIR, &module.to_string(), bytes)?;
        }
        Ok(module)
    }

    /// Whether a module's file is there. One that is has been synced: it got its name after that.
    pub(crate) fn contains(&self, module: &ModuleHash) -> Result<bool, StorageError> {
        match self.files.open(&path(module)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A module's bytes.
    pub(crate) fn read(&self, module: &ModuleHash) -> Result<Option<Vec<u8>>, StorageError> {
        let bytes = match read_all(&*self.files, &path(module)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        if blake3::hash(&bytes).as_bytes() != &module.0 {
            return Err(StorageError::Corrupt(format!(
                "{} doesn't hold the module that it's named for: deploy that module again, or let `granary repair` give the revision up",
                path(module)
            )));
        }
        Ok(Some(bytes))
    }
}

fn is_module_name(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

pub(crate) fn path(module: &ModuleHash) -> String {
    join(MODULE_DIR, &module.to_string())
}

#[cfg(test)]
mod tests {
    use granary_core::id::{GrainType, Revision};

    use super::super::files::faulty::{FaultyFiles, Power};
    use super::*;

    #[test]
    fn a_damaged_module_is_made_good_by_its_bytes_and_a_foreign_file_stays() {
        let files = FaultyFiles::new(Power::steady());
        let modules = ModuleFiles::open(Arc::new(files.clone())).unwrap();
        let module = modules.put(b"code").unwrap();
        files.set_bytes(&path(&module), b"c0de");
        assert!(matches!(modules.read(&module), Err(StorageError::Corrupt(_))));
        modules.put(b"code").unwrap();
        assert_eq!(modules.read(&module).unwrap().unwrap(), b"code");
    }

    #[test]
    fn modules_that_no_record_names_are_removed() {
        let modules = ModuleFiles::open(Arc::new(FaultyFiles::new(Power::steady()))).unwrap();
        let (named, other) = (modules.put(b"named").unwrap(), modules.put(b"other").unwrap());
        modules.sweep(&[]).unwrap();
        assert!(
            modules.contains(&other).unwrap(),
            "no records at all: they are what's missing"
        );
        let record = ModuleRecord {
            kind: GrainType::new("a").unwrap(),
            revision: Revision(1),
            module: named,
            at_ms: 0,
            follows: Revision(0),
        };
        modules.sweep(&[record]).unwrap();
        assert!(modules.contains(&named).unwrap() && !modules.contains(&other).unwrap());
    }
}
