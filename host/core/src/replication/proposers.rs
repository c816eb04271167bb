//! All proposers of a host: one for each activation, and the renewal of their ballots.
//!
//! Every activation, idle and `volatile` ones included, has a quorum confirm its ballot once a second: an isolated host would go on
//! serving for ever what others have long taken over. The grains of a slot ask together, in one question to each replica.
//!
//! Ballots: a counter that an ended activation has used or met isn't used again. One number for the host stands for all its grains.
//!
//! **Not here:** one grain's rules ([`proposer`](super::proposer)).

use std::collections::{BTreeMap, BTreeSet};

use super::messages::{Answer, Ask, Message};
use super::mutation::Rules;
use super::proposer::{Input, Limits, Output, Proposer};
use super::replica_set::ReplicaSet;
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId};
use crate::slot::Slot;
use crate::time::Time;

/// Grains in one question about ballots; a replica reads no more of one.
const QUESTION_GRAINS: usize = 512;

/// See the module's text.
#[derive(Debug)]
pub struct Proposers {
    me: HostId,
    incarnation: u32,
    limits: Limits,
    rules: Rules,
    sets: BTreeMap<Slot, ReplicaSet>,
    /// By slot, so that a slot's grains are found together.
    grains: BTreeMap<(Slot, GrainId), Proposer>,
    deadlines: BTreeSet<(Time, Slot, GrainId)>,
    /// When each slot with activations asks about their ballots next.
    renewals: BTreeMap<Slot, Time>,
    /// The highest counter that an activation had used or met when it ended.
    used: u64,
}

impl Proposers {
    /// A host without activations. `incarnation`: its n-th start, never one twice.
    pub fn new(me: HostId, incarnation: u32, limits: Limits, rules: Rules) -> Proposers {
        Proposers {
            me,
            incarnation,
            limits,
            rules,
            sets: BTreeMap::new(),
            grains: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            renewals: BTreeMap::new(),
            used: 0,
        }
    }

    /// A slot has got these replicas.
    pub fn assign(&mut self, now: Time, slot: Slot, set: &ReplicaSet, out: &mut Vec<(GrainId, Output)>) {
        if self.sets.get(&slot).is_some_and(|known| known.n >= set.n) {
            return;
        }
        self.sets.insert(slot, set.clone());
        for grain in self.grains_of(slot) {
            self.handle(now, grain, Input::Assigned(set.clone()), out);
        }
    }

    /// Takes one input of a grain. [`Input::Activate`] makes a proposer if there is none; one that has ended, or has found the grain held, is
    /// dropped, and what comes for it later has no effect.
    pub fn handle(&mut self, now: Time, grain: GrainId, input: Input, out: &mut Vec<(GrainId, Output)>) {
        let slot = Slot::of(grain);
        if matches!(input, Input::Activate { .. }) && !self.grains.contains_key(&(slot, grain)) {
            let mut proposer = Proposer::new(self.me, self.incarnation, grain, self.used, self.limits, self.rules);
            if let Some(set) = self.sets.get(&slot) {
                proposer.handle(now, Input::Assigned(set.clone()), &mut Vec::new());
            }
            self.grains.insert((slot, grain), proposer);
            self.renewals
                .entry(slot)
                .or_insert(now.plus_nanos(self.limits.renewal_nanos));
        }
        let Some(proposer) = self.grains.get_mut(&(slot, grain)) else {
            return;
        };
        let before = proposer.deadline();
        let mut outputs = Vec::new();
        proposer.handle(now, input, &mut outputs);
        let after = proposer.deadline();
        let (is_over, counter) = (proposer.is_over() || proposer.is_cold(), proposer.highest_counter());
        out.extend(outputs.into_iter().map(|output| (grain, output)));
        if let Some(before) = before {
            self.deadlines.remove(&(before, slot, grain));
        }
        if is_over {
            self.grains.remove(&(slot, grain));
            self.used = self.used.max(counter);
        } else {
            self.deadlines.extend(after.map(|at| (at, slot, grain)));
        }
    }

    /// A replica's answer.
    pub fn receive(
        &mut self,
        now: Time,
        from: HostId,
        n: ConfigNumber,
        answer: Answer,
        out: &mut Vec<(GrainId, Output)>,
    ) {
        let Answer::Confirmed {
            slot,
            stamp,
            good,
            refused,
        } = answer
        else {
            if let Some(grain) = answer.grain() {
                self.handle(now, grain, Input::Received { from, n, answer }, out);
            }
            return;
        };
        // One grain each, so that none has to look for itself in the list.
        for (grain, ballot) in good {
            let answer = Answer::Confirmed {
                slot,
                stamp,
                good: vec![(grain, ballot)],
                refused: Vec::new(),
            };
            self.handle(now, grain, Input::Received { from, n, answer }, out);
        }
        for (grain, ballot, refusal) in refused {
            let answer = Answer::Nack { grain, ballot, refusal };
            self.handle(now, grain, Input::Received { from, n, answer }, out);
        }
    }

