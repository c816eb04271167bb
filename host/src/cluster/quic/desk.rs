//! Questions of other hosts that this one works on: a host that stops takes no new ones and knows when the rest is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the file's text.
#[derive(Debug, Default)]
pub(super) struct Desk {
    taken: AtomicUsize,
    refuses: AtomicBool,
}

/// A question that was taken on, until its answer has arrived or nobody waits for it.
#[derive(Debug)]
pub(super) struct Taken(Arc<Desk>);

impl Desk {
    /// Takes a question on, unless this host takes none any more.
    pub(super) fn take(self: &Arc<Self>) -> Option<Taken> {
        // Counted before it's asked whether it may be: whoever refuses and then counts sees all that got in.
        self.taken.fetch_add(1, Ordering::SeqCst);
        let taken = Taken(self.clone());
        (!self.refuses.load(Ordering::SeqCst)).then_some(taken)
    }

    /// Takes none from now on.
    pub(super) fn refuse(&self) {
        self.refuses.store(true, Ordering::SeqCst);
    }

    /// How many are worked on.
    pub(super) fn count(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_on_is_counted_until_it_is_done_and_nothing_is_taken_on_after_the_refusal() {
        let desk = Arc::new(Desk::default());
        let taken = desk.take().unwrap();
        desk.refuse();
        assert!(desk.take().is_none());
        assert_eq!(desk.count(), 1);
        drop(taken);
        assert_eq!(desk.count(), 0);
    }
}
