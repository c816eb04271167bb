//! The join tokens that this host has given out, by the hashes of their secrets.
//!
//! Kept in a file before a token is shown or taken, so that one that was used stays used after a crash. The host that has used a token may
//! show it again: the answer may have been lost.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use granary_core::id::HostId;

use super::authority::keep_bytes;
use crate::clock::wall_millis;

/// The file in the cluster's folder.
const FILE: &str = "tokens";
/// Tokens that may be out at a time.
const TOKENS_MOST: usize = 1000;

/// See the file's text.
#[derive(Debug)]
pub(super) struct TokenBook {
    folder: PathBuf,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Of the secret.
    hash: blake3::Hash,
    expires: u64,
    used_by: Option<HostId>,
}

/// Why a token isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unknown,
    Expired,
    Used,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::Unknown => "this host hasn't made the token",
            Refused::Expired => "the token has expired: make another with `granary token`",
            Refused::Used => "the token was used by another host: each needs its own, make one with `granary token`",
        })
    }
}

impl TokenBook {
    pub(super) fn open(folder: &Path) -> io::Result<TokenBook> {
        let text = match std::fs::read_to_string(folder.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        // A line that can't be read is a token that isn't taken.
        let entries = text.lines().filter_map(Entry::read).collect();
        Ok(TokenBook {
            folder: folder.to_owned(),
            entries: Mutex::new(entries),
        })
    }

    /// Notes a new token.
    pub(super) fn add(&self, secret: &[u8; 16], expires: u64) -> io::Result<()> {
        let mut entries = self.entries.lock().expect("no panic under this lock");
        let now = wall_millis();
        let mut next: Vec<Entry> = entries.iter().filter(|entry| entry.expires > now).cloned().collect();
        if next.len() >= TOKENS_MOST {
            let why = format!("{TOKENS_MOST} join tokens are out: wait until some expire");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        next.push(Entry {
            hash: blake3::hash(secret),
            expires,
            used_by: None,
        });
        self.write(&next)?;
        *entries = next;
        Ok(())
    }

    /// Lets a host in with a token, once.
    pub(super) fn take(&self, secret: &[u8; 16], host: HostId) -> io::Result<Result<(), Refused>> {
        let mut entries = self.entries.lock().expect("no panic under this lock");
        let hash = blake3::hash(secret);
        // blake3 compares in constant time.
        let Some(at) = entries.iter().position(|entry| entry.hash == hash) else {
            return Ok(Err(Refused::Unknown));
        };
        if entries[at].expires <= wall_millis() {
            return Ok(Err(Refused::Expired));
        }
        match entries[at].used_by {
            Some(by) if by == host => return Ok(Ok(())),
            Some(_) => return Ok(Err(Refused::Used)),
            None => {}
        }
        let mut next = entries.clone();
        next[at].used_by = Some(host);
        self.write(&next)?;
        *entries = next;
        Ok(Ok(()))
    }

    fn write(&self, entries: &[Entry]) -> io::Result<()> {
        let mut text = String::new();
        for entry in entries {
            let by = entry.used_by.map_or_else(|| "-".to_owned(), |host| host.to_string());
            // Writing to a string can't fail.
            let _ = writeln!(text, "{} {} {by}", entry.hash, entry.expires);
        }
        keep_bytes(&self.folder, FILE, text.as_bytes())
    }
}

impl Entry {
    fn read(line: &str) -> Option<Entry> {
        let mut words = line.split(' ');
        let hash = blake3::Hash::from_hex(words.next()?).ok()?;
        let expires = words.next()?.parse().ok()?;
        let used_by = match words.next()? {
            "-" => None,
            host => Some(host.parse().ok()?),
        };
        Some(Entry { hash, expires, used_by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once_and_by_the_same_host_again_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (HostId([1; 16]), HostId([2; 16]));
        let book = TokenBook::open(folder.path()).unwrap();
        book.add(&[7; 16], wall_millis() + 60_000).unwrap();
        assert_eq!(book.take(&[8; 16], mine).unwrap(), Err(Refused::Unknown));
        let book = TokenBook::open(folder.path()).unwrap();
        assert_eq!(book.take(&[7; 16], mine).unwrap(), Ok(()));
        let book = TokenBook::open(folder.path()).unwrap();
        assert_eq!(book.take(&[7; 16], mine).unwrap(), Ok(()));
        assert_eq!(book.take(&[7; 16], other).unwrap(), Err(Refused::Used));
    }

    #[test]
    fn a_token_that_has_expired_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let book = TokenBook::open(folder.path()).unwrap();
        book.add(&[7; 16], wall_millis()).unwrap();
        assert_eq!(book.take(&[7; 16], HostId([1; 16])).unwrap(), Err(Refused::Expired));
    }
}
