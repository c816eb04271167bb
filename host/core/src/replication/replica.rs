//! The replica of a slot: one of the hosts that decide which activation commits, and that keep what was committed.
//!
//! ```text
//! Absent -> Installing(n) -> Serving(n) -> Sealed(n')
//!               ^-----------------------------'
//! ```
//!
//! It serves the asks of one configuration `n`, the one that gave the slot its replicas. A later configuration that gives the slot
//! other replicas seals it: whoever takes over asks it, and from then on it answers nothing at `n` (**invariant 4**). Its memory
//! of promises and accepted commits is on disk: nothing that promises anything leaves before its record is durable
//! (**invariant 1** holds across a restart because of that). The log is prefix-durable, so a ticket's answer waits for that ticket only.
//!
//! A host whose disk is lost isn't this replica any more: it has another [`HostId`] (**invariant 7**, kept where the identity is read).
//!
//! # What the driver owes
//!
//! - Records are written in the order given; [`Input::Persisted`] says up to which ticket all are durable.
//! - [`Output::Load`] is answered by the state after *all* records given out before, or later ones.
//! - After a restart: [`Replica::replay`] of what is durable, in order, then the assignment.
//!
//! **Not here:** the rules for one grain (`register.rs`), how asks are answered (`replica/asks.rs`), how a slot
//! changes hands (`handover.rs`).

mod asks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::handover::Install;
use super::messages::{Message, Refusal, State};
use super::mutation::{Mutation, Rules};
use super::record::Record;
use super::register::Register;
use super::replica_set::Assignment;
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId};
use crate::slot::Slot;
use crate::time::Time;

/// What a replica takes in, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Grains of a slot. Stops a peer from filling the memory with names.
    pub grains: usize,
    /// Answers that wait for the disk. Stops peers that are faster than the disk.
    pub waiting: usize,
    /// States that are being read for somebody.
    pub loads: usize,
    /// Grains in a page of a listing, and in one question about ballots.
    pub page: usize,
    /// States that are pulled at a time while taking over.
    pub pulls: usize,
    /// Nanoseconds without a sign of life after which a holder may be pre-empted.
    pub lease_nanos: u64,
    /// Nanoseconds that others wait for the one to whom a grain is handed.
    pub handoff_nanos: u64,
    /// Nanoseconds after which an unanswered question of a handover is asked again.
    pub retry_nanos: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            grains: 1 << 20,
            waiting: 16 << 10,
            loads: 1024,
            page: 512,
            pulls: 16,
            lease_nanos: 3_000_000_000,
            handoff_nanos: 300_000_000,
            retry_nanos: 250_000_000,
        }
    }
}

/// What happens to a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The slot's replicas and sources in the newest configuration that this host knows. Told again after a restart.
    Assigned(Assignment),
    /// A message for this slot's replica: an ask, or part of a handover.
    Received {
        /// From whom.
        from: HostId,
        /// What.
        message: Message,
    },
    /// All records up to this ticket are durable.
    Persisted(u64),
    /// Answers [`Output::Load`]; `None` when it can't be read.
    Loaded {
        /// Which grain.
        grain: GrainId,
        /// Its state.
        state: Option<State>,
    },
    /// A quorum serves the slot from this configuration on: what a replica that isn't part of it holds is of no more use.
    Discard(ConfigNumber),
    /// [`Replica::deadline`] has passed.
    Wake,
}

/// What is to be done for a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this; also to this host itself.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// Write this; answer with [`Input::Persisted`].
    Persist {
        /// Rises by one with each record of this replica.
        ticket: u64,
        /// What to write.
        record: Record,
    },
    /// Read a grain's state; answer with [`Input::Loaded`].
    Load {
        /// Which grain.
        grain: GrainId,
    },
    /// The slot is served here in this configuration, and that is durable: tell the configuration chain. Told again after a restart.
    Serving(ConfigNumber),
    /// Somebody knows configuration `n`, and this host doesn't yet: ask for it.
    Behind(ConfigNumber),
}

/// Why a state is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LoadFor {
    Promise(HostId, Ballot),
    Fetch(HostId, Ballot, Option<super::messages::CommitHash>),
    Pull(HostId, ConfigNumber),
}

