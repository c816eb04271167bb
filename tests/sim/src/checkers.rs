//! What must hold, by the names that `granary_core::replication` gives its invariants.
//!
//! *One history*, *exactly once*, *fresh reads* and *values* look at what clients are told, and at the record of which turn made
//! which state: a commit's name covers all before it, so all acknowledged commits of a grain must lie on one chain. Where a commit
//! lies on it is where its operation took effect; an operation that began after another's answer must lie after it. That is
//! linearizability, with the witness at hand instead of a search for one.
//!
//! A deletion is a commit whose value is that of nothing. What was remembered of steps is gone with it, so *exactly once* holds
//! between two deletions. Once all replicas have the tombstone they may forget the grain: the chain then goes on from the state before
//! the first commit, as if it followed the tombstone.
//!
//! The others look into hosts: at their logs and their answers. They find a broken rule before it does harm. They can be turned
//! off, to see whether clients alone would notice.
//!
//! **Not here:** whether anything gets done at all (the world's liveness phase).

mod history;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use granary_core::id::{Ballot, GrainId, HostId};
use granary_core::slot::Slot;

use self::history::History;
use crate::subject::{Action, Call, Effect, Fact, Head, Said, StepId, Stored};

/// Something that must not happen has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What should have held.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

const NOTHING: Head = [0; 16];

#[derive(Clone, Copy, Debug)]
struct Ran {
    before: Head,
    step: StepId,
    effect: Effect,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Checkers {
    /// Only what clients could notice is checked.
    outside_only: bool,
    ran: BTreeMap<Head, Ran>,
    histories: BTreeMap<GrainId, History>,
    /// All states that were ever durable at a host; and the hosts that have had each.
    held: BTreeMap<(GrainId, HostId), Vec<Head>>,
    holders: BTreeMap<Head, Vec<HostId>>,
    /// What is promised now. Less than once, when the slot was dropped and taken over again.
    promised: BTreeMap<(HostId, GrainId), Ballot>,
    /// The highest promise that was ever on disk.
    ever_promised: BTreeMap<(HostId, GrainId), Ballot>,
    accepted: BTreeMap<(HostId, GrainId), (Ballot, u64, Head)>,
    /// Up to which ballot a slot has forgotten grains.
    floors: BTreeMap<(HostId, u16), Ballot>,
    /// For which configuration a slot is sealed, and since then not served.
    sealed: BTreeMap<(HostId, u16), (u64, bool)>,
    found: Option<Violation>,
}

impl Checkers {
    /// Checkers of a run. `outside_only`: don't look into hosts.
    pub fn new(outside_only: bool) -> Checkers {
        Checkers {
            outside_only,
            ..Checkers::default()
        }
    }

    /// What was found first.
    pub fn found(&self) -> Option<&Violation> {
        self.found.as_ref()
    }

    /// Reports a violation; the first one counts.
    pub fn violated(&mut self, invariant: &'static str, detail: String) {
        self.found.get_or_insert(Violation { invariant, detail });
    }

    fn expect(&mut self, holds: bool, invariant: &'static str, detail: impl FnOnce() -> String) {
        if !holds && self.found.is_none() {
            self.violated(invariant, detail());
        }
    }

    /// How many commits of the grain have been seen by clients: what begins now must see as many.
    pub fn floor(&self, grain: GrainId) -> usize {
        self.histories
            .get(&grain)
            .map_or(0, |history| history.chain.len().saturating_sub(1))
    }

    /// The sum of what these steps have added to all grains.
    pub fn sum(&self, counts: impl Fn(StepId) -> bool) -> i64 {
        let steps = self.histories.values().flat_map(|history| &history.chain);
        let counted = steps
            .filter_map(|head| self.ran.get(head))
            .filter(|ran| counts(ran.step));
        let added = counted.map(|ran| match ran.effect {
            Effect::Adds(amount) => amount,
            Effect::Deletes => 0,
        });
        added.sum()
    }

