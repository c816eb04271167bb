//! Which grains exist: the snapshot store's keys and the index's, merged.

use std::collections::BTreeMap;
use std::ops::Bound;

use granary_core::id::{GrainKey, GrainType};

use super::head_value::HeadValue;
use super::heads::{Heads, Table, grain_in_key, type_key};
use super::index::Index;
use super::{Listing, StorageError};

/// The first possible key.
const FIRST_KEY: &str = "\0";

/// See [`Storage::list`](super::Storage::list).
///
/// The index is read first: a grain that a checkpoint moves meanwhile is in the snapshot store by the time that's read. Where
/// both have a grain, the index is newer.
pub(crate) fn list(
    index: &Index,
    heads: &dyn Heads,
    kind: &GrainType,
    prefix: &str,
    after: Option<&GrainKey>,
    limit: usize,
) -> Result<Listing, StorageError> {
    let start = GrainKey::new(if prefix.is_empty() { FIRST_KEY } else { prefix });
    // No key is that long, so none starts with it.
    let Ok(start) = start else {
        return Ok(Listing::default());
    };
    let from = match after {
        Some(after) if *after >= start => Bound::Excluded(after),
        _ => Bound::Included(&start),
    };
    // One more than asked for tells whether there are more.
    let (indexed, complete) = index.list(kind, from, prefix, limit.saturating_add(1));
    let window = if complete {
        None
    } else {
        indexed.last().map(|found| found.key.clone())
    };
    let mut exists: BTreeMap<GrainKey, bool> = indexed.into_iter().map(|found| (found.key, found.exists)).collect();
    let mut found = 0;
    let lower = from.map(|key| type_key(Table::Grain, kind, key.as_str()));
    let within = type_key(Table::Grain, kind, prefix);
    let lower = lower.as_ref().map(|key| &key[..]);
    heads.scan(lower, &mut |stored, value| {
        if !stored.starts_with(&within) {
            return false;
        }
        let Some(grain) = grain_in_key(stored) else { return true };
        if window.as_ref().is_some_and(|window| grain.key > *window) {
            return false;
        }
        exists.entry(grain.key).or_insert_with(|| {
            let alive = HeadValue::exists(value);
            found += usize::from(alive);
            alive
        });
        found <= limit
    })?;
    let mut keys: Vec<_> = exists
        .into_iter()
        .filter(|(_, alive)| *alive)
        .map(|(key, _)| key)
        .collect();
    let more = keys.len() > limit;
    keys.truncate(limit);
    Ok(Listing { keys, more })
}