/// A slot's replica. See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub(super) me: HostId,
    pub(super) slot: Slot,
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    /// As told last.
    pub(super) assigned: Option<Assignment>,
    /// Durable: taken over for this configuration, completely.
    pub(super) ready: Option<ConfigNumber>,
    /// Durable: nothing below is answered.
    pub(super) sealed: ConfigNumber,
    /// Durable: sealed for this configuration and emptied since, so there's no listing for it.
    pub(super) discarded: Option<ConfigNumber>,
    /// Durable: the highest promise of a forgotten grain.
    pub(super) floor: Option<Ballot>,
    pub(super) grains: BTreeMap<GrainId, Register>,
    pub(super) install: Option<Install>,
    /// The last ticket given out.
    pub(super) ticket: u64,
    persisted: u64,
    waiting: BTreeMap<u64, Vec<(HostId, Message)>>,
    waiting_count: usize,
    loads: BTreeMap<GrainId, Vec<LoadFor>>,
}

impl Replica {
    /// A replica that holds nothing: Absent.
    pub fn new(me: HostId, slot: Slot, limits: Limits, rules: Rules) -> Replica {
        Replica {
            me,
            slot,
            rules,
            limits,
            assigned: None,
            ready: None,
            sealed: ConfigNumber(0),
            discarded: None,
            floor: None,
            grains: BTreeMap::new(),
            install: None,
            ticket: 0,
            persisted: 0,
            waiting: BTreeMap::new(),
            waiting_count: 0,
            loads: BTreeMap::new(),
        }
    }

    /// Takes in a durable record at a start, in order. Holders are presumed alive for a lease: a restart pre-empts nobody.
    pub fn replay(&mut self, now: Time, record: &Record) {
        let until = now.plus_nanos(self.limits.lease_nanos);
        match record {
            Record::Promise { grain, ballot } => {
                let register = self.grains.entry(*grain).or_default();
                register.merge(Some(*ballot), None);
                register.hear(*ballot, until);
            }
            Record::Accept {
                grain,
                ballot,
                proposal,
            } => {
                let register = self.grains.entry(*grain).or_default();
                register.restore(*ballot, proposal);
                register.hear(*ballot, until);
            }
            Record::Forget { grain, floor } => {
                self.floor = self.floor.max(Some(*floor));
                self.grains.remove(grain);
            }
            Record::Install {
                grain,
                promised,
                accepted,
                ..
            } => {
                let mut register = Register::default();
                register.merge(*promised, *accepted);
                if let Some(promised) = promised {
                    register.hear(*promised, until);
                }
                self.grains.insert(*grain, register);
            }
            Record::Seal { n } => self.sealed = self.sealed.max(*n),
            Record::Ready { n, floor } => {
                self.ready = Some(*n);
                self.floor = self.floor.max(*floor);
                self.discarded = None;
            }
            Record::Discard => self.empty(),
        }
    }

