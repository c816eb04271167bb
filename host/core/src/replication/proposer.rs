//! The proposer: an activation's side of replication.
//!
//! ```text
//! Cold -> Preparing -> (WritingBack) -> Active -> Draining -> Released
//!   any of them -> Fenced, on any higher promise
//! ```
//!
//! It asks the slot's replicas for promises, learns the grain's last state from them, and from then on has commit after commit
//! accepted under its ballot, without waiting for one before the next goes out. An Accept that isn't answered is sent again, the
//! same one, for ever: a commit's outcome may be unknown for long, but a number is never used twice (**invariant 8** rests on that).
//!
//! A ballot belongs to a grain, not to a configuration: when the slot gets other replicas, the activation goes on with them, and
//! what the old ones acknowledged doesn't count among the new.
//!
//! **Invariant 5**: what depends on a commit waits for [`Output::Committed`]; the driver keeps everything back until then.
//! **Invariant 9**: a read gets [`Output::ReadReady`] by answers to questions that were sent after it arrived. Every question has a
//! *stamp*, which only rises: a read remembers the last one at its arrival and waits until a quorum has answered a later one.
//!
//! **Not here:** many grains at once and the renewal of ballots (`proposers.rs`), turns, what a commit holds.

mod event;
mod preparing;
mod reads;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::event::{Input, Limits, Output};
use self::preparing::Preparing;
use self::reads::Read;
use self::window::Window;
use super::body::Body;
use super::messages::{Accepted, Answer, Ask, CommitHash, Message, Payload, Proposal, Refusal, State};
use super::mutation::{Mutation, Rules};
use super::replica_set::ReplicaSet;
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId, Seq};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Cold,
    Preparing(Preparing),
    WritingBack {
        head: Accepted,
        state: Option<State>,
    },
    Active,
    /// Commits are on their way; then it's handed to whoever is named.
    Draining(Option<HostId>),
    Released,
    Fenced,
}

/// One grain's proposer. See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer {
    me: HostId,
    grain: GrainId,
    limits: Limits,
    rules: Rules,
    set: ReplicaSet,
    phase: Phase,
    ballot: Ballot,
    /// The highest counter that was heard of.
    seen: u64,
    have: Option<CommitHash>,
    preempts: bool,
    window: Window,
    committed: Seq,
    stamp: u64,
    /// The stamp of the last question about the ballot.
    asked: u64,
    /// The last stamp that each replica has answered.
    confirmed: BTreeMap<HostId, u64>,
    /// Replicas that don't know this ballot, and have forgotten grains with higher ones.
    unknown_to: BTreeSet<HostId>,
    /// The last stamp that a quorum has answered, in this configuration or an earlier one.
    lease_from: u64,
    isolated: bool,
    image_asked: bool,
    reads: VecDeque<Read>,
    attempts: u32,
    /// How often promises were asked for with a higher ballot, since the first time.
    outbids: u32,
    retry_at: Time,
}

impl Proposer {
    /// A proposer that has asked for nothing yet. `above`: this host has used counters up to here for the grain since it started;
    /// a ballot is never used twice, and `incarnation` makes those of an earlier start differ.
    pub fn new(me: HostId, incarnation: u32, grain: GrainId, above: u64, limits: Limits, rules: Rules) -> Proposer {
        Proposer {
            me,
            grain,
            limits,
            rules,
            set: ReplicaSet::default(),
            phase: Phase::Cold,
            ballot: Ballot {
                counter: above,
                host: me,
                incarnation,
            },
            seen: above,
            have: None,
            preempts: false,
            window: Window::new(None),
            committed: Seq(0),
            stamp: 0,
            asked: 0,
            confirmed: BTreeMap::new(),
            unknown_to: BTreeSet::new(),
            lease_from: 0,
            isolated: false,
            image_asked: false,
            reads: VecDeque::new(),
            attempts: 0,
            outbids: 0,
            retry_at: Time(0),
        }
    }

