//! One run: hosts, disks, network, clients and faults on one virtual clock, out of one seed.
//!
//! First *safety*: clients work while things go wrong, and only the checkers speak. Then *liveness*: all is mended, what clients
//! have begun must end within a bound, and every grain must be readable with all that was acknowledged.
//!
//! **Not here:** what is right ([`crate::checkers`]), what a host does ([`crate::subject`]).

mod mischief;
mod outside;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;

use granary_core::id::{GrainId, HostId};
use granary_core::time::Time;

use crate::checkers::{Checkers, Violation};
use crate::clients::Client;
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::network::Network;
use crate::queue::{MICROS, MILLIS, Nanos, Queue, SECONDS};
use crate::subject::{
    Authority, Call, Fact, Hosts, Input, OrderOf, Outcome, Output, Outputs, Said, Start, StepId, Subject,
};

/// How large a run is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Hosts at the beginning: so many, at most.
    pub hosts: (u64, u64),
    /// Grains that are never deleted.
    pub grains: usize,
    /// Grains that are, in the slots of the others.
    pub mortals: usize,
    /// Clients.
    pub clients: u16,
    /// Steps of clients until all is mended.
    pub steps: u64,
    /// Faults until all is mended.
    pub faults: u64,
    /// Whether hosts come and go.
    pub changes_members: bool,
    /// Only what clients could notice is checked.
    pub outside_only: bool,
    /// So many lines of what happened last are kept; 0 is quick.
    pub trace_lines: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            hosts: (3, 5),
            grains: 6,
            mortals: 3,
            clients: 8,
            steps: 2000,
            faults: 20,
            changes_members: true,
            outside_only: false,
            trace_lines: 0,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What must not have happened.
    pub violation: Option<Violation>,
    /// What was reached.
    pub coverage: Coverage,
    /// Events.
    pub events: u64,
    /// Virtual time.
    pub nanos: Nanos,
    /// A hash of all that happened: the same for the same seed.
    pub digest: u64,
    /// What happened last.
    pub trace: VecDeque<String>,
}

/// Virtual time for the first phase. A cluster that doesn't get there is stuck.
const SAFETY_LIMIT: Nanos = 900 * SECONDS;
/// After all is mended, what was begun ends within this, and then all is readable within this again.
const LIVENESS_LIMIT: Nanos = 30 * SECONDS;
/// Inputs that wait for a host that stands still. More are lost, as on a full socket.
const BACKLOG: usize = 5_000;
/// Hosts of a run, those that are gone included.
const HOST_LIMIT: usize = 40;

#[derive(Debug)]
enum Event<M, O> {
    Host {
        at: usize,
        life: u32,
        input: Input<M, O>,
    },
    Wake {
        at: usize,
        life: u32,
        due: Nanos,
    },
    Synced {
        at: usize,
        life: u32,
    },
    Die {
        at: usize,
        life: u32,
        lasts: Nanos,
    },
    Fault,
    Mend(Mend),
    Look,
    Turn(u16),
    Answer {
        client: u16,
        call: Call,
        from: HostId,
        outcome: Outcome,
    },
    Timeout {
        client: u16,
        call: Call,
    },
}

