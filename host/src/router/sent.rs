//! What hosts tell one another of grains and types, in its form between hosts.

use granary_core::api::{Code, Durability};
use granary_core::id::{GrainKey, GrainType, HostId, Revision, Seq};
use serde::{Deserialize, Serialize};

use super::{GrainStatus, UpgradeFailure, UpgradeStatus};

/// A grain's status.
#[derive(Serialize, Deserialize)]
pub(super) struct SentStatus {
    host: HostId,
    exists: bool,
    resident: bool,
    revision: u32,
    ballot: u64,
    seq: u64,
    memory_bytes: u64,
    idle_ms: Option<u64>,
    durability: String,
    last_error: Option<String>,
    queued: usize,
    upgrade_failure: Option<SentFailure>,
}

/// How far a host's grains of a type are.
#[derive(Serialize, Deserialize)]
pub(super) struct SentUpgrade {
    total: u64,
    moved: u64,
    failed: u64,
    left: u64,
    running: bool,
    stuck: u64,
    failures: Vec<SentFailure>,
}

/// Why a grain could not be moved to its type's current revision.
#[derive(Serialize, Deserialize)]
struct SentFailure {
    key: String,
    revision: u32,
    code: String,
    reason: String,
}

impl SentStatus {
    pub(super) fn new(status: GrainStatus) -> SentStatus {
        SentStatus {
            host: status.host,
            exists: status.exists,
            resident: status.resident,
            revision: status.revision.0,
            ballot: status.ballot,
            seq: status.seq.0,
            memory_bytes: status.memory_bytes,
            idle_ms: status.idle_ms,
            durability: status.durability.as_str().to_owned(),
            last_error: status.last_error,
            queued: status.queued,
            upgrade_failure: status.upgrade_failure.map(SentFailure::new),
        }
    }

    pub(super) fn open(self) -> GrainStatus {
        GrainStatus {
            host: self.host,
            exists: self.exists,
            resident: self.resident,
            revision: Revision(self.revision),
            ballot: self.ballot,
            seq: Seq(self.seq),
            memory_bytes: self.memory_bytes,
            idle_ms: self.idle_ms,
            durability: Durability::from_word(&self.durability).unwrap_or_default(),
            last_error: self.last_error,
            queued: self.queued,
            upgrade_failure: self.upgrade_failure.and_then(SentFailure::open),
        }
    }
}

impl SentUpgrade {
    pub(super) fn new(status: UpgradeStatus) -> SentUpgrade {
        SentUpgrade {
            total: status.total,
            moved: status.moved,
            failed: status.failed,
            left: status.left,
            running: status.running,
            stuck: status.stuck,
            failures: status.failures.into_iter().map(SentFailure::new).collect(),
        }
    }

    /// Of the type and the revision that were asked for.
    pub(super) fn open(self, kind: GrainType, revision: Revision) -> UpgradeStatus {
        UpgradeStatus {
            kind,
            revision,
            total: self.total,
            moved: self.moved,
            failed: self.failed,
            left: self.left,
            running: self.running,
            stuck: self.stuck,
            failures: self.failures.into_iter().filter_map(SentFailure::open).collect(),
        }
    }
}

impl SentFailure {
    fn new(failure: UpgradeFailure) -> SentFailure {
        SentFailure {
            key: failure.key.as_str().to_owned(),
            revision: failure.revision.0,
            code: failure.code.as_str().to_owned(),
            reason: failure.reason,
        }
    }

    /// Nothing when no grain can have that key.
    fn open(self) -> Option<UpgradeFailure> {
        Some(UpgradeFailure {
            key: GrainKey::new(&self.key).ok()?,
            revision: Revision(self.revision),
            code: Code::from_word(&self.code).unwrap_or(Code::Internal),
            reason: self.reason,
        })
    }
}
