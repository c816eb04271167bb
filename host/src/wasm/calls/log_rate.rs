//! How many log records all guests of a host write together: a bucket that fills with time.
//!
//! Each turn's records are bounded, but turns are many: together they could fill a disk with log, or keep all processors busy with
//! formatting it. **Not here:** which records are dropped within a turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bucket holds the records of so many seconds.
const BURST_SECONDS: f64 = 1.0;
/// How often the host's log says that records are dropped.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// The bucket.
#[derive(Debug)]
pub(in crate::wasm) struct LogRate {
    per_second: f64,
    bucket: Mutex<Bucket>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    filled: Instant,
    /// When the log was last told, and how many records had been dropped by then.
    told: Option<Instant>,
    told_of: u64,
}

impl LogRate {
    pub(in crate::wasm) fn new(per_second: u32, now: Instant) -> LogRate {
        let per_second = f64::from(per_second);
        LogRate {
            per_second,
            bucket: Mutex::new(Bucket {
                left: per_second * BURST_SECONDS,
                filled: now,
                told: None,
                told_of: 0,
            }),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether a record may be written now; counts it as dropped otherwise.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.left = (bucket.left + since * self.per_second).min(self.per_second * BURST_SECONDS);
        bucket.filled = bucket.filled.max(now);
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return true;
        }
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        let is_due = bucket
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= NOTICE_INTERVAL);
        if is_due {
            let (records, limit) = (dropped - bucket.told_of, self.per_second);
            (bucket.told, bucket.told_of) = (Some(now), dropped);
            drop(bucket);
            tracing::warn!(
                records,
                "guests write more than {limit} log records a second: those above are dropped"
            );
        }
        false
    }

    /// Records dropped since the start.
    pub(in crate::wasm) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_seconds_records_through_and_fills_with_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rate = LogRate::new(100, start);
        let admitted = |now| (0..1_000).filter(|_| rate.admits(now)).count();
        assert_eq!(admitted(at(0)), 100);
        assert_eq!(rate.dropped(), 900);
        assert_eq!(admitted(at(250)), 25);
        assert_eq!(admitted(at(250)), 0);
        assert_eq!(admitted(at(3_600_000)), 100, "no more than a second's");
        assert_eq!(admitted(at(0)), 0, "an earlier time fills nothing");
    }
}
