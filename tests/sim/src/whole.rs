//! Clusters of whole machines: what hosts agree on, who keeps what, where grains are, all by themselves.
//!
//! [`crate::world`] has replication alone under an authority that knows all, and runs thousands of seeds a minute. Here each host is the machine
//! that a real host drives (`granary_core::cluster`): the chain of configurations with its 4,096 slots, their hand-over, replication,
//! directory and routing; nobody decides from outside but who is meant to join and leave. It costs a hundred times as much a seed.
//!
//! Clients ask any host, requests go where routing says, activations commit. Hosts crash and lose what wasn't synced, are cut off in one
//! direction or both, join, leave, lose their disks. Then all is mended: within a bound every slot has to be served by all its
//! replicas, every host has to find every grain with one hop, and what was acknowledged has to be there.
//!
//! **Not here:** membership (its own tests have a network), turns, reads.

mod disk;
mod errands;
mod faults;
mod files;
mod grains;
mod history;
mod host;
mod lives;
mod mended;
mod rules;

use std::collections::{BTreeMap, VecDeque};

use granary_core::cluster::{Input, Output, PeerMessage};
use granary_core::config_chain::config::Member;
use granary_core::id::{GrainName, HostId};
use granary_core::membership::{Change, Seen, Standing};
use granary_core::placement::Beat;
use granary_core::replication::messages::State;
use granary_core::routing::Travel;
use granary_core::time::Time;

use self::disk::File;
use self::errands::Errands;
use self::grains::Grains;
pub use self::history::{Broken, History};
use self::host::Host;
pub use self::rules::Rule;
use crate::coverage::Coverage;
use crate::dice::Dice;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// Hosts at the beginning.
const FOUNDERS: u8 = 3;
/// Things go wrong for so long.
const STORM: u64 = 45 * SECOND;
/// Between looks at who can be reached.
const GLANCE: u64 = 250 * MILLI;
const SUSPECT_AFTER: u64 = 800 * MILLI;
const DOWN_AFTER: u64 = 3_000 * MILLI;

enum Event {
    Deliver {
        to: usize,
        from: HostId,
        message: Box<PeerMessage>,
    },
    Errand {
        to: usize,
        from: Option<HostId>,
        errand: u64,
        travel: Travel,
    },
    /// A file's sync has ended.
    Synced {
        at: usize,
        life: u32,
        file: File,
    },
    /// A state is read. Nothing says when; it's read now if it wasn't yet.
    Loaded {
        at: usize,
        life: u32,
        name: GrainName,
        state: Option<Option<State>>,
    },
    /// A checkpoint ends; then the next begins.
    Checkpoint {
        at: usize,
        life: u32,
    },
    /// A host has to do what nobody waits for.
    Tidy {
        at: usize,
        life: u32,
        /// Whether its journal is to be written anew.
        is_long: bool,
    },
    Wake {
        at: usize,
        life: u32,
    },
    /// And which request it waits for.
    Client(usize, Option<u64>),
    Glance,
    Fault,
    Mend(faults::Mend),
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What can't be.
    pub broken: Option<Broken>,
    /// What was reached.
    pub coverage: Coverage,
    /// Commits that clients were told of.
    pub acknowledged: u64,
    /// Configurations.
    pub configs: usize,
}

/// See the file's text.
pub struct Whole {
    now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    queued: u64,
    dice: Dice,
    hosts: Vec<Host>,
    inputs: VecDeque<(usize, Input)>,
    is_giving: bool,
    /// From and to: nothing gets through.
    cuts: Vec<(usize, usize)>,
    loss_permille: u64,
    /// The rule that is broken on purpose.
    broken_rule: Option<Rule>,
    grains: Grains,
    history: History,
    errands: Errands,
    coverage: Coverage,
    broken: Option<Broken>,
}

