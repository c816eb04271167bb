//! The thread that watches the budget: measures, lets grains leave, and tells those who wait for room.
//!
//! A thread of its own rather than a task: when all of the runtime's threads are busy with guests a task would wait for its turn,
//! and that's when memory runs out. Far below the high-water mark it looks ten times a second; near it every few
//! milliseconds, and at once when much was handed out.
//!
//! **Not here:** which grains leave ([`eviction`](super::eviction)), what counts ([`budget`](super::budget)).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Catalog;
use crate::threads;

/// Between two looks while less than half of the high-water mark is taken.
const CALM: Duration = Duration::from_millis(100);
/// And above that. How much two threads can touch in this time is how far the budget may be missed.
const ALERT: Duration = Duration::from_millis(4);
/// The least time between two looks, however often it's woken: each costs a few microseconds.
const LEAST: Duration = Duration::from_micros(500);

/// The least time between two attempts to give free heap back: each takes some milliseconds of all who allocate.
const TRIM: Duration = Duration::from_secs(1);
/// When so much less is taken than was, what is left of it on the heap is given back, too. Freed blocks stay with the allocator
/// otherwise, in each thread's own part of the heap.
const EBB: u64 = 4 << 20;

/// The running thread; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Arc<AtomicBool>,
    join: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts watching. Inside of a runtime: evictions may start tasks.
    pub(crate) fn start(catalog: &Arc<Catalog>) -> io::Result<Keeper> {
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, runtime) = (stop.clone(), tokio::runtime::Handle::current());
        let watched = Arc::downgrade(catalog);
        let join = threads::start("memory-budget", move || {
            let _inside = runtime.enter();
            let mut tide = Tide::default();
            while !theirs.load(Ordering::Relaxed)
                && let Some(pause) = look(&watched, &mut tide)
            {
                std::thread::sleep(LEAST);
                std::thread::park_timeout(pause);
            }
        })?;
        catalog.parts.budget.set_keeper(join.thread().clone());
        Ok(Keeper { stop, join: Some(join) })
    }
}

/// When the heap was trimmed last, and the most that was taken since.
#[derive(Default)]
struct Tide {
    trimmed: Option<Instant>,
    high: u64,
}

/// One look; how long to rest then, or nothing when there's nothing left to watch.
fn look(catalog: &Weak<Catalog>, tide: &mut Tide) -> Option<Duration> {
    let catalog = catalog.upgrade()?;
    let budget = &catalog.parts.budget;
    let mut used = budget.measure();
    let (high, low) = budget.marks();
    if used > high {
        used = catalog.squeeze(low);
    }
    tide.high = tide.high.max(used);
    let wants_trim = used > high || used + EBB <= tide.high;
    if wants_trim && tide.trimmed.is_none_or(|trimmed| trimmed.elapsed() > TRIM) {
        used = budget.trim();
        *tide = Tide {
            trimmed: Some(Instant::now()),
            high: used,
        };
    }
    budget.set_exhausted(used > budget.limit());
    budget.ring();
    Some(if used > budget.high() / 2 { ALERT } else { CALM })
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(join) = self.join.take() {
            join.thread().unpark();
            // It doesn't panic; there's nothing to do about it here if it did.
            let _ = join.join();
        }
    }
}
