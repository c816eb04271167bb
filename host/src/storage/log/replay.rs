//! What is in the log at the start.
//!
//! Segments are walked in the order of their incarnations and groups in the order of their places. Where the next group
//! should be and no sound one is, one of three things is true:
//!
//! - the next sound group is the first of a later segment and goes on with the next place: this segment was sealed early;
//! - there is a later sound group that leaves places out, or one further on in the same segment: since a group is only
//!   written once the one before is durable, durable records were damaged, and the host must not start;
//! - there is no later sound group: here the log ends. What is left of a group that was being written is overwritten by
//!   the next one. It may have been lost or torn, but nobody was told that it's durable.
//!
//! The bodies are handed on one by one, as another thread reads and checks them (`scan`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use granary_core::id::Lsn;

use super::Position;
use super::format::{BODY_START, Incarnation, SegmentHeader};
use super::register::{self, REGISTER};
use super::scan::{self, End, SoundGroup, Stretch};
use super::segment::{LOG_DIR, Segment, file_name, file_number, path};
use crate::storage::StorageError;
use crate::storage::config::StorageConfig;
use crate::storage::files::{File, Files, list_finished};

/// A record found in the log.
pub(crate) struct Replayed<'a> {
    pub(crate) position: Position,
    /// The commit's hash.
    pub(crate) hash: [u8; 16],
    pub(crate) body: &'a [u8],
}

/// What a start found.
pub(super) struct Found {
    pub(super) live: BTreeMap<Incarnation, Arc<Segment>>,
    pub(super) tail: Option<Arc<Segment>>,
    pub(super) free: VecDeque<Arc<Segment>>,
    pub(super) next_lsn: Lsn,
    pub(super) next_incarnation: Incarnation,
    pub(super) next_file: u64,
    /// The files that count, as the register has them now.
    pub(super) registered: BTreeSet<u64>,
}

