//! What is simulated: one host's machine, and what tells all of them who the cluster is.
//!
//! A [`Subject`] has the shape of every machine of `granary-core`; the simulator feeds it and carries out what it says. What it
//! tells about itself, in [`Output::Fact`] and by [`Subject::stored`], is for the checkers alone.
//!
//! **Not here:** any particular protocol.

use std::fmt::Debug;

use granary_core::id::{Ballot, GrainId, HostId};
use granary_core::time::Time;

use crate::dice::Dice;

/// Names one step of a client's operation: a repeat has the same, so that its effect is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// Who.
    pub client: u16,
    /// Rises with each step of a client.
    pub number: u32,
}

/// What a client asks of a grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add to the counter; returns the new value.
    Add(i64),
    /// Return the value.
    Read,
    /// Delete the grain: from then on it is as if it had never been, but that commits go on being numbered.
    Delete,
}

/// What a turn does to its grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Adds so much to the counter.
    Adds(i64),
    /// Deletes the grain, and the memory of its clients' steps with it.
    Deletes,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which step; a retry has the same.
    pub step: StepId,
    /// Which try of it: answers to earlier ones aren't waited for any more.
    pub attempt: u32,
    /// Of which grain.
    pub grain: GrainId,
    /// What.
    pub action: Action,
}

/// Names a commit and with it all before it. Zeros: nothing is committed.
pub type Head = [u8; 16];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran; this is what it saw.
    Done {
        /// The state that it made or saw.
        head: Head,
        /// The counter's value.
        value: i64,
    },
    /// It didn't run. `elsewhere`: who may know better.
    Failed {
        /// Why.
        why: &'static str,
        /// Ask there.
        elsewhere: Option<HostId>,
    },
    /// It may have run, or may yet.
    Unknown,
}

/// What happens to a host.
#[derive(Clone, Debug)]
pub enum Input<M, O> {
    /// A message.
    Received {
        /// From whom.
        from: HostId,
        /// What.
        message: M,
    },
    /// So many records of this host's log are durable, those from before its start included.
    Persisted(u64),
    /// A client's request.
    Call(Call),
    /// Who the cluster is, as agreed.
    Order(O),
    /// These hosts seem alive. Gossip: may be old, or wrong.
    View(Vec<HostId>),
    /// Let the grain go, to this host.
    Move {
        /// Which grain.
        grain: GrainId,
        /// To whom.
        to: HostId,
    },
    /// The deadline has passed.
    Wake,
}

/// What is to be done for a host.
#[derive(Clone, Debug)]
pub enum Output<M, R, P> {
    /// Send this; also to the host itself.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: M,
    },
    /// Append this to the log.
    Persist(R),
    /// Answer a request.
    Reply(Call, Outcome),
    /// Tell whoever decides who the cluster is.
    Report(P),
    /// Ask for the newest order.
    Behind,
    /// For checkers only.
    Fact(Fact),
}

/// What a machine tells the checkers about itself.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// The guest ran a turn that changed its grain.
    Ran {
        /// Which grain.
        grain: GrainId,
        /// The state before.
        before: Head,
        /// The state after.
        after: Head,
        /// For which step.
        step: StepId,
        /// What it did.
        effect: Effect,
    },
    /// The host is the grain's activation.
    Active {
        /// Which grain.
        grain: GrainId,
        /// Its ballot.
        ballot: Ballot,
        /// The state that it goes on from.
        head: Head,
    },
    /// Something worth counting: a state that was reached, a refusal.
    Reached(&'static str),
}

