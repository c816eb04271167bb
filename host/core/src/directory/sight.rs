//! What a directory knows about hosts: the configuration, which is agreed, and who seems to be there, which isn't.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config_chain::config::{Config, ConfigNumber, MEMBER_LIMIT};
use crate::id::{Ballot, HostId};
use crate::membership::{Change, Standing};
use crate::slot::Slot;
use crate::time::Time;

/// Membership has told of everyone it knows so long after the start. Whoever it hasn't told of by then is gone: it died before this
/// host began, perhaps for good, and nobody would ever say so.
const TOLD_NANOS: u64 = 5_000_000_000;
/// Hosts whose standing is kept. Members and those who are there are always kept.
const SEEN_MOST: usize = 4 * MEMBER_LIMIT;

/// One host's sight of the others.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) me: HostId,
    config: Option<Arc<Config>>,
    seen: BTreeMap<HostId, (Standing, u32)>,
    began: Option<Time>,
    /// Membership has had its time to tell.
    is_told: bool,
}

impl Sight {
    pub(super) fn new(me: HostId) -> Sight {
        Sight {
            me,
            config: None,
            seen: BTreeMap::new(),
            began: None,
            is_told: false,
        }
    }

    /// Takes note of the time.
    pub(super) fn tick(&mut self, now: Time) {
        let began = *self.began.get_or_insert(now);
        self.is_told |= now.nanos_since(began) >= TOLD_NANOS;
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
        if self.seen.len() > SEEN_MOST {
            let config = self.config.clone();
            let is_member = |host: &HostId| config.as_ref().is_some_and(|config| config.member(*host).is_some());
            self.seen
                .retain(|host, (standing, _)| standing.is_active() || is_member(host));
        }
    }

    /// The configuration's number; 0 before the first.
    pub(super) fn n(&self) -> ConfigNumber {
        self.config.as_ref().map_or(ConfigNumber(0), |config| config.n)
    }

    /// Whether the host can be asked: it's this one, or it isn't under suspicion. One that was never seen can't be.
    pub(super) fn is_up(&self, host: HostId) -> bool {
        host == self.me || matches!(self.seen.get(&host), Some((Standing::Alive, _)))
    }

    /// Whether a host is known to be gone, or should be known by now if it weren't.
    pub(super) fn has_gone(&self, host: HostId) -> bool {
        let standing = self.seen.get(&host).map(|(standing, _)| standing);
        host != self.me && standing.map_or(self.is_told, |standing| !standing.is_active())
    }

    /// Whether the activation's process is gone.
    pub(super) fn is_gone(&self, ballot: Ballot) -> bool {
        let is_later = |(_, incarnation): &(Standing, u32)| ballot.incarnation < *incarnation;
        let restarted = ballot.host != self.me && self.seen.get(&ballot.host).is_some_and(is_later);
        restarted || self.has_gone(ballot.host)
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

    /// A slot's replicas that can be asked.
    pub(super) fn replicas(&self, slot: Slot) -> Vec<HostId> {
        let replicas = self.config.iter().flat_map(|config| config.replicas(slot));
        replicas.copied().filter(|host| self.is_up(*host)).collect()
    }
}
