//! The protocols that a host takes part in, as one machine: configuration, replication, directory and routing.
//!
//! ```text
//!  membership (a thread of its own) --Seen--> chain --Installed--> replicas, proposers, routing
//!                                               ^------Serving-------'
//!  requests ----> routing ---asks whom the replica has promised---> replicas
//!  activations -> proposers -----Ask, also to this host itself----> replicas
//! ```
//!
//! It only passes on: every rule is in one of the parts. What a host says to itself goes the same way as what it says to others, but
//! at once.
//!
//! # Architecture invariants
//!
//! - Every record has a *mark*. A replica hears of its records' durability in their order, whatever order the disk has.
//! - A holder that membership calls dead, or that is an earlier life of this very host, is pre-empted; nobody else is
//!   (**invariant 10** of [`crate::replication`]).
//! - Until a configuration is known nothing is served and nothing is asked.
//!
//! **Not here:** membership itself (it probes on a thread of its own), activations' lives ([`activations`](super::activations)), what
//! goes into which file ([`persistence`](super::persistence)).

mod event;
mod marks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use self::event::{Input, Output};
use self::marks::{Marks, Owner};
use super::event::{PeerMessage, Record};
use crate::config_chain::chain::Chain;
use crate::config_chain::config::{ClusterId, Config, MEMBER_LIMIT, SlotReplicas};
use crate::config_chain::event::{self as chain, Share};
use crate::directory;
use crate::id::{Ballot, GrainId, HostId};
use crate::membership::{Change, Standing};
use crate::placement::Beat;
use crate::replication::messages::{CommitHash, Message};
use crate::replication::mutation::Rules;
use crate::replication::proposers::Proposers;
use crate::replication::replica_set::{Assignment, ReplicaSet};
use crate::replication::replicas::Replicas;
use crate::replication::{proposer, replica};
use crate::routing::{self, Routing};
use crate::slot::Slot;
use crate::time::Time;

/// The weight of a host that says nothing else.
pub const WEIGHT: u32 = 100;
/// Hosts whose shares are remembered. Stops a flood of made-up ones.
const SHARES_MOST: usize = 2 * MEMBER_LIMIT;

/// What is fixed for one run of a host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host.
    pub me: HostId,
    /// Its n-th start: never one twice.
    pub incarnation: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// For what is drawn.
    pub seed: u64,
    /// What this host would be as a member.
    pub share: Share,
    /// The chain's times.
    pub chain: chain::Times,
    /// The replicas' limits.
    pub replica: replica::Limits,
    /// The proposers' limits.
    pub proposer: proposer::Limits,
    /// Routing and directory.
    pub routing: routing::Settings,
    /// Replication's rules, all of them but in the simulator.
    pub rules: Rules,
}