/// The end of a fault.
#[derive(Debug)]
enum Mend {
    Start(usize),
    Resume(usize),
    Ways(Vec<(usize, usize)>),
    Network,
    Disk(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Safety,
    /// All is mended; clients end what they have begun.
    Ending,
    /// Each grain is read.
    Reading,
    Over,
}

struct HostState<S: Subject> {
    id: HostId,
    subject: Option<S>,
    disk: Disk<S::Record>,
    /// Counts starts and ends, so that what was meant for an earlier life is known.
    life: u32,
    incarnation: u32,
    paused: bool,
    backlog: VecDeque<Input<S::Message, OrderOf<S>>>,
    clock: Clock,
    wake: Option<Nanos>,
    sync_nanos: (Nanos, Nanos),
    /// It crashes during the next write, for so long.
    doomed: Option<Nanos>,
    /// It isn't part of the cluster any more.
    gone: bool,
    leaving: bool,
    misses: BTreeMap<usize, u32>,
    view: Vec<HostId>,
}

impl<S: Subject> HostState<S> {
    fn runs(&self) -> bool {
        self.subject.is_some() && !self.paused
    }
}

/// See the module's text.
pub struct World<S: Subject> {
    plan: Plan,
    setup: S::Setup,
    dice: Dice,
    queue: Queue<Event<S::Message, OrderOf<S>>>,
    network: Network,
    hosts: Vec<HostState<S>>,
    authority: S::Authority,
    lost: Vec<HostId>,
    grains: Vec<GrainId>,
    clients: Vec<Client>,
    transfers: BTreeSet<StepId>,
    checkers: Checkers,
    coverage: Coverage,
    trace: VecDeque<String>,
    digest: u64,
    phase: Phase,
    phase_ends: Nanos,
    steps: u64,
    faults: u64,
    unread: Vec<GrainId>,
    out: Outputs<S>,
}

impl<S: Subject> World<S> {
    /// Runs a seed to its end, or to the first violation.
    pub fn run(seed: u64, plan: Plan, setup: S::Setup) -> Report {
        let mut world: World<S> = World::new(seed, plan, setup);
        while world.checkers.found().is_none() && world.phase != Phase::Over {
            let Some(event) = world.queue.take() else { break };
            world.digest = (world.digest ^ world.queue.now()).wrapping_mul(0x0000_0100_0000_01b3);
            world.event(event);
            world.check_phase();
        }
        Report {
            violation: world.checkers.found().cloned(),
            coverage: world.coverage,
            events: world.queue.count(),
            nanos: world.queue.now(),
            digest: world.digest,
            trace: world.trace,
        }
    }

    fn new(seed: u64, plan: Plan, setup: S::Setup) -> World<S> {
        let mut dice = Dice::new(seed);
        // Two grains that stay share a slot, and most slots have one that may be deleted.
        let slot = |i: usize| match i.checked_sub(plan.grains) {
            None => i / 2,
            Some(i) => i % plan.grains.div_ceil(2),
        };
        let grains: Vec<GrainId> = (0..plan.grains + plan.mortals)
            .map(|i| {
                let mut id = [0; 16];
                (id[0], id[15]) = (i as u8 + 1, slot(i) as u8);
                GrainId(id)
            })
            .collect();
        let count = dice.between(plan.hosts.0, plan.hosts.1) as u8;
        let ids: Vec<HostId> = (1..=count).map(host_id).collect();
        let mut world = World {
            authority: S::Authority::found(&ids, &grains),
            setup,
            queue: Queue::default(),
            network: Network::default(),
            hosts: Vec::new(),
            lost: Vec::new(),
            clients: (0..plan.clients).map(Client::new).collect(),
            transfers: BTreeSet::new(),
            checkers: Checkers::new(plan.outside_only),
            coverage: Coverage::default(),
            trace: VecDeque::new(),
            digest: seed,
            phase: Phase::Safety,
            phase_ends: SAFETY_LIMIT,
            steps: 0,
            faults: 0,
            unread: Vec::new(),
            out: Vec::new(),
            grains,
            dice,
            plan,
        };
        // Some runs lose a little all the time.
        if world.dice.percent(50) {
            world.network.loss = world.dice.below(20);
            world.network.doubles = world.dice.below(50);
            world.network.stragglers = world.dice.below(20);
        }
        ids.iter().for_each(|_| world.add_host());
        for client in 0..world.plan.clients {
            let after = world.dice.below(100 * MILLIS);
            world.queue.put(after, Event::Turn(client));
        }
        world.queue.put(SECONDS, Event::Fault);
        world.queue.put(0, Event::Look);
        world
    }

    fn add_host(&mut self) {
        let at = self.hosts.len();
        self.hosts.push(HostState {
            id: host_id(at as u8 + 1),
            subject: None,
            disk: Disk::default(),
            life: 0,
            incarnation: 0,
            paused: false,
            backlog: VecDeque::new(),
            clock: Clock::new(0, 1_000_000 + self.dice.below(2000) - 1000),
            wake: None,
            sync_nanos: (50 * MICROS, 400 * MICROS),
            doomed: None,
            gone: false,
            leaving: false,
            misses: BTreeMap::new(),
            view: Vec::new(),
        });
        self.start(at);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.plan.trace_lines > 0 {
            if self.trace.len() == self.plan.trace_lines {
                self.trace.pop_front();
            }
            let at = self.queue.now() as f64 / MILLIS as f64;
            self.trace.push_back(format!("{at:11.3} ms  {}", line()));
        }
    }