    /// A host says something about itself.
    pub fn fact(&mut self, host: HostId, groups: &[Vec<HostId>], fact: Fact) {
        match fact {
            Fact::Ran {
                before,
                after,
                step,
                effect,
                ..
            } => {
                let ran = Ran { before, step, effect };
                self.expect(!self.ran.contains_key(&after), "one history", || {
                    format!("{} ran twice", short(after))
                });
                self.ran.insert(after, ran);
            }
            Fact::Active { grain, ballot, head } if !self.outside_only && head != NOTHING => {
                let (is_held, at) = self.is_held(grain, head, groups);
                self.expect(is_held, "write-back", || {
                    format!(
                        "{host} is active with {ballot:?} on {}, which only {at:?} hold",
                        short(head)
                    )
                });
            }
            Fact::Active { .. } | Fact::Reached(_) => {}
        }
    }

    /// A record has become durable at a host.
    pub fn stored(&mut self, host: HostId, stored: Stored) {
        match stored {
            Stored::Promise(grain, ballot) => {
                self.expect_open(host, grain, ballot);
                self.expect_above_floor(host, grain, ballot);
                let promised = self.promised.entry((host, grain)).or_insert(ballot);
                *promised = ballot.max(*promised);
                self.remember(host, grain, ballot);
            }
            Stored::Accept {
                grain,
                ballot,
                seq,
                head,
            } => {
                self.expect_open(host, grain, ballot);
                self.expect_above_floor(host, grain, ballot);
                let key = (host, grain);
                if !self.outside_only {
                    let promised = self.promised.get(&key).copied();
                    self.expect(promised <= Some(ballot), "fence", || {
                        format!("{host} accepts {ballot:?} below its promise {promised:?}")
                    });
                    let last = self.accepted.get(&key).copied();
                    let back = last.is_some_and(|(b, s, h)| b == ballot && (seq < s || (seq == s && head != h)));
                    self.expect(!back, "no way back", || {
                        format!("{host} accepts {seq} ({}) under {ballot:?} after {last:?}", short(head))
                    });
                }
                self.promised
                    .insert(key, ballot.max(self.promised.get(&key).copied().unwrap_or(ballot)));
                self.accepted.insert(key, (ballot, seq, head));
                self.remember(host, grain, ballot);
                self.hold(host, grain, head);
            }
            Stored::Install { grain, promised, head } => {
                self.accepted.remove(&(host, grain));
                match promised {
                    Some(ballot) => {
                        self.remember(host, grain, ballot);
                        self.promised.insert((host, grain), ballot)
                    }
                    None => self.promised.remove(&(host, grain)),
                };
                if let Some(head) = head {
                    self.hold(host, grain, head);
                }
            }
            Stored::Seal { slot, n } => {
                self.sealed.insert((host, slot), (n, true));
            }
            Stored::Ready { slot, n, floor } => {
                self.sealed.insert((host, slot), (n, false));
                self.raise_floor(host, slot, floor);
            }
            Stored::Forget(grain, ballot) => {
                self.promised.remove(&(host, grain));
                self.accepted.remove(&(host, grain));
                self.raise_floor(host, Slot::of(grain).number(), Some(ballot));
            }
            Stored::Discard(slot) => {
                let stays = |at: &HostId, grain: &GrainId| *at != host || Slot::of(*grain).number() != slot;
                self.promised.retain(|(at, grain), _| stays(at, grain));
                self.accepted.retain(|(at, grain), _| stays(at, grain));
            }
        }
    }

    /// After a seal in a log comes no promise and no commit, until the slot is served again.
    fn expect_open(&mut self, host: HostId, grain: GrainId, ballot: Ballot) {
        let slot = Slot::of(grain).number();
        let (sealed, is_sealed) = self.sealed.get(&(host, slot)).copied().unwrap_or_default();
        self.expect(self.outside_only || !is_sealed, "sealed", || {
            format!("{host} takes {ballot:?} in slot {slot}, sealed for {sealed}")
        });
    }

