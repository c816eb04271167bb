//! The snapshot store's content as `granary repair` finds it: in the copy, or, where that fails, in the store itself.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use granary_core::id::HostId;

use super::super::files::Files;
use super::super::heads::Heads;
use super::super::sled_heads::SledHeads;
use super::super::{SNAPSHOT_DIR, StorageError};
use super::copied_heads::{bare, round_of};
use super::copy::{self, CopyError, Round};

/// sled changes what it opens, so it's given a copy of the folder.
const SCRATCH: &str = "repair-scratch";

/// Keys and values.
pub(super) type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) values: Table,
    /// A round that is later than all in here.
    pub(super) round: Round,
    pub(super) host: Option<HostId>,
    /// What is wrong.
    pub(super) problems: Vec<String>,
    /// Whether there may be more than was found, or newer.
    pub(super) incomplete: bool,
}

impl State {
    /// Reads what is there. `is_new` says that nothing has to be.
    pub(super) fn read(dir: &Path, files: &dyn Files) -> Result<State, StorageError> {
        let mut state = State::default();
        let front = copy::read_front(files, &mut |change| {
            if change.ended {
                match change.value {
                    Some(value) => state.values.insert(change.key.to_vec(), bare(value).to_vec()),
                    None => state.values.remove(change.key),
                };
            }
        });
        let store = read_store(dir);
        match front {
            Ok(contents) => {
                state.round = contents.ended + 2;
                state.host = Some(contents.host);
                let ahead = store.as_ref().is_ok_and(|(_, newest)| *newest > contents.ended + 1);
                match contents.damage {
                    // Whatever the store is worth: a start makes it from the copy if need be.
                    None if !ahead => return Ok(state),
                    None => state
                        .problems
                        .push("the end of the snapshot store's copy is missing".into()),
                    Some(damage) => state.problems.push(damage),
                }
            }
            Err(CopyError::Io(error)) => return Err(error.into()),
            Err(CopyError::Damaged(what)) => state.problems.push(what),
            Err(error @ CopyError::Missing) => state.problems.push(StorageError::from(error).to_string()),
        }
        match store {
            Ok((values, newest)) if newest + 2 >= state.round && !values.is_empty() => {
                state.values = values;
                state.round = newest + 2;
            }
            Ok(_) => state.incomplete = true,
            Err(StorageError::Corrupt(what)) => {
                state.problems.push(what);
                state.incomplete = true;
            }
            Err(other) => {
                state
                    .problems
                    .push(format!("the snapshot store can't be read: {other}"));
                state.incomplete = true;
            }
        }
        state.round = state.round.max(2);
        Ok(state)
    }
}

/// All that is in the store and its newest round, read from a scratch copy of its folder.
fn read_store(dir: &Path) -> Result<(Table, Round), StorageError> {
    let scratch = dir.join(SCRATCH);
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    // As a crash in the middle of a swap leaves them, see `store_place`.
    let places = [dir.join(SNAPSHOT_DIR), dir.join(SNAPSHOT_DIR).with_extension("next")];
    let [now, next] = &places;
    let from = if now.exists() { now } else { next };
    if !from.exists() {
        return Err(StorageError::Corrupt(format!("the folder `{SNAPSHOT_DIR}` is missing")));
    }
    let found = copy_folder(from, &scratch).map_err(StorageError::from).and_then(|()| {
        let read = catch_unwind(AssertUnwindSafe(|| {
            let heads = SledHeads::open(&scratch, 64 << 20)?;
            let (mut values, mut newest) = (Table::new(), 0);
            heads.scan(Bound::Unbounded, &mut |key, value| {
                newest = newest.max(round_of(value).unwrap_or(0));
                values.insert(key.to_vec(), bare(value).to_vec());
                true
            })?;
            Ok((values, newest))
        }));
        read.unwrap_or_else(|_| {
            Err(StorageError::Corrupt(
                "the snapshot store stopped while it was read".into(),
            ))
        })
    });
    fs::remove_dir_all(&scratch)?;
    found
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
