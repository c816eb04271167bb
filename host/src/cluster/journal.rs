//! What a host's part in its cluster has to remember besides commits: promises, seals, configurations, votes.
//!
//! ```text
//! granary cluster journal 1\n
//! record:  length (4 bytes, little-endian)  sum (8 bytes, start of the body's blake3)  body
//! ```
//!
//! One thread writes what waits and syncs once for all of it, as the commit log does. Commits don't pass through here: an accepted commit is
//! its own record in the commit log. When the file has grown much beyond what its records stand for, all is written anew into
//! another file, which takes the first one's name.
//!
//! At a start a bad record that nothing sound follows is a torn tail, was never answered, and is cut; any other is damage, and the
//! host refuses to start: a promise that is forgotten could let two activations commit.
//!
//! **Not here:** what the records say (`granary_core::cluster`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::storage::StorageError;
use crate::threads;

/// Its name in the cluster's folder.
pub(super) const NAME: &str = "journal";
const FIRST_LINE: &[u8] = b"granary cluster journal 1\n";
const HEADER: usize = 12;
/// A longer one is damage: the longest is a configuration of a thousand hosts.
const RECORD_MOST: usize = 64 << 20;
/// Shorter files aren't written anew.
const REWRITE_LEAST: u64 = 16 << 20;

/// What the thread is told.
enum Order {
    Write { mark: u64, record: Vec<u8> },
    Rewrite(Vec<u8>),
}

/// The journal of one data folder; dropping it waits for what was ordered.
pub(super) struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Bytes in the file, ordered ones included, and after the last rewriting.
    bytes: u64,
    base: u64,
}

impl Journal {
    /// Opens the journal in the folder, hands each record to `visit`, and starts the thread, which tells `durable` of marks. An error of
    /// the disk goes to `fatal`, which doesn't return outside of tests.
    pub(super) fn open(
        dir: &Path,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
        durable: impl Fn(&[u64]) + Send + 'static,
        fatal: impl Fn(&str) + Send + 'static,
    ) -> Result<Journal, StorageError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(NAME);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let sound = replay(&path, &bytes, visit)?;
        if sound == 0 {
            file.set_len(0)?;
            file.write_all(FIRST_LINE)?;
        } else {
            file.set_len(sound as u64)?;
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        let (orders, ordered) = mpsc::channel();
        let folder = dir.to_owned();
        let thread = threads::start("cluster-journal", move || {
            if let Err(error) = write(&folder, file, &ordered, &durable) {
                fatal(&format!("the cluster's journal can't be written: {error}"));
            }
        })?;
        let base = sound as u64;
        Ok(Journal {
            orders: Some(orders),
            thread: Some(thread),
            bytes: base,
            base,
        })
    }

    /// Writes a record; its mark is told when it and all before are durable.
    pub(super) fn append(&mut self, mark: u64, record: &[u8]) {
        let record = framed(record);
        self.bytes += record.len() as u64;
        self.order(Order::Write { mark, record });
    }

    /// Whether the records should be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.bytes > REWRITE_LEAST && self.bytes > 4 * self.base
    }

    /// Takes `records` in the place of all that were appended so far.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Vec<u8>>) {
        let mut bytes = FIRST_LINE.to_vec();
        records.for_each(|record| bytes.extend(framed(&record)));
        self.bytes = bytes.len() as u64;
        self.base = self.bytes;
        self.order(Order::Rewrite(bytes));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends only after the disk has failed, and then the process does.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It doesn't panic; nothing could be done about it here.
            let _ = thread.join();
        }
    }
}

fn framed(record: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + record.len());
    bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&sum(record));
    bytes.extend_from_slice(record);
    bytes
}

fn sum(record: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(record).as_bytes()[..8]);
    sum
}

/// The record at the start of `bytes`, if it's sound.
fn record(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let body = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    let is_sound = length > 0 && length <= RECORD_MOST && bytes[4..HEADER] == sum(body);
    is_sound.then_some(body)
}

