//! Every run of small cases of replication, with the real machines.
//!
//! One grain; a few activations that compete, each with few commits and reads; replicas that may lose what isn't durable by a restart;
//! configurations that hand the slot over while all that goes on. Each host learns of a configuration at any time, or never. The network
//! delivers its messages in any order; a message that is never delivered is a lost one. What a host sends itself arrives at once.
//!
//! A commit's hash spells out the history that it ends, so that histories are compared by comparing hashes. Everything that a client may
//! see, acknowledged commits and what reads return, has to be one history (**invariant 8**), and a read has to show what anybody
//! has seen before it came (**invariant 9**). Each of the six mutations has to be found.
//!
//! **Not here:** time (leases, patience and repeats of questions are left out: safety can't hang on them), the choice of
//! configurations (`config_chain`), messages that are doubled (unit tests).

mod cases;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stateright::{Model, Property};

use super::body::Body;
use super::messages::{Answer, CommitHash, Message, Payload, Proposal, State};
use super::mutation::Rules;
use super::proposer::{self, Proposer};
use super::replica::{self, Replica};
use super::replica_set::{Assignment, ReplicaSet};
use super::tests::{GRAIN, host};
use crate::config_chain::config::ConfigNumber;
use crate::id::{HostId, Seq};
use crate::slot::Slot;
use crate::time::Time;

/// What is walked through.
#[derive(Clone)]
struct Case {
    /// The slot's replicas, by configuration.
    configs: Vec<Vec<u8>>,
    /// Activations: on which host, how many commits and how many reads.
    activations: Vec<(u8, u8, u8)>,
    /// How often an activation that was outbid asks again, in all.
    wakes: u8,
    /// Restarts, in all.
    restarts: u8,
    rules: Rules,
}

/// A replica, and what is on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    replica: Replica,
    /// The replica that the durable records make, while restarts are left.
    disk: Option<Replica>,
}

/// An activation as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Activation {
    at: HostId,
    proposer: Proposer,
    started: bool,
    /// The state in memory.
    head: CommitHash,
    writes: u8,
    reads: u8,
    /// The read that waits: what it returns, and what it must show.
    read: Option<(CommitHash, CommitHash)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    hosts: BTreeMap<HostId, Host>,
    activations: Vec<Activation>,
    network: BTreeSet<(HostId, HostId, Message)>,
    /// How many configurations are decided.
    decided: usize,
    wakes: u8,
    restarts: u8,
    /// The longest history that was acknowledged.
    acknowledged: CommitHash,
    /// The longest history that anybody saw.
    seen: CommitHash,
    forked: bool,
    stale: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Deliver(HostId, HostId, Message),
    Activate(usize),
    Commit(usize),
    Read(usize),
    Wake(usize),
    Decide,
    Learn(HostId, usize),
    Restart(HostId),
}

/// What is still to be done within a step.
enum Due {
    Replica(HostId, replica::Input),
    Proposer(usize, proposer::Input),
}

fn len(history: &CommitHash) -> usize {
    history.iter().take_while(|byte| **byte != 0).count()
}

fn prefix(history: &CommitHash, seq: Seq) -> CommitHash {
    let mut out = [0; 16];
    out[..seq.0 as usize].copy_from_slice(&history[..seq.0 as usize]);
    out
}

fn is_prefix(short: &CommitHash, long: &CommitHash) -> bool {
    short[..len(short)] == long[..len(short)]
}

impl Case {
    fn set(&self, n: usize) -> ReplicaSet {
        ReplicaSet {
            n: ConfigNumber(n as u64),
            hosts: self.configs[n - 1].iter().map(|number| host(*number)).collect(),
        }
    }

    /// Nothing is known of who serves: all earlier ones are sources.
    fn assignment(&self, n: usize) -> Assignment {
        Assignment {
            set: self.set(n),
            sources: (1..n).map(|source| self.set(source)).collect(),
        }
    }
}

impl World {
    fn see(&mut self, history: CommitHash) {
        if is_prefix(&self.seen, &history) {
            self.seen = history;
        } else if !is_prefix(&history, &self.seen) {
            self.forked = true;
        }
    }

    fn run(&mut self, first: Due) {
        let mut queue = VecDeque::from([first]);
        while let Some(due) = queue.pop_front() {
            match due {
                Due::Replica(at, input) => self.run_replica(at, input, &mut queue),
                Due::Proposer(index, input) => self.run_proposer(index, input, &mut queue),
            }
        }
    }

    fn run_replica(&mut self, at: HostId, input: replica::Input, queue: &mut VecDeque<Due>) {
        let Some(own) = self.hosts.get_mut(&at) else { return };
        let mut out = Vec::new();
        own.replica.handle(Time(0), input, &mut out);
        for output in out {
            match output {
                replica::Output::Send { to, message } => self.post(at, to, message, queue),
                replica::Output::Persist { ticket, record } => {
                    if let Some(Host { disk: Some(disk), .. }) = self.hosts.get_mut(&at) {
                        disk.replay(Time(0), &record);
                    }
                    queue.push_back(Due::Replica(at, replica::Input::Persisted(ticket)));
                }
                replica::Output::Load { grain } => {
                    let (_, accepted) = self.hosts[&at].replica.register(grain);
                    let state = accepted.map(|last| State {
                        seq: last.seq,
                        hash: last.hash,
                        deleted: last.deleted,
                        body: Body::default(),
                    });
                    queue.push_back(Due::Replica(at, replica::Input::Loaded { grain, state }));
                }
                replica::Output::Serving(_) | replica::Output::Behind(_) => {}
            }
        }
    }

