//! What a host's part in its cluster has to remember besides commits: promises, seals, configurations, votes.
//!
//! ```text
//! granary cluster journal 2\n
//! group:  length (4 bytes, little-endian)  sum (8 bytes, start of the body's blake3)  body
//! body:   length (4 bytes, little-endian)  record, and so on
//! ```
//!
//! One thread writes what waits as one group, as the commit log does, and syncs before it begins the next. Commits don't pass through here: an
//! accepted commit is its own record in the commit log. When the file has grown much beyond what its records stand for, all is written anew
//! into another file, which takes the first one's name.
//!
//! At a start a bad group that nothing sound follows is a torn tail, was never answered, and is cut; any other is damage, since a group is begun
//! when the one before is durable, and the host refuses to start: a promise that is forgotten could let two activations commit. A group has
//! one sum because a disk that loses power keeps any part of what wasn't synced: of two records under sums of their own the second could be
//! sound without the first.
//!
//! **Not here:** what the records say (`granary_core::cluster`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::storage::StorageError;
use crate::threads;

/// Its name in the cluster's folder.
pub(super) const NAME: &str = "journal";
const FIRST_LINE: &[u8] = b"granary cluster journal 2\n";
/// Of files in which each record has a sum of its own.
const FIRST_LINE_OF_1: &[u8] = b"granary cluster journal 1\n";
const HEADER: usize = 12;
/// Before each record of a group.
const LENGTH: usize = 4;
/// What goes into one group, unless one record is longer.
const GROUP_WANTED: usize = 16 << 20;
/// A longer group is damage: the longest record is a configuration of a thousand hosts.
const GROUP_MOST: usize = 128 << 20;
/// Shorter files aren't written anew.
const REWRITE_LEAST: u64 = 16 << 20;

/// What the thread is told.
enum Order {
    Write { mark: u64, record: Vec<u8> },
    Rewrite(Vec<Vec<u8>>),
}

/// The journal of one data folder; dropping it waits for what was ordered.
pub(super) struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Bytes in the file, ordered ones included, and after the last rewriting.
    bytes: u64,
    base: u64,
    /// Of what the thread hasn't synced yet.
    waiting: Arc<AtomicU64>,
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
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let base = match replay(&path, &bytes, visit)? {
            Found::Nothing => {
                file.set_len(0)?;
                file.write_all(FIRST_LINE)?;
                FIRST_LINE.len()
            }
            Found::Sound(end) => {
                file.set_len(end as u64)?;
                end
            }
            Found::OfForm1(records) => {
                let anew = grouped(records.into_iter());
                file = replace(dir, &anew)?;
                anew.len()
            }
        } as u64;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        let (orders, ordered) = mpsc::channel();
        let folder = dir.to_owned();
        let waiting = Arc::<AtomicU64>::default();
        let written = waiting.clone();
        let durable = move |marks: &[u64], bytes: u64| {
            written.fetch_sub(bytes, Ordering::Relaxed);
            durable(marks);
        };
        let thread = threads::start("cluster-journal", move || {
            if let Err(error) = write(&folder, file, &ordered, &durable) {
                fatal(&format!("the cluster's journal can't be written: {error}"));
            }
        })?;
        Ok(Journal {
            orders: Some(orders),
            thread: Some(thread),
            bytes: base,
            base,
            waiting,
        })
    }

    /// Writes a record; its mark is told when it and all before are durable.
    pub(super) fn append(&mut self, mark: u64, record: &[u8]) {
        let record = record.to_vec();
        let length = (record.len() + LENGTH) as u64;
        self.bytes += length;
        self.waiting.fetch_add(length, Ordering::Relaxed);
        self.order(Order::Write { mark, record });
    }

    /// Whether the records should be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.bytes > REWRITE_LEAST && self.bytes > 4 * self.base
    }

    /// Takes `records` in the place of all that were appended so far.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Vec<u8>>) {
        let records: Vec<Vec<u8>> = records.collect();
        let length = records.iter().map(|record| (record.len() + LENGTH) as u64).sum();
        (self.bytes, self.base) = (length, length);
        self.waiting.fetch_add(length, Ordering::Relaxed);
        self.order(Order::Rewrite(records));
    }

    /// Bytes of records that were ordered and aren't durable yet.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
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

/// A group of these records.
fn group(records: &[Vec<u8>]) -> Vec<u8> {
    let length: usize = records.iter().map(|record| LENGTH + record.len()).sum();
    let mut bytes = Vec::with_capacity(HEADER + length);
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; HEADER - LENGTH]);
    for record in records {
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let sum = sum(&bytes[HEADER..]);
    bytes[LENGTH..HEADER].copy_from_slice(&sum);
    bytes
}

/// A whole file of these records.
fn grouped(records: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = FIRST_LINE.to_vec();
    let (mut some, mut length) = (Vec::new(), 0);
    for record in records {
        length += record.len();
        some.push(record);
        if length >= GROUP_WANTED {
            bytes.extend(group(&std::mem::take(&mut some)));
            length = 0;
        }
    }
    if !some.is_empty() {
        bytes.extend(group(&some));
    }
    bytes
}

fn sum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    sum
}

/// What a file has.
enum Found {
    /// It was never written to.
    Nothing,
    /// What is sound ends there.
    Sound(usize),
    /// All records of a file of the earlier form.
    OfForm1(Vec<Vec<u8>>),
}

