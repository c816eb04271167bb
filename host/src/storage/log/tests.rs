//! The log against a disk that tears, flips, stalls and fails: what a start makes of it.

use std::sync::atomic::AtomicBool;

use granary_core::commit::Commit;

use super::format::{RECORD_HEADER_LEN, SegmentHeader};
use super::segment::path;
use super::*;
use crate::storage::files::faulty::{Faults, FaultyFiles, Power};
use crate::storage::noise::Noise;

const SEGMENT: u32 = 1 << 14;

fn config() -> StorageConfig {
    StorageConfig {
        segment_bytes: SEGMENT,
        ..StorageConfig::default()
    }
}

/// An open log and what its start found.
struct Opened {
    log: CommitLog,
    found: Vec<(Position, Vec<u8>)>,
}

fn try_open(files: &FaultyFiles) -> Result<Opened, StorageError> {
    let mut found = Vec::new();
    let no_fatal = Arc::new(|reason: &str| panic!("{reason}"));
    let log = CommitLog::open(Arc::new(files.clone()), &config(), no_fatal, &mut |replayed| {
        found.push((replayed.position, replayed.body.to_vec()));
        Ok(())
    })?;
    Ok(Opened { log, found })
}

fn open(files: &FaultyFiles) -> Opened {
    try_open(files).unwrap_or_else(|error| panic!("{error}"))
}

