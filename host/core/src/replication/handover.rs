//! How a slot changes hands, without losing what was acknowledged.
//!
//! A configuration gives a slot new replicas. Each of them *seals* the old ones: a sealed replica answers no activation any more, for
//! good. It lists what it has: for each grain the highest promise and the last accepted commit. With `R - q + 1` old replicas sealed
//! no quorum of the old configuration is left, and at least one replica of every quorum that there ever was has been heard. So for
//! each grain the highest accepted commit of those that were heard contains everything that was acknowledged, and the highest promise
//! fences everybody that was fenced. The new replica pulls the states that it lacks, makes all of it durable, and serves.
//!
//! A configuration may be given up before a quorum is known to serve it. The next one names it among its sources, next to the last that
//! was known to be served: sealing `R - q + 1` of its replicas makes sure that it never will be, or hears of what it did.
//!
//! What is copied keeps the ballot under which it was accepted. A commit that no quorum had accepted may so become the choice of one;
//! that's as if the activation's Accept had arrived there, too.
//!
//! Source: Lamport, Malkhi, Zhou, *Vertical Paxos and primary-backup replication* (2009): the old configuration is read and closed
//! before the new one serves.
//!
//! **Not here:** which configuration is next (`config_chain`), reading states (the driver).

use std::collections::{BTreeMap, BTreeSet};

use super::body::Body;
use super::messages::{Accepted, GrainHead, Handover, Message};
use super::mutation::Mutation;
use super::record::Record;
use super::register::{Holder, Register};
use super::replica::{Output, Replica};
use super::replica_set::{Assignment, ReplicaSet};
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId};
use crate::time::Time;

/// A takeover on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Install {
    n: ConfigNumber,
    /// The first of the sources.
    oldest: ConfigNumber,
    /// Replica sets, and how many of each have to be heard.
    sources: Vec<(Vec<HostId>, usize)>,
    listings: BTreeMap<HostId, Listing>,
    found: BTreeMap<GrainId, Found>,
    floor: Option<Ballot>,
    /// States that are still to come; `None` while replicas are being heard.
    missing: Option<BTreeSet<GrainId>>,
    /// How often an answer was waited for in vain: picks whom to ask next.
    rounds: usize,
    retry_at: Time,
    /// The ticket of the record that ends it.
    served: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Listing {
    after: Option<GrainId>,
    done: bool,
}

/// The highest that was heard of a grain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Found {
    promised: Option<Ballot>,
    accepted: Option<Accepted>,
    /// Who has it.
    at: Vec<HostId>,
    holder: Option<Holder>,
}

impl Install {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.served.is_none().then_some(self.retry_at)
    }

    /// Whether all that configuration `n` needs is here and written.
    pub(super) fn ends(&self, n: ConfigNumber) -> bool {
        self.n == n && self.served.is_some()
    }

    /// **Invariant 4**, the other half: enough replicas of every source are sealed and heard.
    fn has_heard_enough(&self) -> bool {
        let heard = |host: &&HostId| self.listings.get(host).is_some_and(|listing| listing.done);
        self.sources
            .iter()
            .all(|(hosts, needed)| hosts.iter().filter(heard).count() >= *needed)
    }

    fn hear(&mut self, from: HostId, head: &GrainHead, now: Time) {
        let found = self.found.entry(head.grain).or_default();
        found.promised = found.promised.max(head.promised);
        if head.accepted > found.accepted {
            found.accepted = head.accepted;
            found.at.clear();
        }
        if head.accepted.is_some() && head.accepted == found.accepted {
            found.at.push(from);
        }
        if let Some((ballot, left_ms)) = head.holder
            && found.holder.is_none_or(|holder| holder.ballot < ballot)
        {
            let until = now.plus_nanos(u64::from(left_ms) * 1_000_000);
            found.holder = Some(Holder {
                ballot,
                host: ballot.host,
                until,
            });
        }
    }
}

