//! Reading records back: from memory while they wait to be written, from their segment afterwards.
//!
//! Records that lie close together are read at once. How close is a matter of what a system call costs: bytes that nobody asked
//! for are copied, too. One grain's records may lie far apart, with those of a thousand others between them; a checkpoint
//! therefore asks for many grains' at once, which brings back most of what lies between.

use std::sync::Arc;

use granary_core::commit::Commit;
use granary_core::id::Lsn;

use super::format::{RECORD_HEADER_LEN, read_record, record_len};
use super::segment::Segment;
use super::{CommitLog, Position, State};
use crate::storage::StorageError;

/// So many bytes between two records are read over: copying them costs about as much as another system call.
const GAP_BYTES: u64 = 4 << 10;
/// No more than this is read at once, unless one record is longer.
const RUN_BYTES: u64 = 256 << 10;

/// Records that were read, in the log's order.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Their bodies, one behind the other.
    bodies: Vec<u8>,
    read: Vec<ReadRecord>,
}

/// Where a record's body is in [`Records`], and its commit's hash.
#[derive(Debug)]
struct ReadRecord {
    lsn: Lsn,
    start: usize,
    len: u32,
    hash: [u8; 16],
}

impl Records {
    /// The body of the record at a place, and its commit's hash; `None` when it wasn't asked for.
    pub(crate) fn at(&self, lsn: Lsn) -> Option<(&[u8], [u8; 16])> {
        let at = self.read.binary_search_by_key(&lsn, |record| record.lsn).ok()?;
        let ReadRecord { start, len, hash, .. } = self.read[at];
        Some((&self.bodies[start..start + len as usize], hash))
    }

    fn push(&mut self, lsn: Lsn, body: &[u8], hash: [u8; 16]) {
        self.read.push(ReadRecord {
            lsn,
            start: self.bodies.len(),
            len: body.len() as u32,
            hash,
        });
        self.bodies.extend_from_slice(body);
    }
}

impl CommitLog {
    /// Records in the order of their positions, which rise. `None` when one's segment was freed meanwhile: its grain's image
    /// is newer.
    pub(crate) fn read(&self, positions: &[Position]) -> Result<Option<Records>, StorageError> {
        let bytes = positions.iter().map(|position| position.len as usize).sum();
        let mut records = Records {
            bodies: Vec::with_capacity(bytes),
            read: Vec::with_capacity(positions.len()),
        };
        let mut buffer = Vec::new();
        let mut rest = positions;
        while !rest.is_empty() {
            let (run, later) = rest.split_at(run_len(rest));
            if !self.read_run(run, &mut buffer, &mut records)? {
                return Ok(None);
            }
            rest = later;
        }
        Ok(Some(records))
    }

    /// Adds the records of one segment that lie close together; false when the segment was freed.
    fn read_run(&self, run: &[Position], buffer: &mut Vec<u8>, records: &mut Records) -> Result<bool, StorageError> {
        let (segment, written) = {
            let state = self.shared.lock();
            // Groups that wait are behind all that are written.
            let written = run.partition_point(|position| state.unwritten(position).is_none());
            if written == 0 {
                for position in run {
                    if let Some(body) = state.unwritten(position) {
                        records.push(position.lsn, body, Commit::hash(body));
                    }
                }
                return Ok(true);
            }
            match state.live.get(&run[0].incarnation) {
                Some(segment) => (Arc::clone(segment), written),
                None => return Ok(false),
            }
        };
        let (run, waiting) = run.split_at(written);
        let start = u64::from(run[0].offset);
        let len = (end_of(&run[written - 1]) - start) as usize;
        // Grows only: what was read before needn't be zeroed again.
        buffer.resize(buffer.len().max(len), 0);
        let bytes = &mut buffer[..len];
        let file = segment
            .file()
            .expect("a segment has a file before anything is written to it");
        file.read_at(bytes, start)?;
        // Looked up again after the read: a segment that's still live wasn't reused under it.
        if !self.shared.lock().live.contains_key(&run[0].incarnation) {
            return Ok(false);
        }
        for position in run {
            let at = u64::from(position.offset) - start;
            let (body, hash) = checked(&segment, position, &bytes[at as usize..])?;
            records.push(position.lsn, body, hash);
        }
        // They may have been written by now: looked up once more.
        Ok(waiting.is_empty() || self.read_run(waiting, buffer, records)?)
    }
}

/// How many of the first of `positions` are read at once.
fn run_len(positions: &[Position]) -> usize {
    let first = &positions[0];
    let near = |pair: &[Position]| {
        pair[1].incarnation == first.incarnation
            && u64::from(pair[1].offset) - end_of(&pair[0]) <= GAP_BYTES
            && end_of(&pair[1]) - u64::from(first.offset) <= RUN_BYTES
    };
    1 + positions.windows(2).take_while(|pair| near(pair)).count()
}

/// Where a record ends in its segment's file.
fn end_of(position: &Position) -> u64 {
    u64::from(position.offset) + record_len(position.len as usize) as u64
}

/// The record at the start of `bytes` and its commit's hash, if it's the one that was written there.
fn checked<'a>(segment: &Segment, position: &Position, bytes: &'a [u8]) -> Result<(&'a [u8], [u8; 16]), StorageError> {
    let record = read_record(bytes).filter(|record| record.body.len() == position.len as usize);
    let checked = record.and_then(|record| Some((record.body, record.checked_hash()?)));
    checked.ok_or_else(|| {
        StorageError::Corrupt(format!(
            "the record at byte {} of {} isn't what was written there",
            position.offset,
            segment.path()
        ))
    })
}

impl State {
    /// The body of a record that may not be in its file yet.
    fn unwritten(&self, position: &Position) -> Option<&[u8]> {
        let written = self
            .writing
            .iter()
            .map(|group| (&group.segment, group.offset, &group.bytes));
        let waiting = self
            .groups
            .iter()
            .map(|group| (&group.segment, group.offset, &group.bytes));
        let (_, start, bytes) = written.chain(waiting).find(|(segment, start, bytes)| {
            let at = u64::from(position.offset).checked_sub(*start);
            segment.incarnation() == position.incarnation && at.is_some_and(|at| at < bytes.len() as u64)
        })?;
        let body = (u64::from(position.offset) - start) as usize + RECORD_HEADER_LEN;
        Some(&bytes[body..body + position.len as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(incarnation: u64, offset: u32, len: u32) -> Position {
        Position {
            lsn: Lsn(1),
            incarnation,
            offset,
            len,
        }
    }

    #[test]
    fn what_is_read_at_once_has_small_gaps_and_an_end() {
        let apart = |gap: u32| (0..10).map(move |i| position(1, 4096 + i * (136 + gap), 120));
        let len = |positions: &[Position]| run_len(positions);
        assert_eq!(len(&apart(0).collect::<Vec<_>>()), 10);
        assert_eq!(len(&apart(4096).collect::<Vec<_>>()), 10);
        assert_eq!(
            len(&apart(4104).collect::<Vec<_>>()),
            1,
            "a hot grain among a thousand others"
        );
        let other_segment = [position(1, 4096, 8), position(2, 4120, 8)];
        assert_eq!(len(&other_segment), 1);
        let long: Vec<_> = (0..100).map(|i| position(1, 4096 + i * 10_016, 10_000)).collect();
        assert_eq!(len(&long), (256 << 10) / 10_016);
        assert_eq!(len(&[position(1, 4096, 1 << 20)]), 1, "whatever its length");
    }
}
