//! Step 2 of a call's path: where is the grain? On a host alone: always here. In a cluster calls go where `activation::reach` finds them,
//! and what is asked about grains goes to who knows it (`far`).

mod drain;
mod far;
mod logs;
mod readiness;
mod sent;
mod upgrades;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use granary_core::api::{CallFailure, Code, Durability};
use granary_core::id::{CallRoot, GrainKey, GrainName, GrainType, HostId, RequestId, Revision, Seq};
use granary_core::message::{Once, Reply, Work};

pub use self::logs::{LogCursor, LogFilter, LogPage, LogRecord};
use crate::activation::{Catalog, OutsideRequest, StaleRead, refusal};
pub use crate::activation::{UpgradeFailure, UpgradeStatus};
use crate::cluster::Station;
pub use crate::cluster::{ClusterView, HostView};
use crate::modules::Target;
use crate::storage::{Storage, StoredHead};

/// A call from outside, checked as far as HTTP can check it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The request's id: from the caller's trace or fresh.
    pub id: RequestId,
    /// The grain.
    pub grain: GrainName,
    /// The method's name.
    pub method: String,
    /// A JSON array of arguments by position.
    pub args: Vec<u8>,
    /// How long the caller waits.
    pub timeout: Duration,
    /// Client and idempotency key, when the caller sent one.
    pub idempotency: Option<IdempotencyKey>,
    /// A read that this host's copy may answer, even if it's old.
    pub stale: bool,
}

/// Names a request that may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Among whose keys it counts: those of a token's name, or everybody's (empty) where there are no tokens.
    pub scope: String,
    /// The header's value, 1 to 255 bytes.
    pub key: String,
}

impl IdempotencyKey {
    /// The call of `grain` that the key names: the same key sent to another grain is another call.
    fn once(&self, grain: &GrainName, work: &Work) -> Once {
        let root = CallRoot::new(&self.scope, &self.key).sent_to(grain.id());
        let client = blake3::hash(self.scope.as_bytes()).as_bytes()[..8].try_into();
        Once {
            call: root.call_id(),
            fingerprint: Once::fingerprint(work),
            client: client.map(u64::from_le_bytes).unwrap_or_default(),
        }
    }
}

/// A grain that is to be deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Names the request in logs.
    pub id: RequestId,
    /// Which.
    pub grain: GrainName,
    /// How long the caller waits.
    pub timeout: Duration,
    /// Client and idempotency key, when the caller sent one.
    pub idempotency: Option<IdempotencyKey>,
}

/// What is known of a grain without running it.
#[derive(Clone, Debug, PartialEq)]
pub struct GrainStatus {
    /// The host that says this: the one whose memory it's in, if it's in one.
    pub host: HostId,
    /// Whether it has committed anything, or holds volatile state.
    pub exists: bool,
    /// Whether it is in memory.
    pub resident: bool,
    /// The revision whose memory it has; 0 when it doesn't exist.
    pub revision: Revision,
    /// Its ballot's counter.
    pub ballot: u64,
    /// Its last commit.
    pub seq: Seq,
    /// Its linear memory in bytes; 0 when not resident.
    pub memory_bytes: u64,
    /// Milliseconds since its last turn; `None` when not resident.
    pub idle_ms: Option<u64>,
    /// What its type promises.
    pub durability: Durability,
    /// The last failed turn of this activation.
    pub last_error: Option<String>,
    /// Requests that wait in its mailbox.
    pub queued: usize,
    /// Why it isn't on its type's current revision, if moving it there has failed.
    pub upgrade_failure: Option<UpgradeFailure>,
}

/// How much memory the host takes, and who left for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStatus {
    /// Bytes that the host may take.
    pub budget_bytes: u64,
    /// Bytes that it takes: all of the following.
    pub taken_bytes: u64,
    /// Heap, stacks, kept copies of pages.
    pub private_bytes: u64,
    /// Memories of grains.
    pub grain_bytes: u64,
    /// Page tables.
    pub table_bytes: u64,
    /// Grains that wait for room.
    pub waiting: usize,
    /// Grains in memory.
    pub grains: u64,
    /// Grains that left since the start: nobody had called them for a while,
    pub evicted_idle: u64,
    /// the budget was used up,
    pub evicted_for_memory: u64,
    /// all slots were taken.
    pub evicted_for_slots: u64,
}

/// One page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// Keys in order, resident or not.
    pub keys: Vec<GrainKey>,
    /// Where the next page begins.
    pub next: Option<GrainKey>,
}

/// Takes calls to grains; cheap to clone.
#[derive(Clone, Debug)]
pub struct Router {
    catalog: Arc<Catalog>,
    /// This host in its cluster, unless it's alone.
    station: Option<Arc<Station>>,
}

impl Router {
    pub(crate) fn new(catalog: Arc<Catalog>, station: Option<Arc<Station>>) -> Router {
        Router { catalog, station }
    }

    /// Calls a method and waits for its reply. The turn goes on when this future is dropped.
    pub async fn invoke(&self, call: Invocation) -> Reply {
        let line = self.catalog.parts.modules.line(&call.grain.kind);
        let found = line.and_then(|line| Ok((line.clone(), line.method(&call.method)?)));
        let (line, Target { method, read, revision }) = match found {
            Ok(found) => found,
            Err(failure) => return refusal(failure),
        };
        if call.stale && self.catalog.parts.cluster().is_some() {
            let read = StaleRead {
                id: call.id,
                grain: &call.grain,
                target: Target { method, read, revision },
                args: call.args,
                timeout: call.timeout,
            };
            return self.catalog.read_stale(&line, read).await;
        }
        let work = Work::Call {
            method,
            args: call.args,
            read,
            revision,
        };
        let once = call.idempotency.map(|key| key.once(&call.grain, &work));
        let request = OutsideRequest {
            id: call.id,
            grain: &call.grain,
            work,
            once,
            timeout: call.timeout,
        };
        self.catalog.request(&line, request).await
    }

