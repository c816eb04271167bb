//! Reading records back: from memory while they wait to be written, from their segment afterwards.

use std::sync::Arc;

use granary_core::commit::Commit;

use super::format::{RECORD_HEADER_LEN, read_record, record_len};
use super::segment::Segment;
use super::{CommitLog, Position, Record, State};
use crate::storage::StorageError;

/// Records that lie within so many bytes are read at once: a hot grain's are close together.
const RUN_BYTES: u64 = 128 << 10;

impl CommitLog {
    /// Records in the order of their positions, which rise. `None` when one's segment was freed meanwhile: its grain's image
    /// is newer.
    pub(crate) fn read(&self, positions: &[Position]) -> Result<Option<Vec<Record>>, StorageError> {
        let mut records = Vec::with_capacity(positions.len());
        let mut rest = positions;
        while let Some(first) = rest.first() {
            let near = |position: &&Position| {
                position.incarnation == first.incarnation && end_of(position) - u64::from(first.offset) <= RUN_BYTES
            };
            let len = rest.iter().take_while(near).count().max(1);
            let (run, later) = rest.split_at(len);
            if !self.read_run(run, &mut records)? {
                return Ok(None);
            }
            rest = later;
        }
        Ok(Some(records))
    }

    /// Adds the records of one segment that lie close together; false when the segment was freed.
    fn read_run(&self, run: &[Position], records: &mut Vec<Record>) -> Result<bool, StorageError> {
        let (segment, written) = {
            let state = self.shared.lock();
            // Groups that wait are behind all that are written.
            let written = run.partition_point(|position| state.unwritten(position).is_none());
            if written == 0 {
                let waiting = run.iter().filter_map(|position| state.unwritten(position));
                records.extend(waiting.map(|body| (body.to_vec(), Commit::hash(body))));
                return Ok(true);
            }
            match state.live.get(&run[0].incarnation) {
                Some(segment) => (Arc::clone(segment), written),
                None => return Ok(false),
            }
        };
        let (run, waiting) = run.split_at(written);
        let start = u64::from(run[0].offset);
        let end = end_of(&run[written - 1]);
        let mut bytes = vec![0; (end - start) as usize];
        let file = segment
            .file()
            .expect("a segment has a file before anything is written to it");
        file.read_at(&mut bytes, start)?;
        // Looked up again after the read: a segment that's still live wasn't reused under it.
        if !self.shared.lock().live.contains_key(&run[0].incarnation) {
            return Ok(false);
        }
        for position in run {
            let at = u64::from(position.offset) - start;
            records.push(checked(&segment, position, &bytes[at as usize..])?);
        }
        // They may have been written by now: looked up once more.
        Ok(waiting.is_empty() || self.read_run(waiting, records)?)
    }
}

/// Where a record ends in its segment's file.
fn end_of(position: &Position) -> u64 {
    u64::from(position.offset) + record_len(position.len as usize) as u64
}

/// The record at the start of `bytes`, if it's the one that was written there.
fn checked(segment: &Segment, position: &Position, bytes: &[u8]) -> Result<Record, StorageError> {
    let record = read_record(bytes).filter(|record| record.body.len() == position.len as usize);
    let checked = record.and_then(|record| Some((record.body.to_vec(), record.checked_hash()?)));
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
