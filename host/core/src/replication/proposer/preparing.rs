//! From nothing to the grain's activation: Preparing, WritingBack, Active.
//!
//! The choice of a quorum is known when `q` replicas report the same commit *accepted under the same ballot*. The same commit under
//! different ballots isn't enough: a third replica may hold another one with a ballot between. Then the highest is accepted again, under
//! this activation's own ballot, before anything is served from it (**invariant 6**).

use std::collections::{BTreeMap, BTreeSet};

use super::window::Window;
use super::{Output, Phase, Proposer, full};
use crate::id::{Ballot, HostId, Seq};
use crate::replication::messages::{Accepted, Ask, CommitHash, Payload, Proposal, Refusal, State};
use crate::replication::mutation::Mutation;
use crate::time::Time;

/// How far above what it has seen a proposer asks at most, as a power of two.
const LEAP_MOST: u32 = 10;

/// Promises as they come in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Preparing {
    promises: BTreeMap<HostId, Option<Accepted>>,
    /// Replicas that know of another holder.
    busy: BTreeSet<HostId>,
    /// A state that came with a promise, or was fetched.
    state: Option<State>,
    /// A quorum has promised: the highest that it has accepted, and whether all have exactly that. Now its state is fetched.
    chosen: Option<(Option<Accepted>, bool)>,
    /// A higher ballot is known: prepare again with one above it.
    outbid: bool,
    /// When the question was asked first.
    stamp: u64,
}

impl Proposer {
    /// Cold -> Preparing, or once more with a higher ballot.
    pub(super) fn prepare(&mut self, now: Time, out: &mut Vec<Output>) {
        self.seen = self.seen.max(self.ballot.counter);
        // What was seen is as old as the pause since. Where others take the grain in turn, the next number is theirs by now: each time
        // in vain it asks further above.
        self.ballot.counter = self.seen + (1 << (2 * self.outbids).min(LEAP_MOST));
        let stamp = self.next_stamp(now);
        self.phase = Phase::Preparing(Preparing {
            stamp,
            ..Preparing::default()
        });
        self.ask_promises(out);
        self.put_off(now);
    }

    /// Asks those who haven't promised yet.
    fn ask_promises(&self, out: &mut Vec<Output>) {
        let Phase::Preparing(preparing) = &self.phase else {
            return;
        };
        // One copy of the state is enough; the nearest replica has it cheapest.
        let nearest = self
            .set
            .hosts
            .iter()
            .copied()
            .find(|host| *host == self.me)
            .or(self.set.hosts.first().copied());
        for to in self
            .set
            .hosts
            .iter()
            .filter(|host| !preparing.promises.contains_key(host))
        {
            let ask = Ask::Prepare {
                grain: self.grain,
                ballot: self.ballot,
                have: self.have,
                wants_state: Some(*to) == nearest,
                preempts: self.preempts,
            };
            self.send(*to, ask, out);
        }
    }

    pub(super) fn promised(
        &mut self,
        now: Time,
        from: HostId,
        accepted: Option<Accepted>,
        state: Option<State>,
        out: &mut Vec<Output>,
    ) {
        let (set, no_write_back) = (&self.set, self.rules.breaks(Mutation::NoWriteBack));
        let Phase::Preparing(preparing) = &mut self.phase else {
            return;
        };
        if preparing.chosen.is_some() || !set.holds(from) {
            return;
        }
        preparing.promises.insert(from, accepted);
        preparing.busy.remove(&from);
        preparing.state = preparing.state.take().or(state);
        if preparing.promises.len() < set.quorum() {
            return;
        }
        let highest = preparing.promises.values().max().copied().flatten();
        let same = preparing
            .promises
            .values()
            .filter(|accepted| **accepted == highest)
            .count();
        preparing.chosen = Some((highest, same >= set.quorum() || no_write_back));
        self.take_choice(now, out);
    }

    /// A replica knows of another holder. True when so many do that no quorum is left. One alone may have heard of a contender that gets
    /// no quorum either: two that each gave way to the other would do so for ever.
    pub(super) fn is_refused_by_a_quorum(&mut self, from: HostId) -> bool {
        let (size, quorum) = (self.set.hosts.len(), self.set.quorum());
        let Phase::Preparing(preparing) = &mut self.phase else {
            return false;
        };
        if preparing.chosen.is_none() && !preparing.promises.contains_key(&from) {
            preparing.busy.insert(from);
        }
        preparing.chosen.is_none() && preparing.busy.len() > size - quorum
    }

    /// Gives way, and says so to those that take this host for the holder by now.
    pub(super) fn yield_to(&mut self, holder: HostId, left_ms: u32, out: &mut Vec<Output>) {
        for to in &self.set.hosts {
            let ask = Ask::Release {
                grain: self.grain,
                ballot: self.ballot,
                to: None,
            };
            self.send(*to, ask, out);
        }
        self.phase = Phase::Cold;
        out.push(Output::Held { holder, left_ms });
    }

    pub(super) fn fetched(&mut self, now: Time, state: State, out: &mut Vec<Output>) {
        if let Phase::Preparing(preparing) = &mut self.phase {
            preparing.state = Some(state);
            self.take_choice(now, out);
        } else {
            self.image(&state, out);
        }
    }