fn corrupt(files: &FaultyFiles) -> String {
    match try_open(files) {
        Err(StorageError::Corrupt(message)) => message,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

fn body(len: usize, seed: u64) -> Vec<u8> {
    let mut body = vec![0; len];
    Noise::new(seed).fill(&mut body);
    body
}

impl Opened {
    fn append(&self, body: &[u8]) -> Position {
        self.log.append(body, &Commit::hash(body)).position
    }

    /// Appends each body in a group of its own.
    fn append_groups(&self, bodies: &[Vec<u8>]) -> Vec<Position> {
        let append = |body: &Vec<u8>| {
            let position = self.append(body);
            assert!(self.log.drain());
            position
        };
        bodies.iter().map(append).collect()
    }

    fn record(&self, position: &Position) -> (Vec<u8>, [u8; 16]) {
        let records = self.log.read(&[*position]).unwrap().unwrap();
        let (body, hash) = records.at(position.lsn).unwrap();
        (body.to_vec(), hash)
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.found.iter().map(|(_, body)| body.clone()).collect()
    }

    /// Waits until a spare segment is there, so that a test knows which files there are.
    fn await_spare(&self) {
        while self.log.shared.lock().free.is_empty() {
            std::thread::yield_now();
        }
    }

    fn free_sealed(&self) {
        for (segment, _) in self.log.sealed() {
            self.log.free(segment).unwrap();
        }
    }

    fn file_of(&self, position: &Position) -> String {
        self.log.shared.lock().live[&position.incarnation].path()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.log.stop();
    }
}

fn disk() -> FaultyFiles {
    FaultyFiles::new(Power::steady())
}

#[test]
fn records_are_found_again_in_order_across_segments() {
    let files = disk();
    let bodies: Vec<_> = (0..200).map(|i| body(1 + i * 7 % 900, i as u64)).collect();
    let log = open(&files);
    let positions: Vec<_> = bodies.iter().map(|body| log.append(body)).collect();
    // Some wait, some are being written, some are on the disk.
    for (position, body) in positions.iter().zip(&bodies) {
        let (read, hash) = log.record(position);
        assert_eq!((&read, hash), (body, Commit::hash(body)));
    }
    let all = |log: &Opened| -> Vec<_> {
        let records = log.log.read(&positions).unwrap().unwrap();
        let body = |position: &Position| records.at(position.lsn).unwrap().0.to_vec();
        positions.iter().map(body).collect()
    };
    assert_eq!(all(&log), bodies);
    assert!(log.log.drain());
    assert!(log.log.sealed().len() > 3);
    drop(log);
    let again = open(&files);
    assert_eq!(again.bodies(), bodies);
    assert_eq!(
        again.found.iter().map(|(position, _)| *position).collect::<Vec<_>>(),
        positions
    );
    assert_eq!(again.log.durable(), Lsn(200));
    assert_eq!(all(&again), bodies);
    for (position, body) in positions.iter().zip(&bodies) {
        assert_eq!(again.record(position).0, *body);
    }
    assert_eq!(again.append(b"next").lsn, Lsn(201));
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let files = disk();
    let log = open(&files);
    let bodies = [body(100, 1), body(33, 2)];
    let first = log.append_groups(&bodies);
    // A spare that's prepared later would know that the last group was durable.
    log.await_spare();
    let before = files.bytes(&log.file_of(&first[0]));
    let last = log.append_groups(&[body(600, 3)])[0];
    let name = log.file_of(&last);
    let whole = files.bytes(&name);
    let start = last.offset as usize - GROUP_HEADER_LEN;
    let end = last.offset as usize + record_len(600);
    drop(log);
    for cut in start..end {
        for front in [true, false] {
            let mut torn = before.clone();
            let survives = if front { start..cut } else { cut + 1..end };
            torn[survives.clone()].copy_from_slice(&whole[survives]);
            if torn == whole {
                continue;
            }
            files.set_bytes(&name, &torn);
            let again = open(&files);
            assert_eq!(again.bodies(), bodies, "cut at {cut}");
            assert_eq!(again.log.durable(), Lsn(2));
            // What comes next takes its place, and nothing of it shows again.
            let next = again.append_groups(&[body(50, 4)])[0];
            assert_eq!((next.lsn, next.offset), (Lsn(3), last.offset));
            drop(again);
            assert_eq!(open(&files).bodies()[2], body(50, 4));
        }
    }
}

#[test]
fn a_flipped_byte_before_the_last_group_is_corruption_and_says_where() {
    let files = disk();
    let log = open(&files);
    let bodies: Vec<_> = (0..40).map(|i| body(700, i)).collect();
    let positions = log.append_groups(&bodies);
    let names: Vec<_> = positions.iter().map(|position| log.file_of(position)).collect();
    log.await_spare();
    drop(log);
    let segments = names.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(segments >= 3, "the groups are spread over segments");
    let mut noise = Noise::new(1);
    for (position, name) in positions.iter().zip(&names).take(39) {
        let start = position.offset as usize - GROUP_HEADER_LEN;
        let good = files.bytes(name);
        for _ in 0..8 {
            let at = start + noise.below((GROUP_HEADER_LEN + RECORD_HEADER_LEN + 700) as u64) as usize;
            let mut bad = good.clone();
            bad[at] ^= 1 << noise.below(8);
            files.set_bytes(name, &bad);
            let message = corrupt(&files);
            assert!(message.contains(&format!("byte {start} of {name}")), "{message}");
            assert!(message.contains("granary repair"), "{message}");
        }
        files.set_bytes(name, &good);
    }
    assert_eq!(open(&files).bodies(), bodies);
}

#[test]
fn a_damaged_segment_header_is_corruption() {
    let files = disk();
    let log = open(&files);
    let position = log.append_groups(&[body(10, 1)])[0];
    let name = log.file_of(&position);
    drop(log);
    let mut bytes = files.bytes(&name);
    bytes[20] ^= 1;
    files.set_bytes(&name, &bytes);
    let message = corrupt(&files);
    assert!(message.contains(&name) && message.contains("header"), "{message}");
}

#[test]
fn a_missing_segment_in_the_middle_is_corruption() {
    let files = disk();
    let log = open(&files);
    let positions = log.append_groups(&(0..60).map(|i| body(700, i)).collect::<Vec<_>>());
    let middle = log.file_of(&positions[30]);
    assert!(middle != log.file_of(&positions[0]) && middle != log.file_of(&positions[59]));
    drop(log);
    files.remove(&middle).unwrap();
    let message = corrupt(&files);
    assert!(message.contains(&format!("{middle} is missing")), "{message}");
}

#[test]
fn a_lost_tail_that_a_newer_segment_knew_of_is_corruption() {
    let files = disk();
    let log = open(&files);
    let positions = log.append_groups(&(0..30).map(|i| body(700, i)).collect::<Vec<_>>());
    // The spare that is prepared now says that all of them were durable.
    let oldest = log.log.sealed()[0].0;
    log.log.free(oldest).unwrap();
    let name = log.file_of(&positions[29]);
    drop(log);
    let mut bytes = files.bytes(&name);
    bytes[positions[29].offset as usize + 20] ^= 1;
    files.set_bytes(&name, &bytes);
    let message = corrupt(&files);
    assert!(message.contains("prepared later"), "{message}");
}

#[test]
fn a_first_group_that_was_blanked_is_corruption() {
    // Of the oldest segment, of one in the middle, and of the only one.
    for (count, which) in [(30, 0), (30, 15), (4, 0)] {
        let files = disk();
        let log = open(&files);
        let positions = log.append_groups(&(0..count).map(|i| body(1700, i)).collect::<Vec<_>>());
        log.await_spare();
        let name = log.file_of(&positions[which]);
        drop(log);
        let mut bytes = files.bytes(&name);
        bytes[4096..2 * 4096].fill(0);
        files.set_bytes(&name, &bytes);
        let message = corrupt(&files);
        assert!(message.contains("damaged at byte"), "{message}");
    }
}

#[test]
fn records_of_an_earlier_use_of_a_segment_never_pass_for_new() {
    let files = disk();
    let log = open(&files);
    // Equal lengths: each new group ends where an old one of the earlier use begins.
    let bodies: Vec<_> = (0..100).map(|i| body(700, i)).collect();
    let positions = log.append_groups(&bodies);
    let names: Vec<_> = positions.iter().map(|position| log.file_of(position)).collect();
    log.free_sealed();
    let again: Vec<_> = (100..130).map(|i| body(700, i)).collect();
    let reused = log.append_groups(&again);
    assert!(
        reused.iter().any(|position| names.contains(&log.file_of(position))),
        "files are used again"
    );
    let left: Vec<_> = log.log.shared.lock().live.keys().copied().collect();
    drop(log);
    let opened = open(&files);
    let kept = bodies
        .iter()
        .zip(&positions)
        .filter(|(_, position)| left.contains(&position.incarnation));
    let expected: Vec<_> = kept.map(|(body, _)| body.clone()).chain(again).collect();
    assert_eq!(opened.bodies(), expected);
    assert_eq!(opened.log.durable(), Lsn(130));
}

#[test]
fn numbering_goes_on_when_all_is_freed() {
    let files = disk();
    for long in [false, true] {
        let log = open(&files);
        let first = log.append_groups(&[body(if long { 40_000 } else { 10 }, 1)])[0];
        log.log.seal();
        log.free_sealed();
        drop(log);
        let again = open(&files);
        assert!(again.found.is_empty());
        assert_eq!(again.append(b"next").lsn.0, first.lsn.0 + 1);
        assert!(again.log.drain());
    }
}

#[test]
fn a_record_longer_than_a_segment_has_a_file_of_its_own() {
    let files = disk();
    let log = open(&files);
    let bodies = [body(100, 1), body(100_000, 2), body(100, 3), body(20_000, 4)];
    let positions = log.append_groups(&bodies);
    for (position, body) in positions.iter().zip(&bodies) {
        assert_eq!(log.record(position).0, *body);
    }
    drop(log);
    let again = open(&files);
    assert_eq!(again.bodies(), bodies);
    let long = again.file_of(&positions[1]);
    again.log.free(positions[0].incarnation).unwrap();
    again.log.free(positions[1].incarnation).unwrap();
    assert!(!files.list(LOG_DIR).unwrap().iter().any(|name| path(name) == long));
    assert!(again.log.read(&positions[1..2]).unwrap().is_none());
    drop(again);
    assert_eq!(open(&files).bodies(), bodies[2..]);
}

#[test]
fn segments_are_used_in_the_order_of_their_incarnations() {
    let files = disk();
    let log = open(&files);
    let mut noise = Noise::new(5);
    let mut last = 0;
    for i in 0..300 {
        // Long records are planned ahead of spares that are prepared already.
        let len = if noise.below(10) == 0 {
            20_000
        } else {
            1 + noise.below(3000) as usize
        };
        let position = log.append(&body(len, i));
        assert!(position.incarnation >= last);
        last = position.incarnation;
        if noise.below(8) == 0 {
            assert!(log.log.drain());
            let sealed = log.log.sealed();
            if sealed.len() > 4 {
                log.log.free(sealed[0].0).unwrap();
            }
        }
    }
    assert!(log.log.drain());
    let count = log.log.shared.lock().live.len();
    drop(log);
    let again = open(&files);
    assert_eq!(again.log.shared.lock().live.len(), count);
    assert_eq!(again.log.durable(), Lsn(300));
}

#[test]
fn a_failed_sync_ends_the_process_and_reports_nothing() {
    struct Never;
    impl DurableSink for Never {
        fn durable(&self, upto: Lsn) {
            panic!("{upto:?} was reported");
        }
    }
    let files = disk();
    let ended = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&ended);
    let fatal = Arc::new(move |reason: &str| {
        assert!(reason.contains("log/"), "{reason}");
        mark.store(true, Ordering::SeqCst);
    });
    let log = CommitLog::open(Arc::new(files.clone()), &config(), fatal, &mut |_| Ok(())).unwrap();
    while log.shared.lock().free.is_empty() {
        std::thread::yield_now();
    }
    log.set_sink(Arc::new(Never));
    files.set_faults(Faults {
        failing_sync: true,
        ..Faults::default()
    });
    log.append(b"lost", &Commit::hash(b"lost"));
    assert!(!log.drain());
    assert!(ended.load(Ordering::SeqCst));
    assert_eq!(log.durable(), Lsn(0));
    log.stop();
}

#[test]
fn all_that_wait_share_one_sync() {
    let files = disk();
    let log = open(&files);
    log.await_spare();
    let stalled = files.stall();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for i in 0..50 {
                    log.append(&body(30, thread * 1000 + i));
                }
            });
        }
    });
    assert!(log.log.pending_bytes() > 400 * 30);
    assert_eq!(log.log.durable(), Lsn(0));
    drop(stalled);
    assert!(log.log.drain());
    assert_eq!(log.log.durable(), Lsn(400));
    // The first ones that the writer found, the rest, and one more for each new segment.
    let segments = log.log.shared.lock().live.len() as u64;
    assert!(log.log.groups() <= 1 + segments, "{} groups", log.log.groups());
    assert_eq!(log.log.pending_bytes(), 0);
    drop(log);
    assert_eq!(open(&files).found.len(), 400);
}

