//! Opening a data folder: what is there is compared with what should be, before anything is served from it.
//!
//! A snapshot store that sled can't read, or that isn't what its copy says, is moved to the quarantine and made anew from the
//! copy: with the log behind it that loses nothing, so it's done at once and said. Whatever would lose something is left as it
//! is, and the start refused: `granary repair` is what an operator decides on.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::super::config::StorageConfig;
use super::super::files::{Files, RealFiles};
use super::super::heads::Heads;
use super::super::identity::{self, Identity};
use super::super::sled_heads::{SledHeads, probe_syncs};
use super::super::{SNAPSHOT_DIR, StorageError};
use super::ballast::Ballast;
use super::copied_heads::{self, Comparison, CopiedHeads};
use super::copy::{self, Contents};
use super::panics;
use super::quarantine::Quarantine;

/// Makes the data folder if it's new and sees to it that it can be written.
pub(crate) fn enter(dir: &Path) -> Result<(), StorageError> {
    let told = |error: io::Error| {
        let what = format!(
            "the data folder {} can't be written: {error}. It has to belong to the user who runs the host, on a file system \
             that isn't read-only",
            dir.display()
        );
        StorageError::Io(io::Error::new(error.kind(), what))
    };
    std::fs::create_dir_all(dir).map_err(told)?;
    // Not by its mode: a read-only file system and root's powers don't show there.
    let probe = dir.join("write-probe");
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .or_else(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                Ok(())
            } else {
                Err(error)
            }
        })
        .map_err(told)
}

/// Opens the snapshot store with its copy, whatever it takes that loses nothing.
pub(crate) fn open_heads(
    dir: &Path,
    files: &Arc<RealFiles>,
    config: &StorageConfig,
) -> Result<(Arc<dyn Heads>, Arc<Ballast>), StorageError> {
    panics::watch();
    let files: Arc<dyn Files> = Arc::<RealFiles>::clone(files);
    let ballast = Arc::new(Ballast::new(Arc::clone(&files), config.ballast_bytes));
    ballast.relieve();
    let identity = identity::next(&*files)?;
    probe_syncs(dir)?;
    let opened = open_sled(dir, config);
    let heads = match copy::host(&*files) {
        Err(copy::CopyError::Missing) if identity.is_new() => {
            let inner = opened.map_err(unopened)?;
            if !is_empty(&*inner)? {
                return Err(copy::CopyError::Missing.into());
            }
            CopiedHeads::anew(inner, files, Arc::clone(&ballast), identity.host, 0)?
        }
        Err(error) => return Err(error.into()),
        Ok(host) if host != identity.host => return Err(of_another(&identity)),
        Ok(_) => match judge(opened, &*files)? {
            Judged::Whole(inner, contents, compared) => {
                CopiedHeads::resume(inner, files, Arc::clone(&ballast), &contents, &compared)?
            }
            Judged::Damaged(why) => renew(dir, files, Arc::clone(&ballast), config, &why)?,
        },
    };
    Ok((Arc::new(heads), ballast))
}

/// The same for a store that is no sled and can't be made anew: any difference is an error.
#[cfg(test)]
pub(crate) fn join(inner: Arc<dyn Heads>, files: Arc<dyn Files>) -> Result<Arc<dyn Heads>, StorageError> {
    let ballast = Arc::new(Ballast::new(Arc::clone(&files), 0));
    let identity = identity::next(&*files)?;
    let heads = match copy::host(&*files) {
        Err(copy::CopyError::Missing) if identity.is_new() => {
            CopiedHeads::anew(inner, files, ballast, identity.host, 0)?
        }
        Err(error) => return Err(error.into()),
        Ok(_) => match judge(Ok(inner), &*files)? {
            Judged::Whole(inner, contents, compared) => {
                CopiedHeads::resume(inner, files, ballast, &contents, &compared)?
            }
            Judged::Damaged(why) => return Err(StorageError::Corrupt(why)),
        },
    };
    Ok(Arc::new(heads))
}

enum Judged {
    Whole(Arc<dyn Heads>, Contents, Comparison),
    /// The store can't be used; the copy can.
    Damaged(String),
}

