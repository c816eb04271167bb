//! A network in virtual time: members, datagrams on their way, cuts, crashes, and hosts that are starved of CPU.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::id::HostId;
use crate::membership::{Change, Identity, Input, Membership, Output, Settings, Standing};
use crate::rng::Rng;
use crate::time::Time;

pub(super) const MILLI: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MILLI;

enum Event {
    Deliver {
        to: usize,
        from: usize,
        datagram: Vec<u8>,
    },
    Wake(usize),
    /// A starved host gets the CPU.
    Run(usize),
}

/// One host of the network.
pub(super) struct Host {
    pub(super) machine: Membership,
    pub(super) crashed: bool,
    pub(super) gone: bool,
    pub(super) sent_bytes: u64,
    pub(super) changes: Vec<(Time, Change)>,
    pub(super) renewals: u32,
    pub(super) superseded: Option<u32>,
    pub(super) refused: usize,
    incarnation: u32,
    wake_at: Option<Time>,
    /// Runs only now and then: what has come meanwhile.
    starved: Option<VecDeque<(usize, Vec<u8>)>>,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    pub(super) rng: Rng,
    /// Of a thousand datagrams, so many get lost.
    pub(super) loss_permille: u64,
    settings: Settings,
    queue: BTreeMap<(Time, u64), Event>,
    queued: u64,
    /// What these send gets lost.
    pub(super) mute: BTreeSet<usize>,
    /// What is sent to these gets lost.
    pub(super) deaf: BTreeSet<usize>,
    /// Hosts with different numbers can't reach each other.
    side: Vec<u8>,
}

pub(super) fn host_id(index: usize) -> HostId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(index as u32 + 1).to_be_bytes());
    HostId(bytes)
}

pub(super) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 7778))
}

fn index_of(host: HostId) -> usize {
    u32::from_be_bytes([host.0[0], host.0[1], host.0[2], host.0[3]]) as usize - 1
}

impl Net {
    /// `count` hosts that start within half a second and have the first one as their seed.
    pub(super) fn new(count: usize, seed: u64) -> Net {
        Net::with(count, seed, Settings::default())
    }

    pub(super) fn with(count: usize, seed: u64, settings: Settings) -> Net {
        let settings = Settings {
            seeds: vec!["0".to_owned()],
            ..settings
        };
        let mut net = Net {
            now: Time(SECOND),
            hosts: Vec::new(),
            rng: Rng::new(seed),
            loss_permille: 0,
            settings,
            queue: BTreeMap::new(),
            queued: 0,
            mute: BTreeSet::new(),
            deaf: BTreeSet::new(),
            side: vec![0; count],
        };
        for index in 0..count {
            let machine = net.machine(index, 1);
            net.hosts.push(Host {
                machine,
                crashed: false,
                gone: false,
                sent_bytes: 0,
                changes: Vec::new(),
                renewals: 0,
                superseded: None,
                refused: 0,
                incarnation: 1,
                wake_at: None,
                starved: None,
            });
            let at = net.now.plus_nanos(net.rng.below(500 * MILLI));
            net.hosts[index].wake_at = Some(at);
            net.push(at, Event::Wake(index));
        }
        net
    }

    /// A network whose hosts all know one another.
    pub(super) fn settled(count: usize, seed: u64) -> Net {
        Net::new(count, seed).settle()
    }

    pub(super) fn settle(mut self) -> Net {
        let limit = self.now.plus_nanos(60 * SECOND);
        while !self.is_one() {
            assert!(self.now < limit, "the members didn't find one another in a minute");
            self.run(SECOND / 2);
        }
        // News goes on for a while after the last one has heard it.
        self.run(20 * SECOND);
        self
    }

    fn machine(&mut self, index: usize, incarnation: u32) -> Membership {
        let identity = Identity::new(host_id(index), incarnation, address(index));
        Membership::new(self.now, identity, b"cluster", self.settings.clone(), self.rng.draw())
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, nanos: u64) {
        let end = self.now.plus_nanos(nanos);
        while self.step(end) {}
    }

