//! Whom to call because they are missing.
//!
//! SWIM itself never speaks to the dead again: two hosts that were cut off from each other for some seconds stay apart for
//! ever, and so do the halves of a larger cluster. So as long as anyone is missing, everyone calls the missing at an interval:
//! whoever is in the configuration, whoever was here lately, and the seeds, behind which may be anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::view::{Standing, View};
use crate::id::HostId;
use crate::time::Time;

/// What there is to know for calling.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejoin {
    configured: BTreeSet<HostId>,
    /// Addresses of hosts that the view may not know, and when they were told.
    book: BTreeMap<HostId, (SocketAddr, Time)>,
    /// The next call.
    at: Time,
    /// Where the last call ended, so that each of the missing has its turn.
    last: Option<HostId>,
}

impl Rejoin {
    /// The first call is due at `at`.
    pub(super) fn new(at: Time) -> Rejoin {
        Rejoin {
            at,
            ..Rejoin::default()
        }
    }

    pub(super) fn configure(&mut self, members: Vec<HostId>, most: usize) {
        self.configured = members.into_iter().take(most).collect();
    }

    /// Notes an address, as long as there is room.
    pub(super) fn introduce(&mut self, now: Time, host: HostId, address: SocketAddr, most: usize) {
        if self.book.len() < most || self.book.contains_key(&host) {
            self.book.insert(host, (address, now));
        }
    }

    /// Drops addresses that nobody has answered at for `nanos`, unless their hosts are in the configuration.
    pub(super) fn forget(&mut self, now: Time, nanos: u64) {
        let configured = &self.configured;
        self.book
            .retain(|host, (_, told)| now.nanos_since(*told) < nanos || configured.contains(host));
    }

    pub(super) fn is_configured(&self, host: HostId) -> bool {
        self.configured.contains(&host)
    }

    pub(super) fn deadline(&self) -> Time {
        self.at
    }

    pub(super) fn postpone(&mut self, now: Time, nanos: u64) {
        self.at = now.plus_nanos(nanos);
    }

    /// Makes the next call due.
    pub(super) fn hurry(&mut self, now: Time) {
        self.at = now;
    }

    /// Whether anyone should be here who isn't.
    pub(super) fn is_anyone_missing(&self, me: HostId, view: &View) -> bool {
        let gone = view.members().any(|seen| seen.standing == Standing::Down);
        gone || self.unseen(me, view).next().is_some()
    }

    /// At most `most` of the missing whose address is known, others than at the last call when there are more.
    pub(super) fn missing(&mut self, me: HostId, view: &View, most: usize) -> Vec<(HostId, SocketAddr)> {
        let mut dead: Vec<_> = view
            .members()
            .filter(|seen| seen.standing == Standing::Down)
            .map(|seen| (seen.since, seen.host, seen.address))
            .collect();
        dead.sort_by_key(|(since, ..)| std::cmp::Reverse(*since));
        let mut found: BTreeMap<_, _> = dead
            .iter()
            .take(most)
            .map(|(_, host, address)| (*host, *address))
            .collect();
        // The configuration counts for more than what was here lately, however long ago it was.
        let configured = dead.iter().filter(|(_, host, _)| self.is_configured(*host));
        found.extend(configured.map(|(_, host, address)| (*host, *address)));
        found.extend(
            self.unseen(me, view)
                .filter_map(|host| Some((host, self.book.get(&host)?.0))),
        );
        let later = self.last.map_or(0, |last| found.range(..=last).count());
        let chosen: Vec<_> = found.into_iter().collect();
        let turn: Vec<_> = chosen
            .iter()
            .cycle()
            .skip(later)
            .take(most.min(chosen.len()))
            .copied()
            .collect();
        self.last = turn.last().map(|(host, _)| *host);
        turn
    }

    /// Who is in the configuration or introduced and has never been seen.
    fn unseen<'a>(&'a self, me: HostId, view: &'a View) -> impl Iterator<Item = HostId> + 'a {
        let all = self.configured.iter().chain(self.book.keys());
        all.filter(move |host| **host != me && view.member(**host).is_none())
            .copied()
    }
}