#[test]
fn a_header_says_what_it_is_made_of() {
    let files = disk();
    let log = open(&files);
    let position = log.append_groups(&[body(10, 1)])[0];
    let header = SegmentHeader::decode(&files.bytes(&log.file_of(&position))).unwrap();
    assert_eq!(header.incarnation, position.incarnation);
    assert_eq!(header.file_len, u64::from(SEGMENT));
    // Two uses never share a nonce.
    log.log.seal();
    log.log.free(position.incarnation).unwrap();
    let name = files.list(LOG_DIR).unwrap()[0].clone();
    let next = SegmentHeader::decode(&files.bytes(&path(&name))).unwrap();
    assert!(next.nonce != header.nonce && next.incarnation > header.incarnation);
}

/// A crash may find the records of a segment that is being freed: what is written next has to come behind them.
#[test]
fn what_is_written_while_a_segment_is_being_freed_comes_behind_it() {
    let files = disk();
    let opened = open(&files);
    opened.append_groups(&[body(100, 1)]);
    opened.await_spare();
    // Longer than a segment, so that it's planned after the spare.
    let long = opened.append_groups(&[body(3 * SEGMENT as usize, 2)])[0];
    let spare = opened.log.shared.lock().free[0].incarnation();
    assert!(spare < long.incarnation);
    // What freeing begins with, before anything reaches the disk.
    opened.log.shared.lock().live.clear();
    let next = opened.append_groups(&[body(100, 3)])[0];
    assert!(next.incarnation > long.incarnation);
    drop(opened);
    assert_eq!(open(&files).found.len(), 3);
}
