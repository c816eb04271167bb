//! The audit log: who has asked for which administrative act, and what became of it; a JSON object a line, in the data folder.
//!
//! An act is written down before it begins and again when it has ended, under its request's id: one that can't be written down isn't done. The
//! file is turned over at a size and one older one is kept: whoever needs more ships it elsewhere.
//!
//! **Not here:** which acts are administrative, and who may do them (`http::access`).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;
use serde_json::Value;

use crate::clock::wall_millis;

/// The file in the data folder, and the one before it.
pub(crate) const NAME: &str = "audit.log";
const BEFORE: &str = "audit.log.1";
/// Turned over at this size: stops acts from filling the disk.
const BYTES_MOST: u64 = 8 << 20;

/// See the file's text.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    file: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    /// The request's id, or nothing for what came from another host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// Who: `owner`, `token NAME`, `anybody`, or a host.
    pub(crate) by: String,
    /// The address that it came from.
    pub(crate) from: String,
    /// What was asked for, a word: `deploy`, `drain`, ...
    pub(crate) act: &'a str,
    /// On what.
    pub(crate) about: Value,
    /// `begun`, `done`, or the code of an error.
    pub(crate) outcome: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

impl Audit {
    /// Goes on with the log in a data folder.
    pub(crate) fn open(folder: &Path) -> io::Result<Audit> {
        Ok(Audit {
            folder: folder.to_owned(),
            file: Mutex::new(open(folder)?),
        })
    }

    /// Writes a line, so that it's there after a crash of the process; waits for the system's cache, not for the disk.
    pub(crate) fn write(&self, entry: &Entry<'_>) -> io::Result<()> {
        let at_ms = wall_millis();
        let mut line = serde_json::to_vec(&Line { at_ms, entry })?;
        line.push(b'\n');
        let mut open = self.file.lock().expect("no panic under this lock");
        if open.bytes + line.len() as u64 > BYTES_MOST {
            fs::rename(self.folder.join(NAME), self.folder.join(BEFORE))?;
            *open = self::open(&self.folder)?;
        }
        open.file.write_all(&line)?;
        open.bytes += line.len() as u64;
        Ok(())
    }
}

fn open(folder: &Path) -> io::Result<Open> {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(folder.join(NAME))?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folder.join(NAME).display())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(about: &str) -> Entry<'_> {
        Entry {
            request_id: Some("ab".repeat(16)),
            by: "token ops".into(),
            from: "127.0.0.1".into(),
            act: "deploy",
            about: json!({ "type": about }),
            outcome: "done",
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_it_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.write(&entry("a\n{\"by\": \"owner\"}")).unwrap();
        drop(audit);
        Audit::open(folder.path()).unwrap().write(&entry("b")).unwrap();
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["by"], "token ops");
        assert_eq!(lines[1]["about"], json!({ "type": "b" }));
        assert!(lines[1]["at_ms"].as_u64().unwrap() > 1_600_000_000_000);
    }

    #[test]
    fn it_is_turned_over_and_takes_no_more_than_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        let about = "x".repeat(1 << 20);
        for _ in 0..20 {
            audit.write(&entry(&about)).unwrap();
        }
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size(NAME) <= BYTES_MOST && size(BEFORE) <= BYTES_MOST);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
