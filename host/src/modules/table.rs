//! The revisions of all types, as the hosts of a cluster agree on them: one table, each version made out of the one before.
//!
//! **Not here:** how they agree (the cluster), what a revision's code is (the parent).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use granary_core::api::CallFailure;
use granary_core::id::{GrainType, ModuleHash, Revision};
use serde::{Deserialize, Serialize};

use crate::storage::ModuleRecord;

/// See the file's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    rows: BTreeMap<String, Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    current: u32,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    revision: u32,
    module: [u8; 32],
    at_ms: u64,
    follows: u32,
}

/// A version of the table that the hosts have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Counted from 1; 0 before anything was agreed on.
    pub(crate) version: u64,
    /// What it says.
    pub(crate) table: Table,
}

/// Makes the next version out of the present one, `None` when there's nothing to change. May be asked again after it was agreed on.
pub(crate) type Change = Arc<dyn Fn(&Table) -> Option<Table> + Send + Sync>;

/// What an agreement returns when it's reached.
pub(crate) type Agreeing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How hosts agree on the table and get one another's modules.
pub(crate) trait Agree: Send + Sync {
    /// Changes the table. Returns what is agreed on then.
    fn edit(&self, change: Change) -> Agreeing<'_, Result<Agreed, CallFailure>>;

    /// What is agreed on now.
    fn read(&self) -> Agreeing<'_, Result<Agreed, CallFailure>>;

    /// A module's bytes from a host that has them.
    fn fetch(&self, module: ModuleHash) -> Agreeing<'_, Option<Vec<u8>>>;
}

impl Table {
    /// The table of a host that was alone so far.
    pub(crate) fn of(records: &[ModuleRecord], currents: &[(GrainType, Revision)]) -> Table {
        let mut table = Table::default();
        for record in records {
            let row = table.rows.entry(record.kind.as_str().to_owned()).or_default();
            row.entries.push(Entry::of(record));
        }
        for (kind, revision) in currents {
            table.rows.entry(kind.as_str().to_owned()).or_default().current = revision.0;
        }
        table
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it knows a type.
    pub(super) fn has(&self, kind: &GrainType) -> bool {
        self.rows.contains_key(kind.as_str())
    }

    /// The types' names.
    pub(super) fn kinds(&self) -> Vec<GrainType> {
        self.rows.keys().filter_map(|kind| GrainType::new(kind).ok()).collect()
    }

    /// A type's revisions, oldest first, and which is current.
    pub(super) fn row(&self, kind: &GrainType) -> (Vec<ModuleRecord>, Revision) {
        let Some(row) = self.rows.get(kind.as_str()) else {
            return (Vec::new(), Revision(0));
        };
        let records = row.entries.iter().map(|entry| ModuleRecord {
            kind: kind.clone(),
            revision: Revision(entry.revision),
            module: ModuleHash(entry.module),
            at_ms: entry.at_ms,
            follows: Revision(entry.follows),
        });
        (records.collect(), Revision(row.current))
    }

    /// The revision that a deploy of this module at this time has become, whatever has followed it.
    pub(super) fn made(&self, kind: &GrainType, module: ModuleHash, at_ms: u64) -> Option<ModuleRecord> {
        let (records, _) = self.row(kind);
        records
            .into_iter()
            .find(|record| record.module == module && record.at_ms == at_ms)
    }

    /// With a module as the type's newest revision, unless it's current already, or another revision is than the one that it was
    /// compared with.
    pub(super) fn deployed(
        &self,
        kind: &GrainType,
        module: ModuleHash,
        at_ms: u64,
        compared: Revision,
    ) -> Option<Table> {
        let mut next = self.clone();
        let row = next.rows.entry(kind.as_str().to_owned()).or_default();
        let current = row.entries.iter().find(|entry| entry.revision == row.current);
        if row.current != compared.0 || current.is_some_and(|current| current.module == module.0) {
            return None;
        }
        let last = row.entries.iter().map(|entry| entry.revision).max();
        let revision = last.unwrap_or(0) + 1;
        row.entries.push(Entry {
            revision,
            module: module.0,
            at_ms,
            follows: row.current,
        });
        row.current = revision;
        Some(next)
    }

    /// With another of the type's revisions as the current one, unless that has changed already.
    pub(super) fn switched(&self, kind: &GrainType, from: Revision, to: Revision) -> Option<Table> {
        let mut next = self.clone();
        let row = next.rows.get_mut(kind.as_str())?;
        if row.current != from.0 || !row.entries.iter().any(|entry| entry.revision == to.0) {
            return None;
        }
        row.current = to.0;
        Some(next)
    }
}

impl Entry {
    fn of(record: &ModuleRecord) -> Entry {
        Entry {
            revision: record.revision.0,
            module: record.module.0,
            at_ms: record.at_ms,
            follows: record.follows.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_numbered_and_only_what_was_compared_is_followed() {
        let kind = GrainType::new("counter").unwrap();
        let (a, b) = (ModuleHash([1; 32]), ModuleHash([2; 32]));
        let first = Table::default().deployed(&kind, a, 5, Revision(0)).unwrap();
        assert_eq!(first.row(&kind).1, Revision(1));
        assert_eq!(first.deployed(&kind, a, 6, Revision(1)), None);
        assert_eq!(first.deployed(&kind, b, 6, Revision(0)), None);
        let second = first.deployed(&kind, b, 6, Revision(1)).unwrap();
        let (records, current) = second.row(&kind);
        assert_eq!(
            (records.len(), current, records[1].follows),
            (2, Revision(2), Revision(1))
        );
        let back = second.switched(&kind, Revision(2), Revision(1)).unwrap();
        assert_eq!(back.row(&kind).1, Revision(1));
        assert_eq!(back.switched(&kind, Revision(2), Revision(1)), None);
        assert_eq!(back.switched(&kind, Revision(1), Revision(9)), None);
        // The next number is one that there never was.
        let third = back.deployed(&kind, b, 7, Revision(1)).unwrap();
        assert_eq!(third.row(&kind).1, Revision(3));
        let (records, current) = third.row(&kind);
        assert_eq!(Table::of(&records, &[(kind, current)]), third);
    }
}
