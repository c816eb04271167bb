//! The end of an activation whose grain goes to another host: what is going on is finished and committed, what waits is sent back
//! unharmed, and then it leaves.

use super::{Activation, Output};
use crate::api::{CallFailure, Code};

impl Activation {
    pub(super) fn depart(&mut self, out: &mut Vec<Output>) {
        self.departing = true;
        while let Some(request) = self.mailbox.pop() {
            self.forget_call(request.once);
            self.fail(request.token, departing(), out);
        }
    }
}

/// The request didn't run here, and will there.
pub(super) fn departing() -> CallFailure {
    CallFailure::before(
        Code::Moved,
        "the grain moves to another host: ask again, and it's found there",
    )
}
