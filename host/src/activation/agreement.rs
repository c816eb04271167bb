//! An activation in a cluster: it needs its replicas' promise before it loads, and a quorum of them before a reply leaves.
//!
//! On a host alone a commit's place is where it is in the log, and one order holds for all grains. In a cluster each grain has an order of its
//! own, a commit's place is its number, and what crosses from grain to grain waits for its quorum first: a reply before it leaves the callee,
//! a call until the caller's earlier commits are safe.
//!
//! **Not here:** which activation may commit (`granary_core::replication`), where a grain is (`reach`).

use std::sync::Arc;
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use granary_core::commit::{Change, Commit};
use granary_core::id::{Ballot, GrainId, HostId, Lsn, Seq};
use granary_core::replication::messages::{Payload, Proposal};

use super::driver::Driver;
use super::restore::unreadable;
use crate::cluster::{Handle, Hear, News, OpenError};
use crate::storage::{Appended, Stored};

/// How long replicas have to promise. Longer than the lease of a holder that has just died is of no use: callers wait.
const PROMISE_PATIENCE: Duration = Duration::from_secs(4);

/// How it stands with the cluster's agreement on an activation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// A quorum has all commits up to this one.
    pub(super) committed: Seq,
    /// No quorum has been heard for too long.
    pub(super) is_isolated: bool,
    /// Another activation has taken over.
    pub(super) is_over: bool,
    /// It has left memory.
    pub(super) is_gone: bool,
    /// The host that it leaves for.
    pub(super) heir: Option<HostId>,
}

impl Standing {
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Committed(seq) => self.committed = self.committed.max(seq),
            News::Isolated => self.is_isolated = true,
            News::Reachable => self.is_isolated = false,
            News::Over => self.is_over = true,
        }
    }
}

/// What an activation may begin with.
pub(super) struct Begun {
    /// Its ballot.
    pub(super) ballot: Ballot,
    /// The number and hash of the last commit, also of one that deleted the grain.
    pub(super) last: (Seq, [u8; 16]),
    /// The state after it, unless there is none.
    pub(super) stored: Option<Stored>,
}

impl Hear for Driver {
    fn hear(self: Arc<Self>, news: News) {
        self.news(news);
    }
}

impl Driver {
    /// Becomes the grain's activation in the cluster, or goes on being it after a turn that failed.
    pub(super) async fn begin(self: &Arc<Self>, cluster: &Handle) -> Result<Begun, CallFailure> {
        if let Some((ballot, hash)) = self.last() {
            if cluster.has(self.id(), hash).await {
                let last = (self.seq(), hash);
                let stored = self.stored_as(cluster, hash).await?;
                return Ok(Begun { ballot, last, stored });
            }
            // Its state is in memory only, and that is lost: the replicas have it, as far as it was committed.
            cluster.close(self.id(), None);
            self.news(News::Over);
            return Err(moved());
        }
        let open = cluster.open(self.name(), self.clone());
        let opened = match tokio::time::timeout(PROMISE_PATIENCE, open).await {
            Err(_) => {
                cluster.close(self.id(), None);
                let detail = "too few of the hosts that keep this grain's copies have answered";
                return Err(CallFailure::before(Code::NoQuorum, detail));
            }
            Ok(Err(OpenError::Held(_) | OpenError::Over)) => return Err(moved()),
            Ok(Err(OpenError::Unreadable)) => return Err(unreadable()),
            Ok(Ok(opened)) => opened,
        };
        let last = opened.head.map_or((Seq(0), [0; 16]), |head| (head.seq, head.hash));
        let exists = opened.head.is_some_and(|head| !head.deleted);
        let stored = match opened.state {
            Some(stored) => Some(stored),
            None if exists => self.stored_as(cluster, last.1).await?,
            None => None,
        };
        Ok(Begun {
            ballot: opened.ballot,
            last,
            stored,
        })
    }

    /// The state in this host's storage, which must be the one after the commit of this hash. If it can't be had the activation is let go,
    /// so that another host may begin one.
    async fn stored_as(&self, cluster: &Handle, hash: [u8; 16]) -> Result<Option<Stored>, CallFailure> {
        let stored = self.stored().await.inspect_err(|_| cluster.close(self.id(), None))?;
        let found = stored.as_ref().map_or([0; 16], |stored| stored.head.hash);
        if found != hash && hash != [0; 16] {
            // Its slot has gone to other hosts since, and the copy with it.
            tracing::warn!(grain = %self.name(), "a grain's copy isn't here any more");
            cluster.close(self.id(), None);
            return Err(moved());
        }
        Ok(stored.filter(|stored| !stored.deleted && stored.head.hash == hash))
    }

    /// Waits until a quorum has all that this activation has committed so far: from then on others may see it.
    pub(super) async fn settled(&self, patience: Duration) -> Result<(), CallFailure> {
        let seq = self.seq();
        let settled = async {
            loop {
                let changed = self.standing_changed().notified();
                let standing = self.standing();
                if standing.is_over {
                    return Err(moved());
                }
                if standing.committed >= seq {
                    return Ok(());
                }
                changed.await;
            }
        };
        let late = Err(CallFailure::deadline(granary_core::api::Committed::No));
        tokio::time::timeout(patience, settled).await.unwrap_or(late)
    }
}

/// Has a commit accepted by the grain's replicas. Its place is its number.
pub(super) fn propose(cluster: &Handle, grain: GrainId, commit: &Commit) -> Appended {
    let mut bytes = Vec::new();
    commit.encode(&mut bytes);
    let appended = Appended {
        lsn: Lsn(commit.seq.0),
        hash: Commit::hash(&bytes),
        bytes: bytes.len(),
    };
    let proposal = Proposal {
        seq: commit.seq,
        prev_hash: commit.prev_hash,
        hash: appended.hash,
        deletes: matches!(commit.change, Change::Delete),
        payload: Payload::Delta(bytes.into()),
    };
    cluster.propose(grain, proposal);
    appended
}

/// The request didn't run here.
pub(super) fn moved() -> CallFailure {
    CallFailure::before(
        Code::Moved,
        "another host has the grain: ask again, and it's found there",
    )
}