impl Whole {
    /// Runs one seed, with this rule broken on purpose.
    ///
    /// A panic of a machine is a finding like any other: it would end the host.
    pub fn run(seed: u64, broken_rule: Option<Rule>) -> Report {
        let run = std::panic::catch_unwind(|| Whole::live(seed, broken_rule));
        run.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Report {
                broken: Some(format!("no message makes a host panic: {}", text.unwrap_or("?"))),
                coverage: Coverage::default(),
                acknowledged: 0,
                configs: 0,
            }
        })
    }

    fn live(seed: u64, broken_rule: Option<Rule>) -> Report {
        let mut world = Whole {
            now: Time(SECOND),
            queue: BTreeMap::new(),
            queued: 0,
            dice: Dice::new(seed),
            hosts: (1..=FOUNDERS).map(Host::new).collect(),
            inputs: VecDeque::new(),
            is_giving: false,
            cuts: Vec::new(),
            loss_permille: 5,
            broken_rule,
            grains: Grains::new(),
            history: History::default(),
            errands: Errands::default(),
            coverage: Coverage::default(),
            broken: None,
        };
        (0..world.hosts.len()).for_each(|at| world.start(at));
        world.push(0, Event::Glance);
        // A cluster first, then clients, then trouble.
        world.run_until(world.now.plus_nanos(20 * SECOND));
        (0..errands::CLIENTS).for_each(|client| world.push(0, Event::Client(client, None)));
        world.push(2 * SECOND, Event::Fault);
        world.run_until(world.now.plus_nanos(STORM));
        world.mend();
        Report {
            broken: world.broken,
            acknowledged: world.errands.acknowledged,
            configs: world.history.configs(),
            coverage: world.coverage,
        }
    }

    fn push(&mut self, after: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now.plus_nanos(after), self.queued), event);
    }

    fn run_until(&mut self, end: Time) {
        while self.broken.is_none()
            && let Some(((at, _), event)) = self.queue.pop_first()
        {
            if at > end {
                self.queued += 1;
                self.queue.insert((at, self.queued), event);
                break;
            }
            self.now = at;
            self.happen(event);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, message } => {
                let message = *message;
                self.give(to, Input::Received { from, message });
            }
            Event::Errand {
                to,
                from,
                errand,
                travel,
            } => self.route(to, errand, from, travel),
            Event::Synced { at, life, file } => self.synced(at, life, file),
            Event::Loaded { at, life, name, state } => self.loaded(at, life, &name, state),
            Event::Checkpoint { at, life } => self.checkpoint(at, life),
            Event::Tidy { at, life, is_long } => self.tidy(at, life, is_long),
            Event::Wake { at, life } => {
                if self.lives(at, life) && self.hosts[at].wake_at.is_some_and(|due| due <= self.now) {
                    self.hosts[at].wake_at = None;
                    self.give(at, Input::Wake);
                }
            }
            Event::Client(client, waits) => self.client(client, waits),
            Event::Glance => self.glance(),
            Event::Fault => self.fault(),
            Event::Mend(mend) => self.mend_one(mend),
        }
    }

    fn lives(&self, at: usize, life: u32) -> bool {
        self.hosts[at].is_up() && self.hosts[at].incarnation == life
    }

    fn start(&mut self, at: usize) {
        let (seed, rule) = (self.dice.roll(), self.broken_rule);
        let rules = rule.map(Rule::of_core).unwrap_or_default();
        self.hosts[at].disk.compares_numbers = rule == Some(Rule::SameNumber);
        if let Err(what) = self.hosts[at].start(self.now, seed, rules) {
            let host = self.hosts[at].id;
            self.hold(|_| Err(format!("a host starts with what it has: {host:?}: {what}")));
            return;
        }
        let is_first = at == 0 && self.hosts[at].incarnation == 1;
        let founds = is_first.then(|| Member {
            host: self.hosts[at].id,
            weight: 100,
            zone: String::new(),
        });
        self.give(at, Input::Start { founds });
        let (life, pause) = (self.hosts[at].incarnation, self.dice.between(0, SECOND));
        self.push(pause, Event::Checkpoint { at, life });
    }

    fn index(&self, host: HostId) -> usize {
        usize::from(host.0[0]) - 1
    }

    /// Hands a machine its input, and does what it says; what comes of that is handed on in its order.
    fn give(&mut self, at: usize, input: Input) {
        self.inputs.push_back((at, input));
        if self.is_giving {
            return;
        }
        self.is_giving = true;
        while let Some((at, input)) = self.inputs.pop_front() {
            let host = &mut self.hosts[at];
            let Some(cluster) = &mut host.cluster else {
                continue;
            };
            let mut out = Vec::new();
            cluster.handle(self.now, input, &mut host.disk, &mut out);
            self.look_at_files(at);
            for output in out {
                self.heed(at, output);
            }
            self.plan_wake(at);
        }
        self.is_giving = false;
    }

    fn plan_wake(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(due) = host.cluster.as_ref().and_then(|cluster| cluster.deadline()) else {
            return;
        };
        if host.wake_at.is_none_or(|planned| due < planned) {
            let life = host.incarnation;
            host.wake_at = Some(due);
            self.push(due.nanos_since(self.now), Event::Wake { at, life });
        }
    }

    fn heed(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.send(at, to, message),
            Output::Load { name } => self.load(at, name),
            Output::Opened { token, opened } => self.opened(at, token, opened),
            Output::News { token, news } => self.news(at, token, news),
            Output::Confirmed { token, is_confirmed } => self.confirmed(at, token, is_confirmed),
            Output::Edit { token, table, bytes } => self.rewrite(at, token, table, bytes),
            Output::Edited { token, edited } => self.edited(at, token, edited),
            Output::Route(way) => self.way(at, way),
            Output::Configured(config) => self.hold(|world| world.history.configured(&config)),
            Output::Unsound { from } => {
                self.hold(|_| Err(format!("peers send what they say: {from:?} has sent something else")));
            }
            Output::Forked { n, .. } => {
                self.hold(|_| {
                    Err(format!(
                        "4, one successor: a host has met another configuration {}",
                        n.0
                    ))
                });
            }
        }
    }

    /// Notes the first thing that can't be.
    fn hold(&mut self, check: impl FnOnce(&mut Whole) -> Result<(), Broken>) {
        if let Err(what) = check(self) {
            self.broken.get_or_insert(what);
        }
    }

    fn passes(&mut self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(from, to)) && !self.dice.permille(self.loss_permille)
    }

    fn send(&mut self, from: usize, to: HostId, message: PeerMessage) {
        self.coverage.count("message", kind(&message));
        let at = self.index(to);
        if at >= self.hosts.len() || !self.passes(from, at) {
            return;
        }
        let from = self.hosts[from].id;
        let copies = if self.dice.permille(10) { 2 } else { 1 };
        for _ in 0..copies {
            // Mostly quick, now and then so slow that others overtake it.
            let late = if self.dice.percent(2) { 60 * MILLI } else { 600_000 };
            let delay = self.dice.between(200_000, 200_000 + late);
            let message = Box::new(message.clone());
            self.push(delay, Event::Deliver { to: at, from, message });
        }
    }

    /// What membership would say: who can't be reached for a while is suspected, then called down; who can is alive.
    fn glance(&mut self) {
        for viewer in 0..self.hosts.len() {
            if self.hosts[viewer].is_up() {
                self.give(viewer, Input::Beat(Beat::default()));
            }
            for other in (0..self.hosts.len()).filter(|other| *other != viewer) {
                if self.hosts[viewer].is_up() {
                    self.glance_at(viewer, other);
                }
            }
        }
        self.push(GLANCE, Event::Glance);
    }

    fn glance_at(&mut self, viewer: usize, other: usize) {
        let (host, incarnation) = (self.hosts[other].id, self.hosts[other].incarnation);
        let is_cut = self.cuts.contains(&(viewer, other)) || self.cuts.contains(&(other, viewer));
        let is_there = self.hosts[other].is_up() && !is_cut;
        let was = self.hosts[viewer].seen.get(&host).copied();
        if was.is_some_and(|was| was.standing == Standing::Left) {
            return;
        }
        let standing = if is_there && self.hosts[other].is_over {
            Standing::Left
        } else if is_there {
            self.hosts[viewer].missing.remove(&host);
            Standing::Alive
        } else {
            let since = *self.hosts[viewer].missing.entry(host).or_insert(self.now);
            match self.now.nanos_since(since) {
                gone if gone >= DOWN_AFTER => Standing::Down,
                gone if gone >= SUSPECT_AFTER => Standing::Suspect,
                _ => return,
            }
        };
        self.see(viewer, other, standing, incarnation);
    }

    fn see(&mut self, viewer: usize, other: usize, standing: Standing, incarnation: u32) {
        let host = self.hosts[other].id;
        let was = self.hosts[viewer].seen.get(&host).copied();
        if was.is_some_and(|was| (was.standing, was.incarnation) == (standing, incarnation))
            || (was.is_none() && standing != Standing::Alive)
        {
            return;
        }
        let now = Seen {
            host,
            incarnation,
            renewal: 0,
            address: "127.0.0.1:1".parse().expect("an address"),
            standing,
            since: self.now,
        };
        self.hosts[viewer].seen.insert(host, now);
        self.give(viewer, Input::Seen(Change { was, now }));
    }
}

fn kind(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Chain(_) => "chain",
        PeerMessage::Replication(_) => "replication",
        PeerMessage::Directory(_) => "directory",
        PeerMessage::Beat(_) => "beat",
        PeerMessage::Share(_) => "share",
    }
}
