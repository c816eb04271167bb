//! Request ids: the trace id of a caller that sends one, so that its traces and our logs find each other, else 16 random
//! bytes. A trace may hold many requests: an id names them in logs and replies, and nothing is told apart by it.

use std::cell::RefCell;

use axum::http::HeaderMap;
use granary_core::id::RequestId;

use super::headers;

const BATCH: usize = 256;

struct Pool {
    bytes: [u8; 16 * BATCH],
    used: usize,
}

thread_local! {
    /// One system call for each 256 ids.
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; 16 * BATCH], used: BATCH }) };
}

/// A request's id.
pub(super) fn of(headers: &HeaderMap) -> RequestId {
    let traced = headers::trace_id(headers).and_then(|trace| trace.parse().ok());
    traced.unwrap_or_else(fresh)
}

/// A fresh id.
pub(super) fn fresh() -> RequestId {
    POOL.with_borrow_mut(|pool| {
        if pool.used == BATCH {
            getrandom::fill(&mut pool.bytes)
                .expect("the kernel's random numbers are there once the system has started");
            pool.used = 0;
        }
        let mut id = [0; 16];
        id.copy_from_slice(&pool.bytes[16 * pool.used..16 * pool.used + 16]);
        pool.used += 1;
        RequestId(id)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_differ_within_and_between_batches() {
        let ids: BTreeSet<_> = (0..3 * BATCH).map(|_| fresh()).collect();
        assert_eq!(ids.len(), 3 * BATCH);
        assert!(!ids.contains(&RequestId([0; 16])));
    }
}
