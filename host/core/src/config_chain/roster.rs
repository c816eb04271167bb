//! Who should be in the next configuration, by what membership says.
//!
//! A host joins when it has been there for some seconds, and goes at once when it says so. One that is down is given up after a
//! minute, and only when more hosts than replicas are left: with three hosts a slot has nowhere else to go, and the third is
//! worth waiting for. Of two hosts the voter gives up the other after two seconds, for without it nothing is committed; the other
//! can't give up the voter, or both sides of a cut would go on. One of whom nothing has been heard since this host began counts as
//! down since then: it may have died before, and nobody is left who saw it.
//!
//! **Not here:** who proposes it and when ([`super::chain`]).

use std::collections::BTreeMap;

use super::config::{Config, MEMBER_LIMIT, Member, REPLICAS};
use super::event::{Presence, Settings, Share};
use crate::id::HostId;
use crate::time::Time;

/// What is known of hosts at the same time at most. Stops a flood of made-up identities.
const HOSTS_MOST: usize = 2 * MEMBER_LIMIT;

/// Hosts as membership sees them, since when.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    seen: BTreeMap<HostId, (Presence, Time)>,
    began: Time,
}

/// What the roster says of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The next one's members, oldest first.
    pub(super) members: Vec<Member>,
    /// Somebody is in it who isn't a member yet, or who is to have another share: for this there's time until all is calm.
    pub(super) joins: bool,
    /// A member isn't in it any more.
    pub(super) leaves: bool,
    /// When it may be another.
    pub(super) due: Option<Time>,
}

impl Roster {
    /// This host begins.
    pub(super) fn begin(&mut self, now: Time) {
        self.began = now;
    }

    /// Takes in what membership says. True if the host wasn't alive before and is now.
    pub(super) fn see(&mut self, now: Time, host: HostId, presence: Presence) -> bool {
        let before = self.seen.get(&host);
        if before.is_none() && self.seen.len() >= HOSTS_MOST {
            return false;
        }
        let same = |known: &Presence| std::mem::discriminant(known) == std::mem::discriminant(&presence);
        let since = before.filter(|(known, _)| same(known)).map_or(now, |(_, since)| *since);
        let comes = matches!(presence, Presence::Alive(_)) && !before.is_some_and(|(known, _)| same(known));
        self.seen.insert(host, (presence, since));
        comes
    }

    /// Whether a host is expected to answer: nobody said that it's down.
    pub(super) fn answers(&self, host: HostId) -> bool {
        !matches!(self.seen.get(&host), Some((Presence::Down, _)))
    }

    /// Whether a host has said that it goes.
    pub(super) fn leaves(&self, host: HostId) -> bool {
        matches!(self.seen.get(&host), Some((Presence::Leaving, _)))
    }

    /// Whether a host is there.
    pub(super) fn is_alive(&self, host: HostId) -> bool {
        matches!(self.seen.get(&host), Some((Presence::Alive(_), _)))
    }

    /// Hosts that are there.
    pub(super) fn alive(&self) -> impl Iterator<Item = HostId> + '_ {
        let alive = self
            .seen
            .iter()
            .filter(|(_, (presence, _))| matches!(presence, Presence::Alive(_)));
        alive.map(|(host, _)| *host)
    }

    /// The members that the configuration after `config` should have.
    pub(super) fn wish(&self, now: Time, config: &Config, settings: &Settings) -> Wish {
        let mut wish = Wish {
            members: Vec::new(),
            joins: false,
            leaves: false,
            due: None,
        };
        let mut left = config.members.iter().filter(|member| !self.leaves(member.host)).count();
        for member in &config.members {
            match self.seen.get(&member.host) {
                Some((Presence::Leaving, _)) => wish.leaves = true,
                Some((Presence::Alive(Some(share)), _)) => {
                    let sized = sized(member.host, share);
                    wish.joins |= sized != *member;
                    wish.members.push(sized);
                }
                Some((Presence::Alive(None), _)) => wish.members.push(member.clone()),
                _ if member.host == settings.me => wish.members.push(member.clone()),
                missing => {
                    let patience = patience(config, settings, left);
                    let until = match missing {
                        Some((_, since)) => patience.map(|nanos| since.plus_nanos(nanos)),
                        // It may only be slow to begin, too: no hurry, even for one of two.
                        None => patience.map(|nanos| self.began.plus_nanos(nanos.max(settings.times.down_nanos))),
                    };
                    if until.is_some_and(|until| is_due(now, until, &mut wish.due)) {
                        left -= 1;
                        wish.leaves = true;
                    } else {
                        wish.members.push(member.clone());
                    }
                }
            }
        }
        for (host, (presence, since)) in &self.seen {
            let Presence::Alive(Some(share)) = presence else {
                continue;
            };
            let full = wish.members.len() >= MEMBER_LIMIT;
            if full || config.member(*host).is_some() {
                continue;
            }
            if is_due(now, since.plus_nanos(settings.times.join_nanos), &mut wish.due) {
                wish.members.push(sized(*host, share));
                wish.joins = true;
            }
        }
        if wish.members.is_empty() {
            // The last host leaves: there's nobody to hand anything to.
            wish = Wish {
                members: config.members.clone(),
                leaves: false,
                joins: false,
                ..wish
            };
        }
        wish
    }
}

/// How long a member of `config` may be down when `left` are left with it; for ever when nothing is said.
fn patience(config: &Config, settings: &Settings, left: usize) -> Option<u64> {
    if config.members.len() == 2 && config.is_voter(settings.me) {
        Some(settings.times.pair_nanos)
    } else {
        (left > REPLICAS).then_some(settings.times.down_nanos)
    }
}

/// Whether `at` has come; notes the earliest that hasn't.
fn is_due(now: Time, at: Time, due: &mut Option<Time>) -> bool {
    if at > now {
        *due = Some(due.map_or(at, |due| due.min(at)));
    }
    at <= now
}

/// A member as a configuration may have it, whatever it says of itself.
fn sized(host: HostId, share: &Share) -> Member {
    let end = share.zone.floor_char_boundary(super::config::ZONE_LIMIT);
    Member {
        host,
        weight: share.weight.clamp(1, super::config::WEIGHT_LIMIT),
        zone: share.zone[..end].to_string(),
    }
}
