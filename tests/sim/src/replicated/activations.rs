//! The grains that are alive on a host: they run turns, and keep replies back until replication says that they may leave.

use std::collections::{BTreeMap, VecDeque};

use granary_core::id::{Ballot, GrainId, HostId, Seq};
use granary_core::replication::messages::{Accepted, Payload, Proposal};
use granary_core::replication::proposer::{Input, Output as ProposerOutput};
use granary_core::time::Time;

use super::{Kept, Out, Replicated};
use crate::guest::{Change, Counter, Turn};
use crate::subject::{Call, Effect, Fact, Outcome, Output};

/// Calls that wait for an activation.
const MAILBOX: usize = 64;

/// A grain that is alive here, or about to be.
#[derive(Debug, Default)]
pub(super) struct Activation {
    is_active: bool,
    is_isolated: bool,
    is_ending: bool,
    /// The state after the last turn.
    state: Kept,
    /// What was here when the activation began.
    had: Option<Kept>,
    mailbox: VecDeque<Call>,
    /// Replies that wait for a commit.
    replies: VecDeque<(Seq, Call, Outcome)>,
    /// Replies that wait for a quorum.
    reads: BTreeMap<u64, (Call, Outcome)>,
}

fn fail(call: Call, why: &'static str, elsewhere: Option<HostId>, out: &mut Out) {
    out.push(Output::Reply(call, Outcome::Failed { why, elsewhere }));
}

impl Replicated {
    pub(super) fn call(&mut self, now: Time, call: Call, out: &mut Out) {
        if self.layout.is_none() {
            return fail(call, "starting", None, out);
        }
        let activation = self.activations.entry(call.grain).or_default();
        if activation.is_ending {
            fail(call, "moving", None, out);
        } else if activation.is_isolated {
            fail(call, "no quorum", None, out);
        } else if activation.is_active {
            self.turn(now, call, out);
        } else if activation.mailbox.len() >= MAILBOX {
            fail(call, "mailbox full", None, out);
        } else {
            activation.mailbox.push_back(call);
            if activation.mailbox.len() == 1 {
                self.activate(now, call.grain, false, out);
            }
        }
    }

    fn activate(&mut self, now: Time, grain: GrainId, preempts: bool, out: &mut Out) {
        out.push(Output::Fact(Fact::Reached(if preempts {
            "preempting"
        } else {
            "preparing"
        })));
        let had = self.kept.get(&grain).cloned();
        let have = had.as_ref().map(|kept| kept.head);
        self.activations.entry(grain).or_default().had = had;
        self.proposer(now, grain, Input::Activate { have, preempts }, out);
    }

    fn proposer(&mut self, now: Time, grain: GrainId, input: Input, out: &mut Out) {
        let mut outputs = Vec::new();
        self.proposers.handle(now, grain, input, &mut outputs);
        self.take_proposers(now, outputs, out);
    }

    pub(super) fn release(&mut self, now: Time, grain: GrainId, to: HostId, out: &mut Out) {
        if let Some(activation) = self.activations.get(&grain)
            && activation.is_active
            && to != self.me
        {
            self.leave(now, grain, Some(to), out);
        }
    }

    fn leave(&mut self, now: Time, grain: GrainId, to: Option<HostId>, out: &mut Out) {
        if let Some(activation) = self.activations.get_mut(&grain) {
            activation.is_ending = true;
            out.push(Output::Fact(Fact::Reached("draining")));
            self.proposer(now, grain, Input::Release { to }, out);
        }
    }

    fn turn(&mut self, now: Time, call: Call, out: &mut Out) {
        let grain = call.grain;
        let salt = u64::from(self.me.0[0]) << 32 | u64::from(self.incarnation);
        let Some(activation) = self.activations.get_mut(&grain) else {
            return;
        };
        let state = &mut activation.state;
        match state.counter.run(call.step, call.action) {
            Turn::Late => fail(call, "late", None, out),
            Turn::Saw(value) => {
                self.tickets += 1;
                let (ticket, sees) = (self.tickets, state.seq);
                let outcome = Outcome::Done {
                    head: state.head,
                    value,
                };
                activation.reads.insert(ticket, (call, outcome));
                self.proposer(now, grain, Input::Read { ticket, sees }, out);
            }
            Turn::Changed(change) => {
                self.tickets += 1;
                let head = change.head(state.head, salt << 24 ^ self.tickets);
                let Change { step, effect } = change;
                out.push(Output::Fact(Fact::Ran {
                    grain,
                    before: state.head,
                    after: head,
                    step,
                    effect,
                }));
                state.counter.apply(change);
                state.deleted = effect == Effect::Deletes;
                let proposal = Proposal {
                    seq: state.seq.next(),
                    prev_hash: state.head,
                    hash: head,
                    deletes: state.deleted,
                    payload: Payload::Delta(change.encode().into()),
                };
                (state.seq, state.head) = (proposal.seq, head);
                let outcome = Outcome::Done {
                    head,
                    value: state.counter.value,
                };
                activation.replies.push_back((state.seq, call, outcome));
                self.proposer(now, grain, Input::Propose(proposal), out);
            }
        }
    }

