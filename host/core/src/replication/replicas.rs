//! All replicas of a host: one for each slot that it holds, held, or was asked about.
//!
//! Only finds the slot's machine; every rule is in [`replica`](super::replica).

use std::collections::{BTreeMap, BTreeSet};

use super::messages::{Ask, Handover, Message};
use super::mutation::Rules;
use super::record::Record;
use super::replica::{Input, Limits, Output, Replica};
use crate::id::HostId;
use crate::slot::Slot;
use crate::time::Time;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replicas {
    me: HostId,
    limits: Limits,
    rules: Rules,
    slots: BTreeMap<Slot, Replica>,
    deadlines: BTreeSet<(Time, Slot)>,
}

impl Replicas {
    /// A host without replicas.
    pub fn new(me: HostId, limits: Limits, rules: Rules) -> Replicas {
        Replicas {
            me,
            limits,
            rules,
            slots: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Takes in a durable record of a slot at a start, in the slot's order.
    pub fn replay(&mut self, now: Time, slot: Slot, record: &Record) {
        self.slot(slot).replay(now, record);
    }

    /// Takes one input of a slot and appends what is to be done for it.
    pub fn handle(&mut self, now: Time, slot: Slot, input: Input, out: &mut Vec<(Slot, Output)>) {
        let mut outputs = Vec::new();
        let replica = self.slot(slot);
        let before = replica.deadline();
        replica.handle(now, input, &mut outputs);
        let after = replica.deadline();
        out.extend(outputs.into_iter().map(|output| (slot, output)));
        if let Some(before) = before {
            self.deadlines.remove(&(before, slot));
        }
        self.deadlines.extend(after.map(|at| (at, slot)));
    }

    /// Wakes the slots whose deadline has passed.
    pub fn wake(&mut self, now: Time, out: &mut Vec<(Slot, Output)>) {
        while let Some((at, slot)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.handle(now, slot, Input::Wake, out);
            if self
                .replica(slot)
                .and_then(Replica::deadline)
                .is_some_and(|next| next <= now)
            {
                // A machine that isn't content with being woken would be woken for ever.
                self.deadlines.remove(&(at, slot));
            }
        }
    }

    /// When [`Replicas::wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A slot's replica, if there has ever been one.
    pub fn replica(&self, slot: Slot) -> Option<&Replica> {
        self.slots.get(&slot)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Replica)> {
        self.slots.iter().map(|(slot, replica)| (*slot, replica))
    }

    fn slot(&mut self, slot: Slot) -> &mut Replica {
        let (me, limits, rules) = (self.me, self.limits, self.rules);
        self.slots
            .entry(slot)
            .or_insert_with(|| Replica::new(me, slot, limits, rules))
    }
}

impl Message {
    /// The slot that a message is about.
    pub fn slot(&self) -> Slot {
        match self {
            Message::Ask { ask, .. } => match ask {
                Ask::Confirm { slot, .. } => *slot,
                Ask::Prepare { grain, .. }
                | Ask::Accept { grain, .. }
                | Ask::Fetch { grain, .. }
                | Ask::Release { grain, .. }
                | Ask::Forget { grain, .. } => Slot::of(*grain),
            },
            Message::Answer { answer, .. } => answer.slot(),
            Message::Handover(handover) => match handover {
                Handover::Seal { slot, .. }
                | Handover::Sealed { slot, .. }
                | Handover::Pull { slot, .. }
                | Handover::Pulled { slot, .. } => *slot,
            },
        }
    }
}