/// What the store is worth. An error is one of the copy, or of the disk.
fn judge(opened: Result<Arc<dyn Heads>, StorageError>, files: &dyn Files) -> Result<Judged, StorageError> {
    let inner = match opened {
        Ok(inner) => inner,
        Err(StorageError::Corrupt(why)) => {
            // Only a copy that can be read to its end is one to start from.
            copy::read(files, &mut |_| ())?;
            return Ok(Judged::Damaged(why));
        }
        Err(StorageError::Io(error)) if is_sleds(&error) => {
            copy::read(files, &mut |_| ())?;
            return Ok(Judged::Damaged(error.to_string()));
        }
        Err(other) => return Err(unopened(other)),
    };
    let before = panics::seen();
    let compared = catch_unwind(AssertUnwindSafe(|| copied_heads::compare(&*inner, files)));
    if panics::seen() > before {
        return Ok(Judged::Damaged("a thread of it stopped".into()));
    }
    match compared {
        Err(_) => Ok(Judged::Damaged("it stopped while it was read".into())),
        Ok(Err(StorageError::Corrupt(why))) => {
            copy::read(files, &mut |_| ())?;
            Ok(Judged::Damaged(why))
        }
        Ok(Err(StorageError::Io(error))) if is_sleds(&error) => Ok(Judged::Damaged(error.to_string())),
        Ok(Err(other)) => Err(other),
        Ok(Ok((contents, compared))) if compared.newest > contents.ended + 1 => Err(StorageError::Corrupt(format!(
            "the copy of the snapshot store ends with round {}, and the store has values of round {}: the end of the copy is \
             missing; `granary repair` makes another from the store",
            contents.ended, compared.newest
        ))),
        Ok(Ok((contents, compared))) if compared.store_is_whole() => Ok(Judged::Whole(inner, contents, compared)),
        Ok(Ok((_, compared))) => Ok(Judged::Damaged(format!(
            "{} of its values are missing or out of date, {} should be gone",
            compared.stale, compared.risen
        ))),
    }
}

/// Whether an error is sled's opinion of what it read, not the operating system's.
fn is_sleds(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() != io::ErrorKind::StorageFull
}

/// What doesn't open, by its name.
fn unopened(error: StorageError) -> StorageError {
    match error {
        StorageError::Io(error) => {
            let what = format!("the snapshot store in the folder `{SNAPSHOT_DIR}`: {error}");
            io::Error::new(error.kind(), what).into()
        }
        other => other,
    }
}

/// Puts the store aside and makes another from the copy.
fn renew(
    dir: &Path,
    files: Arc<dyn Files>,
    ballast: Arc<Ballast>,
    config: &StorageConfig,
    why: &str,
) -> Result<CopiedHeads, StorageError> {
    let quarantine = Quarantine::new(dir);
    quarantine.take(SNAPSHOT_DIR)?;
    let inner = open_sled(dir, config)?;
    let contents = copied_heads::restore(&*inner, &*files)?;
    let (_, compared) = copied_heads::compare(&*inner, &*files)?;
    if !compared.store_is_whole() {
        return Err(StorageError::Corrupt(
            "the snapshot store that was made anew from its copy isn't what the copy says: the disk may be failing"
                .into(),
        ));
    }
    tracing::warn!(
        why,
        quarantine = %quarantine.folder().display(),
        "the snapshot store was damaged: it was put into the quarantine and made anew from its copy, nothing is missing"
    );
    CopiedHeads::resume(inner, files, ballast, &contents, &compared)
}

fn open_sled(dir: &Path, config: &StorageConfig) -> Result<Arc<dyn Heads>, StorageError> {
    let before = panics::seen();
    let heads = SledHeads::open(&dir.join(SNAPSHOT_DIR), config.cache_bytes)?;
    if panics::seen() > before {
        return Err(StorageError::Corrupt("a thread of the snapshot store stopped".into()));
    }
    Ok(Arc::new(heads))
}

/// Whether there is nothing in a store.
pub(crate) fn is_empty(heads: &dyn Heads) -> Result<bool, StorageError> {
    let mut empty = true;
    heads.scan(std::ops::Bound::Unbounded, &mut |_, _| {
        empty = false;
        false
    })?;
    Ok(empty)
}

fn of_another(identity: &Identity) -> StorageError {
    StorageError::Corrupt(format!(
        "`identity` says that this is host {}, and the copy of the snapshot store is of another: files of two data folders \
         were mixed, or the file is damaged; put back those that belong together, or let `granary repair` go by the copy",
        identity.host
    ))
}
