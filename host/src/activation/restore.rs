//! Step 3's second half: a grain that isn't in memory gets there.
//!
//! The same act for a grain's first call, after an eviction, and after a turn that failed: the module's base image, the stored
//! image, later deltas.
//!
//! A grain comes back under the module whose memory it has, whether that is current or not: moving is another step.
//!
//! **Not here:** when that has to be done (the machine).

use std::sync::Arc;

use granary_core::activation::Loaded;
use granary_core::api::{CallFailure, Code};
use granary_core::commit::Delta;
use granary_core::id::{Ballot, Lsn, Seq};
use granary_core::reply_table::TableTime;

use super::budget::Charge;
use super::driver::Driver;
use super::residence::{Residence, start_failure};
use super::room;
use crate::modules::Deployment;
use crate::storage::Stored;
use crate::wasm::StartError;

/// What every commit of this activation carries.
pub(super) struct Origin {
    pub(super) ballot: Ballot,
    pub(super) prev_hash: [u8; 16],
    pub(super) deployment: Arc<Deployment>,
}

impl Driver {
    /// Brings the grain into memory in the state of its last commit, with what is `kept` in memory laid
    /// over it. `room` is raised to what that takes.
    pub(super) async fn restore(
        self: &Arc<Self>,
        kept: Option<(Arc<Deployment>, Delta)>,
        room: &mut Charge,
    ) -> Result<(Residence, Loaded, Origin), CallFailure> {
        let parts = self.parts();
        let (stored, begun) = match parts.cluster() {
            None => (self.stored().await?, None),
            Some(cluster) => {
                let begun = self.begin(cluster).await?;
                (begun.stored, Some((begun.ballot, begun.last)))
            }
        };
        // Compiling an older revision takes long; others must not wait for that.
        let deployment = self.deployment(stored.as_ref(), kept.as_ref()).await?;
        let (revision, durability) = (deployment.revision, deployment.contract.durability);
        let head = stored.as_ref().map(|stored| &stored.head);
        let (ballot, (last, prev_hash)) = begun.unwrap_or_else(|| {
            let ballot = parts.ballot(head.map(|head| &head.ballot));
            (ballot, head.map_or((Seq(0), [0; 16]), |head| (head.seq, head.hash)))
        });
        let origin = Origin {
            ballot,
            prev_hash,
            deployment: deployment.clone(),
        };
        let (mut deltas, loaded) = match stored {
            None => (
                Vec::new(),
                Loaded {
                    seq: last,
                    revision,
                    durability,
                    ..Loaded::default()
                },
            ),
            Some(stored) => {
                let loaded = Loaded {
                    seq: stored.head.seq,
                    exists: stored.exists(),
                    // In a cluster all that an activation begins with is committed.
                    lsn: if begun.is_some() { Lsn(0) } else { stored.lsn },
                    revision,
                    durability,
                    shown: self.reply_clock(&stored),
                    replies: stored.replies,
                };
                let parts = if loaded.exists { stored.parts } else { Vec::new() };
                (parts, loaded)
            }
        };
        deltas.extend(kept.map(|(_, delta)| delta));
        room::charge(room, &deltas)?;
        // More of them at a time would take more memory than was charged.
        let _one_of_few = parts.restores.acquire().await;
        let residence = self.residence(deployment, &deltas)?;
        Ok((residence, loaded, origin))
    }

    /// What the clock of its stored replies shows, if this host has kept it.
    fn reply_clock(&self, stored: &Stored) -> Option<TableTime> {
        let parts = self.parts();
        let mut absent = parts.absent.lock().expect("no panic under this lock");
        absent.resume(
            self.name(),
            stored.head.hash,
            stored.replies.newest(),
            parts.clock.time(),
        )
    }

    /// The state in this host's storage. What is read isn't charged before: few at a time do it, here as in a cluster.
    pub(super) async fn stored(&self) -> Result<Option<Stored>, CallFailure> {
        let parts = self.parts();
        let _one_of_few = parts.restores.acquire().await;
        parts.load(self.name()).await
    }

    /// An instance; when all room is taken, an idle grain leaves for it.
    pub(super) fn residence(&self, deployment: Arc<Deployment>, deltas: &[Delta]) -> Result<Residence, CallFailure> {
        let first = Residence::start(self.parts(), deployment.clone(), deltas);
        let result = match first {
            Err(StartError::Overloaded { .. }) => {
                if let Some(catalog) = self.catalog() {
                    catalog.make_room();
                }
                Residence::start(self.parts(), deployment, deltas)
            }
            result => result,
        };
        result.map_err(|error| start_failure(self.name(), &error))
    }

    /// The module that runs: the one whose memory this is, or the current one for a grain without state.
    async fn deployment(
        &self,
        stored: Option<&Stored>,
        kept: Option<&(Arc<Deployment>, Delta)>,
    ) -> Result<Arc<Deployment>, CallFailure> {
        if let Some((deployment, _)) = kept {
            return Ok(deployment.clone());
        }
        match stored.filter(|stored| stored.exists()).map(|stored| &stored.head) {
            Some(head) => {
                let modules = &self.parts().modules;
                modules.revision(self.line(), head.revision, head.module).await
            }
            None => Ok(self.line().current()),
        }
    }
}

/// The log has said why.
pub(super) fn unreadable() -> CallFailure {
    let detail = "the grain's stored state can't be read; the host's log says why";
    CallFailure::before(Code::Internal, detail)
}