/// Hands all records to `visit` and returns where they end.
fn replay(
    path: &Path,
    bytes: &[u8],
    visit: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<usize, StorageError> {
    let Some(mut rest) = bytes.strip_prefix(FIRST_LINE) else {
        if FIRST_LINE.starts_with(bytes) {
            return Ok(0);
        }
        return Err(damaged(path, "its first line isn't one that this release writes"));
    };
    while !rest.is_empty() {
        let Some(body) = record(rest) else {
            if (1..rest.len()).any(|at| record(&rest[at..]).is_some()) {
                return Err(damaged(path, "sound records follow one that isn't"));
            }
            break;
        };
        visit(body)?;
        rest = &rest[HEADER + body.len()..];
    }
    Ok(bytes.len() - rest.len())
}

fn damaged(path: &Path, what: &str) -> StorageError {
    StorageError::Corrupt(format!(
        "{}: {what}; this host must not vote with a part of its memory: wipe its data folder and let it join as a new host",
        path.display()
    ))
}

/// Writes what is ordered until nobody can order any more.
fn write(dir: &Path, mut file: File, ordered: &mpsc::Receiver<Order>, durable: &dyn Fn(&[u64])) -> io::Result<()> {
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    while let Ok(first) = ordered.recv() {
        for order in std::iter::once(first).chain(std::iter::from_fn(|| ordered.try_recv().ok())) {
            match order {
                Order::Write { mark, record } => {
                    bytes.extend_from_slice(&record);
                    marks.push(mark);
                }
                Order::Rewrite(records) => {
                    // The records stand for all before, written or not.
                    bytes.clear();
                    file = replace(dir, &records)?;
                }
            }
        }
        if !bytes.is_empty() {
            file.write_all(&bytes)?;
            file.sync_data()?;
        }
        durable(&marks);
        bytes.clear();
        marks.clear();
        bytes.shrink_to(1 << 20);
    }
    Ok(())
}

fn replace(dir: &Path, records: &[u8]) -> io::Result<File> {
    let path: PathBuf = dir.join(format!("{NAME}.new"));
    let mut file = File::create(&path)?;
    file.write_all(records)?;
    file.sync_all()?;
    std::fs::rename(&path, dir.join(NAME))?;
    File::open(dir)?.sync_all()?;
    OpenOptions::new().append(true).open(dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A journal, what was in it, and the marks that become durable.
    type Reopened = (Journal, Vec<Vec<u8>>, Arc<Mutex<Vec<u64>>>);

    fn open(dir: &Path) -> Result<Reopened, StorageError> {
        let (mut seen, told) = (Vec::new(), Arc::new(Mutex::new(Vec::new())));
        let durable = told.clone();
        let journal = Journal::open(
            dir,
            &mut |record| {
                seen.push(record.to_vec());
                Ok(())
            },
            move |marks| durable.lock().unwrap().extend_from_slice(marks),
            |why| panic!("{why}"),
        )?;
        Ok((journal, seen, told))
    }

    fn written(dir: &Path) -> Vec<Vec<u8>> {
        open(dir).unwrap().1
    }

    #[test]
    fn records_are_there_at_the_next_start_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, seen, told) = open(dir.path()).unwrap();
        assert!(seen.is_empty());
        (1..=3).for_each(|mark| journal.append(mark, &[mark as u8; 5]));
        drop(journal);
        assert_eq!(*told.lock().unwrap(), [1, 2, 3]);
        assert_eq!(written(dir.path()), [[1; 5], [2; 5], [3; 5]]);
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path()).unwrap();
        journal.append(1, b"first");
        journal.append(2, b"second");
        drop(journal);
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let first = FIRST_LINE.len() + HEADER + 5;
        for at in first..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(written(dir.path()), [b"first"], "cut at {at}");
            assert_eq!(std::fs::read(&path).unwrap().len(), first);
        }
    }

    #[test]
    fn damage_before_a_sound_record_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path()).unwrap();
        journal.append(1, b"first");
        journal.append(2, b"second");
        drop(journal);
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, FIRST_LINE.len(), FIRST_LINE.len() + 6, FIRST_LINE.len() + HEADER + 2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let error = open(dir.path()).err().expect("a damaged journal").to_string();
            assert!(error.contains("wipe its data folder"), "{error}");
        }
    }

    #[test]
    fn what_is_written_anew_stands_for_all_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path()).unwrap();
        (1..=3).for_each(|mark| journal.append(mark, b"old"));
        journal.rewrite([b"all".to_vec()].into_iter());
        journal.append(4, b"new");
        drop(journal);
        assert_eq!(written(dir.path()), [b"all".to_vec(), b"new".to_vec()]);
    }
}
