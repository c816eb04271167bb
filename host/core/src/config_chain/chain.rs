//! A host's part in the chain: votes when it's a voter, proposes when it's time, learns in any case.
//!
//! - **Voting.** Promises and acceptances are durable before they are answered. Asked about a configuration that isn't the newest
//!   known here, a host sends the newer one or fetches it: only who knows configuration n votes on n+1.
//! - **Proposing.** Any voter may; so that two don't outbid each other, the k-th of those that seem alive, by id, waits k times
//!   half a second, and who was outbid backs off. What it proposes is found after a majority has promised and left it free. It
//!   proposes when the roster wishes other members, when all that is being handed over is known to be served (so that sources can
//!   forget it), and when it has accepted something that nobody seems to bring to an end.
//! - **When the next may follow.** Always, for safety: what isn't known to be served keeps its sources ([`super::config`]). For
//!   calm, a join waits until the last hand-over is done, up to half a minute; a leave or a death doesn't.
//! - **Learning.** Who decides tells everybody. Each second a host compares numbers with another one, and who is behind gets the
//!   newest configuration, which says all: it doesn't matter how many it missed.
//!
//! # Invariants
//!
//! - One successor for each configuration; see [`super::decree`] for why, and [`Output::Forked`] for what is done if not: a host that has another
//!   one isn't listened to, and stops nobody. A host stops by itself when most of its voters are such.
//! - A configuration is durable here before this host acts on it ([`Output::Installed`]) or votes on the next.
//! - Membership only triggers proposals.
//!
//! **Not here:** handing over slots (`replication`), who is alive (`membership`).

mod learning;
mod proposing;
mod voting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::config::{Config, ConfigHash, ConfigNumber};
use super::decree::{Acceptor, Attempt};
use super::event::{Input, Message, Output, Record, Settings};
use super::roster::Roster;
use super::successor::Served;
use crate::id::{Ballot, HostId};
use crate::slot::{Slot, SlotSet};
use crate::time::Time;

/// Answers that wait for the disk at the same time at most; what comes on top isn't answered, and asked again. Stops peers from
/// filling the memory of a host whose disk is slow.
const WAITING_MOST: usize = 1024;
/// Hosts with another configuration that are remembered. Stops one host under many names from filling the memory.
const RIVALS_MOST: usize = 64;

/// The machine. See the module's text.
#[derive(Clone, Debug)]
pub struct Chain {
    settings: Settings,
    /// The newest that is known; durable or about to be.
    config: Option<Config>,
    hash: ConfigHash,
    known_at: Time,
    acceptor: Acceptor<Config>,
    voted_at: Time,
    attempt: Option<Attempt<Config>>,
    began_at: Time,
    retry_at: Time,
    /// Since when something is to be proposed.
    wished_at: Option<Time>,
    /// Not proposed before: who was outbid backs off.
    backed_off_to: Time,
    lost: u32,
    /// The highest counter of a ballot that was seen.
    counter: u64,
    roster: Roster,
    /// Who has another configuration of this number.
    rivals: BTreeSet<HostId>,
    /// What this host serves, since which configuration.
    serving: BTreeMap<Slot, ConfigNumber>,
    report_at: Option<Time>,
    served: Served,
    all_served_at: Option<Time>,
    compare_at: Option<Time>,
    /// When there is something to do, as of the last input.
    due: Option<Time>,
    ticket: u64,
    persisted: u64,
    /// What waits for a ticket.
    waiting: VecDeque<(u64, Waiting)>,
    /// Messages of this host to itself.
    local: VecDeque<Message>,
    draws: u64,
}

#[derive(Clone, Debug)]
enum Waiting {
    Send(HostId, Message),
    Install(Config),
}

impl Chain {
    /// A host that knows no configuration yet.
    pub fn new(settings: Settings) -> Chain {
        Chain {
            settings,
            config: None,
            hash: ConfigHash([0; 32]),
            known_at: Time::default(),
            acceptor: Acceptor::default(),
            voted_at: Time::default(),
            attempt: None,
            began_at: Time::default(),
            retry_at: Time::default(),
            wished_at: None,
            backed_off_to: Time::default(),
            lost: 0,
            counter: 0,
            roster: Roster::default(),
            rivals: BTreeSet::new(),
            serving: BTreeMap::new(),
            report_at: None,
            served: Served::new(),
            all_served_at: None,
            compare_at: None,
            due: None,
            ticket: 0,
            persisted: 0,
            waiting: VecDeque::new(),
            local: VecDeque::new(),
            draws: 0,
        }
    }

    /// Takes in a durable record at a start, in order; then give [`Input::Start`].
    pub fn replay(&mut self, record: Record) {
        match record {
            Record::Decided(config) => {
                self.hash = config.hash();
                self.config = Some(config);
                self.acceptor = Acceptor::default();
            }
            Record::Vote { of, acceptor } if of == self.number() => self.acceptor = acceptor,
            Record::Vote { .. } => {}
        }
    }

    /// Records that stand for all before.
    pub fn snapshot(&self) -> Vec<Record> {
        let of = self.number();
        let vote = self.acceptor.promised().map(|_| Record::Vote {
            of,
            acceptor: self.acceptor.clone(),
        });
        self.config
            .clone()
            .map(Record::Decided)
            .into_iter()
            .chain(vote)
            .collect()
    }