    /// Wakes the grains whose deadline has passed, and renews the ballots of the slots whose turn it is.
    pub fn wake(&mut self, now: Time, out: &mut Vec<(GrainId, Output)>, sends: &mut Vec<(HostId, Message)>) {
        while let Some((at, slot, grain)) = self.deadlines.first().copied().filter(|(at, ..)| *at <= now) {
            self.handle(now, grain, Input::Wake, out);
            if self
                .proposer(grain)
                .and_then(Proposer::deadline)
                .is_some_and(|next| next <= now)
            {
                // A machine that isn't content with being woken would be woken for ever.
                self.deadlines.remove(&(at, slot, grain));
            }
        }
        let due: Vec<Slot> = self
            .renewals
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in due {
            self.renew(now, slot, sends);
        }
    }

    /// When [`Proposers::wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let renewal = self.renewals.values().min().copied();
        self.deadlines
            .first()
            .map(|(at, ..)| *at)
            .into_iter()
            .chain(renewal)
            .min()
    }

    /// A grain's proposer, while it lives.
    pub fn proposer(&self, grain: GrainId) -> Option<&Proposer> {
        self.grains.get(&(Slot::of(grain), grain))
    }

    /// All grains that have one.
    pub fn grains(&self) -> impl Iterator<Item = GrainId> {
        self.grains.keys().map(|(_, grain)| *grain)
    }

    fn renew(&mut self, now: Time, slot: Slot, sends: &mut Vec<(HostId, Message)>) {
        let grains = self.grains_of(slot);
        let Some(set) = self.sets.get(&slot).filter(|_| !grains.is_empty()) else {
            self.renewals.remove(&slot);
            return;
        };
        self.renewals.insert(slot, now.plus_nanos(self.limits.renewal_nanos));
        let due: Vec<(GrainId, Ballot)> = grains
            .iter()
            .filter_map(|grain| self.grains.get(&(slot, *grain))?.renews(now))
            .collect();
        for asked in due.chunks(QUESTION_GRAINS) {
            // One stamp that is later than any question of any of them.
            let stamp = asked.iter().fold(now, |at, (grain, _)| {
                let proposer = self.grains.get_mut(&(slot, *grain));
                at.max(proposer.map_or(now, |proposer| Time(proposer.next_stamp(at))))
            });
            for (grain, _) in asked {
                if let Some(proposer) = self.grains.get_mut(&(slot, *grain)) {
                    proposer.catch_up(stamp.0);
                }
            }
            for to in &set.hosts {
                let ask = Ask::Confirm {
                    slot,
                    stamp: stamp.0,
                    grains: asked.to_vec(),
                };
                sends.push((*to, Message::Ask { n: set.n, ask }));
            }
        }
    }

    fn grains_of(&self, slot: Slot) -> Vec<GrainId> {
        let range = (slot, GrainId([0; 16]))..=(slot, GrainId([0xff; 16]));
        self.grains.range(range).map(|((_, grain), _)| *grain).collect()
    }
}

impl Answer {
    /// The grain that an answer is about; none for one about many.
    pub fn grain(&self) -> Option<GrainId> {
        match self {
            Answer::Promise { grain, .. }
            | Answer::Busy { grain, .. }
            | Answer::Acked { grain, .. }
            | Answer::NeedSnap { grain, .. }
            | Answer::Fetched { grain, .. }
            | Answer::Nack { grain, .. } => Some(*grain),
            Answer::Confirmed { .. } => None,
        }
    }

    /// The slot that an answer is about.
    pub(super) fn slot(&self) -> Slot {
        match self {
            Answer::Confirmed { slot, .. } => *slot,
            answer => answer.grain().map_or(Slot::default(), Slot::of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::messages::Refusal;
    use crate::replication::tests::{GRAIN, ballot_of, host, set};

    /// One replica's promise to a contender that gave up, while the others don't know of it: without memory of it, each activation
    /// would be fenced by it in turn.
    #[test]
    fn the_next_activation_asks_above_what_fenced_the_last_one() {
        let mut proposers = Proposers::new(host(1), 1, Limits::default(), Rules::default());
        let mut out = Vec::new();
        proposers.assign(Time(0), Slot::of(GRAIN), &set(1, &[1, 2, 3]), &mut out);
        let activate = || Input::Activate {
            have: None,
            preempts: false,
        };
        proposers.handle(Time(0), GRAIN, activate(), &mut out);
        let ballot = proposers.proposer(GRAIN).unwrap().ballot();
        for from in [2, 3] {
            let promise = Answer::Promise {
                grain: GRAIN,
                ballot,
                accepted: None,
                state: None,
            };
            proposers.receive(Time(0), host(from), ConfigNumber(1), promise, &mut out);
        }
        assert!(proposers.proposer(GRAIN).unwrap().is_active());
        let refusal = Refusal::Promised(ballot_of(290, 2));
        let nack = Answer::Nack {
            grain: GRAIN,
            ballot,
            refusal,
        };
        proposers.receive(Time(0), host(1), ConfigNumber(1), nack, &mut out);
        assert!(proposers.proposer(GRAIN).is_none(), "fenced");
        proposers.handle(Time(0), GRAIN, activate(), &mut out);
        assert_eq!(proposers.proposer(GRAIN).unwrap().ballot().counter, 291);
    }
}