    fn event(&mut self, event: Event<S::Message, OrderOf<S>>) {
        match event {
            Event::Host { at, life, input } => {
                // What a network delivers doesn't know of lives; what a disk says does.
                if self.hosts[at].life == life || matches!(input, Input::Received { .. } | Input::Call(_)) {
                    self.feed(at, input);
                }
            }
            Event::Wake { at, life, due } => self.wake(at, life, due),
            Event::Synced { at, life } => self.synced(at, life),
            Event::Die { at, life, lasts } => {
                if self.hosts[at].life == life {
                    self.crash_for(at, lasts);
                }
            }
            Event::Fault => self.mischief(),
            Event::Mend(mend) => self.mend(mend),
            Event::Look => self.look(),
            Event::Turn(client) => self.client_turn(client),
            Event::Answer {
                client,
                call,
                from,
                outcome,
            } => self.answered(client, call, from, outcome),
            Event::Timeout { client, call } => self.timed_out(client, call),
        }
    }

    fn start(&mut self, at: usize) {
        let now = self.queue.now();
        let seed = self.dice.roll();
        let host = &mut self.hosts[at];
        if host.gone || host.subject.is_some() {
            return;
        }
        host.life += 1;
        host.incarnation += 1;
        host.clock.restart(now);
        (host.wake, host.paused) = (None, false);
        host.view.clear();
        let start = Start {
            host: host.id,
            incarnation: host.incarnation,
            now: Time(0),
            seed,
            records: host.disk.records(),
            setup: &self.setup,
        };
        let mut out = std::mem::take(&mut self.out);
        host.subject = Some(S::start(start, &mut out));
        let (id, incarnation) = (host.id, host.incarnation);
        self.note(|| format!("{} starts, number {incarnation}", name(id)));
        self.carry_out(at, &mut out);
        self.out = out;
        self.tell_order(at);
    }

    fn tell_order(&mut self, at: usize) {
        let after = match self.dice.percent(70) {
            true => self.dice.between(MILLIS, 20 * MILLIS),
            false => self.dice.between(20 * MILLIS, 2 * SECONDS),
        };
        let input = Input::Order(self.authority.order());
        let life = self.hosts[at].life;
        self.queue.put(after, Event::Host { at, life, input });
    }

    fn feed(&mut self, at: usize, input: Input<S::Message, OrderOf<S>>) {
        let now = self.queue.now();
        let host = &mut self.hosts[at];
        if host.paused {
            if host.backlog.len() < BACKLOG || matches!(input, Input::Persisted(_)) {
                host.backlog.push_back(input);
            }
            return;
        }
        let id = host.id;
        if self.plan.trace_lines > 0 && host.subject.is_some() {
            self.note(|| format!("{} <- {input:?}", name(id)));
        }
        let host = &mut self.hosts[at];
        let local = host.clock.local(now);
        let mut out = std::mem::take(&mut self.out);
        if let Some(subject) = &mut host.subject {
            subject.handle(local, input, &mut out);
        }
        self.carry_out(at, &mut out);
        self.out = out;
    }

    fn wake(&mut self, at: usize, life: u32, due: Nanos) {
        let host = &mut self.hosts[at];
        if host.life == life && host.wake == Some(due) {
            host.wake = None;
            match host.paused {
                true => {}
                false => self.feed(at, Input::Wake),
            }
        }
    }

    fn set_alarm(&mut self, at: usize) {
        let now = self.queue.now();
        let host = &mut self.hosts[at];
        let Some(deadline) = host.subject.as_ref().and_then(S::deadline) else {
            return;
        };
        // A machine that is never content wakes ten times a millisecond, not for ever at once.
        let after = host.clock.until(now, deadline).max(100 * MICROS);
        let due = now + after;
        if host.wake.is_none_or(|wake| due < wake) {
            host.wake = Some(due);
            let life = host.life;
            self.queue.put(after, Event::Wake { at, life, due });
        }
    }

    fn synced(&mut self, at: usize, life: u32) {
        let host = &mut self.hosts[at];
        if host.life != life || host.subject.is_none() {
            return;
        }
        let id = host.id;
        for record in host.disk.end_sync() {
            if let Some(stored) = S::stored(record) {
                self.checkers.stored(id, stored);
            }
        }
        let durable = host.disk.durable();
        self.feed(at, Input::Persisted(durable));
        self.sync(at);
    }

    fn sync(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.disk.begin_sync() {
            let (life, (low, high)) = (host.life, host.sync_nanos);
            let doomed = host.doomed.take();
            let after = self.dice.between(low, high);
            if let Some(lasts) = doomed {
                let dies = self.dice.below(after);
                self.queue.put(dies, Event::Die { at, life, lasts });
            }
            self.queue.put(after, Event::Synced { at, life });
        }
    }