    /// Lets time pass until `done` or the limit. Says how long that took.
    pub(super) fn run_until(&mut self, limit_nanos: u64, done: impl Fn(&Net) -> bool) -> Option<u64> {
        let start = self.now;
        let end = start.plus_nanos(limit_nanos);
        while !done(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now.nanos_since(start))
    }

    fn step(&mut self, end: Time) -> bool {
        let Some((&(at, number), _)) = self.queue.first_key_value() else {
            self.now = end;
            return false;
        };
        if at > end {
            self.now = end;
            return false;
        }
        self.now = at;
        match self.queue.remove(&(at, number)).unwrap() {
            Event::Deliver { to, from, datagram } => {
                if self.side[to] != self.side[from] || self.hosts[to].crashed {
                } else if let Some(inbox) = &mut self.hosts[to].starved {
                    if inbox.len() < 256 {
                        inbox.push_back((from, datagram));
                    }
                } else {
                    self.receive(to, from, datagram);
                }
            }
            Event::Wake(index) => {
                let host = &self.hosts[index];
                if host.wake_at == Some(at) && !host.crashed && host.starved.is_none() {
                    self.input(index, Input::Wake);
                }
            }
            Event::Run(index) => self.run_starved(index),
        }
        true
    }

    fn receive(&mut self, to: usize, from: usize, datagram: Vec<u8>) {
        let from = host_id(from);
        self.input(to, Input::Received { from, datagram });
    }

    /// Gives one host an input and does what it says.
    pub(super) fn input(&mut self, index: usize, input: Input) {
        let mut out = Vec::new();
        self.hosts[index].machine.handle(self.now, input, &mut out);
        for output in out {
            self.output(index, output);
        }
        let at = self.hosts[index].machine.deadline();
        if at != self.hosts[index].wake_at {
            self.hosts[index].wake_at = at.map(|at| at.max(self.now));
            if let Some(at) = self.hosts[index].wake_at {
                self.push(at, Event::Wake(index));
            }
        }
    }

    fn output(&mut self, index: usize, output: Output) {
        match output {
            Output::Send { to, datagram, .. } => {
                let to = index_of(to);
                assert!(datagram.len() <= 1_200, "a datagram of {} bytes", datagram.len());
                // QUIC and UDP headers count for about 60 bytes more; they are the driver's.
                self.hosts[index].sent_bytes += datagram.len() as u64;
                let lost = self.rng.below(1_000) < self.loss_permille;
                let lost = lost || self.mute.contains(&index) || self.deaf.contains(&to);
                if !lost && self.side[index] == self.side[to] {
                    let at = self.now.plus_nanos(200_000 + self.rng.below(1_300_000));
                    let from = index;
                    self.push(at, Event::Deliver { to, from, datagram });
                }
            }
            Output::Dial { seed } => {
                let to: usize = seed.parse().unwrap();
                if to != index && !self.hosts[to].crashed && self.side[index] == self.side[to] {
                    let (host, address) = (host_id(to), address(to));
                    self.input(index, Input::Introduced { host, address });
                }
            }
            Output::Changed(change) => self.hosts[index].changes.push((self.now, change)),
            Output::Renewed { .. } => self.hosts[index].renewals += 1,
            Output::Refused { .. } => self.hosts[index].refused += 1,
            Output::Gone => self.hosts[index].gone = true,
            Output::Superseded { by } => self.hosts[index].superseded = Some(by),
        }
    }