    /// What is forgotten can't be told from what never was: for neither is a ballot taken that may have been promised against.
    fn expect_above_floor(&mut self, host: HostId, grain: GrainId, ballot: Ballot) {
        let floor = self.floors.get(&(host, Slot::of(grain).number())).copied();
        let is_known = self.promised.contains_key(&(host, grain));
        self.expect(self.outside_only || is_known || floor < Some(ballot), "fence", || {
            format!("{host} takes {ballot:?} for {grain}, which it doesn't know, below its floor {floor:?}")
        });
    }

    fn raise_floor(&mut self, host: HostId, slot: u16, floor: Option<Ballot>) {
        if let Some(floor) = floor {
            let known = self.floors.entry((host, slot)).or_insert(floor);
            *known = floor.max(*known);
        }
    }

    fn remember(&mut self, host: HostId, grain: GrainId, ballot: Ballot) {
        let ever = self.ever_promised.entry((host, grain)).or_insert(ballot);
        *ever = ballot.max(*ever);
    }

    fn hold(&mut self, host: HostId, grain: GrainId, head: Head) {
        self.held.entry((grain, host)).or_default().push(head);
        let holders = self.holders.entry(head).or_default();
        if !holders.contains(&host) {
            holders.push(host);
        }
    }

    /// A host sends something.
    pub fn said(&mut self, host: HostId, groups: &[Vec<HostId>], said: Said) {
        if let Said::Forgets(grain, head) = said {
            self.forgets(grain, head, groups);
        }
        if self.outside_only {
            return;
        }
        match said {
            Said::Forgets(..) => {}
            Said::Confirms { slot, n } => {
                let (sealed, _) = self.sealed.get(&(host, slot)).copied().unwrap_or_default();
                self.expect(n >= sealed, "sealed", || {
                    format!("{host} answers for slot {slot} in configuration {n}, sealed for {sealed}")
                });
            }
            Said::Promises(grain, ballot) => {
                let promised = self.ever_promised.get(&(host, grain)).copied();
                self.expect(promised >= Some(ballot), "fence", || {
                    format!("{host} says that it has promised {ballot:?}; on its disk is {promised:?}")
                });
            }
        }
    }

    /// The replicas are told that they may forget a grain. That is seen from outside as well: a history may begin anew from here.
    fn forgets(&mut self, grain: GrainId, head: Head, groups: &[Vec<HostId>]) {
        let at = self.holders.get(&head).map_or(&[][..], Vec::as_slice);
        let is_everywhere = groups.iter().any(|group| group.iter().all(|host| at.contains(host)));
        if !self.outside_only && !is_everywhere {
            let detail = format!("{} is forgotten, and only {at:?} have the tombstone", short(head));
            return self.violated("tombstones", detail);
        }
        if let Some(position) = self.place(grain, head)
            && let Some(history) = self.histories.get_mut(&grain)
        {
            history.forgotten = history.forgotten.max(position);
        }
    }

    /// A host answers a request. `floor` is what [`Checkers::floor`] said when the client began.
    pub fn replied(&mut self, call: &Call, floor: usize, groups: &[Vec<HostId>], head: Head, value: i64) {
        if !self.outside_only && head != NOTHING {
            let (is_held, at) = self.is_held(call.grain, head, groups);
            self.expect(is_held, "committed before seen", || {
                format!("{call:?} is told of {}, which only {at:?} hold", short(head))
            });
        }
        let Some(at) = self.place(call.grain, head) else { return };
        let Some(history) = self.histories.get(&call.grain) else {
            return;
        };
        let found = match call.action {
            // That a grain is gone is all that a deletion tells; whether it was this one doesn't matter.
            Action::Read | Action::Delete => Some(at),
            Action::Add(_) => history.effect_of(call.step, at),
        };
        let Some(found) = found else {
            return self.violated(
                "one history",
                format!("{call:?} is acknowledged and not in {}", short(head)),
            );
        };
        let (is, length) = (history.values[found], history.chain.len());
        let is_gone = found == history.forgotten || history.deletions.contains(&found);
        self.expect(is == value, "values", || {
            format!("{call:?} is told {value} where the history has {is}")
        });
        self.expect(call.action != Action::Delete || is_gone, "values", || {
            format!(
                "{call:?} is acknowledged with {}, where the grain is there",
                short(head)
            )
        });
        let fresh = match call.action {
            Action::Read | Action::Delete => found >= floor,
            Action::Add(_) => found > floor,
        };
        self.expect(fresh, "fresh reads", || {
            format!("{call:?} took effect at {found} of {length}, before {floor}, which it began after")
        });
    }

