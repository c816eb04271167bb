//! What a directory knows about hosts: the configuration, which is agreed, and who seems to be there, which isn't.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config_chain::config::{Config, ConfigNumber};
use crate::id::{Ballot, HostId};
use crate::membership::{Change, Standing};
use crate::slot::Slot;

/// One host's sight of the others.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) me: HostId,
    config: Option<Arc<Config>>,
    seen: BTreeMap<HostId, (Standing, u32)>,
}

impl Sight {
    pub(super) fn new(me: HostId) -> Sight {
        Sight {
            me,
            config: None,
            seen: BTreeMap::new(),
        }
    }

    /// Takes a configuration unless it's an earlier one. Says whether it did.
    pub(super) fn configure(&mut self, config: Arc<Config>) -> bool {
        let later = config.n > self.n();
        if later {
            self.config = Some(config);
        }
        later
    }

    pub(super) fn see(&mut self, change: &Change) {
        let now = &change.now;
        self.seen.insert(now.host, (now.standing, now.incarnation));
    }

    /// The configuration's number; 0 before the first.
    pub(super) fn n(&self) -> ConfigNumber {
        self.config.as_ref().map_or(ConfigNumber(0), |config| config.n)
    }

    /// Whether the host can be asked: it's this one, or it isn't under suspicion. One that was never seen can't be.
    pub(super) fn is_up(&self, host: HostId) -> bool {
        host == self.me || matches!(self.seen.get(&host), Some((Standing::Alive, _)))
    }

    /// Whether the activation's process is known to be gone.
    pub(super) fn is_gone(&self, ballot: Ballot) -> bool {
        ballot.host != self.me
            && self
                .seen
                .get(&ballot.host)
                .is_some_and(|(standing, incarnation)| !standing.is_active() || ballot.incarnation < *incarnation)
    }

    /// Whom to ask about a slot: its first replica that isn't suspected; the first when all are.
    pub(super) fn primary(&self, slot: Slot) -> Option<HostId> {
        let replicas = self.config.as_ref()?.replicas(slot);
        let up = replicas.iter().find(|host| self.is_up(**host));
        up.or(replicas.first()).copied()
    }

    /// Whether this host is one of a slot's replicas.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.config
            .as_ref()
            .is_some_and(|config| config.replicas(slot).contains(&self.me))
    }

    /// Everyone in the configuration who can be asked.
    pub(super) fn hosts(&self) -> Vec<HostId> {
        let members = self.config.iter().flat_map(|config| &config.members);
        members
            .map(|member| member.host)
            .filter(|host| self.is_up(*host))
            .collect()
    }
}