    /// Fetches the chosen state, unless it's here; then goes on.
    fn take_choice(&mut self, now: Time, out: &mut Vec<Output>) {
        let Phase::Preparing(preparing) = &mut self.phase else {
            return;
        };
        let Some((head, agreed)) = preparing.chosen else { return };
        let is_wanted = |hash: CommitHash| head.is_some_and(|head| !head.deleted && head.hash == hash);
        preparing.state = preparing.state.take().filter(|state| is_wanted(state.hash));
        let is_here = head.is_none_or(|head| head.deleted || self.have == Some(head.hash)) || preparing.state.is_some();
        if !is_here {
            let holders: Vec<HostId> = preparing
                .promises
                .iter()
                .filter(|(_, accepted)| **accepted == head)
                .map(|(host, _)| *host)
                .collect();
            if let (Some(head), false) = (head, holders.is_empty()) {
                let to = holders[self.attempts as usize % holders.len()];
                let ask = Ask::Fetch {
                    grain: self.grain,
                    ballot: self.ballot,
                    hash: Some(head.hash),
                };
                self.send(to, ask, out);
            }
            self.put_off(now);
            return;
        }
        for host in preparing.promises.keys() {
            self.confirmed.insert(*host, preparing.stamp);
        }
        let state = preparing.state.take();
        self.window = Window::new(head);
        self.committed = head.map_or(Seq(0), |head| head.seq);
        match head {
            Some(head) if !agreed => {
                self.phase = Phase::WritingBack { head, state };
                self.write_back(now, out);
            }
            _ => self.activate(head, state, out),
        }
    }

    /// Has the chosen commit accepted under this activation's own ballot. Sent again until a quorum has.
    pub(super) fn write_back(&mut self, now: Time, out: &mut Vec<Output>) {
        let base = self.window.base();
        let proposal = Proposal {
            seq: base.seq,
            prev_hash: [0; 16],
            hash: base.hash,
            deletes: base.deleted,
            payload: Payload::Same,
        };
        for to in self
            .set
            .hosts
            .iter()
            .filter(|host| self.window.progress(**host).acked.is_none())
        {
            self.send_accept(*to, proposal.clone(), out);
        }
        self.put_off(now);
    }

    /// WritingBack -> Active, once a quorum has the commit.
    pub(super) fn wrote_back(&mut self, out: &mut Vec<Output>) {
        let held = self.window.held_by(&self.set.hosts, self.set.quorum());
        if held < Some(self.window.base().seq) {
            return;
        }
        if let Phase::WritingBack { head, state } = std::mem::replace(&mut self.phase, Phase::Active) {
            let head = Accepted {
                ballot: self.ballot,
                ..head
            };
            self.activate(Some(head), state, out);
        }
    }

    /// **Invariant 6**: only here, after `q` identical promises or a write-back to `q`.
    fn activate(&mut self, head: Option<Accepted>, state: Option<State>, out: &mut Vec<Output>) {
        self.phase = Phase::Active;
        self.attempts = 0;
        self.lease_from = self.quorum_stamp().unwrap_or(0).max(self.lease_from);
        // This host's own replica lacks what had to come from another one: it would count for no quorum, and others that are behind
        // couldn't be given the state from here.
        let is_behind = self.set.holds(self.me) && !self.is_up_to_base(self.me);
        if let Some(state) = state
            .as_ref()
            .filter(|_| is_behind && !self.rules.breaks(Mutation::NoWriteBack))
        {
            self.send_accept(self.me, full(state), out);
        }
        out.push(Output::Active {
            ballot: self.ballot,
            head,
            state,
        });
    }

    /// A replica has promised more, or may have: a higher ballot is needed, after a pause that differs between hosts.
    pub(super) fn outbid(&mut self, now: Time, by: Ballot) {
        self.seen = self.seen.max(by.counter);
        if let Phase::Preparing(preparing) = &mut self.phase
            && preparing.chosen.is_none()
        {
            preparing.outbid = true;
            self.attempts += 1;
            let place = self
                .set
                .hosts
                .iter()
                .position(|host| *host == self.me)
                .unwrap_or(self.set.hosts.len());
            let pause = self.limits.retry_nanos / 8 * (place as u64 + 1);
            self.retry_at = now.plus_nanos(pause << self.attempts.min(4));
        }
    }

    /// The time for answers is over.
    pub(super) fn retry_preparing(&mut self, now: Time, out: &mut Vec<Output>) {
        let Phase::Preparing(preparing) = &self.phase else {
            return;
        };
        self.attempts += 1;
        match preparing {
            Preparing { chosen: Some(_), .. } => self.take_choice(now, out),
            Preparing { outbid: true, .. } => {
                self.prepare(now, out);
                self.outbids += 1;
            }
            Preparing { .. } => {
                self.ask_promises(out);
                self.put_off(now);
            }
        }
    }

    /// The slot has other replicas: what the old ones promised doesn't count among them.
    pub(super) fn prepare_elsewhere(&mut self, now: Time, out: &mut Vec<Output>) {
        let stamp = self.next_stamp(now);
        self.phase = Phase::Preparing(Preparing {
            stamp,
            ..Preparing::default()
        });
        self.ask_promises(out);
        self.put_off(now);
    }

    /// A replica refuses while this host isn't the activation yet.
    pub(super) fn refused_preparing(&mut self, now: Time, refusal: Refusal) {
        if let Refusal::Promised(by) | Refusal::BelowFloor(by) = refusal {
            self.outbid(now, by);
        }
    }
}
