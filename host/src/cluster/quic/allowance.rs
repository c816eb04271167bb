//! How many bytes of other hosts' messages this host holds at a time: what comes on top isn't read yet, and QUIC's flow control makes its sender wait.
//!
//! Messages carry their length in front, so that all of one is granted at once: several that were let in by parts could wait for each other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shorter messages aren't counted: their number is bounded, and they are most.
const SMALL: usize = 4 << 10;
/// A permit's bytes.
const UNIT: usize = 1 << 10;

/// See the file's text. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    left: Arc<Semaphore>,
    units: u32,
}

/// A message's share, given back when dropped.
pub(crate) struct Held {
    _units: Option<OwnedSemaphorePermit>,
}

impl Allowance {
    pub(super) fn new(bytes: u64) -> Allowance {
        let units = u32::try_from(bytes / UNIT as u64).unwrap_or(u32::MAX).max(1);
        Allowance {
            left: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Waits until there's room for a message; one that is longer than all of it gets all of it. In the order in which it was asked for.
    pub(super) async fn take(&self, bytes: usize) -> Held {
        if bytes <= SMALL {
            return Held { _units: None };
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        let units = self.left.clone().acquire_many_owned(units).await;
        Held {
            _units: Some(units.expect("it's never closed")),
        }
    }

    /// Bytes of messages that are held.
    pub(super) fn used(&self) -> u64 {
        (self.units as u64).saturating_sub(self.left.available_permits() as u64) * UNIT as u64
    }
}

impl Held {
    /// For a message that doesn't count.
    #[cfg(test)]
    pub(crate) fn nothing() -> Held {
        Held { _units: None }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn what_comes_on_top_waits_and_a_longer_message_than_all_gets_all() {
        let allowance = Allowance::new(64 << 10);
        let mut cx = Context::from_waker(Waker::noop());
        let mut now = |bytes| match pin!(allowance.take(bytes)).poll(&mut cx) {
            std::task::Poll::Ready(held) => Some(held),
            std::task::Poll::Pending => None,
        };
        let first = now(40 << 10).unwrap();
        assert_eq!(allowance.used(), 40 << 10);
        assert!(now(40 << 10).is_none());
        assert!(now(SMALL).is_some(), "what is small isn't counted");
        drop(first);
        let all = now(64 << 20).unwrap();
        assert_eq!(allowance.used(), 64 << 10);
        assert!(now(5 << 10).is_none());
        drop(all);
        assert_eq!(allowance.used(), 0);
    }
}