/// What a record of a host's log means to the checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing below this ballot is accepted.
    Promise(GrainId, Ballot),
    /// A commit is accepted.
    Accept {
        /// Which grain.
        grain: GrainId,
        /// Under which ballot.
        ballot: Ballot,
        /// The commit's number.
        seq: u64,
        /// The state after it.
        head: Head,
    },
    /// What another replica knew of a grain takes the place of what was here.
    Install {
        /// Which grain.
        grain: GrainId,
        /// The promise.
        promised: Option<Ballot>,
        /// The state.
        head: Option<Head>,
    },
    /// The slot's asks are answered in this configuration.
    Ready {
        /// Which slot.
        slot: u16,
        /// The configuration.
        n: u64,
        /// What is forgotten was promised up to here, so far as this host has learned.
        floor: Option<Ballot>,
    },
    /// A deleted grain is forgotten; up to this ballot nothing is accepted for a grain that isn't known.
    Forget(GrainId, Ballot),
    /// All of the slot is dropped.
    Discard(u16),
    /// Nothing of the slot is answered below this configuration.
    Seal {
        /// Which slot.
        slot: u16,
        /// The configuration.
        n: u64,
    },
}

/// What a message says to the checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A replica confirms ballots in this configuration, by what it knows now.
    Confirms {
        /// Which slot.
        slot: u16,
        /// The configuration.
        n: u64,
    },
    /// A replica promises.
    Promises(GrainId, Ballot),
    /// All replicas have this tombstone: the grain may be forgotten.
    Forgets(GrainId, Head),
}

/// How a host starts.
#[derive(Debug)]
pub struct Start<'a, R, T> {
    /// Who.
    pub host: HostId,
    /// Its n-th start, from 1.
    pub incarnation: u32,
    /// The host's clock.
    pub now: Time,
    /// Chance of its own.
    pub seed: u64,
    /// What is on its disk.
    pub records: &'a [R],
    /// The same for all hosts of a run.
    pub setup: &'a T,
}

/// What a [`Subject`] says at once.
pub type Outputs<S> =
    Vec<Output<<S as Subject>::Message, <S as Subject>::Record, <<S as Subject>::Authority as Authority>::Report>>;

/// One host's machine.
pub trait Subject: Sized {
    /// Between hosts.
    type Message: Clone + Debug;
    /// On a host's disk.
    type Record: Clone + Debug;
    /// The same for all hosts of a run.
    type Setup: Clone;
    /// Decides who the cluster is.
    type Authority: Authority;

    /// Starts a host from its disk.
    fn start(start: Start<'_, Self::Record, Self::Setup>, out: &mut Outputs<Self>) -> Self;
    /// Takes one input.
    fn handle(&mut self, now: Time, input: Input<Self::Message, OrderOf<Self>>, out: &mut Outputs<Self>);
    /// When [`Input::Wake`] is due.
    fn deadline(&self) -> Option<Time>;
    /// The message's kind, for counts.
    fn kind(message: &Self::Message) -> &'static str;
    /// What a record means.
    fn stored(record: &Self::Record) -> Option<Stored>;
    /// What a message says.
    fn said(message: &Self::Message) -> Option<Said>;
}

/// What a subject's authority orders.
pub type OrderOf<S> = <<S as Subject>::Authority as Authority>::Order;

/// Who is there, as the simulator knows it.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Meant to be in the cluster.
    pub wanted: Vec<HostId>,
    /// Their disks are gone.
    pub lost: Vec<HostId>,
}

/// Decides who the cluster is. Stands in for what hosts agree on among themselves, as long as they don't.
pub trait Authority {
    /// What hosts are told.
    type Order: Clone + Debug;
    /// What hosts tell.
    type Report: Clone + Debug;

    /// A new cluster of these.
    fn found(hosts: &[HostId], grains: &[GrainId]) -> Self;
    /// The newest order.
    fn order(&self) -> Self::Order;
    /// A host reports.
    fn heard(&mut self, from: HostId, report: Self::Report);
    /// Adapts to who is there. True when there is a new order. `shuffle`: change something for its own sake.
    fn adapt(&mut self, hosts: &Hosts, shuffle: bool, dice: &mut Dice) -> bool;
    /// Whether the cluster, as it is, survives the loss of a disk.
    fn may_lose(&self, hosts: &Hosts) -> bool;
    /// Whether nothing depends on a host any more.
    fn may_leave(&self, host: HostId) -> bool;
    /// A group of hosts that holds the grain, whose majority decides, for each configuration so far.
    fn groups(&self, grain: GrainId) -> &[Vec<HostId>];
}