impl Settings {
    /// The usual ones.
    pub fn new(me: HostId, incarnation: u32, cluster: ClusterId, seed: u64) -> Settings {
        Settings {
            me,
            incarnation,
            cluster,
            seed,
            share: Share {
                weight: WEIGHT,
                zone: String::new(),
            },
            chain: chain::Times::default(),
            replica: replica::Limits::default(),
            proposer: proposer::Limits::default(),
            routing: routing::Settings::default(),
            rules: Rules::default(),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Protocols {
    me: HostId,
    /// What this host and others have said that they would be as members.
    shares: BTreeMap<HostId, Share>,
    chain: Chain,
    replicas: Replicas,
    proposers: Proposers,
    routing: Routing,
    config: Option<Arc<Config>>,
    /// Grains that are being activated, with what was here of them.
    activating: BTreeMap<GrainId, Option<CommitHash>>,
    marks: Marks,
    /// What this host says to itself.
    local: VecDeque<PeerMessage>,
}

impl Protocols {
    /// A host that has replayed nothing yet.
    pub fn new(settings: Settings) -> Protocols {
        let (me, incarnation) = (settings.me, settings.incarnation);
        Protocols {
            me,
            shares: BTreeMap::from([(me, settings.share)]),
            chain: Chain::new(chain::Settings {
                me,
                incarnation,
                cluster: settings.cluster,
                seed: settings.seed,
                times: settings.chain,
            }),
            replicas: Replicas::new(me, settings.replica, settings.rules),
            proposers: Proposers::new(me, incarnation, settings.proposer, settings.rules),
            routing: Routing::new(me, settings.routing, settings.seed),
            config: None,
            activating: BTreeMap::new(),
            marks: Marks::default(),
            local: VecDeque::new(),
        }
    }

    /// Takes in a durable record at a start, in order; then give [`Input::Start`].
    pub fn replay(&mut self, now: Time, record: Record) {
        match record {
            Record::Chain(record) => self.chain.replay(record),
            Record::Replica(slot, record) => self.replicas.replay(now, slot, &record),
        }
    }

    /// Records that stand for all before: replayed, they rebuild this host's part. The states that they name are in storage.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> {
        let chain = self.chain.snapshot().into_iter().map(Record::Chain);
        let replicas = self.replicas.iter().flat_map(|(slot, replica)| {
            let records = replica.snapshot().into_iter();
            records.map(move |record| Record::Replica(slot, record))
        });
        chain.chain(replicas)
    }

    /// Takes one input and appends what is to be done, in order. No message can make it panic.
    ///
    /// # Panics
    ///
    /// When a commit is proposed that doesn't follow the one before: a fault of this host.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Start { founds } => {
                if let Some(member) = founds {
                    self.chain(now, chain::Input::Found(member), out);
                }
                self.chain(now, chain::Input::Start, out);
                let (host, presence) = (self.me, self.alive(self.me));
                self.chain(now, chain::Input::Seen { host, presence }, out);
            }
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::Persisted(mark) => self.persisted(now, mark, out),
            Input::Loaded { grain, state } => {
                let input = replica::Input::Loaded { grain, state };
                self.replica(now, None, Slot::of(grain), input, out);
            }
            Input::Seen(change) => self.seen(now, change, out),
            Input::Beat(beat) => self.beat(beat, out),
            Input::Activate { grain, have } => {
                self.activating.insert(grain, have);
                self.activate(now, grain, have, false, out);
            }
            Input::Grain { grain, input } => self.proposer(now, grain, input, out),
            Input::Route(input) => self.route(now, input, out),
            Input::Wake => self.wake(now, out),
        }
        while let Some(message) = self.local.pop_front() {
            self.receive(now, self.me, message, out);
        }
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let machines = [
            self.chain.deadline(),
            self.replicas.deadline(),
            self.proposers.deadline(),
            self.routing.deadline(),
        ];
        machines.into_iter().flatten().min()
    }

    /// The newest configuration that is in force here.
    pub fn config(&self) -> Option<&Arc<Config>> {
        self.config.as_ref()
    }

    /// All replicas of this host.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// All activations of this host.
    pub fn proposers(&self) -> &Proposers {
        &self.proposers
    }

    /// The routing, for what it has counted.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    fn receive(&mut self, now: Time, from: HostId, message: PeerMessage, out: &mut Vec<Output>) {
        match message {
            PeerMessage::Chain(message) => self.chain(now, chain::Input::Received { from, message }, out),
            PeerMessage::Replication(Message::Answer { n, answer }) => {
                let mut said = Vec::new();
                self.proposers.receive(now, from, n, answer, &mut said);
                self.heed_proposers(now, Some(from), said, out);
            }
            PeerMessage::Replication(message) => {
                let slot = message.slot();
                self.replica(now, Some(from), slot, replica::Input::Received { from, message }, out);
            }
            PeerMessage::Directory(message) => {
                let input = directory::Input::Received { from, message };
                self.route(now, routing::Input::Directory(input), out);
            }
            PeerMessage::Share(share) => self.hear_share(now, from, share, out),
            PeerMessage::Beat(beat) => {
                self.route(
                    now,
                    routing::Input::Directory(directory::Input::Beat { from, beat }),
                    out,
                );
            }
        }
    }

    fn send(&mut self, to: HostId, message: PeerMessage, out: &mut Vec<Output>) {
        if to == self.me {
            self.local.push_back(message);
        } else {
            out.push(Output::Send { to, message });
        }
    }

    fn persisted(&mut self, now: Time, mark: u64, out: &mut Vec<Output>) {
        match self.marks.persisted(mark) {
            None => {}
            Some((Owner::Chain, ticket)) => self.chain(now, chain::Input::Persisted(ticket), out),
            Some((Owner::Replica(slot), ticket)) => {
                self.replica(now, None, slot, replica::Input::Persisted(ticket), out);
            }
        }
    }

    fn seen(&mut self, now: Time, change: Change, out: &mut Vec<Output>) {
        let host = change.now.host;
        let presence = match change.now.standing {
            Standing::Alive | Standing::Suspect => self.alive(host),
            Standing::Down => chain::Presence::Down,
            Standing::Left => chain::Presence::Leaving,
        };
        if change.now.standing.is_active()
            && let Some(share) = self.is_news()
        {
            self.send(host, PeerMessage::Share(share), out);
        }
        self.chain(now, chain::Input::Seen { host, presence }, out);
        self.route(now, routing::Input::Directory(directory::Input::Seen(change)), out);
    }

    fn beat(&mut self, beat: Beat, out: &mut Vec<Output>) {
        let others: Vec<HostId> = self
            .config
            .iter()
            .flat_map(|config| config.members.iter().map(|member| member.host))
            .collect();
        let is_news = self.is_news();
        for to in others {
            self.send(to, PeerMessage::Beat(beat), out);
            if let Some(share) = is_news.clone() {
                self.send(to, PeerMessage::Share(share), out);
            }
        }
    }

    /// This host's share, as long as the configuration doesn't say it.
    fn is_news(&self) -> Option<Share> {
        let share = self.shares.get(&self.me)?;
        let member = self.config.as_ref().and_then(|config| config.member(self.me));
        let is_known = member.is_some_and(|member| Share::of(member) == *share);
        (!is_known).then(|| share.clone())
    }

    /// A host says what it would be as a member.
    fn hear_share(&mut self, now: Time, host: HostId, share: Share, out: &mut Vec<Output>) {
        if self.shares.len() >= SHARES_MOST && !self.shares.contains_key(&host) {
            return;
        }
        self.shares.insert(host, share);
        if self.chain.is_alive(host) {
            let presence = self.alive(host);
            self.chain(now, chain::Input::Seen { host, presence }, out);
        }
    }

    /// What the configuration says of its members counts from now on, until one of them says again that it's otherwise: voters that go by
    /// what each has heard last would take turns in putting it right.
    fn forget_shares(&mut self, now: Time, config: &Config, out: &mut Vec<Output>) {
        for host in config.members.iter().map(|member| member.host) {
            if host != self.me && self.shares.remove(&host).is_some() && self.chain.is_alive(host) {
                let presence = chain::Presence::Alive(None);
                self.chain(now, chain::Input::Seen { host, presence }, out);
            }
        }
    }

    fn alive(&self, host: HostId) -> chain::Presence {
        chain::Presence::Alive(self.shares.get(&host).cloned())
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        self.chain(now, chain::Input::Wake, out);
        let mut said = Vec::new();
        self.replicas.wake(now, &mut said);
        self.heed_replicas(now, None, said, out);
        let (mut said, mut sends) = (Vec::new(), Vec::new());
        self.proposers.wake(now, &mut said, &mut sends);
        self.heed_proposers(now, None, said, out);
        for (to, message) in sends {
            self.send(to, PeerMessage::Replication(message), out);
        }
        self.route(now, routing::Input::Directory(directory::Input::Wake), out);
    }

    fn chain(&mut self, now: Time, input: chain::Input, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.chain.handle(now, input, &mut said);
        for output in said {
            match output {
                chain::Output::Send { to, message } => self.send(to, PeerMessage::Chain(message), out),
                chain::Output::Persist { ticket, record } => {
                    let mark = self.marks.give(Owner::Chain, ticket);
                    let record = Record::Chain(record);
                    out.push(Output::Persist { mark, record });
                }
                chain::Output::Installed(config) => self.configured(now, config, out),
                chain::Output::Forked { n, host, is_odd } => out.push(Output::Forked { n, host, is_odd }),
            }
        }
    }

    /// A configuration is in force: every slot's replicas are told, this host's and those who propose to them.
    fn configured(&mut self, now: Time, config: Config, out: &mut Vec<Output>) {
        let config = Arc::new(config);
        self.config = Some(config.clone());
        self.forget_shares(now, &config, out);
        let input = directory::Input::Configured(config.clone());
        self.route(now, routing::Input::Directory(input), out);
        for slot in Slot::all() {
            let here = config.slot(slot);
            let assignment = assignment(here);
            let mut said = Vec::new();
            self.proposers.assign(now, slot, &assignment.set, &mut said);
            self.heed_proposers(now, None, said, out);
            // A host that has nothing to do with a slot needs no machine for it.
            if !here.concerns(self.me) && self.replicas.replica(slot).is_none() {
                continue;
            }
            self.replica(now, None, slot, replica::Input::Assigned(assignment), out);
            if here.is_settled() && !here.concerns(self.me) {
                self.replica(now, None, slot, replica::Input::Discard(here.since), out);
            }
        }
        out.push(Output::Configured(config));
    }

    /// `from`: whose message it is, if it's one; who knows more than this host is asked.
    fn replica(&mut self, now: Time, from: Option<HostId>, slot: Slot, input: replica::Input, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.replicas.handle(now, slot, input, &mut said);
        self.heed_replicas(now, from, said, out);
    }

    fn heed_replicas(
        &mut self,
        now: Time,
        from: Option<HostId>,
        said: Vec<(Slot, replica::Output)>,
        out: &mut Vec<Output>,
    ) {
        for (slot, output) in said {
            match output {
                replica::Output::Send { to, message } => self.send(to, PeerMessage::Replication(message), out),
                replica::Output::Persist { ticket, record } => {
                    let mark = self.marks.give(Owner::Replica(slot), ticket);
                    let record = Record::Replica(slot, record);
                    out.push(Output::Persist { mark, record });
                }
                replica::Output::Load { grain } => out.push(Output::Load { grain }),
                replica::Output::Serving(n) => self.chain(now, chain::Input::Serving { slot, n }, out),
                replica::Output::Behind(_) => self.behind(now, from, out),
            }
        }
    }

    fn behind(&mut self, now: Time, from: Option<HostId>, out: &mut Vec<Output>) {
        // Without a sender the chain's own comparing finds out, a second later.
        if let Some(from) = from.filter(|from| *from != self.me) {
            self.chain(now, chain::Input::Behind(from), out);
        }
    }

    fn activate(&mut self, now: Time, grain: GrainId, have: Option<CommitHash>, preempts: bool, out: &mut Vec<Output>) {
        self.proposer(now, grain, proposer::Input::Activate { have, preempts }, out);
    }

    fn proposer(&mut self, now: Time, grain: GrainId, input: proposer::Input, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.proposers.handle(now, grain, input, &mut said);
        self.heed_proposers(now, None, said, out);
    }

    fn heed_proposers(
        &mut self,
        now: Time,
        from: Option<HostId>,
        said: Vec<(GrainId, proposer::Output)>,
        out: &mut Vec<Output>,
    ) {
        for (grain, output) in said {
            match output {
                proposer::Output::Send { to, message } => {
                    self.send(to, PeerMessage::Replication(message), out);
                    continue;
                }
                proposer::Output::Behind(_) => {
                    self.behind(now, from, out);
                    continue;
                }
                proposer::Output::Held { holder, .. } => {
                    if let Some(have) = self.activating.get(&grain).copied()
                        && self.is_gone(holder)
                    {
                        self.activate(now, grain, have, true, out);
                        continue;
                    }
                    self.end(now, grain, out);
                }
                proposer::Output::Active { ballot, .. } => {
                    self.activating.remove(&grain);
                    let input = directory::Input::Activated { grain, ballot };
                    self.route(now, routing::Input::Directory(input), out);
                }
                proposer::Output::Fenced { .. } | proposer::Output::Released => self.end(now, grain, out),
                _ => {}
            }
            out.push(Output::Grain { grain, output });
        }
    }

    /// Whether whoever holds a grain on `host` doesn't live: membership says so, or it was this host in an earlier life.
    fn is_gone(&self, host: HostId) -> bool {
        host == self.me || self.routing.directory().has_gone(host)
    }

    /// A grain isn't active here, or no longer.
    fn end(&mut self, now: Time, grain: GrainId, out: &mut Vec<Output>) {
        self.activating.remove(&grain);
        let never = Ballot {
            counter: 0,
            host: self.me,
            incarnation: 0,
        };
        let ballot = self.routing.directory().own(grain).unwrap_or(never);
        let input = directory::Input::Deactivated { grain, ballot };
        self.route(now, routing::Input::Directory(input), out);
    }

    fn route(&mut self, now: Time, input: routing::Input, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.routing.handle(now, input, &mut said);
        for output in said {
            let routing::Output::Directory(output) = output else {
                out.push(Output::Route(output));
                continue;
            };
            match output {
                directory::Output::Send { to, message } => self.send(to, PeerMessage::Directory(message), out),
                directory::Output::AskHolder(question) => {
                    let replica = self.replicas.replica(Slot::of(question.grain));
                    let ballot = replica.and_then(|replica| replica.holder(now, question.grain));
                    let input = directory::Input::Holder { question, ballot };
                    self.route(now, routing::Input::Directory(input), out);
                }
                directory::Output::Outdated { grain, by } => out.push(Output::Outdated { grain, by }),
                directory::Output::Behind { whom, .. } => self.behind(now, Some(whom), out),
                // Routing takes these for itself.
                directory::Output::Located { .. }
                | directory::Output::Unlocated { .. }
                | directory::Output::Moved { .. } => {}
            }
        }
    }
}

/// A slot of a configuration as its replicas read it.
fn assignment(slot: &SlotReplicas) -> Assignment {
    let set = |n, hosts: &[HostId]| ReplicaSet {
        n,
        hosts: hosts.to_vec(),
    };
    Assignment {
        set: set(slot.since, slot.replicas.hosts()),
        sources: slot
            .sources
            .iter()
            .map(|source| set(source.n, source.replicas.hosts()))
            .collect(),
    }
}
