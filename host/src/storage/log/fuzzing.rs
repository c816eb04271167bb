//! Replay of a log that was sound before any bytes said what to break of it.
//!
//! For fuzz targets. **Not here:** disks that tear and lie while a log is being written, which this folder's tests have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use granary_core::commit::Commit;

use super::segment::LOG_DIR;
use super::{CommitLog, replay};
use crate::storage::config::{Sabotage, StorageConfig};
use crate::storage::files::RealFiles;

/// Small, so that a log of a few records has several.
const SEGMENT_BYTES: u32 = 1 << 14;
const RECORDS: usize = 24;
/// The files of an input are read once, by the process that wrote them.
const NO_SYNC: Sabotage = Sabotage {
    no_replay: false,
    report_before_sync: false,
    no_sync: true,
    held_sync: None,
};
/// What one change takes of the input.
const CHANGE: usize = 6;

type FilesOfLog = BTreeMap<String, Vec<u8>>;

struct Sound {
    files: FilesOfLog,
    bodies: Vec<Vec<u8>>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(write_log);

/// Breaks a sound log as `bytes` say, a change every six of them, and replays it.
///
/// # Panics
///
/// When replay hands on what wasn't written, leaves out a record before one that it hands on, or doesn't notice that a byte
/// of a record that later ones prove durable has changed.
#[doc(hidden)]
pub fn log_replay(bytes: &[u8]) {
    let mut files = SOUND.files.clone();
    let changes = bytes.chunks_exact(CHANGE);
    let is_a_flip = changes.len() == 1 && bytes[0] % 8 < 2;
    changes.for_each(|change| apply(change, &mut files));
    let folder = Folder::new();
    let log = folder.0.join(LOG_DIR);
    fs::create_dir(&log).expect("a new folder has room for another");
    for (name, bytes) in &files {
        fs::write(log.join(name), bytes).expect("the folder for fuzzing has room");
    }
    let mut found = Vec::new();
    let replayed = replay::replay(&RealFiles::new(&folder.0, NO_SYNC), &config(), &mut |record| {
        found.push((record.position.lsn.0, record.body.to_vec()));
        Ok(())
    });
    // The front may be missing: a log whose first segment was freed looks so. That a grain's records do not fit its head then
    // is for those to notice who know of heads.
    let first = found.first().map_or(1, |(lsn, _)| *lsn);
    for ((lsn, body), expected) in found.iter().zip(first..) {
        assert_eq!(*lsn, expected, "no record is left out before another");
        let written = SOUND.bodies.get(*lsn as usize - 1).expect("no record was made up");
        assert!(body == written, "record {lsn} is what was written");
    }
    match replayed {
        Ok(_) if files == SOUND.files => assert_eq!(found.len(), RECORDS, "a sound log is whole"),
        Ok(_) if is_a_flip => assert!(found.len() + 1 >= RECORDS, "only the last group can pass for torn"),
        _ => {}
    }
}

/// One change: what, in which file, where, and two bytes more.
fn apply(change: &[u8], files: &mut FilesOfLog) {
    let (name, at) = {
        let index = usize::from(change[1]) % files.len().max(1);
        let Some((name, file)) = files.iter().nth(index) else {
            return;
        };
        let at = usize::from(u16::from_le_bytes([change[2], change[3]]));
        (name.clone(), at % file.len().max(1))
    };
    let (a, b) = (change[4], change[5]);
    let file = files.get_mut(&name).expect("it was just found");
    let end = (at + usize::from(a) * 8).min(file.len());
    match change[0] % 8 {
        _ if file.is_empty() => {}
        0 => file[at] ^= 1 << (a % 8),
        1 => file[at] = a,
        2 => file[at..end].fill(b),
        3 => {
            let from = (usize::from(b) * 64).min(file.len());
            let len = (end - at).min(file.len() - from);
            file.copy_within(from..from + len, at);
        }
        4 => file.truncate(at),
        5 => drop(files.remove(&name)),
        6 => {
            let copy = file.clone();
            files.insert(format!("{:08}.seg", 1000 + u32::from(a)), copy);
        }
        _ => {
            let copy = file[at..end].to_vec();
            let mut others = files.iter_mut().filter(|(other, _)| **other != name);
            if let Some((_, other)) = others.nth(usize::from(b) % 4)
                && let Some(place) = other.get_mut(at..at + copy.len())
            {
                place.copy_from_slice(&copy);
            }
        }
    }
}

fn config() -> StorageConfig {
    StorageConfig {
        segment_bytes: SEGMENT_BYTES,
        ..StorageConfig::default()
    }
}

/// A log over several segments, a group a record.
fn write_log() -> Sound {
    let folder = Folder::new();
    let files = Arc::new(RealFiles::new(&folder.0, NO_SYNC));
    let fatal = Arc::new(|reason: &str| panic!("{reason}"));
    let log = CommitLog::open(files, &config(), fatal, &mut |_| Ok(())).expect("an empty folder holds an empty log");
    let body = |n: usize| {
        (0..n * 97 % 3000)
            .map(|at| (at * 31 + n * 7) as u8)
            .collect::<Vec<u8>>()
    };
    let bodies: Vec<_> = (1..=RECORDS).map(body).collect();
    for body in &bodies {
        log.append(body, &Commit::hash(body));
        assert!(log.drain(), "the folder for fuzzing has room");
    }
    log.stop();
    Sound {
        files: read_folder(&folder.0.join(LOG_DIR)),
        bodies,
    }
}

fn read_folder(folder: &Path) -> FilesOfLog {
    let entries = fs::read_dir(folder).expect("the log has a folder");
    let files = entries.flatten().map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("the log's files can be read"))
    });
    files.collect()
}

/// A folder in memory, where there is such a place, that goes when it's dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let in_memory = PathBuf::from("/dev/shm");
        let above = if in_memory.is_dir() {
            in_memory
        } else {
            std::env::temp_dir()
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = above.join(format!("granary-fuzz-{}-{number}", std::process::id()));
        fs::create_dir(&folder).expect("the folder for fuzzing can be made");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
