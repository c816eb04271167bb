//! What foca wants to be told later, and how long this host has slept meanwhile.
//!
//! foca hands out its timers as data. They wait here in the order of their time, apart from two kinds: a suspicion's end depends on the
//! health score, which may change while it waits, and of the times to forget a host only the last counts.
//!
//! A host that wasn't scheduled for a while comes back to timers that are all overdue: the probe whose answer lies unread in
//! a queue would fail at once, and so would the objections of members whom it suspects. The time in which nothing happened
//! here is no time in which others failed to answer, so it's taken out: timers run on this host's *waking* time.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::Timer;

use super::health::Health;
use super::identity::Identity;
use crate::id::HostId;
use crate::time::Time;

/// A member that foca will call down unless it objects.
#[derive(Clone, Debug)]
struct Suspicion {
    /// Waking nanoseconds when it was raised.
    raised: u64,
    /// The health score at that time.
    score: u8,
    incarnation: u16,
    timer: Timer<Identity>,
}

/// All timers of one machine.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    /// By waking time, then kind, then order of submission.
    due: BTreeMap<(u64, u8, u64), Timer<Identity>>,
    suspicions: BTreeMap<HostId, Suspicion>,
    /// When to forget a dead host, in waking time.
    forgets: BTreeMap<HostId, (u64, Timer<Identity>)>,
    submitted: u64,
    asleep_nanos: u64,
    /// Being later than this counts as having slept.
    late_nanos: u64,
    suspicion_nanos: u64,
}

impl Timers {
    pub(super) fn new(late_nanos: u64, suspicion_nanos: u64) -> Timers {
        Timers {
            due: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            forgets: BTreeMap::new(),
            submitted: 0,
            asleep_nanos: 0,
            late_nanos,
            suspicion_nanos,
        }
    }

    /// Takes a sleep out of the waking time. Says whether there was one.
    pub(super) fn notice_sleep(&mut self, now: Time, health: Health) -> bool {
        let Some(due) = self.deadline(health) else { return false };
        let late = now.nanos_since(due);
        if late <= self.late_nanos {
            return false;
        }
        self.asleep_nanos += late;
        true
    }

    /// Keeps what foca submitted.
    pub(super) fn submit(&mut self, now: Time, timer: Timer<Identity>, after: Duration, health: Health) {
        let waking = self.waking(now);
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        match &timer {
            Timer::ChangeSuspectToDown {
                member_id, incarnation, ..
            } => {
                let again = self.suspicions.get(&member_id.host).is_some_and(|known| {
                    // foca submits one for each failed probe of a suspect; the first one counts.
                    known.incarnation == *incarnation && known.timer == timer
                });
                if !again {
                    let suspicion = Suspicion {
                        raised: waking,
                        score: health.score(),
                        incarnation: *incarnation,
                        timer: timer.clone(),
                    };
                    self.suspicions.insert(member_id.host, suspicion);
                }
            }
            Timer::RemoveDown(id) => {
                self.forgets
                    .insert(id.host, (waking.saturating_add(after), timer.clone()));
            }
            _ => {
                self.submitted += 1;
                let key = (waking.saturating_add(after), kind(&timer), self.submitted);
                self.due.insert(key, timer);
            }
        }
    }

    /// Has the running probe's period end no later than `nanos` from now.
    pub(super) fn hasten_probe(&mut self, now: Time, nanos: u64) {
        let end = self.waking(now).saturating_add(nanos);
        let late: Vec<_> = self
            .due
            .range((end, u8::MAX, 0)..)
            .filter(|(_, timer)| matches!(timer, Timer::ProbeRandomMember(_)))
            .map(|(key, _)| *key)
            .collect();
        for key in late {
            if let Some(timer) = self.due.remove(&key) {
                self.due.insert((end, key.1, key.2), timer);
            }
        }
    }

    /// Takes a timer that is due.
    pub(super) fn pop(&mut self, now: Time, health: Health) -> Option<Timer<Identity>> {
        let waking = self.waking(now);
        if let Some(entry) = self.due.first_entry()
            && entry.key().0 <= waking
        {
            return Some(entry.remove());
        }
        let over = self
            .suspicions
            .iter()
            .find(|(_, suspicion)| self.end_of(suspicion, health) <= waking)
            .map(|(host, _)| *host);
        if let Some(suspicion) = over.and_then(|host| self.suspicions.remove(&host)) {
            return Some(suspicion.timer);
        }
        let over = self
            .forgets
            .iter()
            .find(|(_, (at, _))| *at <= waking)
            .map(|(host, _)| *host);
        over.and_then(|host| self.forgets.remove(&host)).map(|(_, timer)| timer)
    }

    /// When the next timer is due.
    pub(super) fn deadline(&self, health: Health) -> Option<Time> {
        let due = self.due.first_key_value().map(|((at, ..), _)| *at);
        let suspicion = self.suspicions.values().map(|suspicion| self.end_of(suspicion, health));
        let forget = self.forgets.values().map(|(at, _)| *at);
        let first = due.into_iter().chain(suspicion).chain(forget).min()?;
        Some(Time(first.saturating_add(self.asleep_nanos)))
    }

    fn end_of(&self, suspicion: &Suspicion, health: Health) -> u64 {
        let factor = 1 + u64::from(health.since(suspicion.score));
        suspicion
            .raised
            .saturating_add(self.suspicion_nanos.saturating_mul(factor))
    }

    fn waking(&self, now: Time) -> u64 {
        now.0.saturating_sub(self.asleep_nanos)
    }
}

/// foca wants the two halves of a probe in this order when both are due.
fn kind(timer: &Timer<Identity>) -> u8 {
    match timer {
        Timer::SendIndirectProbe { .. } => 0,
        Timer::ProbeRandomMember(_) => 1,
        _ => 2,
    }
}