impl Replica {
    /// Absent or Sealed -> Installing.
    pub(super) fn begin_install(&mut self, now: Time, assignment: Assignment, out: &mut Vec<Output>) {
        let Assignment { set, sources } = assignment;
        let oldest = sources.iter().map(|source| source.n).min().unwrap_or(set.n);
        // A replica that comes late hears those that serve `n` already, and has no part in what they did.
        let late = |source: &ReplicaSet| source.n >= set.n;
        let is_source = sources.iter().any(|source| source.holds(self.me) && !late(source));
        let is_stale = self.ready.is_none_or(|ready| ready < oldest);
        if (!is_source || is_stale) && !self.grains.is_empty() {
            // Left over from before the sources, or from a takeover that was given up: deleted grains would come back with it.
            self.empty();
            self.persist(Record::Discard, out);
        }
        // Comes before Ready in the log, so that counting this replica among the sealed ones needs no waiting.
        self.seal_for(set.n, out);
        let from_one = self.rules.breaks(Mutation::InstallFromOne);
        let needed = |source: &ReplicaSet| if from_one || late(source) { 1 } else { source.sealing() };
        let mut install = Install {
            n: set.n,
            oldest,
            listings: sources
                .iter()
                .flat_map(|source| &source.hosts)
                .map(|host| (*host, Listing::default()))
                .collect(),
            sources: sources
                .iter()
                .map(|source| (source.hosts.clone(), needed(source)))
                .collect(),
            found: BTreeMap::new(),
            floor: None,
            missing: None,
            rounds: 0,
            retry_at: now,
            served: None,
        };
        if !is_source {
            install.listings.remove(&self.me);
        } else if let Some(own) = install.listings.get_mut(&self.me) {
            own.done = true;
            for (grain, register) in &self.grains {
                install.hear(self.me, &head(*grain, register, now), now);
            }
            install.floor = self.floor;
        }
        self.install = Some(install);
        self.retry_install(now, out);
        self.advance_install(now, out);
    }

    pub(super) fn hand_over(&mut self, now: Time, from: HostId, message: Handover, out: &mut Vec<Output>) {
        let slot = self.slot;
        match message {
            Handover::Seal { n, oldest, after, .. } => self.list(now, from, (n, oldest), after, out),
            Handover::Sealed {
                n,
                after,
                floor,
                heads,
                more,
                ..
            } => {
                let Some(install) = self
                    .install
                    .as_mut()
                    .filter(|install| install.n == n && install.missing.is_none())
                else {
                    return;
                };
                let room = install.found.len() + heads.len() <= self.limits.grains;
                let Some(listing) = install
                    .listings
                    .get_mut(&from)
                    .filter(|listing| !listing.done && listing.after == after)
                else {
                    return;
                };
                // A page without an end can't be believed.
                if !room || (more && heads.is_empty()) {
                    return;
                }
                listing.after = heads.last().map(|head| head.grain).or(after);
                listing.done = !more;
                let (oldest, after) = (install.oldest, listing.after);
                install.floor = install.floor.max(floor);
                for head in &heads {
                    install.hear(from, head, now);
                }
                if more {
                    let message = Message::Handover(Handover::Seal { slot, n, oldest, after });
                    out.push(Output::Send { to: from, message });
                }
                self.advance_install(now, out);
            }
            Handover::Pull { n, grain, .. } => {
                if self.sealed >= n || self.ready == Some(n) {
                    self.load_to_pull(from, n, grain, out);
                }
            }
            Handover::Pulled {
                n,
                grain,
                accepted,
                body,
                ..
            } => self.pulled(now, n, grain, accepted, body, out),
        }
    }

    /// A state has come.
    fn pulled(
        &mut self,
        now: Time,
        n: ConfigNumber,
        grain: GrainId,
        accepted: Accepted,
        body: Body,
        out: &mut Vec<Output>,
    ) {
        let Some(install) = self.install.as_mut().filter(|install| install.n == n) else {
            return;
        };
        let Some(missing) = &mut install.missing else { return };
        let Some(found) = install.found.get_mut(&grain) else {
            return;
        };
        // What went on there since may be taken as well; what is older may not.
        if Some(accepted) < found.accepted || !missing.remove(&grain) {
            return;
        }
        found.accepted = Some(accepted);
        let found = found.clone();
        self.take_over(grain, &found, Some(body), out);
        let first = self.limits.pulls.saturating_sub(1);
        self.pull(first, out);
        self.advance_install(now, out);
    }

    /// Serving -> Sealed, and says what is here. A replica that is ready for `n` itself isn't sealed by that, it only lists.
    fn list(
        &mut self,
        now: Time,
        to: HostId,
        (n, oldest): (ConfigNumber, ConfigNumber),
        after: Option<GrainId>,
        out: &mut Vec<Output>,
    ) {
        if n < self.sealed || self.discarded.is_some_and(|discarded| n <= discarded) {
            return;
        }
        if self.ready != Some(n) {
            self.seal_for(n, out);
            if self.install.as_ref().is_some_and(|install| install.n < n) {
                self.install = None;
            }
            if self.assigned.as_ref().is_none_or(|known| known.set.n < n) {
                out.push(Output::Behind(n));
            }
        }
        let first = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        // What is older than the sources is left over: deleted grains would come back with it.
        let is_stale = self.ready.is_none_or(|ready| ready < oldest);
        let mut rest = self
            .grains
            .range((first, std::ops::Bound::Unbounded))
            .filter(|_| !is_stale);
        let heads: Vec<_> = rest
            .by_ref()
            .take(self.limits.page)
            .map(|(grain, register)| head(*grain, register, now))
            .collect();
        let (slot, floor, more) = (self.slot, self.floor, rest.next().is_some());
        let message = Message::Handover(Handover::Sealed {
            slot,
            n,
            after,
            floor,
            heads,
            more,
        });
        // What is listed, and the seal, have to survive a restart.
        self.send_after(self.ticket, to, message, out);
    }