    fn carry_out(&mut self, at: usize, out: &mut Outputs<S>) {
        let id = self.hosts[at].id;
        for output in out.drain(..) {
            if self.plan.trace_lines > 0 && !matches!(output, Output::Persist(_)) {
                self.note(|| format!("{}    -> {output:?}", name(id)));
            }
            match output {
                Output::Send { to, message } => self.send(at, to, message),
                Output::Persist(record) => self.hosts[at].disk.append(record),
                Output::Reply(call, outcome) => self.reply(at, call, outcome),
                Output::Report(report) => self.authority.heard(id, report),
                Output::Behind => self.tell_order(at),
                Output::Fact(fact) => {
                    let groups = match fact {
                        Fact::Active { grain, .. } => self.authority.groups(grain),
                        _ => &[],
                    };
                    self.checkers.fact(id, groups, fact);
                    if let Fact::Reached(what) = fact {
                        self.coverage.count("reached", what);
                    }
                }
            }
        }
        self.sync(at);
        self.set_alarm(at);
    }

    fn send(&mut self, from: usize, to: HostId, message: S::Message) {
        self.coverage.count("message", S::kind(&message));
        let sender = self.hosts[from].id;
        if let Some(said) = S::said(&message) {
            let groups = match said {
                Said::Forgets(grain, _) => self.authority.groups(grain),
                _ => &[],
            };
            self.checkers.said(sender, groups, said);
        }
        let Some(at) = self.hosts.iter().position(|host| host.id == to) else {
            return;
        };
        let arrivals = self.network.carry(from, at, &mut self.dice);
        let life = self.hosts[at].life;
        if from == at && self.hosts[at].subject.is_none() {
            return;
        }
        if let [None, None] = arrivals {
            self.coverage.count("network", "lost");
        }
        if let [Some(_), Some(_)] = arrivals {
            self.coverage.count("network", "doubled");
        }
        for after in arrivals.into_iter().flatten() {
            let input = Input::Received {
                from: sender,
                message: message.clone(),
            };
            self.queue.put(after, Event::Host { at, life, input });
        }
    }

    /// Twice a second: who sees whom, and whether the cluster has to change.
    fn look(&mut self) {
        self.queue.put(500 * MILLIS, Event::Look);
        for viewer in 0..self.hosts.len() {
            if !self.hosts[viewer].runs() {
                continue;
            }
            let mut view = Vec::new();
            for peer in 0..self.hosts.len() {
                let hears = self.network.is_open(viewer, peer) && self.network.is_open(peer, viewer);
                let reached = self.hosts[peer].runs() && hears;
                let misses = self.hosts[viewer].misses.entry(peer).or_default();
                *misses = if reached { 0 } else { *misses + 1 };
                if *misses < 6 && !self.hosts[peer].gone {
                    view.push(self.hosts[peer].id);
                }
            }
            if self.hosts[viewer].view != view {
                self.hosts[viewer].view.clone_from(&view);
                self.feed(viewer, Input::View(view));
            }
        }
        self.adapt(false);
        for at in 0..self.hosts.len() {
            // Anti-entropy: an order that was missed is told again, some time.
            if self.dice.percent(10) {
                self.tell_order(at);
            }
            let host = &self.hosts[at];
            if host.leaving && !host.gone && self.authority.may_leave(host.id) {
                self.end(at);
                self.hosts[at].gone = true;
                self.coverage.count("reached", "left");
            }
        }
    }

    fn adapt(&mut self, shuffle: bool) {
        let hosts = self.members();
        if self.authority.adapt(&hosts, shuffle, &mut self.dice) {
            let order = self.authority.order();
            self.note(|| format!("ordered: {order:?}"));
            self.coverage.count("reached", "configuration");
            (0..self.hosts.len()).for_each(|at| self.tell_order(at));
        }
    }

    fn members(&self) -> Hosts {
        let wanted = self.hosts.iter().filter(|host| !host.gone && !host.leaving);
        Hosts {
            wanted: wanted.map(|host| host.id).collect(),
            lost: self.lost.clone(),
        }
    }
}

fn host_id(number: u8) -> HostId {
    HostId([number; 16])
}

fn name(host: HostId) -> String {
    format!("h{}", host.0[0])
}
