//! A group on its way to the disk.

use std::sync::Arc;

use granary_core::id::Lsn;

use super::company::Size;
use super::format::{GROUP_HEADER_LEN, GroupHeader, RECORD_HEADER_LEN};
use super::segment::Segment;

/// Records that share the next sync.
pub(super) struct Group {
    pub(super) segment: Arc<Segment>,
    /// Where its header goes in the segment's file.
    pub(super) offset: u64,
    /// Its bytes as they go to the disk; the header is filled in last.
    pub(super) bytes: Vec<u8>,
    first_lsn: Lsn,
    count: u32,
    /// Has seen the headers of the records, so that finishing a group is short however long it is.
    hasher: blake3::Hasher,
}

/// A group that gets no more records.
pub(super) struct Written {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) last_lsn: Lsn,
}

impl Group {
    /// An empty group; `buffer` is reused.
    pub(super) fn new(segment: Arc<Segment>, offset: u64, first_lsn: Lsn, mut buffer: Vec<u8>) -> Group {
        buffer.clear();
        buffer.resize(GROUP_HEADER_LEN, 0);
        Group {
            segment,
            offset,
            bytes: buffer,
            first_lsn,
            count: 0,
            hasher: blake3::Hasher::new(),
        }
    }

    /// Adds a record and returns where its header is in the segment's file.
    pub(super) fn push(&mut self, header: &[u8; RECORD_HEADER_LEN], body: &[u8]) -> u32 {
        let at = self.offset + self.bytes.len() as u64;
        self.hasher.update(header);
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
        u32::try_from(at)
            .expect("segments are shorter than 4 GiB; a longer one holds one record, which starts at its front")
    }

    /// How much is in it.
    pub(super) fn size(&self) -> Size {
        Size {
            records: self.count as usize,
            bytes: self.bytes.len(),
        }
    }

    /// Fills in the header. All places before this group are durable.
    pub(super) fn finish(mut self) -> Written {
        let header = GroupHeader {
            count: self.count,
            incarnation: self.segment.incarnation(),
            first_lsn: self.first_lsn,
            durable_before: Lsn(self.first_lsn.0 - 1),
            body_len: (self.bytes.len() - GROUP_HEADER_LEN) as u64,
        };
        let header = header.encode(&self.segment.header.nonce, self.hasher);
        self.bytes[..GROUP_HEADER_LEN].copy_from_slice(&header);
        Written {
            segment: self.segment,
            offset: self.offset,
            bytes: self.bytes,
            last_lsn: Lsn(self.first_lsn.0 + u64::from(self.count) - 1),
        }
    }
}
