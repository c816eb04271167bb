//! Memory that somebody is about to take.

use std::sync::Arc;

use super::Budget;

/// Counts as taken while it's held, and then until the next measurement.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    wanted: Option<u64>,
}

impl Charge {
    pub(super) fn new(budget: Arc<Budget>) -> Charge {
        Charge {
            budget,
            bytes: 0,
            wanted: None,
        }
    }

    /// Raises the charge to `bytes`. Without room for them nothing changes but [`Charge::wanted`].
    pub(crate) fn raise(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let has_room = self.budget.hold(more);
        if has_room {
            self.bytes += more;
        } else {
            self.wanted = Some(bytes);
        }
        has_room
    }

    /// What the charge would have been with what there was no room for.
    pub(crate) fn wanted(&self) -> Option<u64> {
        self.wanted
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.settle(self.bytes);
    }
}
