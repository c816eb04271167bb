//! The activation machine: a grain in memory.
//!
//! It holds the mailbox, lets one turn run at a time, numbers commits, and keeps replies back until what they could see is
//! durable. Turns of a grain don't wait for each other's commits: while the replies of earlier turns wait for the disk, later
//! turns run (*pipelining*, bounded by [`Limits`]).
//!
//! # What a reply waits for
//!
//! The *horizon* is the highest place in the commit log that this activation's state depends on: its own commits (when its
//! type promises `committed`) and the commits of every grain whose reply one of its turns has seen. A reply to the outside
//! leaves when the horizon, as it was at the end of its turn, is durable. A reply to a grain on the same host leaves at once
//! and carries the horizon along, so the caller's own replies wait for it.
//!
//! # A turn that fails
//!
//! A turn that traps or exceeds a limit leaves no trace: its instance is dropped, and the next turn runs on one that is
//! rebuilt from the commits of the turns that ended well, durable or not. Those commits are never undone: a later trap
//! can't take back an earlier turn.
//!
//! # A grain that moves
//!
//! A grain whose type has another revision than the one that runs moves there before its next turn: turns stop, what they
//! left becomes durable, old code saves the state and new code loads it, one commit switches ([`Output::Move`]). A move that
//! fails leaves no trace either; the grain goes on where it was, and isn't moved to that revision again unless somebody asks.
//!
//! # Architecture invariants
//!
//! - At most one turn runs at a time, and none while the machine waits for [`Input::Appended`].
//! - A seq is given out once, and only to a turn that ended well.
//! - No reply to the outside leaves before its horizon is durable.
//! - A call that may come again ([`Once`]) is at work at most once, and has either its effect and a table entry or neither.
//!
//! **Not here:** I/O, the instance, the clock, and who waits behind a [`Token`].

mod answers;
mod backoff;
mod departing;
mod event;
mod mailbox;
mod moving;
mod ousting;
mod pipeline;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::answers::stored_reply;
use self::backoff::Backoff;
pub use self::event::{CommitOrder, Input, Limits, Loaded, Makes, MoveEnd, Moved, Now, Output, TurnEnd};
use self::mailbox::Mailbox;
use self::moving::{Move, Refusal};
use self::pipeline::{Pending, Pipeline};
use crate::api::{CallFailure, Code, Committed, Durability};
use crate::id::{CallId, Lsn, Revision, Seq};
use crate::message::{Caller, Once, Request, RestsOn, Token, Work};
use crate::reply_table::{Outcome, ReplyTable, StoredReply, TableClock, TableTime};
use crate::time::Time;

#[derive(Debug)]
enum Phase {
    /// No instance; the next request loads one.
    Cold,
    Loading,
    /// An instance, no turn.
    Idle,
    Running(Running),
    /// Between [`Output::Commit`] and [`Input::Appended`].
    Committing(Running, Makes, Result<Vec<u8>, CallFailure>),
    /// Between [`Output::Move`] and [`Input::Moved`].
    Moving(Move),
    /// The move's commit is being appended.
    Switching(Move, Moved),
    /// Something is committed before the grain leaves memory: a `volatile` grain's state, or that nothing is left of one.
    Leaving,
    Gone,
}

/// The running turn, as far as its end needs it.
#[derive(Debug)]
struct Running {
    /// `None` when the caller no longer waits.
    token: Option<Token>,
    caller: Caller,
    may_commit: bool,
    delete: bool,
    once: Option<Once>,
}

/// One grain in memory. See the module's text.
#[derive(Debug)]
pub struct Activation {
    durability: Durability,
    limits: Limits,
    phase: Phase,
    mailbox: Mailbox,
    pipeline: Pipeline,
    backoff: Backoff,
    replies: ReplyTable,
    /// By which they age; none before the first load.
    reply_clock: Option<TableClock>,
    /// `volatile`: what its turns have left that no commit holds yet.
    unsaved: Option<Vec<Arc<StoredReply>>>,
    /// Calls that wait or run and may not be at work twice.
    at_work: BTreeSet<CallId>,
    seq: Seq,
    exists: bool,
    revision: Revision,
    /// The move that failed last; not tried again by itself.
    refusal: Option<Refusal>,
    /// There was no room for a move: a turn goes first.
    postponed: bool,
    /// Another activation has taken over; this one ends with what is going on.
    ousted: bool,
    /// The grain goes to another host: nothing new begins here.
    departing: bool,
    horizon: Lsn,
    last_used: Time,
}