    /// Takes one input and appends what is to be done, in order. No message can make it panic.
    ///
    /// # Panics
    ///
    /// When a commit is proposed that doesn't follow the one before: a fault of this host.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Assigned(set) => self.assigned(now, set, out),
            Input::Activate { have, preempts } => {
                if matches!(self.phase, Phase::Cold) {
                    (self.have, self.preempts) = (have, preempts);
                    (self.attempts, self.outbids) = (0, 0);
                    self.prepare(now, out);
                }
            }
            Input::Received { from, n, answer } => self.received(now, from, n, answer, out),
            Input::Propose(proposal) => {
                if matches!(self.phase, Phase::Active) {
                    self.propose(now, proposal, out);
                }
            }
            Input::Image(state) => self.image(&state, out),
            Input::Read { ticket, sees } => self.read(now, ticket, sees, out),
            Input::Release { to } => match self.phase {
                Phase::Active => {
                    self.phase = Phase::Draining(to);
                    self.attempts = 0;
                    self.write_tombstone(now, out);
                    self.drain(out);
                }
                Phase::Cold | Phase::Preparing(_) | Phase::WritingBack { .. } => self.let_go(to, out),
                Phase::Draining(_) | Phase::Released | Phase::Fenced => {}
            },
            Input::Wake => self.wake(now, out),
        }
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let retry = self.is_outstanding().then_some(self.retry_at);
        let lease = (self.is_active() && !self.isolated).then(|| self.lease_end());
        retry.into_iter().chain(lease).min()
    }

    /// The next question's stamp: later ones are higher. At least `at_least`.
    pub fn next_stamp(&mut self, at_least: Time) -> u64 {
        self.stamp = at_least.0.max(self.stamp + 1);
        self.stamp
    }

    /// A question about many grains has this stamp.
    pub fn catch_up(&mut self, stamp: u64) {
        self.stamp = self.stamp.max(stamp);
    }

    /// This grain's part of a question about ballots, when one is due: the ballot is the grain's, and no question was answered lately.
    pub fn renews(&self, now: Time) -> Option<(GrainId, Ballot)> {
        let is_due = self.lease_from.saturating_add(self.limits.renewal_nanos) <= now.0;
        (self.is_active() && is_due).then_some((self.grain, self.ballot))
    }

    /// The activation's ballot.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The highest counter that it has used or heard of. The host's next ballot for the grain is above it: a replica that has promised
    /// a contender which gave up would fence one activation after the other.
    pub fn highest_counter(&self) -> u64 {
        self.seen.max(self.ballot.counter)
    }

    /// Whether this host is the grain's activation, as far as it knows.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Draining(_))
    }

    /// Whether it waits for promises.
    pub fn is_preparing(&self) -> bool {
        matches!(self.phase, Phase::Preparing(_))
    }

    /// Whether it has a quorum accept the state that it found, before it goes on from that.
    pub fn is_writing_back(&self) -> bool {
        matches!(self.phase, Phase::WritingBack { .. })
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Released | Phase::Fenced)
    }

    /// Whether it rests: it was never asked for anything, or somebody else holds the grain.
    pub fn is_cold(&self) -> bool {
        matches!(self.phase, Phase::Cold)
    }

    /// Whether no quorum was heard for too long.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Up to here a quorum has all.
    pub fn committed(&self) -> Seq {
        self.committed
    }

    /// Commits that are kept for replicas that lack them.
    pub fn kept(&self) -> usize {
        self.window.len()
    }

    fn assigned(&mut self, now: Time, set: ReplicaSet, out: &mut Vec<Output>) {
        if set.n <= self.set.n {
            return;
        }
        self.set = set;
        self.window.forget_replicas();
        // Answers from two configurations make no quorum of either.
        self.confirmed.clear();
        self.unknown_to.clear();
        self.attempts = 0;
        match self.phase {
            Phase::Preparing(_) => self.prepare_elsewhere(now, out),
            Phase::WritingBack { .. } => self.write_back(now, out),
            Phase::Active | Phase::Draining(_) => self.resend(now, out),
            Phase::Cold | Phase::Released | Phase::Fenced => {}
        }
    }

    fn received(&mut self, now: Time, from: HostId, n: ConfigNumber, answer: Answer, out: &mut Vec<Output>) {
        let is_current = n == self.set.n && self.set.holds(from);
        match answer {
            Answer::Promise {
                ballot,
                accepted,
                state,
                ..
            } if is_current && ballot == self.ballot => {
                self.promised(now, from, accepted, state, out);
            }
            Answer::Busy {
                ballot,
                holder,
                left_ms,
                ..
            } if is_current && ballot == self.ballot && self.is_refused_by_a_quorum(from) => {
                self.yield_to(holder, left_ms, out);
            }
            Answer::Acked { ballot, seq, hash, .. } if is_current && ballot == self.ballot => {
                if let Some(stamp) = self.window.ack(from, seq, hash) {
                    let last = self.confirmed.entry(from).or_default();
                    *last = stamp.max(*last);
                }
                self.advance(now, out);
            }
            Answer::NeedSnap { ballot, accepted, .. } if is_current && ballot == self.ballot => {
                self.need_snap(now, from, accepted, out);
            }
            Answer::Fetched { ballot, state, .. } if ballot == self.ballot => self.fetched(now, state, out),
            Answer::Confirmed {
                stamp, good, refused, ..
            } => {
                if is_current && good.contains(&(self.grain, self.ballot)) {
                    self.confirmed_by(now, from, stamp, out);
                }
                let own =
                    |(grain, ballot, _): &&(GrainId, Ballot, Refusal)| *grain == self.grain && *ballot == self.ballot;
                if let Some((_, _, refusal)) = refused.iter().find(own) {
                    self.refused(now, from, is_current, *refusal, out);
                }
            }
            Answer::Nack { ballot, refusal, .. } if ballot == self.ballot => {
                self.refused(now, from, is_current, refusal, out);
            }
            // Late: for an earlier ballot, or from replicas that the slot had before.
            _ => {}
        }
    }

    fn refused(&mut self, now: Time, from: HostId, is_current: bool, refusal: Refusal, out: &mut Vec<Output>) {
        let is_preparing = !self.is_active() && !self.is_writing_back();
        match refusal {
            Refusal::Promised(by) if by > self.ballot && !is_preparing => self.fenced(by, out),
            Refusal::BelowFloor(by) if is_current && !is_preparing => self.unknown(from, by, out),
            Refusal::Sealed(n) if n > self.set.n => out.push(Output::Behind(n)),
            // All others are asked again when the time comes.
            _ => self.refused_preparing(now, refusal),
        }
    }

    /// A replica doesn't know this ballot. One alone may never have promised it. When there are so many that no quorum is left, one of them
    /// has, and has forgotten it since: a later activation has deleted the grain.
    fn unknown(&mut self, to: HostId, by: Ballot, out: &mut Vec<Output>) {
        self.unknown_to.insert(to);
        if self.unknown_to.len() > self.set.hosts.len() - self.set.quorum() {
            self.fenced(by, out);
        }
    }

    fn fenced(&mut self, by: Ballot, out: &mut Vec<Output>) {
        self.seen = self.seen.max(by.counter);
        self.end(Phase::Fenced, out);
        out.push(Output::Fenced { by });
    }

    fn end(&mut self, phase: Phase, out: &mut Vec<Output>) {
        self.phase = phase;
        self.window = Window::new(None);
        out.extend(self.reads.drain(..).map(|read| Output::ReadRefused(read.ticket)));
    }

    fn propose(&mut self, now: Time, proposal: Proposal, out: &mut Vec<Output>) {
        let stamp = self.next_stamp(now);
        if !self.is_outstanding() {
            self.attempts = 0;
            self.put_off(now);
        }
        for to in &self.set.hosts {
            self.send_accept(*to, proposal.clone(), out);
        }
        self.window.push(proposal, stamp);
    }

    /// Something was acknowledged or confirmed.
    fn advance(&mut self, now: Time, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::WritingBack { .. }) {
            self.wrote_back(out);
        }
        if !self.is_active() {
            return;
        }
        let held = self.window.held_by(&self.set.hosts, self.set.quorum());
        if let Some(seq) = held.filter(|seq| *seq > self.committed) {
            // Invariant 5: a quorum has it, durably, and not before.
            self.committed = seq;
            self.attempts = 0;
            out.push(Output::Committed(seq));
        }
        self.window.trim(
            &self.set.hosts,
            self.committed,
            self.limits.kept_commits,
            self.limits.kept_bytes,
        );
        self.extend_lease(now, out);
        self.release_reads(now, out);
        self.drain(out);
    }

    fn need_snap(&mut self, now: Time, from: HostId, have: Option<Accepted>, out: &mut Vec<Output>) {
        if let Phase::WritingBack { state: Some(state), .. } = &self.phase {
            self.send_accept(from, full(state), out);
        } else if let Some(first) = self.window.bridges(have) {
            // Each commit that is sent past a gap is answered by the same want: it's met once.
            if self.window.may_resend(from, first, now, &self.limits) {
                self.send_from(from, first, out);
            }
        } else if let Some(state) = self.window.known_state() {
            self.send_accept(from, full(&state), out);
        } else if self.is_active() || matches!(self.phase, Phase::WritingBack { .. }) {
            let may_resend = self.window.may_resend(from, Seq(0), now, &self.limits);
            if may_resend {
                self.window.want_image(from, true);
            }
            if may_resend && !std::mem::replace(&mut self.image_asked, true) {
                self.ask_for_image(from, out);
            }
        }
    }

    /// Has the whole state read for a straggler: here, or, while this host doesn't have it, by the replica that is farthest.
    fn ask_for_image(&mut self, straggler: HostId, out: &mut Vec<Output>) {
        let is_here = self.have == Some(self.window.base().hash)
            || self.is_up_to_base(self.me)
            || self.rules.breaks(Mutation::OldImage);
        let others = self.set.hosts.iter().copied().filter(|host| *host != straggler);
        let farthest = others.max_by_key(|host| self.window.progress(*host).acked);
        match farthest.filter(|host| !is_here && self.is_up_to_base(*host)) {
            Some(to) => {
                let (grain, ballot, hash) = (self.grain, self.ballot, None);
                self.send(to, Ask::Fetch { grain, ballot, hash }, out);
            }
            None => out.push(Output::NeedImage),
        }
    }

    /// Whether a replica has acknowledged the state that the kept commits lie over.
    fn is_up_to_base(&self, replica: HostId) -> bool {
        self.window.progress(replica).acked >= Some(self.window.base().seq)
    }

    fn image(&mut self, state: &State, out: &mut Vec<Output>) {
        self.image_asked = false;
        let is_old = state.seq < self.window.base().seq && self.rules.breaks(Mutation::OldImage);
        if !self.window.contains(state) && !is_old {
            return;
        }
        for to in self.set.hosts.clone() {
            if self.window.progress(to).wants_image {
                self.window.want_image(to, false);
                self.send_accept(to, full(state), out);
                self.send_from(to, state.seq.next(), out);
            }
        }
    }

    /// A tombstone goes to all replicas before it may be forgotten, not only to a quorum.
    fn write_tombstone(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.window.last().deleted && self.window.len() == 0 {
            self.write_back(now, out);
        }
    }

    /// Draining -> Released, when all is committed; with a tombstone, when all replicas have it or can't be reached.
    fn drain(&mut self, out: &mut Vec<Output>) {
        let Phase::Draining(to) = self.phase else { return };
        let last = self.window.last();
        if self.committed < last.seq {
            return;
        }
        let in_all = self.window.held_by(&self.set.hosts, self.set.hosts.len()) >= Some(last.seq);
        if last.deleted && in_all {
            for to in &self.set.hosts {
                let ask = Ask::Forget {
                    grain: self.grain,
                    ballot: self.ballot,
                    hash: last.hash,
                };
                self.send(*to, ask, out);
            }
        } else if last.deleted && self.attempts < self.limits.retries {
            return;
        }
        self.let_go(to, out);
    }

    fn let_go(&mut self, to: Option<HostId>, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Cold) {
            for host in &self.set.hosts {
                let ask = Ask::Release {
                    grain: self.grain,
                    ballot: self.ballot,
                    to,
                };
                self.send(*host, ask, out);
            }
        }
        self.end(Phase::Released, out);
        out.push(Output::Released);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.is_active() && !self.isolated && now >= self.lease_end() {
            self.isolated = true;
            out.push(Output::Isolated);
        }
        if !self.is_outstanding() || now < self.retry_at {
            return;
        }
        match self.phase {
            Phase::Preparing(_) => self.retry_preparing(now, out),
            Phase::WritingBack { .. } => {
                self.attempts += 1;
                self.image_asked = false;
                self.write_back(now, out);
            }
            Phase::Active | Phase::Draining(_) => {
                self.attempts += 1;
                self.image_asked = false;
                self.resend(now, out);
                self.drain(out);
            }
            Phase::Cold | Phase::Released | Phase::Fenced => {}
        }
    }

    /// The same Accepts again, to those that haven't answered them.
    fn resend(&mut self, now: Time, out: &mut Vec<Output>) {
        let last = self.window.last().seq;
        for to in self.set.hosts.clone() {
            match self.window.progress(to).acked {
                Some(acked) if acked >= last => {}
                Some(acked) => self.send_from(to, acked.next(), out),
                None => self.send_from(to, self.committed.next().min(last), out),
            }
        }
        if matches!(self.phase, Phase::Draining(_)) {
            self.write_tombstone(now, out);
        }
        if !self.reads.is_empty() {
            self.ask_confirm(now, out);
        }
        self.put_off(now);
    }

    /// Whether an answer is waited for, so that the deadline asks again.
    fn is_outstanding(&self) -> bool {
        match self.phase {
            Phase::Preparing(_) | Phase::WritingBack { .. } | Phase::Draining(_) => true,
            Phase::Active => {
                let lags = self.window.len() > 0 && self.attempts < self.limits.retries;
                self.committed < self.window.last().seq || !self.reads.is_empty() || lags
            }
            Phase::Cold | Phase::Released | Phase::Fenced => false,
        }
    }

    fn put_off(&mut self, now: Time) {
        self.retry_at = now.plus_nanos(self.limits.retry_nanos << self.attempts.min(4));
    }

    fn send(&self, to: HostId, ask: Ask, out: &mut Vec<Output>) {
        let n = self.set.n;
        out.push(Output::Send {
            to,
            message: Message::Ask { n, ask },
        });
    }

    fn send_accept(&self, to: HostId, proposal: Proposal, out: &mut Vec<Output>) {
        let (grain, ballot) = (self.grain, self.ballot);
        self.send(
            to,
            Ask::Accept {
                grain,
                ballot,
                proposal,
            },
            out,
        );
    }

    fn send_from(&self, to: HostId, seq: Seq, out: &mut Vec<Output>) {
        for proposal in self.window.from(seq, self.limits.resent_commits) {
            self.send_accept(to, proposal.clone(), out);
        }
    }
}

fn full(state: &State) -> Proposal {
    Proposal {
        seq: state.seq,
        prev_hash: [0; 16],
        hash: state.hash,
        deletes: state.deleted,
        payload: Payload::Full(state.body.clone()),
    }
}
