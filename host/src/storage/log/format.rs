//! The bytes of the commit log.
//!
//! ```text
//! segment = header (64 bytes, padded to 4,096), group*, anything
//! header  = magic: 8, incarnation: u64, nonce: 16, lsn floor: u64, length of the file: u64, check: 16
//! group   = magic: u32, records: u32, incarnation: u64, first lsn: u64, durable before: u64, bytes of records: u64, check: 16,
//!           record*
//! record  = length: u32, 0: u32, hash of the body: 8, body, zeros up to the next multiple of 8
//! ```
//!
//! Numbers are little-endian. A group is what one sync made durable. Its check is blake3 over the segment's nonce, its
//! own header and the lengths and hashes of its records, and each hash is the first half of the commit's own. So all bytes
//! that count are covered, and a check is only right in the segment, at the use of it, and with the lsn that it was made
//! for. The nonce is drawn anew for each use of a segment and never leaves the host: what a guest writes into its memory and
//! so into the log can't pass for a group, not even where a torn write left it lying in the open.

use granary_core::commit::Commit;
use granary_core::id::Lsn;

/// Where groups start: the header has a page of its own, so that rewriting it can't tear a group.
pub(super) const BODY_START: u32 = 4096;
const SEGMENT_HEADER_LEN: usize = 64;
/// Bytes of a group before its records.
pub(super) const GROUP_HEADER_LEN: usize = 56;
/// Bytes of a record before its body.
pub(super) const RECORD_HEADER_LEN: usize = 16;

const SEGMENT_MAGIC: [u8; 8] = *b"GRANLOG1";
const GROUP_MAGIC: [u8; 4] = *b"GRP1";

/// One use of a segment file. Counted over all files of a log; segments are used in this order.
pub(crate) type Incarnation = u64;

/// What the first bytes of a segment say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The file's current use.
    pub(super) incarnation: Incarnation,
    /// Makes the checks of this use unlike those of any other.
    pub(super) nonce: [u8; 16],
    /// All records of this use come at or behind this place: numbering goes on when all segments are empty.
    pub(super) lsn_floor: Lsn,
    /// The length of the file.
    pub(super) file_len: u64,
}

impl SegmentHeader {
    /// The stored form.
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        out[16..32].copy_from_slice(&self.nonce);
        out[32..40].copy_from_slice(&self.lsn_floor.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.file_len.to_le_bytes());
        let check = blake3::hash(&out[..48]);
        out[48..].copy_from_slice(&check.as_bytes()[..16]);
        out
    }

    /// Reads the stored form from a segment's first bytes. `None` when they are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes = bytes.get(..SEGMENT_HEADER_LEN)?;
        let sound = bytes[..8] == SEGMENT_MAGIC && blake3::hash(&bytes[..48]).as_bytes()[..16] == bytes[48..];
        sound.then(|| SegmentHeader {
            incarnation: u64_at(bytes, 8),
            nonce: array_at(bytes, 16),
            lsn_floor: Lsn(u64_at(bytes, 32)),
            file_len: u64_at(bytes, 40),
        })
    }
}

/// The head of a record whose body hashes to `hash`.
pub(super) fn record_header(len: u32, hash: &[u8; 16]) -> [u8; RECORD_HEADER_LEN] {
    let mut out = [0; RECORD_HEADER_LEN];
    out[..4].copy_from_slice(&len.to_le_bytes());
    out[8..].copy_from_slice(&hash[..8]);
    out
}

/// Bytes that a record with a body of `len` bytes takes.
pub(super) fn record_len(len: usize) -> usize {
    RECORD_HEADER_LEN + len.next_multiple_of(8)
}

/// What a group's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// How many records follow.
    pub(super) count: u32,
    /// The use of the segment that it was written in.
    pub(super) incarnation: Incarnation,
    /// The place of its first record; the others follow.
    pub(super) first_lsn: Lsn,
    /// Up to which place the log was durable when it was written.
    pub(super) durable_before: Lsn,
    /// Bytes of its records with their headers.
    pub(super) body_len: u64,
}