type Visit<'a> = &'a mut dyn FnMut(Replayed<'_>) -> Result<(), StorageError>;

/// A segment file whose header is sound.
struct Candidate {
    name: String,
    header: SegmentHeader,
    file: Arc<dyn File>,
}

/// Where a walk through the log is.
struct Walk {
    /// The place that the next record must have; `None` before the first.
    next_lsn: Option<Lsn>,
    /// Where a group should be and isn't: file name and offset.
    gap: Option<(String, u64)>,
}

/// Reads the whole log.
pub(super) fn replay(files: &dyn Files, config: &StorageConfig, visit: Visit<'_>) -> Result<Found, StorageError> {
    let before = register::read(files)?;
    let (candidates, next_file) = candidates(files, before.as_ref())?;
    let next_incarnation = candidates.last().map_or(1, |last| last.header.incarnation + 1);
    let floor = candidates.iter().map(|candidate| candidate.header.lsn_floor).max();
    let mut walk = Walk {
        next_lsn: None,
        gap: None,
    };
    let mut live = BTreeMap::new();
    let mut empty = Vec::new();
    let used = if config.sabotage.no_replay {
        vec![None; candidates.len()]
    } else {
        walk.all(&candidates, visit)?
    };
    for (candidate, used) in candidates.into_iter().zip(used) {
        let Candidate { name, header, file } = candidate;
        let segment = Segment::existing(name, header, file, used.unwrap_or(u64::from(BODY_START)));
        if segment.live_bytes() == 0 {
            empty.push((segment, used.is_some()));
        } else {
            live.insert(segment.incarnation(), Arc::new(segment));
        }
    }
    if let (Some(next), Some(floor), Some((name, offset))) = (walk.next_lsn, floor, &walk.gap)
        && next < floor
    {
        return Err(damaged(
            name,
            *offset,
            "the header of a segment that was prepared later",
        ));
    }
    let next_lsn = walk.next_lsn.or(floor).unwrap_or(Lsn(1));
    let whole = |segment: &Segment| segment.header.file_len == u64::from(config.segment_bytes);
    // What a crash left of a first group is nothing that a later start should wonder about.
    let mut torn = empty.iter().filter(|(_, touched)| *touched);
    torn.try_for_each(|(segment, _)| segment.wipe())?;
    let (free, odd): (Vec<_>, Vec<_>) = empty.into_iter().map(|(segment, _)| segment).partition(whole);
    // Made for a long record that never got there, or by a host with segments of another size.
    let kept = live.values().map(|segment| segment.number());
    let registered: BTreeSet<u64> = kept.chain(free.iter().map(|segment| segment.number())).collect();
    if before.as_ref() != Some(&registered) {
        register::write(files, &registered)?;
    }
    odd.iter().try_for_each(|segment| files.remove(&segment.path()))?;
    let tail = live.last_key_value().map(|(_, segment)| Arc::clone(segment));
    Ok(Found {
        live,
        tail: tail.filter(|tail| whole(tail)),
        free: free.into_iter().map(Arc::new).collect(),
        next_lsn,
        next_incarnation,
        next_file,
        registered,
    })
}

/// All segment files in the order of their incarnations, and the number of the next file.
fn candidates(files: &dyn Files, registered: Option<&BTreeSet<u64>>) -> Result<(Vec<Candidate>, u64), StorageError> {
    files.make_dir(LOG_DIR)?;
    files.sync_dir("")?;
    let mut candidates = Vec::new();
    let mut next_file = 0;
    let mut missing = registered.cloned().unwrap_or_default();
    for name in list_finished(files, LOG_DIR)? {
        if name == REGISTER {
            continue;
        }
        let Some(number) = file_number(&name) else {
            return Err(StorageError::Corrupt(format!(
                "{} is no segment of the log: move it elsewhere",
                path(&name)
            )));
        };
        next_file = next_file.max(number + 1);
        match registered {
            None => {
                return Err(StorageError::Corrupt(format!(
                    "{LOG_DIR}/{REGISTER}, the list of the log's files, is missing, so it isn't known whether all of them \
                     are there; `granary repair` makes another of those that are"
                )));
            }
            // Made or freed at the moment of a crash: nothing in it counts.
            Some(registered) if !registered.contains(&number) => {
                files.remove(&path(&name))?;
                continue;
            }
            Some(_) => missing.remove(&number),
        };
        let file = files.open(&path(&name))?;
        let len = file.len()?;
        let mut bytes = vec![0; len.min(u64::from(BODY_START)) as usize];
        file.read_at(&mut bytes, 0)?;
        match SegmentHeader::decode(&bytes) {
            Some(header) if header.file_len == len => candidates.push(Candidate { name, header, file }),
            _ => {
                return Err(StorageError::Corrupt(format!(
                    "the header of {} is damaged, so it isn't known which records are in it; `granary repair` would leave \
                     out its records and all later ones",
                    path(&name)
                )));
            }
        }
    }
    if let Some(number) = missing.first() {
        return Err(StorageError::Corrupt(format!(
            "{} is missing: commits were in it; `granary repair` would leave them out, and all later ones",
            path(&file_name(*number))
        )));
    }
    candidates.sort_by_key(|candidate| candidate.header.incarnation);
    let twice = candidates
        .windows(2)
        .find(|pair| pair[0].header.incarnation == pair[1].header.incarnation);
    match twice {
        Some(pair) => Err(StorageError::Corrupt(format!(
            "{} and {} say that they are the same segment: one is a copy that should be moved elsewhere",
            path(&pair[0].name),
            path(&pair[1].name)
        ))),
        None => Ok((candidates, next_file)),
    }
}

impl Walk {
    /// Hands all records on and returns where they end in each segment.
    fn all(&mut self, candidates: &[Candidate], visit: Visit<'_>) -> Result<Vec<Option<u64>>, StorageError> {
        std::thread::scope(|scope| {
            // Dropped at the end of this closure, so that the other thread ends, too, if the walk does early.
            let (scan, scanned) = sync_channel(scan::AHEAD);
            let segments = candidates.iter().map(|candidate| (&candidate.header, &*candidate.file));
            let thread = std::thread::Builder::new().name("log-scan".into());
            thread.spawn_scoped(scope, move || scan::run(segments, &scan))?;
            let ends = candidates
                .iter()
                .map(|candidate| self.segment(candidate, &scanned, visit));
            ends.collect()
        })
    }

    /// Hands a segment's records on and returns where they end; `None` when it was never written to.
    fn segment(
        &mut self,
        candidate: &Candidate,
        scanned: &Receiver<io::Result<Stretch>>,
        visit: Visit<'_>,
    ) -> Result<Option<u64>, StorageError> {
        let Candidate { name, header, .. } = candidate;
        loop {
            let stretch = scanned.recv().expect("each segment's last stretch says so")?;
            for group in &stretch.groups {
                self.expect(group.first_lsn, name, group.at)?;
                hand_on(&stretch, group, header.incarnation, visit)?;
                self.next_lsn = Some(Lsn(group.first_lsn.0 + group.records.len() as u64));
            }
            match stretch.end {
                None => {}
                Some(end) if end.is_untouched => return Ok(None),
                Some(end) => return self.end(name, &end).map(Some),
            }
        }
    }

    /// No sound group follows in a segment.
    fn end(&mut self, name: &str, end: &End) -> Result<u64, StorageError> {
        let at = end.at as u64;
        if let Some(later) = end.later {
            return Err(damaged(name, at, &format!("byte {later} of it")));
        }
        let gap = (name.to_owned(), at);
        if at > u64::from(BODY_START) {
            self.gap = Some(gap);
        } else {
            self.gap.get_or_insert(gap);
        }
        Ok(at)
    }

    /// Whether a group that starts with `lsn` may come here.
    fn expect(&mut self, lsn: Lsn, name: &str, at: usize) -> Result<(), StorageError> {
        match (self.next_lsn, &self.gap) {
            (Some(next), Some((file, offset))) if next != lsn => {
                Err(damaged(file, *offset, &format!("byte {at} of {}", path(name))))
            }
            (Some(next), None) if next != lsn => Err(damaged(name, at as u64, "the same byte")),
            // A start wipes what it finds of first groups that were never durable: this one was.
            (None, Some((file, offset))) => Err(damaged(file, *offset, &format!("byte {at} of {}", path(name)))),
            _ => Ok(()),
        }
    }
}

fn hand_on(
    stretch: &Stretch,
    group: &SoundGroup,
    incarnation: Incarnation,
    visit: Visit<'_>,
) -> Result<(), StorageError> {
    for (lsn, record) in (group.first_lsn.0..).zip(&group.records) {
        let position = Position {
            lsn: Lsn(lsn),
            incarnation,
            offset: record.offset as u32,
            len: record.len as u32,
        };
        visit(Replayed {
            position,
            hash: record.hash,
            body: stretch.body(record),
        })?;
    }
    Ok(())
}

fn damaged(name: &str, offset: u64, proof: &str) -> StorageError {
    StorageError::Corrupt(format!(
        "the commit log is damaged at byte {offset} of {}: a later group at {proof} proves that what was there had been \
         durable; `granary repair` would cut the log there and lose what follows",
        path(name)
    ))
}
