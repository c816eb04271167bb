//! Lets replies go when the log says that they may.
//!
//! The log's thread reports each durable group here; one task then tells every activation that waits for it. An activation
//! registers for the first place that one of its replies waits for, so it's told once for each group, not for each reply.
//!
//! **Not here:** which reply waits for what (the machine).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use granary_core::id::Lsn;
use tokio::sync::Notify;

use super::Backlog;
use super::driver::Driver;
use crate::storage::DurableSink;

#[derive(Debug)]
pub(crate) struct Release {
    durable: AtomicU64,
    waiting: Mutex<Vec<(Lsn, Arc<Driver>)>>,
    bell: Notify,
    backlog: Arc<Backlog>,
}

impl Release {
    /// Up to `durable` all is on the disk already.
    pub(crate) fn new(durable: Lsn, backlog: Arc<Backlog>) -> Release {
        Release {
            durable: AtomicU64::new(durable.0),
            waiting: Mutex::default(),
            bell: Notify::new(),
            backlog,
        }
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Asks for `driver` to be told when `place` is durable; at once if it already is. Bounded by the number of activations:
    /// each is registered at most once at a time.
    pub(crate) fn register(&self, place: Lsn, driver: Arc<Driver>) {
        self.waiting
            .lock()
            .expect("no panic under this lock")
            .push((place, driver));
        if place <= self.durable() {
            // The group became durable in between, and its bell may have rung before the push.
            self.bell.notify_one();
        }
    }

    /// How many activations wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().expect("no panic under this lock").len()
    }

    /// Tells activations until the task is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ready = Vec::new();
        loop {
            self.bell.notified().await;
            let durable = self.durable();
            {
                let mut waiting = self.waiting.lock().expect("no panic under this lock");
                ready.extend(
                    waiting
                        .extract_if(.., |(place, _)| *place <= durable)
                        .map(|(_, driver)| driver),
                );
            }
            for driver in ready.drain(..) {
                driver.durable();
            }
        }
    }
}

impl DurableSink for Release {
    fn durable(&self, upto: Lsn) {
        self.durable.fetch_max(upto.0, Ordering::AcqRel);
        self.bell.notify_one();
    }

    fn in_flight(&self) -> usize {
        self.backlog.waiting().0 as usize
    }
}