impl GroupHeader {
    /// The stored form. `hasher` has seen the headers of the records.
    pub(super) fn encode(&self, nonce: &[u8; 16], mut hasher: blake3::Hasher) -> [u8; GROUP_HEADER_LEN] {
        let mut out = [0; GROUP_HEADER_LEN];
        out[..4].copy_from_slice(&GROUP_MAGIC);
        out[4..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable_before.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.body_len.to_le_bytes());
        hasher.update(nonce).update(&out[..40]);
        out[40..].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        out
    }

    fn decode(bytes: &[u8]) -> Option<GroupHeader> {
        let bytes = bytes.get(..GROUP_HEADER_LEN)?;
        (bytes[..4] == GROUP_MAGIC).then(|| GroupHeader {
            count: u32_at(bytes, 4),
            incarnation: u64_at(bytes, 8),
            first_lsn: Lsn(u64_at(bytes, 16)),
            durable_before: Lsn(u64_at(bytes, 24)),
            body_len: u64_at(bytes, 32),
        })
    }
}

/// A group as read from a segment: its check is right, its bodies aren't compared with their hashes yet.
#[derive(Debug)]
pub(super) struct GroupView<'a> {
    pub(super) header: GroupHeader,
    records: &'a [u8],
}

/// A record as read from a segment.
#[derive(Debug)]
pub(super) struct RecordView<'a> {
    /// Where its header starts, counted from the group's start.
    pub(super) offset: usize,
    /// What was appended.
    pub(super) body: &'a [u8],
    hash: [u8; 8],
}

impl<'a> GroupView<'a> {
    /// Reads the group that starts at the first of `bytes`, `None` when there is no sound one of this use of the segment.
    pub(super) fn read(segment: &SegmentHeader, bytes: &'a [u8]) -> Option<GroupView<'a>> {
        let header = GroupHeader::decode(bytes)?;
        if header.incarnation != segment.incarnation || header.count == 0 {
            return None;
        }
        let body_len = usize::try_from(header.body_len).ok()?;
        let records = bytes[GROUP_HEADER_LEN..].get(..body_len)?;
        let group = GroupView { header, records };
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        let mut end = 0;
        for record in group.records() {
            hasher.update(&records[end..end + RECORD_HEADER_LEN]);
            end += record_len(record.body.len());
            count += 1;
        }
        let whole = count == header.count && end == body_len;
        let check = header.encode(&segment.nonce, hasher);
        (whole && check == bytes[..GROUP_HEADER_LEN]).then_some(group)
    }

    /// The records in order. Ends early where lengths make no sense, which no group that was `read` has.
    pub(super) fn records(&self) -> impl Iterator<Item = RecordView<'a>> + use<'a> {
        let (records, mut at) = (self.records, 0);
        std::iter::from_fn(move || {
            let record = read_record(&records[at..])?;
            let offset = GROUP_HEADER_LEN + at;
            at += record_len(record.body.len());
            Some(RecordView { offset, ..record })
        })
    }

    /// Bytes of the whole group.
    pub(super) fn len(&self) -> usize {
        GROUP_HEADER_LEN + self.records.len()
    }
}

/// The record at the start of `bytes`, which hold all of it.
pub(super) fn read_record(bytes: &[u8]) -> Option<RecordView<'_>> {
    let header = bytes.get(..RECORD_HEADER_LEN)?;
    let len = u32_at(header, 0) as usize;
    let rest = &bytes[RECORD_HEADER_LEN..];
    rest.get(..len.checked_next_multiple_of(8)?)?;
    Some(RecordView {
        offset: 0,
        body: &rest[..len],
        hash: array_at(header, 8),
    })
}

impl RecordView<'_> {
    /// The hash of the commit in the body; `None` when it's not the one that was written.
    pub(super) fn checked_hash(&self) -> Option<[u8; 16]> {
        let hash = Commit::hash(self.body);
        (hash[..8] == self.hash).then_some(hash)
    }
}