    /// Asks again what wasn't answered.
    pub(super) fn retry_install(&mut self, now: Time, out: &mut Vec<Output>) {
        let slot = self.slot;
        let Some(install) = self
            .install
            .as_mut()
            .filter(|install| install.served.is_none() && install.retry_at <= now)
        else {
            return;
        };
        install.retry_at = now.plus_nanos(self.limits.retry_nanos);
        install.rounds += 1;
        if install.missing.is_some() {
            self.pull(0, out);
            return;
        }
        for (to, listing) in install.listings.iter().filter(|(_, listing)| !listing.done) {
            let message = Message::Handover(Handover::Seal {
                slot,
                n: install.n,
                oldest: install.oldest,
                after: listing.after,
            });
            out.push(Output::Send { to: *to, message });
        }
    }

    /// Goes from hearing to pulling to serving, as far as it is.
    fn advance_install(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(install) = self.install.as_mut().filter(|install| install.served.is_none()) else {
            return;
        };
        if install.missing.is_none() {
            if !install.has_heard_enough() {
                return;
            }
            let mut missing = BTreeSet::new();
            let mut known = Vec::new();
            for (grain, found) in &install.found {
                let own = self.grains.get(grain).and_then(|register| register.accepted);
                let is_here = |last: Accepted| last.deleted || own.is_some_and(|own| own.same_state(&last));
                if found.accepted.is_none_or(is_here) {
                    known.push((*grain, found.clone()));
                } else {
                    missing.insert(*grain);
                }
            }
            install.missing = Some(missing);
            install.retry_at = now.plus_nanos(self.limits.retry_nanos);
            for (grain, found) in known {
                self.take_over(grain, &found, None, out);
            }
            self.pull(0, out);
        }
        let Some(install) = self
            .install
            .as_mut()
            .filter(|install| install.missing.as_ref().is_some_and(BTreeSet::is_empty))
        else {
            return;
        };
        let (n, floor) = (install.n, install.floor);
        self.floor = self.floor.max(floor);
        let ticket = self.persist(Record::Ready { n, floor: self.floor }, out);
        if let Some(install) = &mut self.install {
            install.served = Some(ticket);
        }
    }

    /// Asks for the first missing states, a few at a time, but not for the `asked` first ones again.
    fn pull(&mut self, asked: usize, out: &mut Vec<Output>) {
        let Some(install) = &self.install else { return };
        for grain in install.missing.iter().flatten().take(self.limits.pulls).skip(asked) {
            let at = &install.found[grain].at;
            if let Some(to) = at.get(install.rounds % at.len().max(1)) {
                let message = Message::Handover(Handover::Pull {
                    slot: self.slot,
                    n: install.n,
                    grain: *grain,
                });
                out.push(Output::Send { to: *to, message });
            }
        }
    }

    /// Makes what was found of a grain this replica's own.
    fn take_over(&mut self, grain: GrainId, found: &Found, body: Option<Body>, out: &mut Vec<Output>) {
        let (promised, accepted) = (found.promised, found.accepted);
        let mut register = self.grains.get(&grain).copied().unwrap_or_default();
        let before = (register.promised, register.accepted);
        register.merge(promised, accepted);
        register.holder = register.holder.or(found.holder);
        if before != (register.promised, register.accepted) {
            let (promised, accepted) = (register.promised, register.accepted);
            register.ticket = self.persist(
                Record::Install {
                    grain,
                    promised,
                    accepted,
                    body,
                },
                out,
            );
        }
        self.grains.insert(grain, register);
    }

    /// Installing -> ready to serve, when all of it is durable.
    pub(super) fn finish_install(&mut self, persisted: u64, out: &mut Vec<Output>) {
        let done = |install: &Install| install.served.is_some_and(|ticket| ticket <= persisted);
        if let Some(install) = self.install.take_if(|install| done(install)) {
            self.ready = Some(install.n);
            self.discarded = None;
            if self.sealed <= install.n {
                out.push(Output::Serving(install.n));
            }
        }
    }
}

fn head(grain: GrainId, register: &Register, now: Time) -> GrainHead {
    GrainHead {
        grain,
        promised: register.promised,
        accepted: register.accepted,
        holder: register
            .holder
            .filter(|holder| holder.until > now)
            .map(|holder| (holder.ballot, (holder.until.nanos_since(now) / 1_000_000) as u32)),
    }
}
