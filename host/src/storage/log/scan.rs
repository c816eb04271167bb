//! Reads segments ahead of the walk at a start, and checks what is in them.
//!
//! Hashing each record and entering it into the index take about as long, so they're done by two threads: this one hashes while
//! the walk enters what was hashed before. All of a segment is read at once; its groups are handed on in stretches.
//!
//! **Not here:** whether groups follow one another, and what it means when they don't (`replay`).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use granary_core::id::Lsn;

use super::format::{BODY_START, GroupView, RECORD_HEADER_LEN, RecordView, SegmentHeader, is_untouched};
use crate::storage::files::File;

/// A stretch is handed on once it has so many bytes.
const STRETCH: usize = 256 << 10;
/// Stretches that may be ahead of the walk: less than a segment, so that two are in memory at most.
pub(super) const AHEAD: usize = 16;

/// Some of a segment's groups.
pub(super) struct Stretch {
    pub(super) groups: Vec<SoundGroup>,
    /// With a segment's last stretch.
    pub(super) end: Option<End>,
    bytes: Arc<Vec<u8>>,
}

/// A group whose check and bodies are right.
pub(super) struct SoundGroup {
    /// Where it starts in its segment's file.
    pub(super) at: usize,
    pub(super) first_lsn: Lsn,
    pub(super) records: Vec<SoundRecord>,
}

/// A record of such a group.
pub(super) struct SoundRecord {
    /// Where its header starts in its segment's file.
    pub(super) offset: usize,
    /// Bytes of its body.
    pub(super) len: usize,
    /// The commit's hash.
    pub(super) hash: [u8; 16],
}

/// Where a segment's sound groups end.
pub(super) struct End {
    pub(super) at: usize,
    /// Where behind `at` there is another group with a right check.
    pub(super) later: Option<usize>,
    /// This use of the segment never wrote to it.
    pub(super) is_untouched: bool,
}

impl Stretch {
    pub(super) fn body(&self, record: &SoundRecord) -> &[u8] {
        &self.bytes[record.offset + RECORD_HEADER_LEN..][..record.len]
    }
}

/// Hands on the stretches of some segments in their order, until the walk stops listening.
pub(super) fn run<'a>(
    segments: impl Iterator<Item = (&'a SegmentHeader, &'a dyn File)>,
    walk: &SyncSender<io::Result<Stretch>>,
) {
    for (header, file) in segments {
        let bytes = match read(header, file) {
            Ok(bytes) => bytes,
            Err(error) => {
                // There's nobody to tell if the walk has ended by itself.
                walk.send(Err(error)).ok();
                return;
            }
        };
        if !scan(header, &bytes, &mut |stretch| walk.send(Ok(stretch)).is_ok()) {
            return;
        }
    }
}

fn read(header: &SegmentHeader, file: &dyn File) -> io::Result<Arc<Vec<u8>>> {
    let mut bytes = vec![0; header.file_len as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(Arc::new(bytes))
}

/// False when nobody listens.
fn scan(header: &SegmentHeader, bytes: &Arc<Vec<u8>>, hand_on: &mut dyn FnMut(Stretch) -> bool) -> bool {
    let stretch = |groups, end| Stretch {
        groups,
        end,
        bytes: Arc::clone(bytes),
    };
    let start = BODY_START as usize;
    let (mut at, mut groups, mut handed_on) = (start, Vec::new(), start);
    while let Some((group, len)) = sound_group(header, bytes, at) {
        groups.push(group);
        at += len;
        if at - handed_on >= STRETCH {
            handed_on = at;
            if !hand_on(stretch(std::mem::take(&mut groups), None)) {
                return false;
            }
        }
    }
    let later = later_group(header, &bytes[at..]).map(|behind| at + behind);
    let first = &bytes[start..bytes.len().min(2 * start)];
    // A first group that was blanked, say by a write that got lost, looks untouched, too: what follows it tells.
    let is_untouched = at == start && later.is_none() && is_untouched(header, first);
    let end = End {
        at,
        later,
        is_untouched,
    };
    hand_on(stretch(groups, Some(end)))
}

/// The group at a place, if its check and all bodies are right, and its length.
fn sound_group(header: &SegmentHeader, bytes: &[u8], at: usize) -> Option<(SoundGroup, usize)> {
    let group = GroupView::read(header, &bytes[at..])?;
    let sound = |record: RecordView<'_>| {
        Some(SoundRecord {
            offset: at + record.offset,
            len: record.body.len(),
            hash: record.checked_hash()?,
        })
    };
    let records = group.records().map(sound).collect::<Option<_>>()?;
    let first_lsn = group.header.first_lsn;
    let sound = SoundGroup { at, first_lsn, records };
    Some((sound, group.len()))
}

/// Where behind the first of `bytes` a group with a right check starts.
fn later_group(header: &SegmentHeader, bytes: &[u8]) -> Option<usize> {
    (8..bytes.len())
        .step_by(8)
        .find(|&at| GroupView::read(header, &bytes[at..]).is_some())
}
