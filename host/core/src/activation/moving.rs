//! A grain's way from one revision of its type to another.
//!
//! A move begins between turns, when everything that earlier turns left is durable, so that what it may have to fall back to is.
//! It ends in one commit or in nothing. Requests that arrive meanwhile wait in the mailbox.
//!
//! **Not here:** how state gets from code to code (the driver), which revision is current.

use super::pipeline::Pending;
use super::{Activation, Makes, MoveEnd, Moved, Now, Output, Phase};
use crate::api::{CallFailure, Code};
use crate::id::{Lsn, Revision};
use crate::message::{Caller, Request, RestsOn, Token, Work};

/// A move on its way.
#[derive(Debug)]
pub(super) struct Move {
    target: Revision,
    /// Whoever asked for it by [`Work::Move`] and still waits.
    pub(super) asked: Option<(Token, Caller)>,
}

/// A move that failed.
#[derive(Debug)]
pub(super) struct Refusal {
    target: Revision,
    pub(super) failure: CallFailure,
}

impl Activation {
    /// Whether the grain has to move before this request.
    pub(super) fn must_move(&self, now: Now, request: &Request) -> bool {
        let is_away = now.target != Revision(0) && now.target != self.revision;
        let has_failed = || {
            self.refusal
                .as_ref()
                .is_some_and(|refusal| refusal.target == now.target)
        };
        match request.work {
            Work::Call { .. } => is_away && !self.postponed && !has_failed(),
            Work::Move => is_away,
            // What is deleted needs no new form.
            Work::Delete => false,
        }
    }

    /// Begins the move that this request, the first in the mailbox, waits for or has asked for; or puts it back until
    /// earlier turns are durable.
    pub(super) fn start_move(&mut self, now: Now, request: Request, out: &mut Vec<Output>) {
        if !self.pipeline.is_empty() {
            self.mailbox.push_front(request);
            return;
        }
        let asked = if request.work == Work::Move {
            Some((request.token, request.caller))
        } else {
            self.mailbox.push_front(request);
            None
        };
        self.refusal = None;
        self.phase = Phase::Moving(Move {
            target: now.target,
            asked,
        });
        out.push(Output::Move);
    }

    pub(super) fn moved(&mut self, now: Now, end: MoveEnd, out: &mut Vec<Output>) {
        let Phase::Moving(order) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            panic!("a move ended that wasn't ordered");
        };
        self.last_used = now.time;
        match end {
            MoveEnd::Done(moved) => {
                let replies = self.unsaved_replies();
                self.order_commit(Makes::Changes, replies, out);
                self.phase = Phase::Switching(order, moved);
            }
            MoveEnd::Unwritten(moved) => {
                self.adopt(&moved);
                self.answer_move(now, order, Ok(b"null".to_vec()), out);
            }
            MoveEnd::Failed(failure) => {
                let told = CallFailure::before(Code::UpgradeFailed, failure.detail.clone());
                self.refusal = Some(Refusal {
                    target: order.target,
                    failure,
                });
                self.phase = Phase::Cold;
                out.push(Output::Drop);
                self.answer_move(now, order, Err(told), out);
            }
            MoveEnd::Postponed { failure, has_instance } => {
                self.postponed = true;
                if !has_instance {
                    self.phase = Phase::Cold;
                }
                self.answer_move(now, order, Err(failure), out);
            }
        }
    }

    /// The move's commit has its place: from here on the grain is of the other revision.
    pub(super) fn switched(
        &mut self,
        now: Now,
        order: Move,
        moved: &Moved,
        lsn: Lsn,
        bytes: usize,
        out: &mut Vec<Output>,
    ) {
        self.adopt(moved);
        // Even where replies don't wait for commits: the state from before may have been acknowledged as durable, and
        // whoever asked for the move has to hear of one that lasts.
        self.horizon = self.horizon.max(lsn);
        if lsn > now.durable {
            self.pipeline.push(Pending {
                place: lsn,
                bytes,
                answer: None,
            });
        }
        self.answer_move(now, order, Ok(b"null".to_vec()), out);
    }

    fn adopt(&mut self, moved: &Moved) {
        self.revision = moved.revision;
        self.durability = moved.durability;
        self.refusal = None;
        self.postponed = false;
    }

    fn answer_move(&mut self, now: Now, order: Move, result: Result<Vec<u8>, CallFailure>, out: &mut Vec<Output>) {
        if let Some((token, caller)) = order.asked {
            self.answer(now, (Some(token), caller), result, RestsOn::State, 0, out);
        }
    }
}