/// What stands behind a length and a sum at the start of `bytes`, if it's sound.
fn sound(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(bytes.get(..LENGTH)?.try_into().ok()?) as usize;
    let body = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    let is_sound = length > 0 && length <= GROUP_MOST && bytes[LENGTH..HEADER] == sum(body);
    is_sound.then_some(body)
}

/// A group's records; nothing when its lengths don't fit, which nobody writes.
fn records(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let length = u32::from_le_bytes(body.get(..LENGTH)?.try_into().ok()?) as usize;
        found.push(body.get(LENGTH..LENGTH.checked_add(length)?)?);
        body = &body[LENGTH + length..];
    }
    Some(found)
}

/// Hands all records to `visit`.
fn replay(
    path: &Path,
    bytes: &[u8],
    visit: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<Found, StorageError> {
    if let Some(rest) = bytes.strip_prefix(FIRST_LINE_OF_1) {
        let mut all = Vec::new();
        each_sound(path, rest, &mut |record| {
            all.push(record.to_vec());
            visit(record)
        })?;
        return Ok(Found::OfForm1(all));
    }
    let Some(rest) = bytes.strip_prefix(FIRST_LINE) else {
        if FIRST_LINE.starts_with(bytes) {
            return Ok(Found::Nothing);
        }
        return Err(damaged(path, "its first line isn't one that this release writes"));
    };
    let end = each_sound(path, rest, &mut |body| {
        let records = records(body).ok_or_else(|| damaged(path, "a group isn't made of records"))?;
        records.into_iter().try_for_each(&mut *visit)
    })?;
    Ok(Found::Sound(FIRST_LINE.len() + end))
}

/// Hands on what is sound, and returns where it ends.
fn each_sound(
    path: &Path,
    bytes: &[u8],
    visit: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<usize, StorageError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(body) = sound(rest) else {
            if (1..rest.len()).any(|at| sound(&rest[at..]).is_some()) {
                return Err(damaged(path, "something sound follows what isn't"));
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
fn write(dir: &Path, mut file: File, ordered: &mpsc::Receiver<Order>, durable: &dyn Fn(&[u64], u64)) -> io::Result<()> {
    let (mut records, mut marks, mut length) = (Vec::new(), Vec::new(), 0);
    while let Ok(first) = ordered.recv() {
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Write { mark, record } => {
                    length += record.len() + LENGTH;
                    records.push(record);
                    marks.push(mark);
                }
                Order::Rewrite(all) => {
                    // The records stand for all before, written or not.
                    records.clear();
                    length += all.iter().map(|record| record.len() + LENGTH).sum::<usize>();
                    file = replace(dir, &grouped(all.into_iter()))?;
                }
            }
            next = if length < GROUP_WANTED {
                ordered.try_recv().ok()
            } else {
                None
            };
        }
        if !records.is_empty() {
            file.write_all(&group(&records))?;
            file.sync_data()?;
        }
        durable(&marks, length as u64);
        records.clear();
        marks.clear();
        length = 0;
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

    /// A file of two groups, of which the second has two records.
    fn two_groups(dir: &Path) -> (PathBuf, Vec<u8>) {
        drop(open(dir).unwrap());
        let path = dir.join(NAME);
        let groups = [
            group(&[b"first".to_vec()]),
            group(&[b"second".to_vec(), b"third".to_vec()]),
        ];
        let whole = [FIRST_LINE, &groups.concat()].concat();
        std::fs::write(&path, &whole).unwrap();
        (path, whole)
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = two_groups(dir.path());
        let first = FIRST_LINE.len() + HEADER + LENGTH + 5;
        for at in first..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(written(dir.path()), [b"first"], "cut at {at}");
            assert_eq!(std::fs::read(&path).unwrap().len(), first);
        }
    }

    /// Of what wasn't synced a disk keeps any part, also the end without the beginning.
    #[test]
    fn a_group_that_was_written_in_part_is_cut_whichever_part_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = two_groups(dir.path());
        let first = FIRST_LINE.len() + HEADER + LENGTH + 5;
        for at in first..whole.len() - 1 {
            let mut torn = whole.clone();
            torn[first..=at].fill(0);
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(written(dir.path()), [b"first"], "zeros up to {at}");
            assert_eq!(std::fs::read(&path).unwrap().len(), first);
        }
    }

    #[test]
    fn damage_before_a_sound_group_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = two_groups(dir.path());
        for at in [0, FIRST_LINE.len(), FIRST_LINE.len() + 6, FIRST_LINE.len() + HEADER + 2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let error = open(dir.path()).err().expect("a damaged journal").to_string();
            assert!(error.contains("wipe its data folder"), "{error}");
        }
    }

    #[test]
    fn a_file_of_the_earlier_form_is_read_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let framed = |record: &[u8]| [&(record.len() as u32).to_le_bytes(), &sum(record)[..], record].concat();
        let earlier = [FIRST_LINE_OF_1, &framed(b"first"), &framed(b"second")].concat();
        std::fs::write(&path, &earlier).unwrap();
        let (mut journal, seen, _) = open(dir.path()).unwrap();
        assert_eq!(seen, [b"first".to_vec(), b"second".to_vec()]);
        journal.append(1, b"third");
        drop(journal);
        assert!(std::fs::read(&path).unwrap().starts_with(FIRST_LINE));
        assert_eq!(
            written(dir.path()),
            [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()]
        );
    }

    #[test]
    fn what_waits_for_the_disk_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path()).unwrap();
        journal.append(1, &[7; 1000]);
        journal.rewrite([b"all".to_vec()].into_iter());
        let waiting = journal.waiting.clone();
        drop(journal);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
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