    pub(super) fn take_proposers(&mut self, now: Time, outputs: Vec<(GrainId, ProposerOutput)>, out: &mut Out) {
        for (grain, output) in outputs {
            self.take_proposer(now, grain, output, out);
        }
    }

    fn take_proposer(&mut self, now: Time, grain: GrainId, output: ProposerOutput, out: &mut Out) {
        let reached = |what, out: &mut Out| out.push(Output::Fact(Fact::Reached(what)));
        match output {
            ProposerOutput::Send { to, message } => return self.send(to, message, out),
            ProposerOutput::Behind(_) => return out.push(Output::Behind),
            _ => {}
        }
        let Some(activation) = self.activations.get_mut(&grain) else {
            return;
        };
        match output {
            ProposerOutput::Active { ballot, head, state } => {
                reached("active", out);
                let state = state.map(|state| Kept {
                    seq: state.seq,
                    head: state.hash,
                    counter: Counter::decode(state.body.as_bytes()),
                    deleted: false,
                });
                self.activated(now, grain, ballot, head, state, out);
            }
            ProposerOutput::Held { holder, .. } => {
                reached("held", out);
                if holder != self.me && !self.view.is_empty() && !self.view.contains(&holder) {
                    return self.activate(now, grain, true, out);
                }
                for call in std::mem::take(&mut activation.mailbox) {
                    fail(call, "held", Some(holder), out);
                }
            }
            ProposerOutput::Committed(seq) => self.committed(now, grain, seq, out),
            ProposerOutput::ReadReady(ticket) => {
                if let Some((call, outcome)) = activation.reads.remove(&ticket) {
                    out.push(Output::Reply(call, outcome));
                }
            }
            ProposerOutput::ReadRefused(ticket) => {
                if let Some((call, _)) = activation.reads.remove(&ticket) {
                    fail(call, "read refused", None, out);
                }
            }
            ProposerOutput::NeedImage => {
                reached("image", out);
                // Before it is active it may have to say what it began with.
                let state = activation.had.as_ref().unwrap_or(&activation.state).state();
                self.proposer(now, grain, Input::Image(state), out);
            }
            ProposerOutput::Isolated => {
                reached("isolated", out);
                activation.is_isolated = true;
            }
            ProposerOutput::Reachable => {
                reached("reachable", out);
                activation.is_isolated = false;
            }
            ProposerOutput::Fenced { by } => {
                reached("fenced", out);
                self.end(grain, Some(by.host), out);
            }
            ProposerOutput::Released => {
                reached("released", out);
                self.end(grain, None, out);
            }
            ProposerOutput::Send { .. } | ProposerOutput::Behind(_) => {}
        }
    }

    fn committed(&mut self, now: Time, grain: GrainId, seq: Seq, out: &mut Out) {
        let Some(activation) = self.activations.get_mut(&grain) else {
            return;
        };
        while let Some((_, call, outcome)) = activation.replies.pop_front_if(|(at, ..)| *at <= seq) {
            out.push(Output::Reply(call, outcome));
        }
        let is_last = activation.state.deleted && activation.state.seq == seq;
        // Now and then a deleted grain stays where it is, and comes to life again on top of its tombstone.
        if is_last && !activation.is_ending && !self.tickets.is_multiple_of(4) {
            self.leave(now, grain, None, out);
        }
    }

    /// `head` is of the last commit, `state` what it left unless that was here already.
    fn activated(
        &mut self,
        now: Time,
        grain: GrainId,
        ballot: Ballot,
        head: Option<Accepted>,
        state: Option<Kept>,
        out: &mut Out,
    ) {
        let Some(activation) = self.activations.get_mut(&grain) else {
            return;
        };
        let had = activation.had.take();
        activation.state = match head {
            None => Kept::default(),
            Some(last) if last.deleted => Kept::tombstone(last),
            Some(_) => state
                .or(had)
                .expect("a state that doesn't come is the one that was here"),
        };
        activation.is_active = true;
        let head = head.map_or([0; 16], |last| last.hash);
        out.push(Output::Fact(Fact::Active { grain, ballot, head }));
        for call in std::mem::take(&mut activation.mailbox) {
            self.turn(now, call, out);
        }
    }

    fn end(&mut self, grain: GrainId, elsewhere: Option<HostId>, out: &mut Out) {
        let Some(activation) = self.activations.remove(&grain) else {
            return;
        };
        for (_, call, _) in activation.replies {
            out.push(Output::Reply(call, Outcome::Unknown));
        }
        let reads = activation.reads.into_values().map(|(call, _)| call);
        for call in activation.mailbox.into_iter().chain(reads) {
            fail(call, "ended", elsewhere, out);
        }
    }
}
