//! The revisions of grain types and which one is current, in the snapshot store.
//!
//! Data folders from before there was a current revision have none stored: there it's the highest, and what a record follows is
//! the revision before it.
//!
//! **Not here:** modules' bytes (`modules`), and what a revision means to a grain.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use granary_core::codec::{DecodeError, Reader, put_varint};
use granary_core::id::{GrainType, ModuleHash, Revision};

use super::fatal::Fatal;
use super::heads::{HeadChange, Heads, Table, current_key, revision_key, split_key};
use super::{ModuleRecord, StorageError};

const UNPOISONED: &str = "no thread panics while it writes a revision";

/// See the module.
pub(crate) struct Revisions {
    heads: Arc<dyn Heads>,
    fatal: Fatal,
    /// One writer at a time, so that what a write was decided on still holds when it's made.
    writing: Mutex<()>,
}

impl Revisions {
    pub(crate) fn new(heads: Arc<dyn Heads>, fatal: Fatal) -> Revisions {
        Revisions {
            heads,
            fatal,
            writing: Mutex::new(()),
        }
    }

    /// See [`Storage::put_revision`](super::Storage::put_revision). The module's bytes are there.
    pub(crate) fn put(&self, record: &ModuleRecord) -> Result<(), StorageError> {
        let _one = self.writing.lock().expect(UNPOISONED);
        let mut value = record.module.0.to_vec();
        put_varint(&mut value, record.at_ms);
        put_varint(&mut value, record.follows.0);
        self.write(vec![
            (revision_key(&record.kind, record.revision), Some(value)),
            current(&record.kind, record.revision),
        ])
    }

    /// See [`Storage::switch`](super::Storage::switch).
    pub(crate) fn switch(&self, kind: &GrainType, revision: Revision) -> Result<(), StorageError> {
        let _one = self.writing.lock().expect(UNPOISONED);
        if self.heads.value(&revision_key(kind, revision))?.is_none() {
            return Err(StorageError::NoRevision(kind.clone(), revision));
        }
        self.write(vec![current(kind, revision)])
    }

    /// See [`Storage::revisions`](super::Storage::revisions).
    pub(crate) fn records(&self) -> Result<Vec<ModuleRecord>, StorageError> {
        let mut records = Vec::new();
        self.each(Table::Revision, "record of a revision", &mut |kind, rest, reader| {
            let Ok(revision) = <[u8; 4]>::try_from(rest) else {
                return Err(reader.error("a revision of four bytes"));
            };
            let revision = Revision(u32::from_be_bytes(revision));
            let module = ModuleHash(reader.array()?);
            let at_ms = reader.varint()?;
            let follows = match reader.rest() {
                [] => revision.0.saturating_sub(1),
                _ => reader.varint()?,
            };
            records.push(ModuleRecord {
                kind,
                revision,
                module,
                at_ms,
                follows: Revision(follows),
            });
            Ok(())
        })?;
        Ok(records)
    }

    /// See [`Storage::currents`](super::Storage::currents).
    pub(crate) fn currents(&self) -> Result<Vec<(GrainType, Revision)>, StorageError> {
        let records = self.records()?.into_iter();
        let mut currents: BTreeMap<_, _> = records.map(|record| (record.kind, record.revision)).collect();
        self.each(Table::Current, "current revision", &mut |kind, _, reader| {
            currents.insert(kind, Revision(reader.varint()?));
            Ok(())
        })?;
        Ok(currents.into_iter().collect())
    }

    /// Visits a table that has a type in each key.
    fn each(
        &self,
        table: Table,
        what: &str,
        visit: &mut dyn FnMut(GrainType, &[u8], &mut Reader<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), StorageError> {
        let mut damaged = false;
        let prefix = table.prefix();
        self.heads.scan(Bound::Included(&[prefix]), &mut |key, value| {
            if key.first() != Some(&prefix) {
                return false;
            }
            let mut reader = Reader::new(value);
            let read = split_key(key).map(|(kind, rest)| visit(kind, rest, &mut reader));
            damaged = !matches!(read, Some(Ok(()))) || reader.finish().is_err();
            !damaged
        })?;
        if damaged {
            return Err(StorageError::Corrupt(format!("the snapshot store's {what}")));
        }
        Ok(())
    }

    /// Makes all changes durable, or after a crash none. What's on the disk after an error is unknown: the process ends.
    fn write(&self, changes: Vec<HeadChange>) -> Result<(), StorageError> {
        let written = self.heads.apply(changes).and_then(|()| self.heads.flush());
        if let Err(error) = &written {
            (self.fatal)(&format!("a revision couldn't be made durable: {error}"));
        }
        written
    }
}

fn current(kind: &GrainType, revision: Revision) -> HeadChange {
    let mut value = Vec::new();
    put_varint(&mut value, revision.0);
    (current_key(kind), Some(value))
}
