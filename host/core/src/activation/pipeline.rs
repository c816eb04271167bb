//! Turns that are over but whose commits aren't durable: their replies wait here, in order.

use std::collections::VecDeque;

use super::Limits;
use crate::id::Lsn;
use crate::message::{Reply, Token};

/// One turn's reply, or only its place and bytes when nobody waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) place: Lsn,
    pub(super) bytes: usize,
    pub(super) answer: Option<(Token, Reply)>,
}

#[derive(Debug, Default)]
pub(super) struct Pipeline {
    turns: VecDeque<Pending>,
    bytes: usize,
}

impl Pipeline {
    /// Adds a turn. Places never fall from turn to turn: a later turn sees all that an earlier one has seen.
    pub(super) fn push(&mut self, mut pending: Pending) {
        if let Some(last) = self.turns.back() {
            pending.place = pending.place.max(last.place);
        }
        // A reply waits in memory as its commit does; many long ones would be more than the commits' bound lets be.
        let reply = pending.answer.as_ref().map(|(_, reply)| &reply.result);
        pending.bytes += reply.and_then(|result| result.as_ref().ok()).map_or(0, Vec::len);
        self.bytes += pending.bytes;
        self.turns.push_back(pending);
    }

    /// The next turn whose place is durable.
    pub(super) fn pop(&mut self, durable: Lsn) -> Option<Pending> {
        let pending = self.turns.pop_front_if(|pending| pending.place <= durable)?;
        self.bytes -= pending.bytes;
        if self.turns.is_empty() && self.turns.capacity() > 16 {
            self.turns = VecDeque::new();
        }
        Some(pending)
    }

    /// All that wait, however it stands with their commits.
    pub(super) fn take(&mut self) -> VecDeque<Pending> {
        self.bytes = 0;
        std::mem::take(&mut self.turns)
    }

    /// Forgets who waits for a turn; the turn stays. Returns whether somebody did.
    pub(super) fn withdraw(&mut self, token: Token) -> bool {
        let waiting = self
            .turns
            .iter_mut()
            .find(|pending| matches!(&pending.answer, Some((waiter, _)) if *waiter == token));
        waiting.map(|pending| pending.answer = None).is_some()
    }

    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.turns.len() >= limits.pipeline_turns || self.bytes >= limits.pipeline_bytes
    }

    pub(super) fn first(&self) -> Option<Lsn> {
        self.turns.front().map(|pending| pending.place)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}
