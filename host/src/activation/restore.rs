//! Step 3's second half: a grain that isn't in memory gets there.
//!
//! The same act for a grain's first call, after an eviction, and after a turn that failed: the module's base image, the stored
//! image, later deltas.
//!
//! **Not here:** when that has to be done (the machine).

use std::sync::Arc;

use granary_core::activation::Loaded;
use granary_core::api::{CallFailure, Code};
use granary_core::commit::Delta;
use granary_core::id::{Ballot, Revision};

use super::driver::Driver;
use super::residence::{Residence, start_failure};
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
    /// over it.
    pub(super) fn restore(
        &self,
        kept: Option<(Arc<Deployment>, Delta)>,
    ) -> Result<(Residence, Loaded, Origin), CallFailure> {
        let parts = self.parts();
        let stored = parts.storage.load(self.name()).map_err(|error| {
            tracing::error!(grain = %self.name(), %error, "a grain can't be loaded");
            CallFailure::before(
                Code::Internal,
                "the grain's stored state can't be read; the host's log says why",
            )
        })?;
        let deployment = self.deployment(stored.as_ref(), kept.as_ref())?;
        let revision = deployment.revision;
        let head = stored.as_ref().map(|stored| &stored.head);
        let origin = Origin {
            ballot: parts.ballot(head.map(|head| &head.ballot)),
            prev_hash: head.map_or([0; 16], |head| head.hash),
            deployment: deployment.clone(),
        };
        let (mut deltas, loaded) = match stored {
            None => (
                Vec::new(),
                Loaded {
                    revision,
                    ..Loaded::default()
                },
            ),
            Some(Stored {
                head,
                deleted,
                parts,
                replies,
                lsn,
            }) => (
                parts,
                Loaded {
                    seq: head.seq,
                    exists: !deleted,
                    lsn,
                    revision,
                    replies,
                },
            ),
        };
        deltas.extend(kept.map(|(_, delta)| delta));
        let residence = self.residence(deployment, &deltas)?;
        Ok((residence, loaded, origin))
    }

    /// An instance; when all room is taken, an idle grain leaves for it.
    fn residence(&self, deployment: Arc<Deployment>, deltas: &[Delta]) -> Result<Residence, CallFailure> {
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

    /// The module that runs: the current one, which has to be the one whose memory this is.
    fn deployment(
        &self,
        stored: Option<&Stored>,
        kept: Option<&(Arc<Deployment>, Delta)>,
    ) -> Result<Arc<Deployment>, CallFailure> {
        let kind = &self.name().kind;
        let current =
            self.parts().modules.current(kind).ok_or_else(|| {
                CallFailure::before(Code::UnknownType, format!("no module of type `{kind}` is deployed"))
            })?;
        let stored = stored
            .filter(|stored| !stored.deleted)
            .map(|stored| (stored.head.revision, stored.head.module));
        let state = kept
            .map(|(deployment, _)| (deployment.revision, deployment.module))
            .or(stored);
        match state {
            Some((revision, module)) if module != current.module => Err(other_revision(revision, current.revision)),
            _ => Ok(current),
        }
    }
}

fn other_revision(has: Revision, current: Revision) -> CallFailure {
    let detail = format!(
        "the grain's state belongs to revision {} of its type, revision {} is current, and moving state between revisions isn't built: \
         deploy that module again, or delete the grain",
        has.0, current.0
    );
    CallFailure::before(Code::NotImplemented, detail)
}
