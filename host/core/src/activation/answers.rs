//! When a reply leaves, and what a repeated call gets.

use super::pipeline::Pending;
use super::{Activation, Now, Output, Phase};
use crate::api::{CallFailure, Code, Committed};
use crate::id::Lsn;
use crate::message::{Caller, Once, Reply, Request, RestsOn, Token};
use crate::reply_table::{
    AGE_LIMIT_MS, BYTE_LIMIT, CLIENT_LIMIT, ENTRY_LIMIT, NoRoom, Outcome, REPLY_LIMIT, StoredReply, TableTime,
};

impl Activation {
    /// Answers a call that the grain has a stored reply for. Returns whether it had.
    pub(super) fn repeat(&mut self, now: Now, request: &Request, out: &mut Vec<Output>) -> bool {
        let Some(once) = &request.once else { return false };
        let Some(stored) = self.replies.find(once.call, self.table_time(now.time)) else {
            return false;
        };
        let result = if stored.fingerprint != once.fingerprint {
            let detail = "this idempotency-key was used for another method or other arguments: use a new one";
            Err(CallFailure::before(Code::IdempotencyMismatch, detail))
        } else {
            match stored.outcome.clone() {
                Some(outcome) => outcome.into_result(),
                None => Err(CallFailure {
                    committed: Committed::Yes,
                    ..CallFailure::before(
                        Code::ReplyNotKept,
                        format!(
                            "the call took place, but its reply was longer than the {REPLY_LIMIT} bytes that are kept"
                        ),
                    )
                }),
            }
        };
        let whom = (Some(request.token), request.caller);
        self.answer(now, whom, result, RestsOn::State, 0, out);
        true
    }

    /// Whether what this call leaves for its repeats will be kept. A call that finds no room isn't begun: one that had run could run again.
    pub(super) fn room_for_reply(&self, now: Now, request: &Request) -> Result<(), CallFailure> {
        let Some(once) = request.once.filter(|_| request.may_commit()) else {
            return Ok(());
        };
        let full = |detail: String| Err(CallFailure::before(Code::IdempotencyFull, detail));
        let minutes = AGE_LIMIT_MS / 60_000;
        match self.replies.room(once.client, self.table_time(now.time)) {
            Ok(()) => Ok(()),
            Err(NoRoom::Table) => full(format!(
                "the grain keeps as many replies to calls with an idempotency-key as it may ({ENTRY_LIMIT}, or {BYTE_LIMIT} bytes), each for \
                 {minutes} minutes: ask again later, or without a key"
            )),
            Err(NoRoom::Client) => full(format!(
                "the grain keeps as many replies to calls with an idempotency-key of this caller as it may ({CLIENT_LIMIT}), each for {minutes} \
                 minutes: ask again later, or without a key"
            )),
        }
    }

    /// Answers at once, or when the horizon is durable. `bytes` of the turn's commit wait with the answer.
    pub(super) fn answer(
        &mut self,
        now: Now,
        (token, caller): (Option<Token>, Caller),
        result: Result<Vec<u8>, CallFailure>,
        rests_on: RestsOn,
        bytes: usize,
        out: &mut Vec<Output>,
    ) {
        let reply = Reply {
            result,
            seq: self.seq,
            revision: self.revision,
            durability: self.durability,
            rests_on,
            by: None,
        };
        let horizon = self.horizon;
        let is_durable = horizon <= now.durable;
        let mut answer = token.map(|token| (token, reply));
        if (caller == Caller::Grain || is_durable)
            && let Some((token, reply)) = answer.take()
        {
            out.push(Output::Answer { token, reply, horizon });
        }
        if !is_durable && (answer.is_some() || bytes > 0) {
            self.pipeline.push(Pending {
                place: horizon,
                bytes,
                answer,
            });
        }
    }

    /// Answers what waited for commits that are durable now.
    pub(super) fn release(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(pending) = self.pipeline.pop(now.durable) {
            if let Some((token, reply)) = pending.answer {
                out.push(Output::Answer {
                    token,
                    reply,
                    horizon: pending.place,
                });
            }
        }
    }

    pub(super) fn withdraw(&mut self, token: Token, out: &mut Vec<Output>) {
        if let Some(request) = self.mailbox.remove(token) {
            self.forget_call(request.once);
            self.fail(token, CallFailure::deadline(Committed::No), out);
            return;
        }
        let is_mine = match &mut self.phase {
            Phase::Running(running) | Phase::Committing(running, ..) if running.token == Some(token) => {
                running.token = None;
                true
            }
            Phase::Moving(order) if order.asked.is_some_and(|(asked, _)| asked == token) => {
                order.asked = None;
                true
            }
            _ => self.pipeline.withdraw(token),
        };
        if is_mine {
            self.fail(token, CallFailure::deadline(Committed::Unknown), out);
        }
    }

    pub(super) fn recall(&mut self, token: Token, out: &mut Vec<Output>) {
        if let Some(request) = self.mailbox.remove(token) {
            self.forget_call(request.once);
            let detail = "the grain waits, through the calls of its turn, for its caller";
            self.fail(token, CallFailure::before(Code::Deadlock, detail), out);
        }
    }

    /// A failure that reveals nothing of the grain's state: needs no waiting.
    pub(super) fn fail(&self, token: Token, failure: CallFailure, out: &mut Vec<Output>) {
        let reply = Reply {
            result: Err(failure),
            seq: self.seq,
            revision: self.revision,
            durability: self.durability,
            rests_on: RestsOn::Nothing,
            by: None,
        };
        out.push(Output::Answer {
            token,
            reply,
            horizon: Lsn(0),
        });
    }
}

/// What a repeat of this call will get.
pub(super) fn stored_reply(once: Once, at: TableTime, outcome: &Outcome) -> StoredReply {
    let stored = StoredReply {
        call: once.call,
        fingerprint: once.fingerprint,
        client: once.client,
        at,
        outcome: Some(outcome.clone()),
    };
    if stored.cost() > REPLY_LIMIT {
        StoredReply {
            outcome: None,
            ..stored
        }
    } else {
        stored
    }
}
