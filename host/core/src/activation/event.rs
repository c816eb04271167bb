//! What goes into an activation and what comes out: its only contact with the world.

use std::sync::Arc;

use crate::api::{CallFailure, Durability};
use crate::id::{Lsn, Revision, Seq};
use crate::message::{Reply, Request, Token};
use crate::reply_table::{Outcome, ReplyTable, StoredReply, TableTime};
use crate::time::Time;

/// How much an activation takes in and lets run ahead.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may wait. Stops a hot grain from eating the host's memory.
    pub mailbox_messages: usize,
    /// Bytes of requests that may wait.
    pub mailbox_bytes: usize,
    /// Turns whose commits aren't durable yet. Stops a grain that is faster than the disk.
    pub pipeline_turns: usize,
    /// Bytes of commits and replies that wait for the disk.
    pub pipeline_bytes: usize,
    /// Failed turns in a row from which on the grain rests before it's rebuilt. Stops a grain that traps in a loop from taking the
    /// host's time for restores.
    pub backoff_after: u32,
    /// Its first rest in nanoseconds; each further one is twice as long.
    pub backoff_first_nanos: u64,
    /// Its longest rest.
    pub backoff_most_nanos: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            mailbox_messages: 1024,
            mailbox_bytes: 4 << 20,
            pipeline_turns: 1024,
            pipeline_bytes: 256 << 10,
            backoff_after: 3,
            backoff_first_nanos: 10_000_000,
            backoff_most_nanos: 1_000_000_000,
        }
    }
}

/// What the machine is told about the world with every input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// This host's monotonic clock.
    pub time: Time,
    /// Up to here the commit log is durable.
    pub durable: Lsn,
    /// The revision that is current for the grain's type; 0 when none is known.
    pub target: Revision,
}

/// What happens to an activation.
#[derive(Debug)]
pub enum Input {
    /// A request arrives.
    Arrive(Request),
    /// The instance is there, in the grain's last state; answers [`Output::Load`].
    Loaded(Loaded),
    /// There is no instance to be had; answers [`Output::Load`].
    LoadFailed(CallFailure),
    /// The turn is over; answers [`Output::Run`].
    Ended {
        /// How.
        end: TurnEnd,
        /// The highest horizon among the replies that the turn has seen.
        seen: Lsn,
    },
    /// The move is over; answers [`Output::Move`].
    Moved(MoveEnd),
    /// The commit has its place; answers [`Output::Commit`] at once, before any other input.
    Appended {
        /// Its place.
        lsn: Lsn,
        /// Bytes that it takes there.
        bytes: usize,
    },
    /// [`Now::durable`] has risen.
    Durable,
    /// The caller's deadline has passed.
    Withdraw(Token),
    /// The request is part of a circle of calls: it fails, if it hasn't begun.
    Recall(Token),
    /// Another activation of the grain has taken over: this one is over, and what hasn't been promised to anybody is dropped.
    Oust,
    /// The grain goes to another host: leave once what is going on is done, and take nothing more.
    Depart,
    /// Memory is wanted: leave if nothing is going on.
    Evict,
    /// [`Activation::deadline`](super::Activation::deadline) has passed.
    Wake,
}

/// A grain's stored state, as far as the machine needs it.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Its last commit; 0 when there is none.
    pub seq: Seq,
    /// Whether it has state (no commit yet, or deleted: no).
    pub exists: bool,
    /// The place of its last commit.
    pub lsn: Lsn,
    /// The revision that will run.
    pub revision: Revision,
    /// What that revision promises.
    pub durability: Durability,
    /// Its stored replies.
    pub replies: ReplyTable,
    /// What the clock of its stored replies shows, if this host has kept it since the grain was last in memory.
    pub shown: Option<TableTime>,
}

/// How a turn ended.
#[derive(Debug)]
pub enum TurnEnd {
    /// The method has run to its end; what it changed stands.
    Done(Outcome),
    /// The method did not run; nothing changed.
    Refused(CallFailure),
    /// The guest says that it did nothing: whatever it has changed all the same is undone.
    Undone(CallFailure),
    /// By a trap or a limit; the instance is unusable.
    Failed(CallFailure),
}

/// How a move to another revision ended.
#[derive(Debug)]
pub enum MoveEnd {
    /// The instance is one of the other revision and holds the state: commit it whole.
    Done(Moved),
    /// The instance is one of the other revision, and there is nothing to commit: no state, or the same module.
    Unwritten(Moved),
    /// Old code, new code or a limit refuses; there is no instance. The grain stays as it is.
    Failed(CallFailure),
    /// The host has no room for a move: another time, and a turn before that.
    Postponed {
        /// Which room.
        failure: CallFailure,
        /// Whether the instance is still there, as it was.
        has_instance: bool,
    },
}

/// Where a grain has moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The revision that runs.
    pub revision: Revision,
    /// What it promises.
    pub durability: Durability,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Restore the instance from the last commit; answer with [`Input::Loaded`] or [`Input::LoadFailed`].
    Load,
    /// Run a turn; answer with [`Input::Ended`].
    Run(Request),
    /// Bring the state to the current revision; answer with [`Input::Moved`].
    Move,
    /// Take what changed since the last commit (all of it, after a move) and append it; answer with [`Input::Appended`] at once.
    Commit(CommitOrder),
    /// Take what the turn changed and keep it in memory, for when the instance has to be rebuilt (`volatile`).
    Keep,
    /// Let the caller go on.
    Answer {
        /// Who.
        token: Token,
        /// With what.
        reply: Reply,
        /// What the reply depends on: durable already, unless the caller is a grain.
        horizon: Lsn,
    },
    /// Drop the instance, its memory is of no more use.
    Drop,
    /// The request came too late for this activation: ask the catalog again.
    Return(Request),
    /// The activation has ended: forget it.
    Gone,
}

/// What a commit makes of its grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// What its turns have changed.
    Changes,
    /// As if it had never been called, but for its stored replies: repeats of earlier calls get them.
    Vacancy,
    /// The same, and nobody needs its replies any more.
    Deletion,
}

/// Which commit to make.
#[derive(Debug, PartialEq, Eq)]
pub struct CommitOrder {
    /// Its number.
    pub seq: Seq,
    /// What it does.
    pub makes: Makes,
    /// Stored replies to put in.
    pub replies: Vec<Arc<StoredReply>>,
}
