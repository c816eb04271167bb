//! The revisions of grain types and which one is current, in the snapshot store.
//!
//! Data folders from before there was a current revision have none stored: there it's the highest, and what a record follows is
//! the revision before it.
//!
//! A type keeps its newest revisions, and of the older ones those whose module some grain is still of: without that module the
//! grain's state couldn't be read any more.
//!
//! **Not here:** modules' bytes (`modules`), and what a revision means to a grain.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use granary_core::codec::{DecodeError, Reader, put_varint};
use granary_core::id::{GrainType, ModuleHash, Revision};

use super::fatal::Fatal;
use super::heads::{HeadChange, Heads, Table, current_key, revision_key, split_key};
use super::{ModuleRecord, StorageError};

/// A type's newest revisions that are kept whatever happens: rollbacks go back no farther.
pub(crate) const KEPT: usize = 64;
/// When a type has so many revisions, old ones are forgotten. Twice what is kept, as it takes a look at all grains of the type.
const LIMIT: usize = 2 * KEPT;
const UNPOISONED: &str = "no thread panics while it writes a revision";

/// Takes a type, the rest of its key, and the value.
type Visit<'a> = dyn FnMut(GrainType, &[u8], &mut Reader<'_>) -> Result<(), DecodeError> + 'a;

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

    /// See [`Storage::put_revision`](super::Storage::put_revision). The module's bytes are there. `used` finds the modules that
    /// the type's grains are of.
    pub(crate) fn put(
        &self,
        record: &ModuleRecord,
        used: impl FnOnce() -> Result<HashSet<ModuleHash>, StorageError>,
    ) -> Result<(), StorageError> {
        let _one = self.writing.lock().expect(UNPOISONED);
        let mut value = record.module.0.to_vec();
        put_varint(&mut value, record.at_ms);
        put_varint(&mut value, record.follows.0);
        let mut changes = self.forget(record, used)?;
        changes.push((revision_key(&record.kind, record.revision), Some(value)));
        changes.push(current(&record.kind, record.revision));
        self.write(changes)
    }

    /// Removals of the type's old revisions, when there are too many beside the one to come.
    fn forget(
        &self,
        next: &ModuleRecord,
        used: impl FnOnce() -> Result<HashSet<ModuleHash>, StorageError>,
    ) -> Result<Vec<HeadChange>, StorageError> {
        let mut records = self.records()?;
        records.retain(|record| record.kind == next.kind && record.revision != next.revision);
        if records.len() + 1 < LIMIT {
            return Ok(Vec::new());
        }
        let used = used()?;
        records.truncate(records.len() + 1 - KEPT);
        // What's current until now is what a grain may still be on its way to.
        records.retain(|record| record.revision != next.follows && !used.contains(&record.module));
        let keys = records.iter().map(|record| revision_key(&record.kind, record.revision));
        Ok(keys.map(|key| (key, None)).collect())
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
    fn each(&self, table: Table, what: &str, visit: &mut Visit<'_>) -> Result<(), StorageError> {
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

#[cfg(test)]
mod tests {
    use super::super::files::faulty::Power;
    use super::super::model_heads::ModelHeads;
    use super::super::noise::Noise;
    use super::*;

    fn revisions(heads: &Arc<ModelHeads>) -> Revisions {
        Revisions::new(Arc::<ModelHeads>::clone(heads), Arc::new(|_| ()))
    }

    fn kind() -> GrainType {
        GrainType::new("a").unwrap()
    }

    fn record(revision: u32) -> ModuleRecord {
        let mut module = [0; 32];
        module[..4].copy_from_slice(&revision.to_le_bytes());
        ModuleRecord {
            kind: kind(),
            revision: Revision(revision),
            module: ModuleHash(module),
            at_ms: 1,
            follows: Revision(revision - 1),
        }
    }

    #[test]
    fn a_record_and_its_being_current_survive_a_power_cut_together() {
        let mut cut_short = 0;
        for (seed, operations) in (0..40).flat_map(|seed| (0..4).map(move |operations| (seed, operations))) {
            let first = ModelHeads::new(Power::steady());
            revisions(&first).put(&record(1), || Ok(HashSet::new())).unwrap();
            let mut noise = Noise::new(seed);
            let heads = first.after_power_cut(&mut noise, Power::failing_after(operations));
            let put = revisions(&heads).put(&record(2), || Ok(HashSet::new()));
            let heads = heads.after_power_cut(&mut noise, Power::steady());
            let records = revisions(&heads).records().unwrap();
            let currents = revisions(&heads).currents().unwrap();
            assert_eq!(currents, [(kind(), Revision(records.len() as u32))]);
            assert!(put.is_err() || records.len() == 2);
            cut_short += usize::from(records.len() == 1);
        }
        assert!(cut_short > 0);
    }

    #[test]
    fn records_of_the_first_form_follow_each_other_and_the_highest_is_current() {
        let heads = ModelHeads::new(Power::steady());
        for revision in [1, 2] {
            let mut value = record(revision).module.0.to_vec();
            put_varint(&mut value, 1u64);
            heads.put(revision_key(&kind(), Revision(revision)), value).unwrap();
        }
        assert_eq!(revisions(&heads).records().unwrap(), [record(1), record(2)]);
        assert_eq!(revisions(&heads).currents().unwrap(), [(kind(), Revision(2))]);
    }

    #[test]
    fn old_revisions_are_forgotten_but_for_those_that_grains_are_of() {
        let heads = ModelHeads::new(Power::steady());
        let revisions = revisions(&heads);
        let used = [3, 4, 100].map(|revision| record(revision).module);
        for revision in 1..LIMIT as u32 {
            let unasked = || panic!("nobody is to look at all grains with each deploy");
            revisions.put(&record(revision), unasked).unwrap();
        }
        revisions.switch(&kind(), Revision(10)).unwrap();
        let next = ModuleRecord {
            follows: Revision(10),
            ..record(LIMIT as u32)
        };
        revisions.put(&next, || Ok(HashSet::from(used))).unwrap();
        let left: Vec<_> = revisions
            .records()
            .unwrap()
            .iter()
            .map(|record| record.revision.0)
            .collect();
        let newest = (LIMIT - KEPT + 1) as u32..=LIMIT as u32;
        assert_eq!(left, [3, 4, 10].into_iter().chain(newest).collect::<Vec<_>>());
    }
}