impl Activation {
    /// An activation that has not loaded anything yet.
    pub fn new(durability: Durability, limits: Limits) -> Activation {
        Activation {
            durability,
            limits,
            phase: Phase::Cold,
            mailbox: Mailbox::default(),
            pipeline: Pipeline::default(),
            backoff: Backoff::default(),
            replies: ReplyTable::new(),
            reply_clock: None,
            unsaved: None,
            at_work: BTreeSet::new(),
            seq: Seq(0),
            exists: false,
            revision: Revision(0),
            refusal: None,
            postponed: false,
            ousted: false,
            departing: false,
            horizon: Lsn(0),
            last_used: Time(0),
        }
    }

    /// Takes one input and appends what is to be done, in order.
    ///
    /// # Panics
    ///
    /// When the driver answers something that wasn't asked: a fault of the host, never of a guest or a caller.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.ousted {
            return self.handle_ousted(input, out);
        }
        match input {
            Input::Arrive(request) => self.arrive(now, request, out),
            Input::Loaded(loaded) => self.loaded(now, loaded),
            Input::LoadFailed(failure) => self.load_failed(failure, out),
            Input::Ended { end, seen } => self.ended(now, end, seen, out),
            Input::Moved(end) => self.moved(now, end, out),
            Input::Appended { lsn, bytes } => self.appended(now, lsn, bytes, out),
            Input::Durable => self.release(now, out),
            Input::Withdraw(token) => self.withdraw(token, out),
            Input::Recall(token) => self.recall(token, out),
            Input::Oust => return self.oust(out),
            Input::Depart => self.depart(out),
            Input::Evict => self.evict(now, out),
            Input::Wake => {}
        }
        if self.departing {
            return self.evict(now, out);
        }
        if matches!(self.phase, Phase::Cold | Phase::Idle) {
            self.start_next(now, out);
        }
    }

    /// The lowest place that a reply waits for, if one does: call [`Input::Durable`] when it is durable.
    pub fn waits_for(&self) -> Option<Lsn> {
        self.pipeline.first()
    }

    /// When [`Input::Wake`] is due: the grain rests after failed turns, and requests wait.
    pub fn deadline(&self) -> Option<Time> {
        let rests = matches!(self.phase, Phase::Cold) && !self.mailbox.is_empty();
        self.backoff.until().filter(|_| rests)
    }

    /// Turns that failed since the last good one.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// The grain's last commit.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether the grain has state.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// The revision that runs; 0 before the first load.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Why the grain isn't on its type's current revision, when moving it there has failed.
    pub fn refusal(&self) -> Option<&CallFailure> {
        self.refusal.as_ref().map(|refusal| &refusal.failure)
    }

    /// What its replies promise.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// What the clock of its stored replies shows, and when the newest was put in; `None` when it keeps none.
    pub fn reply_clock(&self, now: Time) -> Option<(TableTime, TableTime)> {
        (!self.replies.is_empty()).then(|| (self.table_time(now), self.replies.newest()))
    }

    fn table_time(&self, now: Time) -> TableTime {
        self.reply_clock.map(|clock| clock.at(now)).unwrap_or_default()
    }

    /// When the last turn ended.
    pub fn last_used(&self) -> Time {
        self.last_used
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.mailbox.len()
    }

    /// Whether nothing is going on, so that [`Input::Evict`] would end the activation.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Cold | Phase::Idle) && self.mailbox.is_empty() && self.pipeline.is_empty()
    }

    fn arrive(&mut self, now: Now, request: Request, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Gone) {
            out.push(Output::Return(request));
            return;
        }
        if self.departing {
            self.fail(request.token, departing::departing(), out);
            return;
        }
        if !self.mailbox.has_room(&request, &self.limits) {
            let detail = format!(
                "the grain's mailbox is full: {} requests or {} bytes wait already",
                self.limits.mailbox_messages, self.limits.mailbox_bytes
            );
            self.fail(request.token, CallFailure::before(Code::MailboxFull, detail), out);
            return;
        }
        if let Some(once) = &request.once {
            if self.at_work.contains(&once.call) {
                let detail = "a request with this idempotency-key is being worked on: ask again for its reply";
                self.fail(request.token, CallFailure::before(Code::InProgress, detail), out);
                return;
            }
            if self.repeat(now, &request, out) {
                return;
            }
            self.at_work.insert(once.call);
        }
        self.mailbox.push(request);
    }

    fn loaded(&mut self, now: Now, loaded: Loaded) {
        assert!(matches!(self.phase, Phase::Loading), "loaded without having asked");
        self.phase = Phase::Idle;
        self.seq = loaded.seq;
        self.exists = loaded.exists;
        self.revision = loaded.revision;
        self.durability = loaded.durability;
        // Loaded again after a failed turn, it goes on.
        let shown = self.reply_clock.map(|clock| clock.at(now.time)).or(loaded.shown);
        self.reply_clock = Some(TableClock::start(&loaded.replies, shown, now.time));
        self.replies = loaded.replies;
        if self.durability == Durability::Committed {
            self.horizon = self.horizon.max(loaded.lsn);
        }
        self.last_used = now.time;
    }

    fn load_failed(&mut self, failure: CallFailure, out: &mut Vec<Output>) {
        assert!(matches!(self.phase, Phase::Loading), "load failed without having asked");
        while let Some(request) = self.mailbox.pop() {
            self.fail(request.token, failure.clone(), out);
        }
        self.at_work.clear();
        self.phase = Phase::Cold;
    }

    /// Starts the next turn, or loads the instance for it.
    fn start_next(&mut self, now: Now, out: &mut Vec<Output>) {
        while !self.pipeline.is_full(&self.limits) {
            if matches!(self.phase, Phase::Cold) {
                if !self.mailbox.is_empty() && self.backoff.rests_until(now.time).is_none() {
                    self.phase = Phase::Loading;
                    out.push(Output::Load);
                }
                return;
            }
            let Some(request) = self.mailbox.pop() else { return };
            if self.repeat(now, &request, out) {
                self.forget_call(request.once);
                continue;
            }
            if request.deadline <= now.time {
                self.forget_call(request.once);
                self.fail(request.token, CallFailure::deadline(Committed::No), out);
                continue;
            }
            if let Err(failure) = self.room_for_reply(now, &request) {
                self.forget_call(request.once);
                self.fail(request.token, failure, out);
                continue;
            }
            if self.must_move(now, &request) {
                self.start_move(now, request, out);
                return;
            }
            if request.work == Work::Move {
                let whom = (Some(request.token), request.caller);
                self.answer(now, whom, Ok(b"null".to_vec()), RestsOn::State, 0, out);
                continue;
            }
            self.postponed = false;
            let running = Running {
                token: Some(request.token),
                caller: request.caller,
                may_commit: request.may_commit(),
                delete: request.work == Work::Delete,
                once: request.once,
            };
            if !running.delete {
                self.phase = Phase::Running(running);
                out.push(Output::Run(request));
                return;
            }
            if self.delete(now, running, out) {
                return;
            }
        }
    }

    /// Deletes the grain. Returns whether that takes a commit: not when nothing is there to be deleted or kept.
    fn delete(&mut self, now: Now, running: Running, out: &mut Vec<Output>) -> bool {
        let stored = self.stored_reply(now, &running, &Outcome::Value(b"null".to_vec()));
        if self.exists || stored.is_some() || self.is_left_over(now) {
            self.stand(now, running, Ok(b"null".to_vec()), stored, out);
            return true;
        }
        let whom = (running.token, running.caller);
        self.answer(now, whom, Ok(b"null".to_vec()), RestsOn::State, 0, out);
        false
    }

    /// Whether the grain is deleted and keeps replies that are all too old.
    fn is_left_over(&self, now: Now) -> bool {
        !self.exists && !self.replies.is_empty() && !self.replies.is_needed(self.table_time(now.time))
    }

    /// What a repeat of this call will get.
    fn stored_reply(&self, now: Now, running: &Running, outcome: &Outcome) -> Option<StoredReply> {
        let at = self.table_time(now.time);
        running.once.map(|once| stored_reply(once, at, outcome))
    }

    fn ended(&mut self, now: Now, end: TurnEnd, seen: Lsn, out: &mut Vec<Output>) {
        let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            panic!("a turn ended that wasn't running");
        };
        self.last_used = now.time;
        self.horizon = self.horizon.max(seen);
        match &end {
            TurnEnd::Done(_) => self.backoff.succeeded(),
            TurnEnd::Failed(_) => self.backoff.failed(now.time, &self.limits),
            TurnEnd::Refused(_) | TurnEnd::Undone(_) => {}
        }
        let (failure, rests_on) = match end {
            TurnEnd::Done(outcome) if running.may_commit => {
                let stored = self.stored_reply(now, &running, &outcome);
                return self.stand(now, running, outcome.into_result(), stored, out);
            }
            TurnEnd::Done(outcome) => match outcome.into_result() {
                Ok(value) => return self.finish(now, running, Ok(value), RestsOn::State, 0, out),
                Err(failure) => (failure, RestsOn::State),
            },
            TurnEnd::Refused(failure) => (failure, RestsOn::Nothing),
            // What a read leaves in memory stays there however it ends.
            TurnEnd::Undone(failure) if !running.may_commit => (failure, RestsOn::State),
            TurnEnd::Undone(failure) | TurnEnd::Failed(failure) => {
                self.phase = Phase::Cold;
                out.push(Output::Drop);
                (failure, RestsOn::State)
            }
        };
        let failure = CallFailure {
            committed: Committed::No,
            ..failure
        };
        self.finish(now, running, Err(failure), rests_on, 0, out);
    }

    /// The turn's changes stand: commits them, or keeps them in memory where no more is promised.
    fn stand(
        &mut self,
        now: Now,
        running: Running,
        result: Result<Vec<u8>, CallFailure>,
        stored: Option<StoredReply>,
        out: &mut Vec<Output>,
    ) {
        let is_needed = stored.is_some() || self.replies.is_needed(self.table_time(now.time));
        let stored = stored.map(Arc::new);
        if let Some(stored) = &stored {
            self.replies.insert(stored.clone());
        }
        if self.durability == Durability::Volatile && !running.delete {
            self.unsaved.get_or_insert_default().extend(stored);
            self.exists = true;
            out.push(Output::Keep);
            self.finish(now, running, result, RestsOn::OwnChange, 0, out);
            return;
        }
        let (makes, mut replies) = match running.delete {
            false => (Makes::Changes, Vec::new()),
            true if is_needed => (Makes::Vacancy, self.unsaved_replies()),
            true => (Makes::Deletion, Vec::new()),
        };
        replies.extend(stored);
        self.order_commit(makes, replies, out);
        self.phase = Phase::Committing(running, makes, result);
    }

    fn order_commit(&mut self, makes: Makes, replies: Vec<Arc<StoredReply>>, out: &mut Vec<Output>) {
        self.seq = self.seq.next();
        out.push(Output::Commit(CommitOrder {
            seq: self.seq,
            makes,
            replies,
        }));
    }

    fn appended(&mut self, now: Now, lsn: Lsn, bytes: usize, out: &mut Vec<Output>) {
        let (running, makes, result) = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Committing(running, makes, result) => (running, makes, result),
            Phase::Switching(order, moved) => return self.switched(now, order, &moved, lsn, bytes, out),
            Phase::Leaving => return self.leave(out),
            _ => panic!("a commit was appended that wasn't ordered"),
        };
        self.exists = !running.delete;
        if self.durability == Durability::Committed || running.delete {
            self.horizon = self.horizon.max(lsn);
        }
        if makes == Makes::Deletion {
            self.replies = ReplyTable::new();
        }
        if running.delete {
            self.unsaved = None;
            self.refusal = None;
            self.phase = Phase::Cold;
            out.push(Output::Drop);
        }
        if lsn > now.durable && self.durability == Durability::Relaxed {
            // Nobody waits for it, but it counts for how far turns may run ahead of the disk.
            self.pipeline.push(Pending {
                place: lsn,
                bytes,
                answer: None,
            });
            self.finish(now, running, result, RestsOn::OwnChange, 0, out);
        } else {
            self.finish(now, running, result, RestsOn::OwnCommit, bytes, out);
        }
    }

    /// The turn is over and its commit, if it made one, has its place.
    fn finish(
        &mut self,
        now: Now,
        running: Running,
        result: Result<Vec<u8>, CallFailure>,
        rests_on: RestsOn,
        bytes: usize,
        out: &mut Vec<Output>,
    ) {
        self.forget_call(running.once);
        self.answer(now, (running.token, running.caller), result, rests_on, bytes, out);
    }

    fn evict(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.is_idle() {
            return;
        }
        if self.unsaved.is_some() {
            let replies = self.unsaved_replies();
            self.order_commit(Makes::Changes, replies, out);
        } else if self.is_left_over(now) {
            self.replies = ReplyTable::new();
            self.order_commit(Makes::Deletion, Vec::new(), out);
        } else {
            return self.leave(out);
        }
        self.phase = Phase::Leaving;
    }

    /// Replies of a `volatile` grain that no commit holds yet and that are still kept.
    fn unsaved_replies(&mut self) -> Vec<Arc<StoredReply>> {
        let mut replies = self.unsaved.take().unwrap_or_default();
        replies.retain(|reply| self.replies.find(reply.call, reply.at).is_some());
        replies
    }

    fn leave(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Gone;
        out.push(Output::Drop);
        out.push(Output::Gone);
    }

    fn forget_call(&mut self, once: Option<Once>) {
        if let Some(once) = once {
            self.at_work.remove(&once.call);
        }
    }
}
