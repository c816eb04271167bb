//! Fresh reads, and for how long an activation may believe that it is the grain's.
//!
//! Both ask replicas whether the ballot is still good, and both count the same answers. A question's stamp tells which reads came
//! before it, and, as it's no earlier than the time at which it was asked, from when a quorum's answer is good.

use super::{Output, Proposer};
use crate::id::{HostId, Seq};
use crate::replication::messages::Ask;
use crate::replication::mutation::Mutation;
use crate::slot::Slot;
use crate::time::Time;

/// A read that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Read {
    pub(super) ticket: u64,
    /// Questions up to this one were asked before it came.
    stamp: u64,
    sees: Seq,
}

impl Proposer {
    pub(super) fn read(&mut self, now: Time, ticket: u64, sees: Seq, out: &mut Vec<Output>) {
        if !self.is_active() || self.reads.len() >= self.limits.reads {
            out.push(Output::ReadRefused(ticket));
            return;
        }
        if self.rules.breaks(Mutation::UnaskedRead) {
            out.push(Output::ReadReady(ticket));
            return;
        }
        if !self.is_outstanding() {
            // Else what is on its way is sent again in its time, however many reads come.
            self.attempts = 0;
            self.put_off(now);
        }
        let stamp = self.stamp;
        self.reads.push_back(Read { ticket, stamp, sees });
        self.confirm(now, out);
    }

    /// Invariant 9: a quorum has answered a question that was asked after the read had come.
    pub(super) fn release_reads(&mut self, now: Time, out: &mut Vec<Output>) {
        let answered = self.quorum_stamp();
        while let Some(read) = self.reads.front()
            && answered > Some(read.stamp)
            && self.committed >= read.sees
        {
            out.push(Output::ReadReady(read.ticket));
            self.reads.pop_front();
        }
        self.confirm(now, out);
    }

    /// Asks whether the ballot is still good, for the reads that wait; one question at a time.
    fn confirm(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(last) = self.reads.back() else { return };
        let is_asked = self.asked > last.stamp || self.quorum_stamp() < Some(self.asked);
        if self.asked == 0 || !is_asked {
            self.ask_confirm(now, out);
        }
    }

    pub(super) fn ask_confirm(&mut self, now: Time, out: &mut Vec<Output>) {
        self.asked = self.next_stamp(now);
        for to in &self.set.hosts {
            let ask = Ask::Confirm {
                slot: Slot::of(self.grain),
                stamp: self.asked,
                grains: vec![(self.grain, self.ballot)],
            };
            self.send(*to, ask, out);
        }
    }

    /// A replica says that this ballot is still good.
    pub(super) fn confirmed_by(&mut self, now: Time, from: HostId, stamp: u64, out: &mut Vec<Output>) {
        if stamp <= self.stamp {
            let last = self.confirmed.entry(from).or_default();
            *last = stamp.max(*last);
            self.advance(now, out);
        }
    }

    /// The ballot was confirmed by a quorum again, or wasn't for long.
    pub(super) fn extend_lease(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some(stamp) = self.quorum_stamp().filter(|stamp| *stamp > self.lease_from) {
            self.lease_from = stamp;
            if self.isolated && now < self.lease_end() {
                self.isolated = false;
                out.push(Output::Reachable);
            }
        }
    }

    /// The highest stamp that a quorum of the present replicas has answered.
    pub(super) fn quorum_stamp(&self) -> Option<u64> {
        let mut stamps: Vec<Option<u64>> = self
            .set
            .hosts
            .iter()
            .map(|host| self.confirmed.get(host).copied())
            .collect();
        stamps.sort_unstable();
        stamps[stamps.len().checked_sub(self.set.quorum())?]
    }

    /// A stamp is no earlier than the time of its question, and hardly later.
    pub(super) fn lease_end(&self) -> Time {
        Time(self.lease_from).plus_nanos(self.limits.lease_nanos)
    }
}