    fn push(&mut self, at: Time, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    /// Ends a host's process without a word.
    pub(super) fn crash(&mut self, index: usize) {
        self.hosts[index].crashed = true;
    }

    /// Starts a crashed host again.
    pub(super) fn restart(&mut self, index: usize) {
        let incarnation = self.hosts[index].incarnation + 1;
        let machine = self.machine(index, incarnation);
        let host = &mut self.hosts[index];
        host.machine = machine;
        host.incarnation = incarnation;
        host.crashed = false;
        host.gone = false;
        self.input(index, Input::Wake);
    }

    /// Cuts hosts off from the others; an empty list heals all cuts.
    pub(super) fn cut(&mut self, away: &[usize]) {
        for (index, side) in self.side.iter_mut().enumerate() {
            *side = u8::from(away.contains(&index));
        }
    }

    /// Has a host run only in short moments, with sleeps of up to three seconds between them.
    pub(super) fn starve(&mut self, index: usize) {
        self.hosts[index].starved = Some(VecDeque::new());
        self.push(self.now, Event::Run(index));
    }

    /// Stops a host's process for a while, as SIGSTOP does.
    pub(super) fn stop(&mut self, index: usize, nanos: u64) {
        self.hosts[index].starved = Some(VecDeque::new());
        self.run(nanos);
        let inbox = self.hosts[index].starved.take().unwrap();
        self.input(index, Input::Wake);
        for (from, datagram) in inbox {
            self.receive(index, from, datagram);
        }
    }

    fn run_starved(&mut self, index: usize) {
        let Some(inbox) = self.hosts[index].starved.take() else {
            return;
        };
        // Timers and datagrams come in no better order than on a real host: whatever the thread looks at first.
        let timers_first = self.rng.below(2) == 0;
        if timers_first {
            self.input(index, Input::Wake);
        }
        for (from, datagram) in inbox {
            self.receive(index, from, datagram);
        }
        self.input(index, Input::Wake);
        self.hosts[index].starved = Some(VecDeque::new());
        let sleep = 50 * MILLI + self.rng.below(3_000 * MILLI);
        self.push(self.now.plus_nanos(sleep), Event::Run(index));
    }

    /// Whether everyone who runs sees all who run as alive.
    pub(super) fn is_one(&self) -> bool {
        let here: Vec<_> = (0..self.hosts.len()).filter(|i| self.is_here(*i)).collect();
        here.iter().all(|viewer| {
            let view = self.hosts[*viewer].machine.view();
            let others = here.iter().filter(|other| *other != viewer);
            others
                .into_iter()
                .all(|other| view.standing(host_id(*other)) == Some(Standing::Alive))
        })
    }

    fn is_here(&self, index: usize) -> bool {
        !self.hosts[index].crashed && !self.hosts[index].gone
    }

    /// Whether everyone who runs sees `host` as `standing`.
    pub(super) fn all_see(&self, host: usize, standing: Standing) -> bool {
        let viewers = (0..self.hosts.len()).filter(|i| *i != host && self.is_here(*i));
        viewers
            .into_iter()
            .all(|viewer| self.hosts[viewer].machine.view().standing(host_id(host)) == Some(standing))
    }

    /// Whether anyone who runs sees `host` as `standing`.
    pub(super) fn one_sees(&self, host: usize, standing: Standing) -> bool {
        let mut viewers = (0..self.hosts.len()).filter(|i| *i != host && self.is_here(*i));
        viewers.any(|viewer| self.hosts[viewer].machine.view().standing(host_id(host)) == Some(standing))
    }

    /// How often a host outside of `except` was called down.
    pub(super) fn deaths_but_of(&self, except: &[usize]) -> usize {
        let except: BTreeSet<_> = except.iter().map(|index| host_id(*index)).collect();
        let changes = self.hosts.iter().flat_map(|host| &host.changes);
        changes
            .filter(|(_, change)| change.now.standing == Standing::Down && !except.contains(&change.now.host))
            .count()
    }

    /// Bytes that a host sends in a second, on average, while `nanos` pass.
    pub(super) fn bytes_a_second(&mut self, nanos: u64) -> f64 {
        let before: u64 = self.hosts.iter().map(|host| host.sent_bytes).sum();
        self.run(nanos);
        let after: u64 = self.hosts.iter().map(|host| host.sent_bytes).sum();
        (after - before) as f64 / self.hosts.len() as f64 / (nanos as f64 / SECOND as f64)
    }
}

/// The smallest value that `percent` of all are no larger than.
pub(super) fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    values[(values.len() * percent).div_ceil(100).max(1) - 1]
}
