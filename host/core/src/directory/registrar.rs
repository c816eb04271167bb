//! A host's side of registering: the activations here, and who has confirmed that it knows them.
//!
//! When a slot gets another primary, because the configuration or the view has changed, the activations of the slot are told to that
//! one after a random wait, so that a death doesn't have every host speak at once. Until then requests find the grain
//! by caches and by the promise that the new primary's replica has given: nothing stalls.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Settings;
use super::message::DirectoryMessage;
use super::sight::Sight;
use crate::id::{Ballot, GrainId, HostId};
use crate::rng::Rng;
use crate::slot::Slot;
use crate::time::Time;

/// How many activations are registered by one message, so that it fits a datagram's worth of a few.
pub(super) const BATCH: usize = 64;
/// The wait between repeats doubles up to this many times the first.
const SLOWEST: u64 = 10;

/// The activations of one slot.
#[derive(Clone, Debug, Default)]
struct Own {
    /// With who has confirmed it.
    grains: BTreeMap<GrainId, (Ballot, Option<HostId>)>,
    /// Who was told.
    primary: Option<HostId>,
    due: Option<Time>,
    repeats: u64,
}

/// All activations of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Registrar {
    slots: BTreeMap<Slot, Own>,
    due: BTreeSet<(Time, Slot)>,
}

impl Registrar {
    pub(super) fn activated(&mut self, now: Time, grain: GrainId, ballot: Ballot) {
        let slot = Slot::of(grain);
        let own = self.slots.entry(slot).or_default();
        own.grains.insert(grain, (ballot, None));
        own.repeats = 0;
        self.schedule(slot, now);
    }

    /// Says who knows the activation and has to be told that it's gone.
    pub(super) fn deactivated(&mut self, grain: GrainId, ballot: Ballot) -> Option<HostId> {
        let slot = Slot::of(grain);
        let own = self.slots.get_mut(&slot)?;
        let (known, _) = own.grains.get(&grain)?;
        if *known != ballot {
            return None;
        }
        own.grains.remove(&grain);
        let primary = own.primary;
        if own.grains.is_empty() {
            if let Some(due) = own.due {
                self.due.remove(&(due, slot));
            }
            self.slots.remove(&slot);
        }
        primary
    }

    /// Finds the slots that have another primary now.
    pub(super) fn review(&mut self, now: Time, sight: &Sight, rng: &mut Rng, settings: &Settings) {
        let moved: Vec<_> = self
            .slots
            .iter()
            .filter(|(slot, own)| own.primary != sight.primary(**slot))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in moved {
            if let Some(own) = self.slots.get_mut(&slot) {
                own.repeats = 0;
            }
            self.schedule(slot, now.plus_nanos(rng.below(settings.jitter_nanos)));
        }
    }

    /// Takes what a primary confirmed; returns the grains of which it knows a higher ballot.
    pub(super) fn confirmed(&mut self, from: HostId, entries: Vec<(GrainId, Ballot)>) -> Vec<(GrainId, Ballot)> {
        let mut outdated = Vec::new();
        for (grain, ballot) in entries {
            let own = self.slots.get_mut(&Slot::of(grain));
            let Some((known, confirmed)) = own.and_then(|own| own.grains.get_mut(&grain)) else {
                continue;
            };
            if ballot >= *known {
                *confirmed = Some(from);
            }
            if ballot > *known {
                outdated.push((grain, ballot));
            }
        }
        outdated
    }

    /// What is to be told now, and to whom.
    pub(super) fn due(&mut self, now: Time, sight: &Sight, settings: &Settings) -> Vec<(HostId, DirectoryMessage)> {
        let mut messages = Vec::new();
        while let Some((at, slot)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, slot));
            let Some(own) = self.slots.get_mut(&slot) else { continue };
            own.due = None;
            let primary = sight.primary(slot);
            own.primary = primary;
            let untold: Vec<_> = own
                .grains
                .iter()
                .filter(|(_, (_, confirmed))| *confirmed != primary || primary.is_none())
                .map(|(grain, (ballot, _))| (*grain, *ballot))
                .collect();
            if untold.is_empty() {
                continue;
            }
            let wait = settings.register_again_nanos * (1 << own.repeats.min(8)).min(SLOWEST);
            own.repeats += 1;
            self.schedule(slot, now.plus_nanos(wait));
            if let Some(primary) = primary {
                let n = sight.n();
                messages.extend(untold.chunks(BATCH).map(|entries| {
                    let entries = entries.to_vec();
                    (primary, DirectoryMessage::Register { n, entries })
                }));
            }
        }
        messages
    }

    pub(super) fn own(&self, grain: GrainId) -> Option<Ballot> {
        let own = self.slots.get(&Slot::of(grain))?;
        own.grains.get(&grain).map(|(ballot, _)| *ballot)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    fn schedule(&mut self, slot: Slot, at: Time) {
        let Some(own) = self.slots.get_mut(&slot) else { return };
        if own.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = own.due.replace(at) {
            self.due.remove(&(due, slot));
        }
        self.due.insert((at, slot));
    }
}
