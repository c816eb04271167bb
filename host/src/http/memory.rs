//! The memory of all large request bodies and replies together: counted, waited for shortly, refused.
//!
//! One request's limit says nothing about a thousand of them. A body takes its share as its bytes come, so that announcing
//! a length costs a client as much as it costs the host; a reply holds its share until its last byte is handed to the
//! system, so that a reader that doesn't read is paid for, too.
//!
//! **Not here:** small bodies and replies, which the limit on connections bounds; arguments in mailboxes and guests' memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use granary_core::api::Code;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::Refusal;

/// Up to this size bodies and replies aren't counted.
pub(super) const SMALL: usize = 16 << 10;
/// What is counted in: a semaphore's permits don't reach to gigabytes of bytes.
const UNIT: usize = 1 << 10;

/// Room for large bodies and replies; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    room: Arc<Semaphore>,
    units: usize,
    wait: Duration,
    used_bytes: IntGauge,
    refused: IntCounter,
}

/// A share of the memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    permit: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// Room for `limit` bytes, for which whoever finds none waits `wait`.
    pub(super) fn new(limit: usize, wait: Duration, used_bytes: IntGauge, refused: IntCounter) -> Memory {
        let units = (limit / UNIT).min(Semaphore::MAX_PERMITS);
        Memory {
            room: Arc::new(Semaphore::new(units)),
            units,
            wait,
            used_bytes,
            refused,
        }
    }

    pub(super) fn share(&self) -> Share {
        Share {
            memory: self.clone(),
            permit: None,
        }
    }

    /// A reply's bytes, counted until they are dropped. `None` when there is no room for them.
    pub(super) async fn keep(&self, reply: Vec<u8>) -> Option<Bytes> {
        if reply.len() <= SMALL {
            return Some(reply.into());
        }
        let mut share = self.share();
        if share.find_room(reply.capacity()).await {
            Some(Bytes::from_owner(Kept { reply, _share: share }))
        } else {
            None
        }
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        (self.units - self.room.available_permits()) * UNIT
    }
}

impl Share {
    /// Bytes that it covers.
    pub(super) fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits() * UNIT)
    }

    /// Makes it cover `bytes`, of a request that did nothing so far.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.find_room(bytes).await {
            Ok(())
        } else {
            Err(Refusal::new(
                Code::Overloaded,
                "the host holds as many large request bodies and replies as it has memory for; try again",
            ))
        }
    }

    async fn find_room(&mut self, bytes: usize) -> bool {
        let Memory {
            room,
            units,
            wait,
            used_bytes,
            refused,
        } = &self.memory;
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT).saturating_sub(held);
        let wanted = u32::try_from(more).ok().filter(|_| held + more <= *units);
        let found = match wanted {
            Some(wanted) => timeout(*wait, room.clone().acquire_many_owned(wanted)).await.ok(),
            None => None,
        };
        let Some(Ok(permit)) = found else {
            refused.inc();
            return false;
        };
        used_bytes.add((more * UNIT) as i64);
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used_bytes.sub(self.bytes() as i64);
    }
}

/// A reply with its share.
struct Kept {
    reply: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.reply
    }
}

#[cfg(test)]
pub(super) fn of(limit: usize) -> Memory {
    let gauge = IntGauge::new("used", "used").unwrap();
    let counter = IntCounter::new("refused", "refused").unwrap();
    Memory::new(limit, Duration::from_millis(20), gauge, counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_reply_is_counted_until_its_last_piece_is_gone() {
        let memory = of(100 << 10);
        let kept = memory.keep(vec![b'x'; 60 << 10]).await.unwrap();
        let tail = kept.slice(50..);
        drop(kept);
        assert_eq!((memory.used_bytes(), memory.used_bytes.get()), (60 << 10, 60 << 10));
        assert_eq!(memory.keep(vec![b'x'; 60 << 10]).await, None);
        assert_eq!(memory.refused.get(), 1);
        assert!(
            memory.keep(vec![b'x'; SMALL]).await.is_some(),
            "small ones aren't counted"
        );
        drop(tail);
        assert_eq!((memory.used_bytes(), memory.used_bytes.get()), (0, 0));
        assert!(memory.keep(vec![b'x'; 60 << 10]).await.is_some());
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_shortly_for_it() {
        let memory = of(100 << 10);
        let mut first = memory.share();
        first.grow(80 << 10).await.unwrap();
        let mut second = memory.share();
        let (grown, ()) = tokio::join!(second.grow(50 << 10), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(grown.is_ok());
        assert_eq!(second.bytes(), 50 << 10);
        second.grow(70 << 10).await.unwrap();
        assert_eq!((second.bytes(), memory.used_bytes()), (70 << 10, 70 << 10));
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_at_once() {
        let memory = of(100 << 10);
        assert_eq!(
            memory.share().grow(101 << 10).await.unwrap_err().code(),
            Code::Overloaded
        );
        assert_eq!(memory.used_bytes(), 0);
    }
}