    /// Where a state lies on the grain's one chain; lengthens that if it's beyond its end.
    fn place(&mut self, grain: GrainId, head: Head) -> Option<usize> {
        let history = self.histories.entry(grain).or_default();
        if history.chain.is_empty() {
            history.chain.push(NOTHING);
            history.values.push(0);
        }
        let mut path = Vec::new();
        let mut at = head;
        let found = loop {
            if let Some(position) = history.find(at) {
                break position;
            }
            let Some(ran) = self.ran.get(&at) else {
                self.violated("one history", format!("{} was made by no turn", short(at)));
                return None;
            };
            path.push((at, *ran));
            at = ran.before;
        };
        let end = history.chain.last().copied().unwrap_or(NOTHING);
        if !path.is_empty() && found + 1 != history.chain.len() {
            let detail = format!(
                "{grain}: {} follows {}, clients know of {}",
                short(head),
                short(at),
                short(end)
            );
            self.violated("one history", detail);
            return None;
        }
        for (head, ran) in path.into_iter().rev() {
            let position = history.chain.len();
            let value = match ran.effect {
                Effect::Adds(amount) => history.values[position - 1].wrapping_add(amount),
                Effect::Deletes => 0,
            };
            history.chain.push(head);
            history.values.push(value);
            history.position.insert(head, position);
            if ran.effect == Effect::Deletes {
                history.deletions.push(position);
                continue;
            }
            if let Some(first) = history.effect_of(ran.step, position) {
                let detail = format!("{grain}: {:?} has taken effect at {first} and at {position}", ran.step);
                self.found.get_or_insert(Violation {
                    invariant: "exactly once",
                    detail,
                });
            }
            history.steps.entry(ran.step).or_default().push(position);
        }
        history.find(head)
    }

    /// Whether a quorum of one of the groups has, or had, the state or a later one that contains it on disk; and who does.
    fn is_held(&self, grain: GrainId, head: Head, groups: &[Vec<HostId>]) -> (bool, Vec<HostId>) {
        let mut at = self.holders.get(&head).cloned().unwrap_or_default();
        if is_quorum(&at, groups) {
            return (true, at);
        }
        let hosts: BTreeSet<HostId> = groups.iter().flatten().copied().collect();
        for host in hosts {
            let held = self.held.get(&(grain, host)).map_or(&[][..], Vec::as_slice);
            if !at.contains(&host) && self.descends(held, head) {
                at.push(host);
            }
        }
        (is_quorum(&at, groups), at)
    }

    fn descends(&self, held: &[Head], head: Head) -> bool {
        // Whoever is further is hardly so by more than what is on its way.
        held.iter().rev().take(8).any(|from| {
            let next = |at: &Head| self.ran.get(at).map(|ran| ran.before);
            std::iter::successors(Some(*from), next).take(256).any(|at| at == head)
        })
    }
}

fn is_quorum(at: &[HostId], groups: &[Vec<HostId>]) -> bool {
    groups
        .iter()
        .any(|group| 2 * group.iter().filter(|host| at.contains(host)).count() > group.len())
}

fn short(head: Head) -> String {
    head[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
