//! A host with the real machines of replication: replicas and proposers out of `granary-core`.
//!
//! What is around them is as little as will do: activations that run the guest of [`crate::guest`], and a store that holds each
//! grain's state as its log's records make it. Clients find activations by asking around.
//!
//! **Not here:** the rules of replication.

mod activations;
mod names;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use granary_core::id::{GrainId, HostId, Seq};
use granary_core::replication::body::Body;
use granary_core::replication::messages::{Accepted, Message, Payload, State};
use granary_core::replication::mutation::{Mutation, Rules};
use granary_core::replication::proposer::{self, Proposer};
use granary_core::replication::proposers::Proposers;
use granary_core::replication::record::Record;
use granary_core::replication::replica;
use granary_core::replication::replicas::Replicas;
use granary_core::slot::Slot;
use granary_core::time::Time;

use self::activations::Activation;
pub(crate) use self::names::kind;
use crate::guest::{Change, Counter};
use crate::layout::{Layout, Layouts};
use crate::subject::{Fact, Head, Input, Output, Outputs, Said, Start, Stored, Subject};

/// The same for all hosts of a run.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// A rule that is broken on purpose.
    pub mutation: Option<Mutation>,
    /// Every fourth life of a host has a replica that refuses what a slow disk can't keep up with.
    pub is_tight: bool,
}

impl Setup {
    fn limits(&self, seed: u64) -> replica::Limits {
        let mut limits = replica::Limits::default();
        if self.is_tight && seed.is_multiple_of(4) {
            limits.waiting = 3;
        }
        limits
    }
}

/// A grain's state as the log's records make it.
#[derive(Clone, Debug, Default)]
struct Kept {
    seq: Seq,
    head: Head,
    counter: Counter,
    /// The last commit deletes the grain.
    deleted: bool,
}

/// See the module's text.
pub struct Replicated {
    me: HostId,
    incarnation: u32,
    replicas: Replicas,
    proposers: Proposers,
    layout: Option<Arc<Layout>>,
    kept: BTreeMap<GrainId, Kept>,
    activations: BTreeMap<GrainId, Activation>,
    view: Vec<HostId>,
    /// Records so far, and for those that aren't durable which slot waits for which ticket.
    written: u64,
    writing: VecDeque<(u64, Slot, u64)>,
    tickets: u64,
}

type Out = Outputs<Replicated>;

impl Replicated {
    fn replica(&mut self, now: Time, slot: Slot, input: replica::Input, out: &mut Out) {
        let mut outputs = Vec::new();
        self.replicas.handle(now, slot, input, &mut outputs);
        self.take_replicas(now, outputs, out);
    }

    fn take_replicas(&mut self, now: Time, outputs: Vec<(Slot, replica::Output)>, out: &mut Out) {
        for (slot, output) in outputs {
            match output {
                replica::Output::Send { to, message } => self.send(to, message, out),
                replica::Output::Persist { ticket, record } => {
                    self.keep(&record);
                    self.written += 1;
                    self.writing.push_back((self.written, slot, ticket));
                    out.push(Output::Persist((slot, record)));
                }
                replica::Output::Load { grain } => {
                    let state = self.kept.get(&grain).map(|kept| kept.state());
                    self.replica(now, slot, replica::Input::Loaded { grain, state }, out);
                }
                replica::Output::Serving(n) => {
                    out.push(Output::Fact(Fact::Reached("serving")));
                    out.push(Output::Report((slot, n)));
                }
                replica::Output::Behind(_) => out.push(Output::Behind),
            }
        }
    }

    fn send(&mut self, to: HostId, message: Message, out: &mut Out) {
        if let Some(refusal) = names::refusal(&message) {
            out.push(Output::Fact(Fact::Reached(refusal)));
        }
        out.push(Output::Send { to, message });
    }

    fn keep(&mut self, record: &Record) {
        match record {
            Record::Accept { grain, proposal, .. } => {
                let kept = self.kept.entry(*grain).or_default();
                match &proposal.payload {
                    Payload::Same => {}
                    Payload::Delta(body) => {
                        // A forgotten grain begins anew, whatever is left of it from before its slot was dropped here.
                        if proposal.seq == Seq(1) {
                            kept.counter = Counter::default();
                        }
                        kept.counter.apply(Change::decode(body.as_bytes()));
                    }
                    Payload::Full(_) if proposal.deletes => kept.counter = Counter::default(),
                    Payload::Full(body) => kept.counter = Counter::decode(body.as_bytes()),
                }
                (kept.seq, kept.head, kept.deleted) = (proposal.seq, proposal.hash, proposal.deletes);
            }
            Record::Install {
                grain,
                accepted: Some(accepted),
                ..
            } if accepted.deleted => {
                self.kept.insert(*grain, Kept::tombstone(*accepted));
            }
            Record::Install {
                grain,
                accepted: Some(accepted),
                body: Some(body),
                ..
            } => {
                let kept = Kept {
                    seq: accepted.seq,
                    head: accepted.hash,
                    counter: Counter::decode(body.as_bytes()),
                    deleted: false,
                };
                self.kept.insert(*grain, kept);
            }
            Record::Forget { grain, .. } => {
                self.kept.remove(grain);
            }
            _ => {}
        }
    }

