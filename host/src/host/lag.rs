//! How long work waits for a worker thread: as long as a task whose timer has run out, for a socket's bytes wake their task by the same
//! way and through the same queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::threads;

/// How often it's measured: often enough that a second's mean says something, seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(50);
/// A measurement weighs so much less than the mean of those before: half a second's smoothing.
const SMOOTHING: u64 = 8;

/// Measures as long as it lives.
pub(super) struct Lag {
    mean_nanos: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Lag {
    /// Of the runtime that this is called on.
    pub(super) fn measure() -> Lag {
        let mean_nanos = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(threads::task("lag", go_on(mean_nanos.clone()))).abort_handle();
        Lag { mean_nanos, task }
    }

    /// The smoothed wait.
    pub(super) fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean_nanos.load(Ordering::Relaxed))
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn go_on(mean_nanos: Arc<AtomicU64>) {
    loop {
        let due = Instant::now() + INTERVAL;
        tokio::time::sleep_until(due).await;
        let late = due.elapsed().as_nanos() as u64;
        let mean = mean_nanos.load(Ordering::Relaxed);
        mean_nanos.store((mean * (SMOOTHING - 1) + late) / SMOOTHING, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_is_kept_busy_shows() {
        let lag = Lag::measure();
        tokio::time::sleep(INTERVAL / 2).await;
        // One thread only, which does nothing else meanwhile.
        std::thread::sleep(INTERVAL * 5);
        tokio::time::sleep(INTERVAL / 10).await;
        let busy = lag.mean();
        assert!(busy >= INTERVAL * 4 / SMOOTHING as u32, "{busy:?}");
        tokio::time::sleep(INTERVAL * 20).await;
        assert!(lag.mean() < busy / 2, "{:?} after {busy:?}", lag.mean());
    }
}
