//! How this host goes: what it sees of who stays, and what the others hear.
//!
//! **Not here:** what is done when (`granary_core::stopping`).

use std::collections::BTreeSet;

use granary_core::id::HostId;
use granary_core::placement;
use granary_core::slot::Slot;
use granary_core::stopping::Company;

use super::{Members, Station, VIEW_PATIENCE};

impl Station {
    /// Who else is there, for a host that stops.
    pub(crate) fn company(&self) -> Company {
        if self.members.get().is_none() {
            return Company::Alone;
        }
        let Some(config) = self.config() else {
            return Company::Missing;
        };
        let mut others = config.members.iter().filter(|member| member.host != self.me).peekable();
        if others.peek().is_none() {
            Company::Alone
        } else if others.any(|member| self.answers(member.host)) {
            Company::Others
        } else {
            Company::Missing
        }
    }

    /// Tells the others at once what they would hear with the next beat.
    pub(crate) fn beat(&self) {
        self.members.get().inspect(|members| members.beat());
    }

    /// Tells the others that this process ends.
    pub(crate) fn part(&self) {
        self.members.get().inspect(|members| members.part());
    }

    /// Whether they are told.
    pub(crate) fn has_parted(&self) -> bool {
        self.members.get().is_none_or(Members::has_parted)
    }

    /// Sends back what other hosts ask from now on: they ask elsewhere.
    pub(crate) fn refuse(&self) {
        self.quic.refuse();
    }

    /// This host's activations, as far as the cluster knows: one that has ended here is over when its last commits are accepted.
    pub(crate) fn activations(&self) -> usize {
        self.handle.activations()
    }

    /// Questions of other hosts that this one works on.
    pub(crate) fn questions(&self) -> usize {
        self.quic.questions()
    }

    /// Other hosts that are on their way out, as far as they have said.
    pub(crate) async fn draining(&self) -> BTreeSet<HostId> {
        let view = self.handle.view(VIEW_PATIENCE).await.unwrap_or_default();
        let draining = view.beats.into_iter().filter(|(_, beat)| beat.draining);
        draining.map(|(host, _)| host).collect()
    }

    /// Who gets a grain of this slot that leaves this host.
    pub(crate) fn heir(&self, slot: Slot, draining: &BTreeSet<HostId>) -> Option<HostId> {
        let config = self.config()?;
        let seen = self.seen();
        let stays = |host: HostId| seen.is_active(host) && !draining.contains(&host);
        let stays = placement::heir(&config, slot, self.me, stays);
        stays.or_else(|| placement::heir(&config, slot, self.me, |host| seen.is_active(host)))
    }
}
