//! What a grain's turns leave: commits, and how far the clock of its stored replies is when it leaves memory.

use granary_core::activation::{CommitOrder, Input, Makes};
use granary_core::commit::{Change, Commit, Delta};

use super::{Driver, State};
use crate::activation::agreement::propose;

impl Driver {
    /// Appends the commit that the machine has ordered.
    pub(super) fn append(&self, state: &mut State, order: CommitOrder) -> Input {
        let origin = state.origin.as_mut().expect("the grain was loaded before it commits");
        if order.makes != Makes::Changes {
            state.kept = None;
            self.line.stuck().forget(self.id);
        }
        let change = match order.makes {
            Makes::Changes => {
                let kept = state.kept.take().map(|kept| kept.delta());
                let delta = kept.or(state.taken.take());
                Change::Delta(delta.expect("a turn that commits has left its changes"))
            }
            Makes::Vacancy => Change::Delta(Delta::vacancy()),
            Makes::Deletion => Change::Delete,
        };
        let commit = Commit {
            grain: self.name.clone(),
            ballot: origin.ballot,
            seq: order.seq,
            prev_hash: origin.prev_hash,
            module: origin.deployment.module,
            revision: origin.deployment.revision,
            change,
            replies: order.replies,
        };
        let appended = match self.parts.cluster() {
            Some(cluster) => propose(cluster, self.id, &commit),
            None => self.parts.storage.append(&commit),
        };
        origin.prev_hash = appended.hash;
        Input::Appended {
            lsn: appended.lsn,
            bytes: appended.bytes,
        }
    }

    /// The clock of the grain's stored replies goes on while it isn't in memory.
    pub(super) fn remember_replies(&self, state: &State) {
        let now = self.parts.clock.time();
        if let (Some(clock), Some(origin)) = (state.machine.reply_clock(now), &state.origin) {
            let is_vacant = !state.machine.exists();
            let mut absent = self.parts.absent.lock().expect("no panic under this lock");
            absent.leave(&self.name, origin.prev_hash, clock, is_vacant, now);
        }
    }
}
