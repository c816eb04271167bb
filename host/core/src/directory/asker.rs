//! A host's side of asking: which grains are being looked for, who was asked, and when to ask again.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Lost, Settings};
use super::message::DirectoryMessage;
use super::sight::Sight;
use crate::id::{GrainId, HostId};
use crate::placement::Policy;
use crate::slot::Slot;
use crate::time::Time;

/// Being sent elsewhere more often than this, the one who seems right to the asker has to answer.
const DETOURS: u8 = 2;

/// One grain that is being looked for.
#[derive(Clone, Debug)]
struct Ask {
    not_here: Option<HostId>,
    policy: Policy,
    /// Who was asked last.
    asked: HostId,
    insist: bool,
    detours: u8,
    again_at: Time,
    give_up_at: Time,
}

/// All grains that are being looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    asks: BTreeMap<GrainId, Ask>,
    due: BTreeSet<(Time, GrainId)>,
}

/// A question to send.
pub(super) type Letter = (HostId, DirectoryMessage);

impl Asker {
    /// Starts looking, unless that's being done.
    pub(super) fn start(
        &mut self,
        now: Time,
        (grain, not_here, policy): (GrainId, Option<HostId>, Policy),
        sight: &Sight,
        settings: &Settings,
    ) -> Result<Option<Letter>, Lost> {
        if self.asks.contains_key(&grain) {
            return Ok(None);
        }
        let asked = sight.primary(Slot::of(grain)).ok_or(Lost::NoConfig)?;
        if self.asks.len() >= settings.asks_most {
            return Err(Lost::Busy);
        }
        let ask = Ask {
            not_here,
            policy,
            asked,
            insist: false,
            detours: 0,
            again_at: now.plus_nanos(settings.ask_again_nanos),
            give_up_at: now.plus_nanos(settings.give_up_nanos),
        };
        self.due.insert((ask.again_at, grain));
        let letter = letter(grain, &ask, sight);
        self.asks.insert(grain, ask);
        Ok(Some(letter))
    }

    /// Takes an answer. Says whether it was waited for, from this host.
    pub(super) fn answered(&mut self, from: HostId, grain: GrainId) -> bool {
        let waited = self.asks.get(&grain).is_some_and(|ask| ask.asked == from);
        if waited {
            self.remove(grain);
        }
        waited
    }

    /// Goes where it was sent, or insists.
    pub(super) fn sent_on(
        &mut self,
        now: Time,
        (from, grain, to): (HostId, GrainId, Option<HostId>),
        sight: &Sight,
        settings: &Settings,
    ) -> Option<Letter> {
        let ask = self.asks.get_mut(&grain).filter(|ask| ask.asked == from)?;
        ask.detours += 1;
        match to.filter(|to| sight.is_up(*to) && ask.detours <= DETOURS) {
            Some(to) => ask.asked = to,
            None => {
                ask.asked = sight.primary(Slot::of(grain))?;
                if ask.insist {
                    // It was told to answer and can't: it isn't a replica. One of both has an old configuration; the repeat is soon.
                    return None;
                }
                ask.insist = true;
            }
        }
        self.due.remove(&(ask.again_at, grain));
        ask.again_at = now.plus_nanos(settings.ask_again_nanos);
        self.due.insert((ask.again_at, grain));
        Some(letter(grain, ask, sight))
    }

    /// The questions to repeat now, and those that nobody has answered.
    pub(super) fn due(&mut self, now: Time, sight: &Sight, settings: &Settings) -> (Vec<Letter>, Vec<GrainId>) {
        let (mut letters, mut lost) = (Vec::new(), Vec::new());
        while let Some((at, grain)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, grain));
            let Some(ask) = self.asks.get_mut(&grain) else { continue };
            if ask.give_up_at <= now {
                self.asks.remove(&grain);
                lost.push(grain);
                continue;
            }
            // The view may have changed meanwhile, and whoever was too sure of it may not be any more.
            if let Some(primary) = sight.primary(Slot::of(grain)) {
                ask.asked = primary;
            }
            ask.insist = false;
            ask.detours = 0;
            ask.again_at = now.plus_nanos(settings.ask_again_nanos);
            self.due.insert((ask.again_at, grain));
            letters.push(letter(grain, ask, sight));
        }
        (letters, lost)
    }

    /// Asks at once again what was asked of hosts that aren't there any more.
    pub(super) fn review(&mut self, now: Time, sight: &Sight) {
        for (grain, ask) in &mut self.asks {
            if !sight.is_up(ask.asked) && ask.again_at > now {
                self.due.remove(&(ask.again_at, *grain));
                ask.again_at = now;
                self.due.insert((now, *grain));
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    fn remove(&mut self, grain: GrainId) {
        if let Some(ask) = self.asks.remove(&grain) {
            self.due.remove(&(ask.again_at, grain));
        }
    }
}

fn letter(grain: GrainId, ask: &Ask, sight: &Sight) -> Letter {
    let message = DirectoryMessage::Locate {
        n: sight.n(),
        grain,
        not_here: ask.not_here,
        policy: ask.policy,
        insist: ask.insist,
    };
    (ask.asked, message)
}
