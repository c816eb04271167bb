//! Whose data folder this is, and the lock that keeps two hosts from using it at once.
//!
//! ```text
//! granary data folder 1
//! host 0123456789abcdef0123456789abcdef
//! incarnation 7
//! check 0123456789abcdef
//! ```
//!
//! The check is the start of the blake3 of the lines above.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use granary_core::id::HostId;

use super::files::{Files, read_all, write_atomically};
use super::repair::copy;
use super::{StorageError, private};

const IDENTITY: &str = "identity";
const LOCK: &str = "lock";
const FIRST_LINE: &str = "granary data folder 1";
/// The first line without the form's number, and that number.
const FOLDER: &str = "granary data folder ";
const FORM: u32 = 1;

/// Whose data folder this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) host: HostId,
    /// How many times the folder has been opened.
    pub(crate) incarnation: u32,
}

impl Identity {
    /// Whether the folder had none: then nothing can be in it.
    pub(crate) fn is_new(&self) -> bool {
        self.incarnation == 1
    }

    fn text(&self) -> String {
        let lines = format!("{FIRST_LINE}\nhost {}\nincarnation {}\n", self.host, self.incarnation);
        let check = blake3::hash(lines.as_bytes()).to_hex();
        format!("{lines}check {}\n", &check[..16])
    }

    /// Makes it last. Done when all else is open: a folder with an identity has all that belongs to one.
    pub(crate) fn keep(&self, files: &dyn Files) -> Result<(), StorageError> {
        let text = self.text();
        Ok(write_atomically(files, "", IDENTITY, text.as_bytes())?)
    }
}

/// The identity of this start: the stored one with this start counted, or a new one for a new folder.
pub(crate) fn next(files: &dyn Files) -> Result<Identity, StorageError> {
    match read_all(files, IDENTITY) {
        Ok(bytes) => {
            let old = parse(&bytes).ok_or_else(|| StorageError::Corrupt(wrong(&bytes)))?;
            Ok(Identity {
                incarnation: old.incarnation + 1,
                ..old
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Identity {
            // A first start that a crash cut short may have left a copy.
            host: copy::host(files).or_else(|_| new_host())?,
            incarnation: 1,
        }),
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with a file that isn't an identity.
fn wrong(bytes: &[u8]) -> String {
    match newer_form(bytes) {
        Some(form) => format!(
            "the data folder has form {form}, and this host knows forms up to {FORM}: start it with the newer host that made it"
        ),
        _ => format!(
            "the file `{IDENTITY}` isn't what a host wrote: put it back from a copy, or let `granary repair` make another"
        ),
    }
}

/// Whether the folder was made by a newer host.
pub(crate) fn is_newer(files: &dyn Files) -> bool {
    read_all(files, IDENTITY).is_ok_and(|bytes| newer_form(&bytes).is_some())
}

/// An identity that no host has had.
pub(crate) fn fresh() -> io::Result<Identity> {
    Ok(Identity {
        host: new_host()?,
        incarnation: 1,
    })
}

fn newer_form(bytes: &[u8]) -> Option<u32> {
    let first = std::str::from_utf8(bytes).ok()?.lines().next()?;
    let form = first.strip_prefix(FOLDER)?.parse().ok()?;
    (form > FORM).then_some(form)
}

/// Why a folder without an identity isn't taken for a new one.
pub(crate) fn missing() -> StorageError {
    StorageError::Corrupt(format!(
        "the file `{IDENTITY}` is missing, but grains are stored here: put it back, or let `granary repair` make another"
    ))
}

fn parse(bytes: &[u8]) -> Option<Identity> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let host = lines.next()?.strip_prefix("host ")?.parse().ok()?;
    let incarnation = lines.next()?.strip_prefix("incarnation ")?.parse().ok()?;
    let identity = Identity { host, incarnation };
    // Whole and unchanged: a lower incarnation would use ballots again.
    (incarnation < u32::MAX && identity.text().as_bytes() == bytes).then_some(identity)
}

fn new_host() -> io::Result<HostId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(format!("the system has no random bytes: {error}")))?;
    Ok(HostId(id))
}

/// How long a killed host may still hold its folder: the system frees its memory first, which takes a second for some GiB.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Locks a data folder for as long as the returned file is open, and closes it to other users. Waits for a predecessor that is just ending.
pub(crate) fn lock_folder(dir: &Path) -> Result<fs::File, StorageError> {
    private::keep(dir)?;
    lock_within(dir, LOCK_PATIENCE)
}

fn lock_within(dir: &Path, patience: Duration) -> Result<fs::File, StorageError> {
    let path = dir.join(LOCK);
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let limit = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(fs::TryLockError::WouldBlock) => return Err(StorageError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_anything_else_is_none() {
        let identity = Identity {
            host: HostId([0xab; 16]),
            incarnation: 7,
        };
        let good = identity.text();
        assert_eq!(parse(good.as_bytes()), Some(identity));
        for bad in [
            "",
            "x",
            &good[..good.len() - 3],
            &good.replace("host", "hos"),
            &good.replace("incarnation 7", "incarnation 6"),
            &format!("{good}x"),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_folder_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock_folder(dir.path()).unwrap();
        let second = lock_within(dir.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(second.contains("another host uses"), "{second}");
        drop(first);
        lock_within(dir.path(), Duration::ZERO).unwrap();
    }
}