    /// Takes one input and appends what is to be done, in order. No message can make it panic.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Found(member) => {
                if self.config.is_none() {
                    self.learn(now, Config::first(self.settings.cluster, member), out);
                }
            }
            Input::Start => self.start(now, out),
            Input::Seen { host, presence } => {
                if self.roster.see(now, host, presence) && host != self.settings.me {
                    self.compare(host, out);
                }
            }
            Input::Serving { slot, n } => {
                // Comes 4,096 times in a row, and changes nothing but what is told soon.
                self.serving.insert(slot, n);
                let at = *self
                    .report_at
                    .get_or_insert(now.plus_nanos(self.settings.times.report_nanos));
                self.due = Some(self.due.map_or(at, |due| due.min(at)));
                return;
            }
            Input::Behind(host) => {
                let known = self.number();
                self.send(host, Message::Fetch { known }, out);
            }
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::Persisted(ticket) => self.persisted(ticket, out),
            Input::Wake => {}
        }
        loop {
            while let Some(message) = self.local.pop_front() {
                self.receive(now, self.settings.me, message, out);
            }
            self.advance(now, out);
            if self.local.is_empty() {
                break;
            }
        }
        let attempt = self.attempt.as_ref().map(|_| self.retry_at);
        let times = [self.compare_at, self.report_at, attempt, self.proposal_due(now)];
        self.due = times.into_iter().flatten().min();
    }

    /// Whether a host is there, as membership says.
    pub fn is_alive(&self, host: HostId) -> bool {
        self.roster.is_alive(host)
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// The newest configuration that is known, if one is.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    fn number(&self) -> ConfigNumber {
        self.config.as_ref().map_or(ConfigNumber(0), |config| config.n)
    }

    fn receive(&mut self, now: Time, from: HostId, message: Message, out: &mut Vec<Output>) {
        let compares = matches!(
            message,
            Message::Status { .. } | Message::Fetch { .. } | Message::Decided(_)
        );
        if !compares && self.rivals.contains(&from) {
            return;
        }
        match message {
            Message::Status { n, hash } => self.compare_with(from, n, hash, out),
            Message::Fetch { known } => {
                if known < self.number() {
                    self.tell(from, out);
                }
            }
            Message::Decided(config) => {
                let n = self.number();
                if config.cluster != self.settings.cluster {
                    return;
                }
                if self.config.is_some() && config.n == n.next() && config.prev_hash != self.hash {
                    self.forked(from, out);
                } else if self.is_next(&config) {
                    self.learn(now, config, out);
                }
            }
            Message::Prepare { of, ballot } => self.promise(now, from, of, ballot, out),
            Message::Accept { of, ballot, config } => self.accept(now, from, of, ballot, config, out),
            Message::Promise { of, ballot, accepted } => {
                if self.attempts(of, ballot) {
                    self.promised(now, from, accepted, out);
                }
            }
            Message::Accepted { of, ballot } => {
                if self.attempts(of, ballot) {
                    self.accepted(now, from, out);
                }
            }
            Message::Outbid { of, ballot, promised } => {
                if self.attempts(of, ballot) {
                    self.counter = self.counter.max(promised.counter);
                    self.back_off(now);
                }
            }
            Message::Serving { n, slots } => self.note_serving(now, from, n, slots, out),
        }
    }

    /// Whether this is about the attempt on its way.
    fn attempts(&self, of: ConfigNumber, ballot: Ballot) -> bool {
        of == self.number() && self.attempt.as_ref().is_some_and(|attempt| attempt.ballot() == ballot)
    }

    /// Does what time has come for.
    fn advance(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.report_at.is_some_and(|at| at <= now) {
            self.report(now, out);
        }
        if self.compare_at.is_some_and(|at| at <= now) {
            self.compare_at = Some(now.plus_nanos(self.settings.times.compare_nanos));
            self.compare_with_some(out);
        }
        self.propose(now, out);
    }

    fn send(&mut self, to: HostId, message: Message, out: &mut Vec<Output>) {
        if to == self.settings.me {
            self.local.push_back(message);
        } else {
            out.push(Output::Send { to, message });
        }
    }

    fn persist(&mut self, record: Record, then: Waiting, out: &mut Vec<Output>) {
        self.ticket += 1;
        let ticket = self.ticket;
        out.push(Output::Persist { ticket, record });
        self.waiting.push_back((ticket, then));
    }

    /// Sends when all that was written before is durable.
    fn send_after(&mut self, to: HostId, message: Message, out: &mut Vec<Output>) {
        if self.ticket <= self.persisted {
            self.send(to, message, out);
        } else if self.waiting.len() < WAITING_MOST {
            self.waiting.push_back((self.ticket, Waiting::Send(to, message)));
        }
    }

    fn persisted(&mut self, ticket: u64, out: &mut Vec<Output>) {
        self.persisted = self.persisted.max(ticket);
        while let Some((_, then)) = self.waiting.pop_front_if(|(ticket, _)| *ticket <= self.persisted) {
            match then {
                Waiting::Send(to, message) => self.send(to, message, out),
                Waiting::Install(config) => out.push(Output::Installed(config)),
            }
        }
    }

    /// A number below `limit`, out of the seed.
    fn draw(&mut self, limit: u64) -> u64 {
        self.draws += 1;
        let mut hash = blake3::Hasher::new();
        hash.update(&self.settings.seed.to_le_bytes())
            .update(&self.settings.me.0);
        hash.update(&self.draws.to_le_bytes());
        let mut drawn = [0; 8];
        drawn.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        ((u128::from(u64::from_le_bytes(drawn)) * u128::from(limit)) >> 64) as u64
    }

    /// The slots that this host serves as the newest configuration gives them.
    fn served_here(&self, config: &Config) -> SlotSet {
        let current = |(slot, n): &(&Slot, &ConfigNumber)| {
            let here = config.slot(**slot);
            here.since == **n && here.replicas.position(self.settings.me).is_some()
        };
        self.serving.iter().filter(current).map(|(slot, _)| *slot).collect()
    }
}
