//! All requests that wait for a reply, of all grains: how many and how large they may be together.
//!
//! A mailbox bounds what waits for one grain; with many grains that bounds nothing. What is refused here was not started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use granary_core::api::{CallFailure, Code};
use granary_core::message::Request;

use crate::telemetry::Metrics;

/// Requests are counted in the upper bits of one number, bytes in the lower: one addition for both.
const ONE: u64 = 1 << 40;

/// The knobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BacklogLimits {
    /// Requests that wait or are being worked on.
    pub(crate) requests: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// What waits on this host.
#[derive(Debug)]
pub(crate) struct Backlog {
    limits: BacklogLimits,
    waiting: AtomicU64,
    metrics: Arc<Metrics>,
}

/// One request's part of the backlog; given back when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    backlog: Arc<Backlog>,
    cost: u64,
}

impl Backlog {
    pub(crate) fn new(limits: BacklogLimits, metrics: Arc<Metrics>) -> Arc<Backlog> {
        let limits = BacklogLimits {
            requests: limits.requests.min((1 << 24) - 1),
            bytes: limits.bytes.min(ONE - 1),
        };
        Arc::new(Backlog {
            limits,
            waiting: AtomicU64::new(0),
            metrics,
        })
    }

    /// Takes a request in, unless too much waits already.
    pub(crate) fn admit(self: &Arc<Self>, request: &Request) -> Result<Waiting, CallFailure> {
        let cost = ONE + (request.cost() as u64).min(ONE - 1);
        let (requests, bytes) = split(self.waiting.fetch_add(cost, Ordering::Relaxed));
        let waiting = Waiting {
            backlog: self.clone(),
            cost,
        };
        // As in a mailbox: a single large request gets in when nothing else waits.
        if requests < self.limits.requests && (requests == 0 || bytes + cost % ONE <= self.limits.bytes) {
            return Ok(waiting);
        }
        self.metrics.backlog_refusals.inc();
        let detail = format!(
            "{requests} requests of {bytes} bytes wait on this host, of at most {} of {} bytes: ask again later",
            self.limits.requests, self.limits.bytes
        );
        Err(CallFailure::before(Code::Overloaded, detail))
    }

    /// Requests and bytes that wait now.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        split(self.waiting.load(Ordering::Relaxed))
    }
}

fn split(waiting: u64) -> (u64, u64) {
    (waiting / ONE, waiting % ONE)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.backlog.waiting.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use granary_core::id::{RequestId, Revision};
    use granary_core::message::{Caller, Token, Work};
    use granary_core::time::Time;

    use super::*;

    fn request(bytes: usize) -> Request {
        let args = vec![0; bytes];
        Request {
            token: Token(1),
            id: RequestId([0; 16]),
            work: Work::Call {
                method: "m".into(),
                args,
                read: false,
                revision: Revision(1),
            },
            caller: Caller::Outside,
            deadline: Time(1),
            chain: Arc::new([]),
            once: None,
        }
    }

    fn backlog(requests: u64, bytes: u64) -> Arc<Backlog> {
        Backlog::new(BacklogLimits { requests, bytes }, Arc::new(Metrics::new()))
    }

    #[test]
    fn requests_are_taken_in_up_to_their_number() {
        let backlog = backlog(2, 1 << 30);
        let first = backlog.admit(&request(1)).unwrap();
        let _second = backlog.admit(&request(1)).unwrap();
        let refused = backlog.admit(&request(1)).unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        drop(first);
        assert!(backlog.admit(&request(1)).is_ok());
        assert_eq!(backlog.waiting().0, 1);
        assert_eq!(backlog.metrics.backlog_refusals.get(), 1);
    }

    #[test]
    fn bytes_are_bounded_but_one_large_request_alone_gets_in() {
        let backlog = backlog(100, 10_000);
        let large = backlog.admit(&request(50_000)).unwrap();
        assert!(backlog.admit(&request(1)).is_err());
        drop(large);
        let _first = backlog.admit(&request(5_000)).unwrap();
        assert!(backlog.admit(&request(5_000)).is_err());
        assert!(backlog.admit(&request(1_000)).is_ok());
        drop(_first);
        assert_eq!(backlog.waiting(), (0, 0));
    }
}
