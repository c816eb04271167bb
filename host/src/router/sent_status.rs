//! A grain's status between hosts.

use granary_core::api::{Code, Durability};
use granary_core::id::{GrainKey, HostId, Revision, Seq};
use serde::{Deserialize, Serialize};

use super::{GrainStatus, UpgradeFailure};

/// See the file's text.
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
    upgrade_failure: Option<(String, u32, String, String)>,
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
            upgrade_failure: status.upgrade_failure.map(|failure| {
                let (key, code) = (failure.key.as_str().to_owned(), failure.code.as_str().to_owned());
                (key, failure.revision.0, code, failure.reason)
            }),
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
            upgrade_failure: self.upgrade_failure.and_then(|(key, revision, code, reason)| {
                Some(UpgradeFailure {
                    key: GrainKey::new(&key).ok()?,
                    revision: Revision(revision),
                    code: Code::from_word(&code).unwrap_or(Code::Internal),
                    reason,
                })
            }),
        }
    }
}