    /// Records that stand for all before: replayed, they rebuild this replica. The states that they name are in storage.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(n) = self.discarded {
            records.extend([Record::Seal { n }, Record::Discard]);
        }
        records.push(Record::Seal { n: self.sealed });
        let floor = self.floor;
        records.extend(self.ready.map(|n| Record::Ready { n, floor }));
        records.extend(self.grains.iter().map(|(grain, register)| Record::Install {
            grain: *grain,
            promised: register.promised,
            accepted: register.accepted,
            body: None,
        }));
        records
    }

    /// Takes one input and appends what is to be done, in order. No message can make it panic.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Assigned(assignment) => self.assigned(now, assignment, out),
            Input::Received { from, message } => match message {
                Message::Ask { n, ask } => self.ask(now, from, n, ask, out),
                Message::Handover(handover) => self.hand_over(now, from, handover, out),
                Message::Answer { .. } => {}
            },
            Input::Persisted(ticket) => self.persisted(ticket, out),
            Input::Loaded { grain, state } => self.loaded(grain, state, out),
            Input::Discard(n) => {
                let empty = self.grains.is_empty() || self.discarded.is_some();
                if self.sealed >= n && self.ready.is_none_or(|ready| ready < n) && self.install.is_none() && !empty {
                    self.empty();
                    self.persist(Record::Discard, out);
                }
            }
            Input::Wake => self.retry_install(now, out),
        }
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.install.as_ref().and_then(Install::deadline)
    }

    /// The last configuration that gave the slot other replicas, as far as this host was told since it started.
    pub fn knows(&self) -> Option<ConfigNumber> {
        self.assigned.as_ref().map(|assigned| assigned.set.n)
    }

    /// The configuration that is served, if one is.
    pub fn serves(&self) -> Option<ConfigNumber> {
        self.ready.filter(|n| *n >= self.sealed)
    }

    /// Whether the slot was taken over once and not given up since, be it sealed or not.
    pub fn was_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// The last accepted commits of all grains.
    pub fn accepted(&self) -> impl Iterator<Item = (GrainId, super::messages::Accepted)> {
        self.grains
            .iter()
            .filter_map(|(grain, register)| Some((*grain, register.accepted?)))
    }

    /// Whether the slot is being taken over.
    pub fn installs(&self) -> bool {
        self.install.is_some()
    }

    /// What a grain's register says: the promise, and the last accepted commit. For status pages, listings and checkers.
    pub fn register(&self, grain: GrainId) -> (Option<Ballot>, Option<super::messages::Accepted>) {
        let register = self.grains.get(&grain);
        register.map_or((None, None), |register| (register.promised, register.accepted))
    }

    /// The activation that is presumed to hold a grain: it was heard of lately and hasn't released it. A hint.
    pub fn holder(&self, now: Time, grain: GrainId) -> Option<Ballot> {
        let holder = self.grains.get(&grain)?.holder?;
        (holder.until > now).then_some(holder.ballot)
    }

    /// Grains whose last commit deletes them: tombstones that wait until all replicas have them.
    pub fn tombstones(&self) -> impl Iterator<Item = GrainId> {
        let deleted = |register: &Register| register.accepted.is_some_and(|last| last.deleted);
        self.grains
            .iter()
            .filter(move |(_, register)| deleted(register))
            .map(|(grain, _)| *grain)
    }

    /// How many grains have a register here.
    pub fn len(&self) -> usize {
        self.grains.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.grains.is_empty()
    }

    fn assigned(&mut self, now: Time, assignment: Assignment, out: &mut Vec<Output>) {
        let n = assignment.set.n;
        if self
            .assigned
            .as_ref()
            .is_some_and(|known| known.set.n > n || *known == assignment)
        {
            return;
        }
        self.assigned = Some(assignment.clone());
        if self.sealed > n {
            return;
        }
        if self.rules.breaks(Mutation::UnsealedView) && assignment.set.holds(self.me) {
            self.ready = Some(n);
        }
        if self.ready == Some(n) {
            out.push(Output::Serving(n));
            return;
        }
        // All is here and only has to become durable.
        if self.install.as_ref().is_some_and(|install| install.ends(n)) {
            return;
        }
        self.install = None;
        if assignment.set.holds(self.me) {
            self.begin_install(now, assignment, out);
        } else if self.ready.is_some() || !self.grains.is_empty() {
            self.seal_for(n, out);
        }
    }

    /// **Invariant 4**: from here on nothing below `n` is answered, and, since this comes first in the log, after no restart either.
    pub(super) fn seal_for(&mut self, n: ConfigNumber, out: &mut Vec<Output>) {
        if n > self.sealed {
            self.sealed = n;
            self.persist(Record::Seal { n }, out);
        }
    }

    /// Forgets what it holds, but not for which configuration it is sealed.
    pub(super) fn empty(&mut self) {
        self.grains.clear();
        self.ready = None;
        self.discarded = Some(self.sealed);
    }

    /// Whether asks of configuration `n` are answered here.
    fn admits(&self, n: ConfigNumber) -> Result<(), Refusal> {
        let known = self
            .assigned
            .as_ref()
            .map_or(self.sealed, |known| known.set.n.max(self.sealed));
        if self.serves() == Some(n) {
            Ok(())
        } else if n < known {
            Err(Refusal::Sealed(known))
        } else if n > known {
            Err(Refusal::Behind(known))
        } else if self.install.is_some() {
            Err(Refusal::Installing)
        } else {
            Err(Refusal::Absent)
        }
    }

    pub(super) fn persist(&mut self, record: Record, out: &mut Vec<Output>) -> u64 {
        self.ticket += 1;
        out.push(Output::Persist {
            ticket: self.ticket,
            record,
        });
        self.ticket
    }

    /// Sends `message` when all records up to `ticket` are durable.
    pub(super) fn send_after(&mut self, ticket: u64, to: HostId, message: Message, out: &mut Vec<Output>) {
        if ticket <= self.persisted {
            out.push(Output::Send { to, message });
        } else {
            self.waiting.entry(ticket).or_default().push((to, message));
            self.waiting_count += 1;
        }
    }

    fn persisted(&mut self, ticket: u64, out: &mut Vec<Output>) {
        self.persisted = self.persisted.max(ticket);
        let later = self.waiting.split_off(&(self.persisted + 1));
        for (to, message) in std::mem::replace(&mut self.waiting, later).into_values().flatten() {
            self.waiting_count -= 1;
            out.push(Output::Send { to, message });
        }
        self.finish_install(self.persisted, out);
    }
}