    /// Deletes a grain, through its mailbox.
    pub async fn delete(&self, deletion: Deletion) -> Reply {
        let grain = &deletion.grain;
        let line = match self.catalog.parts.modules.line(&grain.kind) {
            Ok(line) => line,
            Err(failure) => return refusal(failure),
        };
        let request = OutsideRequest {
            id: deletion.id,
            grain,
            work: Work::Delete,
            once: deletion.idempotency.map(|key| key.once(grain, &Work::Delete)),
            timeout: deletion.timeout,
        };
        self.catalog.request(&line, request).await
    }

    /// What is known of a grain, by who holds it.
    pub async fn status(&self, grain: &GrainName) -> Result<GrainStatus, CallFailure> {
        match self.catalog.parts.cluster() {
            None => self.status_here(grain).await,
            Some(cluster) => self.status_there(cluster, grain).await,
        }
    }

    async fn status_here(&self, grain: &GrainName) -> Result<GrainStatus, CallFailure> {
        let parts = &self.catalog.parts;
        let line = parts.modules.line(&grain.kind)?;
        let current = line.current();
        let upgrade_failure = line.stuck().find(grain.id());
        if let Some(driver) = self.catalog.find(grain.id()) {
            let status = driver.status();
            if status.is_loaded {
                return Ok(GrainStatus {
                    host: parts.storage.host(),
                    exists: status.exists,
                    resident: true,
                    revision: status.revision,
                    ballot: status.ballot,
                    seq: status.seq,
                    memory_bytes: status.memory_bytes,
                    idle_ms: Some(status.idle_ms),
                    durability: status.durability,
                    last_error: status.last_error,
                    queued: status.queued,
                    upgrade_failure,
                });
            }
        }
        let name = grain.clone();
        let stored = parts.read(move |storage| storage.head(&name)).await;
        let stored = stored.map_err(|error| unreadable(&error))?;
        let head = stored.as_ref().map(|stored| &stored.head);
        let durability = current.contract.durability;
        Ok(GrainStatus {
            host: parts.storage.host(),
            exists: stored.as_ref().is_some_and(StoredHead::exists),
            resident: false,
            revision: head.map_or(Revision(0), |head| head.revision),
            ballot: head.map_or(0, |head| head.ballot.counter),
            seq: head.map_or(Seq(0), |head| head.seq),
            memory_bytes: 0,
            idle_ms: None,
            durability,
            last_error: None,
            queued: 0,
            upgrade_failure,
        })
    }

    /// How much memory the host takes.
    pub fn memory(&self) -> MemoryStatus {
        let parts = &self.catalog.parts;
        let view = parts.budget.view();
        let evictions = &parts.metrics.evictions;
        MemoryStatus {
            budget_bytes: view.limit,
            taken_bytes: view.taken.bytes(),
            private_bytes: view.taken.private,
            grain_bytes: view.taken.memories,
            table_bytes: view.taken.tables,
            waiting: view.waiting,
            grains: u64::try_from(parts.metrics.activations.get()).unwrap_or(0),
            evicted_idle: evictions.idle.get(),
            evicted_for_memory: evictions.budget.get(),
            evicted_for_slots: evictions.slots.get(),
        }
    }

    /// A number that names a grain's committed state, the same for equal states; `None` when it has none. Reads all of it.
    pub async fn digest(&self, grain: &GrainName) -> Result<Option<String>, CallFailure> {
        match self.catalog.parts.cluster() {
            None => self.catalog.digest(grain).await,
            Some(cluster) => self.digest_there(cluster, grain).await,
        }
    }

    /// Keys of existing grains of a type that start with `prefix`, behind `after`: at most `limit`, in order.
    pub async fn list(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<KeyPage, CallFailure> {
        match self.catalog.parts.cluster() {
            None => self.list_here(kind, prefix, after, limit).await,
            Some(cluster) => self.list_all(cluster, kind, prefix, after, limit).await,
        }
    }

    async fn list_here(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<KeyPage, CallFailure> {
        let parts = &self.catalog.parts;
        let line = parts.modules.line(kind)?;
        let (of, within, from) = (kind.clone(), prefix.to_owned(), after.cloned());
        let list = move |storage: &dyn Storage| storage.list(&of, &within, from.as_ref(), limit);
        let listing = parts.read(list).await.map_err(|error| unreadable(&error))?;
        // Storage's page says nothing of what is behind its last key.
        let last = listing.keys.last().filter(|_| listing.more).cloned();
        let mut keys: BTreeSet<GrainKey> = listing.keys.into_iter().collect();
        if line.current().contract.durability == Durability::Volatile {
            let in_memory = self.catalog.volatile_keys(kind).into_iter();
            keys.extend(in_memory.filter(|key| {
                let is_behind = after.is_none_or(|after| key > after);
                is_behind && key.as_str().starts_with(prefix) && last.as_ref().is_none_or(|last| key <= last)
            }));
        }
        let is_more = last.is_some() || keys.len() > limit;
        let keys: Vec<GrainKey> = keys.into_iter().take(limit).collect();
        let next = keys.last().filter(|_| is_more).cloned();
        Ok(KeyPage { keys, next })
    }
}

fn unreadable(error: &impl fmt::Display) -> CallFailure {
    tracing::error!(%error, "storage can't be read");
    CallFailure::before(Code::Internal, "stored state can't be read; the host's log says why")
}
