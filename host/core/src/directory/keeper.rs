//! A primary's side: where the grains of its slots are.
//!
//! The map is soft. It's lost with the process, it's empty after a change of primary until the hosts have registered again, and nothing
//! that is committed depends on it: two activations of a grain are told apart by their ballots. What it saves is a quorum's
//! round trip, and activations that fence each other for nothing.

use std::collections::BTreeMap;

use super::event::{Located, Question, Settings};
use super::sight::Sight;
use crate::id::{Ballot, GrainId, HostId};
use crate::placement::{Candidates, Loads, place};
use crate::rng::Rng;
use crate::slot::Slot;
use crate::time::Time;

/// A host that was told to activate a grain and may be about to.
#[derive(Clone, Copy, Debug)]
struct Grant {
    host: HostId,
    above: u64,
    until: Time,
}

/// What a primary knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeper {
    slots: BTreeMap<Slot, BTreeMap<GrainId, Ballot>>,
    places: usize,
    grants: BTreeMap<GrainId, Grant>,
}

impl Keeper {
    /// How many activations are known.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Forgets the slots that this host no longer holds.
    pub(super) fn configure(&mut self, sight: &Sight) {
        self.slots.retain(|slot, _| sight.holds(*slot));
        self.places = self.slots.values().map(BTreeMap::len).sum();
    }

    /// Notes an activation. The highest ballot wins; what it returns is that.
    pub(super) fn register(&mut self, grain: GrainId, ballot: Ballot, sight: &Sight, settings: &Settings) -> Ballot {
        let known = self.find(grain, sight);
        if let Some(known) = known.filter(|known| *known >= ballot) {
            return known;
        }
        if self.grants.get(&grain).is_some_and(|grant| grant.host == ballot.host) {
            self.grants.remove(&grain);
        }
        if self.places >= settings.places_most && known.is_none() {
            self.sweep(sight);
        }
        if self.places < settings.places_most || known.is_some() {
            let replaced = self.slots.entry(Slot::of(grain)).or_default().insert(grain, ballot);
            self.places += usize::from(replaced.is_none());
        }
        ballot
    }

    /// Forgets an activation, if it's that one.
    pub(super) fn unregister(&mut self, grain: GrainId, ballot: Ballot) {
        if self.slots.get(&Slot::of(grain)).and_then(|slot| slot.get(&grain)) == Some(&ballot) {
            self.remove(grain);
        }
    }

    /// What is known without asking the replica: an activation, or a host that was just told to make one.
    pub(super) fn locate(&mut self, now: Time, question: &Question, sight: &Sight) -> Option<Located> {
        let not_here = |host| question.not_here == Some(host);
        match self.find(question.grain, sight) {
            // A grain and a host are enough: the asker has been there, and knows of no activation.
            Some(known) if not_here(known.host) => self.remove(question.grain),
            Some(known) => return Some(Located::At(known)),
            None => {}
        }
        let grant = self.grants.get(&question.grain)?;
        let holds = grant.until > now && sight.is_up(grant.host) && !not_here(grant.host);
        holds.then_some(Located::Granted(grant.host, grant.above))
    }

    /// Decides where a grain goes that isn't in the map, with the promise that the replica here has given.
    pub(super) fn settle(
        &mut self,
        now: Time,
        question: &Question,
        holder: Option<Ballot>,
        (sight, loads, rng): (&Sight, &Loads, &mut Rng),
        settings: &Settings,
    ) -> Located {
        let above = holder.map_or(0, |ballot| ballot.counter);
        let host = match holder.filter(|ballot| !sight.is_gone(*ballot)) {
            // The holder lives but has no activation to be found: whoever else prepared would pre-empt it, so it's its turn again.
            Some(ballot) if question.not_here == Some(ballot.host) => ballot.host,
            Some(ballot) => return Located::At(ballot),
            None => {
                let candidates = Candidates {
                    primary: sight.me,
                    asker: question.asker,
                    hosts: &sight.replicas(Slot::of(question.grain)),
                };
                place(now, question.policy, &candidates, loads, rng)
            }
        };
        if self.grants.len() >= settings.asks_most {
            self.grants.retain(|_, grant| grant.until > now);
        }
        if self.grants.len() < settings.asks_most {
            let until = now.plus_nanos(settings.grant_nanos);
            self.grants.insert(question.grain, Grant { host, above, until });
        }
        Located::Granted(host, above)
    }

    /// The activation in the map, unless its process is gone.
    fn find(&mut self, grain: GrainId, sight: &Sight) -> Option<Ballot> {
        let known = *self.slots.get(&Slot::of(grain))?.get(&grain)?;
        if sight.is_gone(known) {
            self.remove(grain);
            return None;
        }
        Some(known)
    }

    fn remove(&mut self, grain: GrainId) {
        let slot = self.slots.get_mut(&Slot::of(grain));
        if slot.and_then(|slot| slot.remove(&grain)).is_some() {
            self.places -= 1;
        }
    }

    /// Makes room by what is gone; entries of the dead are else only dropped when somebody asks.
    fn sweep(&mut self, sight: &Sight) {
        for slot in self.slots.values_mut() {
            slot.retain(|_, ballot| !sight.is_gone(*ballot));
        }
        self.places = self.slots.values().map(BTreeMap::len).sum();
    }
}
