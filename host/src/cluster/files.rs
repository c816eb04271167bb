//! The two files of a host's part in its cluster: the commit log of its storage, and the journal.
//!
//! **Not here:** what goes into which, and what may be durable before what (`granary_core::cluster::persistence`).

use std::sync::Arc;

use granary_core::cluster::{Record, persistence};
use granary_core::commit::Commit;
use granary_core::id::Lsn;
use granary_core::replication::messages::Accepted;

use super::journal::Journal;
use super::wire;
use crate::storage::{Storage, StoredHead};

/// See the file's text.
pub(super) struct Files {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) journal: Journal,
}

impl persistence::Files for Files {
    fn append(&mut self, commit: &Commit) -> Lsn {
        self.storage.append(commit).lsn
    }

    fn journal(&mut self, mark: u64, record: &Record) {
        self.journal.append(mark, &wire::encode(record));
    }

    fn rewrite(&mut self, records: &[Record]) {
        self.journal
            .rewrite(records.iter().map(|record| wire::encode(record).to_vec()));
    }
}

/// What a stored head says was accepted.
pub(super) fn accepted(stored: &StoredHead) -> Accepted {
    let head = &stored.head;
    Accepted {
        ballot: head.ballot,
        seq: head.seq,
        hash: head.hash,
        deleted: stored.deleted,
    }
}
