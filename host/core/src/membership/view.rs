//! This host's member set: who seems to be there, and since when.
//!
//! A hint, never a quorum: two hosts' views may differ at any time. Routing and placement read it, and a change of the
//! configuration is proposed because of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::identity::Identity;
use crate::id::HostId;
use crate::time::Time;

/// How a member seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It answers.
    Alive,
    /// Somebody got no answer from it. It may still object, and counts as there.
    Suspect,
    /// It didn't object in time.
    Down,
    /// It said that it leaves.
    Left,
}

impl Standing {
    /// Whether the member takes part: alive, or only suspected.
    pub fn is_active(self) -> bool {
        matches!(self, Standing::Alive | Standing::Suspect)
    }
}

/// What is known about one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The host.
    pub host: HostId,
    /// Its start. A higher one than before means that the earlier process is dead, whatever its standing was.
    pub incarnation: u32,
    /// How often it was called dead in this incarnation and came back.
    pub renewal: u32,
    /// Where it can be reached.
    pub address: SocketAddr,
    /// How it seems to be.
    pub standing: Standing,
    /// Since when, by this host's clock.
    pub since: Time,
}

impl Seen {
    /// The member as gossip names it.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            leaving: self.standing == Standing::Left,
            renewal: self.renewal,
            ..Identity::new(self.host, self.incarnation, self.address)
        }
    }
}

/// A member that is new or has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was known before; `None` when the member is new.
    pub was: Option<Seen>,
    /// What is known now.
    pub now: Seen,
}

impl Change {
    /// Whether a process that took part is gone: down, left, or replaced by a later start of the host.
    pub fn is_death(&self) -> bool {
        self.was.is_some_and(|was| {
            let replaced = was.incarnation < self.now.incarnation;
            was.standing.is_active() && (replaced || !self.now.standing.is_active())
        })
    }
}

/// The member set as one host sees it, itself excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    members: BTreeMap<HostId, Seen>,
}

impl View {
    /// What is known about `host`.
    pub fn member(&self, host: HostId) -> Option<&Seen> {
        self.members.get(&host)
    }

    /// Whether `host` is known and takes part.
    pub fn is_active(&self, host: HostId) -> bool {
        self.standing(host).is_some_and(Standing::is_active)
    }

    /// How `host` seems to be.
    pub fn standing(&self, host: HostId) -> Option<Standing> {
        self.members.get(&host).map(|seen| seen.standing)
    }

    /// Everyone known, by host id.
    pub fn members(&self) -> impl Iterator<Item = &Seen> {
        self.members.values()
    }

    /// Those who take part, by host id.
    pub fn active(&self) -> impl Iterator<Item = &Seen> {
        self.members().filter(|seen| seen.standing.is_active())
    }

    /// How many are known, dead or alive.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody else is known.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes in what gossip says about one member. Says what that changes.
    pub(super) fn see(&mut self, now: Time, id: &Identity, state: foca::State) -> Option<Change> {
        let standing = match state {
            foca::State::Alive => Standing::Alive,
            foca::State::Suspect => Standing::Suspect,
            foca::State::Down if id.leaving => Standing::Left,
            foca::State::Down => Standing::Down,
        };
        let was = self.members.get(&id.host).copied();
        let since = match was {
            Some(was) if was.standing == standing && was.incarnation == id.incarnation => was.since,
            _ => now,
        };
        let seen = Seen {
            host: id.host,
            incarnation: id.incarnation,
            renewal: id.renewal,
            address: id.address,
            standing,
            since,
        };
        if was == Some(seen) {
            return None;
        }
        self.members.insert(id.host, seen);
        Some(Change { was, now: seen })
    }

    /// Forgets all but those in `keep`.
    pub(super) fn forget(&mut self, keep: impl Fn(HostId) -> bool) {
        self.members.retain(|host, _| keep(*host));
    }
}
