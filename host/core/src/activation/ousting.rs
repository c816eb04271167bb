//! The end of an activation whose grain another one has taken over.
//!
//! Nothing that it holds may be seen any more: its state may be of a history that was given up. Who waits hears whether the turn may
//! have had an effect, and asks again where the grain is now. A turn that runs can't be stopped; what it leaves is dropped.

use super::{Activation, Input, Output, Phase};
use crate::api::{CallFailure, Code, Committed};

impl Activation {
    pub(super) fn oust(&mut self, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Gone) {
            return;
        }
        self.ousted = true;
        while let Some(request) = self.mailbox.pop() {
            self.fail(request.token, moved(Committed::No), out);
        }
        for pending in self.pipeline.take() {
            if let Some((token, _)) = pending.answer {
                self.fail(token, moved(Committed::Unknown), out);
            }
        }
        self.at_work.clear();
        self.unsaved = None;
        match &mut self.phase {
            Phase::Running(running) | Phase::Committing(running, ..) => {
                if let Some(token) = running.token.take() {
                    self.fail(token, moved(Committed::Unknown), out);
                }
            }
            Phase::Moving(order) | Phase::Switching(order, _) => {
                if let Some((token, _)) = order.asked.take() {
                    self.fail(token, moved(Committed::Unknown), out);
                }
            }
            Phase::Loading => {}
            Phase::Cold | Phase::Idle | Phase::Leaving | Phase::Gone => self.leave(out),
        }
    }

    /// Only what ends the activation is of interest.
    pub(super) fn handle_ousted(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Arrive(request) => out.push(Output::Return(request)),
            Input::Ended { .. }
            | Input::Loaded(_)
            | Input::LoadFailed(_)
            | Input::Moved(_)
            | Input::Appended { .. }
                if !matches!(self.phase, Phase::Gone) =>
            {
                self.leave(out);
            }
            _ => {}
        }
    }
}

fn moved(committed: Committed) -> CallFailure {
    CallFailure {
        committed,
        ..CallFailure::before(
            Code::Moved,
            "another host has taken the grain over: ask again, and it's found there",
        )
    }
}