/// Whether the start of a segment's body shows that this use never wrote to it: zeros, or a group of an earlier use.
pub(super) fn is_untouched(segment: &SegmentHeader, body: &[u8]) -> bool {
    match GroupHeader::decode(body) {
        Some(group) => group.incarnation < segment.incarnation,
        None => body.iter().take(BODY_START as usize).all(|byte| *byte == 0),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> SegmentHeader {
        SegmentHeader {
            incarnation: 7,
            nonce: [9; 16],
            lsn_floor: Lsn(5),
            file_len: 1 << 16,
        }
    }

    fn group(segment: &SegmentHeader, first_lsn: u64, bodies: &[&[u8]]) -> Vec<u8> {
        let mut records = Vec::new();
        let mut hasher = blake3::Hasher::new();
        for body in bodies {
            let head = record_header(body.len() as u32, &Commit::hash(body));
            hasher.update(&head);
            records.extend_from_slice(&head);
            records.extend_from_slice(body);
            records.resize(records.len().next_multiple_of(8), 0);
        }
        let header = GroupHeader {
            count: bodies.len() as u32,
            incarnation: segment.incarnation,
            first_lsn: Lsn(first_lsn),
            durable_before: Lsn(first_lsn - 1),
            body_len: records.len() as u64,
        };
        [&header.encode(&segment.nonce, hasher)[..], &records].concat()
    }

    #[test]
    fn a_segment_header_is_read_back_and_any_flipped_bit_is_noticed() {
        let good = segment().encode();
        assert_eq!(SegmentHeader::decode(&good), Some(segment()));
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_group_is_read_back_and_any_flipped_bit_is_noticed() {
        let bodies: [&[u8]; 3] = [b"one", b"", b"twelve bytes"];
        let good = group(&segment(), 10, &bodies);
        let sound = |bytes: &[u8]| {
            let view = GroupView::read(&segment(), bytes)?;
            view.records()
                .map(|r| r.checked_hash().map(|_| r.body.to_vec()))
                .collect::<Option<Vec<_>>>()
        };
        assert_eq!(sound(&good).unwrap(), bodies);
        // All but the padding, which nothing reads.
        let padding = [(56 + 16 + 3)..(56 + 24), (56 + 24 + 16 + 16 + 12)..good.len()];
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let in_padding = padding.iter().any(|range| range.contains(&(bit / 8)));
            assert_eq!(sound(&bad).is_some(), in_padding, "bit {bit}");
        }
    }

    #[test]
    fn a_group_of_another_use_of_the_segment_is_none() {
        let bytes = group(&segment(), 10, &[b"one"]);
        let later = SegmentHeader {
            incarnation: 8,
            ..segment()
        };
        let other_nonce = SegmentHeader {
            nonce: [8; 16],
            ..segment()
        };
        assert!(GroupView::read(&later, &bytes).is_none());
        assert!(GroupView::read(&other_nonce, &bytes).is_none());
        assert!(is_untouched(&later, &bytes));
        assert!(!is_untouched(&segment(), &bytes));
        assert!(is_untouched(&segment(), &[0; 4096]));
        assert!(!is_untouched(&segment(), &[&[0; 4095][..], &[1]].concat()));
    }

    #[test]
    fn lengths_that_make_no_sense_are_no_group() {
        let mut bytes = group(&segment(), 10, &[b"one"]);
        for at in [4, 32, 56] {
            let good = bytes[at];
            for value in [0, 0x7f, 0xff] {
                bytes[at..at + 4].fill(value);
                assert!(GroupView::read(&segment(), &bytes).is_none());
            }
            bytes[at..at + 4].copy_from_slice(&[good, 0, 0, 0]);
        }
        assert!(GroupView::read(&segment(), &bytes).is_some());
        for len in 0..bytes.len() {
            assert!(GroupView::read(&segment(), &bytes[..len]).is_none());
        }
    }
}