    fn run_proposer(&mut self, index: usize, input: proposer::Input, queue: &mut VecDeque<Due>) {
        let activation = &mut self.activations[index];
        let at = activation.at;
        let mut out = Vec::new();
        activation.proposer.handle(Time(0), input, &mut out);
        for output in out {
            let activation = &mut self.activations[index];
            match output {
                proposer::Output::Send { to, message } => self.post(at, to, message, queue),
                proposer::Output::Active { head, .. } => activation.head = head.map_or([0; 16], |head| head.hash),
                proposer::Output::Committed(seq) => {
                    let history = prefix(&activation.head, seq);
                    self.see(history);
                    if len(&history) > len(&self.acknowledged) {
                        self.acknowledged = history;
                    }
                }
                proposer::Output::ReadReady(_) => {
                    if let Some((returns, must_show)) = activation.read.take() {
                        self.stale |= !is_prefix(&must_show, &returns);
                        self.see(returns);
                    }
                }
                proposer::Output::ReadRefused(_) => activation.read = None,
                proposer::Output::NeedImage => {
                    let hash = activation.head;
                    let (seq, body) = (Seq(len(&hash) as u64), Body::default());
                    let state = State {
                        seq,
                        hash,
                        deleted: false,
                        body,
                    };
                    queue.push_back(Due::Proposer(index, proposer::Input::Image(state)));
                }
                _ => {}
            }
        }
    }

    fn post(&mut self, from: HostId, to: HostId, message: Message, queue: &mut VecDeque<Due>) {
        if from == to {
            queue.extend(self.arrive(from, to, message));
        } else {
            self.network.insert((from, to, message));
        }
    }

    fn arrive(&self, from: HostId, to: HostId, message: Message) -> Vec<Due> {
        match message {
            Message::Answer { n, answer } => (0..self.activations.len())
                .filter(|index| self.activations[*index].at == to && self.activations[*index].started)
                .map(|index| (index, answer.clone()))
                .map(|(index, answer)| Due::Proposer(index, proposer::Input::Received { from, n, answer }))
                .collect(),
            message => vec![Due::Replica(to, replica::Input::Received { from, message })],
        }
    }

    /// A host learns of the `n`-th configuration, in its replica and its activations.
    fn learn(&mut self, case: &Case, at: HostId, n: usize) {
        self.run(Due::Replica(at, replica::Input::Assigned(case.assignment(n))));
        for index in 0..self.activations.len() {
            if self.activations[index].at == at {
                self.run(Due::Proposer(index, proposer::Input::Assigned(case.set(n))));
            }
        }
    }

    fn restart(&mut self, case: &Case, at: HostId) {
        self.restarts -= 1;
        let Some(own) = self.hosts.get_mut(&at) else { return };
        if let Some(disk) = &own.disk {
            own.replica = disk.clone();
        }
        if self.restarts == 0 {
            self.hosts.values_mut().for_each(|own| own.disk = None);
        }
        // It knows what it knew of configurations: the last is told again.
        let known = self.known(at);
        self.run(Due::Replica(
            at,
            replica::Input::Assigned(case.assignment(known.max(1))),
        ));
    }

    fn known(&self, at: HostId) -> usize {
        self.hosts[&at].replica.knows().map_or(0, |n| n.0 as usize)
    }

    /// Answers that change nothing don't tell states apart: what is late stays late.
    fn prune(&mut self) {
        let (activations, wakes) = (&self.activations, self.wakes);
        self.network.retain(|(from, to, message)| {
            let Message::Answer { n, answer } = message else {
                return true;
            };
            let (from, n) = (*from, *n);
            activations
                .iter()
                .filter(|one| one.at == *to && one.started && !one.proposer.is_over())
                .any(|one| {
                    // Without further attempts it's all the same whether a first one is outbid.
                    let is_mute = matches!(answer, Answer::Nack { .. }) && wakes == 0 && one.proposer.is_preparing();
                    let (mut after, mut out) = (one.proposer.clone(), Vec::new());
                    after.handle(
                        Time(0),
                        proposer::Input::Received {
                            from,
                            n,
                            answer: answer.clone(),
                        },
                        &mut out,
                    );
                    !is_mute
                        && (after != one.proposer
                            || out.iter().any(|output| !matches!(output, proposer::Output::Behind(_))))
                })
        });
        // Nobody can see anything new any more.
        if self.activations.iter().all(Activation::is_done) {
            self.network.clear();
        }
    }
}