    fn ordered(&mut self, now: Time, layout: Arc<Layout>, out: &mut Out) {
        if self.layout.as_ref().is_some_and(|known| known.n > layout.n) {
            return;
        }
        self.layout = Some(layout.clone());
        for (slot, here) in &layout.slots {
            let Some(assignment) = layout.assignment(*slot) else {
                continue;
            };
            let mut outputs = Vec::new();
            self.proposers.assign(now, *slot, &assignment.set, &mut outputs);
            self.take_proposers(now, outputs, out);
            self.replica(now, *slot, replica::Input::Assigned(assignment), out);
            if here.is_settled() && !here.concerns(self.me) {
                self.replica(now, *slot, replica::Input::Discard(here.since), out);
            }
        }
    }

    fn persisted(&mut self, now: Time, count: u64, out: &mut Out) {
        let mut upto: BTreeMap<Slot, u64> = BTreeMap::new();
        while let Some((_, slot, ticket)) = self.writing.pop_front_if(|(number, ..)| *number <= count) {
            upto.insert(slot, ticket);
        }
        for (slot, ticket) in upto {
            self.replica(now, slot, replica::Input::Persisted(ticket), out);
        }
    }

    fn received(&mut self, now: Time, from: HostId, message: Message, out: &mut Out) {
        match message {
            Message::Answer { n, answer } => {
                let grain = answer.grain();
                let was_writing = self.writes_back(grain);
                let mut outputs = Vec::new();
                self.proposers.receive(now, from, n, answer, &mut outputs);
                if self.writes_back(grain) && !was_writing {
                    out.push(Output::Fact(Fact::Reached("writing back")));
                }
                self.take_proposers(now, outputs, out);
            }
            message => self.replica(now, message.slot(), replica::Input::Received { from, message }, out),
        }
    }

    fn writes_back(&self, grain: Option<GrainId>) -> bool {
        let proposer = grain.and_then(|grain| self.proposers.proposer(grain));
        proposer.is_some_and(Proposer::is_writing_back)
    }

    fn wake(&mut self, now: Time, out: &mut Out) {
        let mut outputs = Vec::new();
        self.replicas.wake(now, &mut outputs);
        self.take_replicas(now, outputs, out);
        let (mut outputs, mut sends) = (Vec::new(), Vec::new());
        self.proposers.wake(now, &mut outputs, &mut sends);
        self.take_proposers(now, outputs, out);
        for (to, message) in sends {
            self.send(to, message, out);
        }
    }
}

impl Kept {
    fn state(&self) -> State {
        State {
            seq: self.seq,
            hash: self.head,
            deleted: self.deleted,
            body: match self.deleted {
                true => Body::default(),
                false => self.counter.encode().into(),
            },
        }
    }

    fn tombstone(last: Accepted) -> Kept {
        Kept {
            seq: last.seq,
            head: last.hash,
            counter: Counter::default(),
            deleted: true,
        }
    }
}

impl Subject for Replicated {
    type Message = Message;
    type Record = (Slot, Record);
    type Setup = Setup;
    type Authority = Layouts;

    fn start(start: Start<'_, (Slot, Record), Setup>, _: &mut Out) -> Replicated {
        let rules = start.setup.mutation.map_or(Rules::default(), Rules::but);
        let (me, incarnation) = (start.host, start.incarnation);
        let mut host = Replicated {
            me,
            incarnation,
            replicas: Replicas::new(me, start.setup.limits(start.seed), rules),
            proposers: Proposers::new(me, incarnation, proposer::Limits::default(), rules),
            layout: None,
            kept: BTreeMap::new(),
            activations: BTreeMap::new(),
            view: Vec::new(),
            written: start.records.len() as u64,
            writing: VecDeque::new(),
            tickets: 0,
        };
        for (slot, record) in start.records {
            host.keep(record);
            host.replicas.replay(start.now, *slot, record);
        }
        host
    }

    fn handle(&mut self, now: Time, input: Input<Message, Arc<Layout>>, out: &mut Out) {
        match input {
            Input::Received { from, message } => self.received(now, from, message, out),
            Input::Persisted(count) => self.persisted(now, count, out),
            Input::Call(call) => self.call(now, call, out),
            Input::Order(layout) => self.ordered(now, layout, out),
            Input::View(view) => self.view = view,
            Input::Move { grain, to } => self.release(now, grain, to, out),
            Input::Wake => self.wake(now, out),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.replicas
            .deadline()
            .into_iter()
            .chain(self.proposers.deadline())
            .min()
    }

    fn kind(message: &Message) -> &'static str {
        kind(message)
    }

    fn stored((slot, record): &(Slot, Record)) -> Option<Stored> {
        names::stored(*slot, record)
    }

    fn said(message: &Message) -> Option<Said> {
        names::said(message)
    }
}