impl Activation {
    fn is_done(&self) -> bool {
        let idle = self.proposer.is_active() && self.writes == 0 && self.reads == 0 && self.read.is_none();
        self.started && (self.proposer.is_over() || idle && self.proposer.committed().0 as usize == len(&self.head))
    }
}

impl Model for Case {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut numbers: BTreeSet<u8> = self.configs.iter().flatten().copied().collect();
        numbers.extend(self.activations.iter().map(|(at, ..)| *at));
        let new = |at: u8| Replica::new(host(at), Slot::of(GRAIN), replica::Limits::default(), self.rules);
        let mut world = World {
            hosts: numbers
                .iter()
                .map(|at| {
                    (
                        host(*at),
                        Host {
                            replica: new(*at),
                            disk: (self.restarts > 0).then(|| new(*at)),
                        },
                    )
                })
                .collect(),
            activations: Vec::new(),
            network: BTreeSet::new(),
            decided: 1,
            wakes: self.wakes,
            restarts: self.restarts,
            acknowledged: [0; 16],
            seen: [0; 16],
            forked: false,
            stale: false,
        };
        for (index, (at, writes, reads)) in self.activations.iter().enumerate() {
            // Incarnations keep the ballots of a host's activations apart.
            let limits = proposer::Limits::default();
            world.activations.push(Activation {
                at: host(*at),
                proposer: Proposer::new(host(*at), index as u32, GRAIN, index as u64, limits, self.rules),
                started: false,
                head: [0; 16],
                writes: *writes,
                reads: *reads,
                read: None,
            });
        }
        for at in numbers {
            world.learn(self, host(at), 1);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.activations.iter().all(Activation::is_done) {
            return;
        }
        for (from, to, message) in &world.network {
            actions.push(Action::Deliver(*from, *to, message.clone()));
        }
        for (index, activation) in world.activations.iter().enumerate() {
            if !activation.started && (index == 0 || world.activations[index - 1].started) {
                actions.push(Action::Activate(index));
            }
            if activation.proposer.is_active() {
                actions.extend((activation.writes > 0).then_some(Action::Commit(index)));
                actions.extend((activation.reads > 0 && activation.read.is_none()).then_some(Action::Read(index)));
            }
            let waits =
                activation.started && !activation.proposer.is_over() && activation.proposer.deadline().is_some();
            actions.extend((world.wakes > 0 && waits).then_some(Action::Wake(index)));
        }
        actions.extend((world.decided < self.configs.len()).then_some(Action::Decide));
        for at in world.hosts.keys() {
            actions.extend((world.known(*at) + 1..=world.decided).map(|n| Action::Learn(*at, n)));
            actions.extend((world.restarts > 0).then_some(Action::Restart(*at)));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Deliver(from, to, message) => {
                world.network.remove(&(from, to, message.clone()));
                for due in world.arrive(from, to, message) {
                    world.run(due);
                }
            }
            Action::Activate(index) => {
                world.activations[index].started = true;
                let have = None;
                world.run(Due::Proposer(index, proposer::Input::Activate { have, preempts: true }));
            }
            Action::Commit(index) => {
                let activation = &mut world.activations[index];
                activation.writes -= 1;
                let (prev_hash, at) = (activation.head, len(&activation.head));
                activation.head[at] = 1 + 16 * index as u8 + activation.writes;
                let proposal = Proposal {
                    seq: Seq(at as u64 + 1),
                    prev_hash,
                    hash: activation.head,
                    deletes: false,
                    payload: Payload::Delta(Body::default()),
                };
                world.run(Due::Proposer(index, proposer::Input::Propose(proposal)));
            }
            Action::Read(index) => {
                let must_show = world.seen;
                let activation = &mut world.activations[index];
                activation.reads -= 1;
                activation.read = Some((activation.head, must_show));
                let (ticket, sees) = (0, Seq(len(&activation.head) as u64));
                world.run(Due::Proposer(index, proposer::Input::Read { ticket, sees }));
            }
            Action::Wake(index) => {
                world.wakes -= 1;
                let activation = &mut world.activations[index];
                let at = activation.proposer.deadline()?;
                let mut out = Vec::new();
                activation.proposer.handle(at, proposer::Input::Wake, &mut out);
                let from = activation.at;
                for output in out {
                    if let proposer::Output::Send { to, message } = output {
                        world.network.insert((from, to, message));
                    }
                }
            }
            Action::Decide => world.decided += 1,
            Action::Learn(at, n) => world.learn(self, at, n),
            Action::Restart(at) => world.restart(self, at),
        }
        world.prune();
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one history", |_, world: &World| !world.forked),
            Property::always("fresh reads", |_, world: &World| !world.stale),
            // Without these a case could hold because nothing happens in it.
            Property::sometimes("a commit", |_, world: &World| len(&world.acknowledged) > 0),
            Property::sometimes("a handover", |case: &Case, world: &World| {
                let last = ConfigNumber(case.configs.len() as u64);
                world.hosts.values().any(|own| own.replica.serves() == Some(last))
            }),
        ]
    }
}
