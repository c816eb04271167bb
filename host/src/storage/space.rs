//! How much room the disk has, looked up beside the hot path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::StorageError;
use super::config::StorageConfig;
use super::files::{Files, Space};

const UNPOISONED: &str = "no thread panics while it holds the lock of the room";

/// The disk's room as of a moment ago.
pub(crate) struct Room {
    files: Arc<dyn Files>,
    percent: u64,
    bytes: u64,
    interval: Duration,
    free: AtomicU64,
    reserve: AtomicU64,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl Room {
    /// Looks for the first time.
    pub(crate) fn new(files: Arc<dyn Files>, config: &StorageConfig) -> Result<Room, StorageError> {
        let room = Room {
            percent: u64::from(config.reserve_percent),
            bytes: config.reserve_bytes,
            interval: config.space_interval,
            free: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
            files,
        };
        room.note(room.files.space()?);
        Ok(room)
    }

    fn note(&self, space: Space) {
        let reserve = (space.total / 100 * self.percent).max(self.bytes);
        self.reserve.store(reserve, Ordering::Relaxed);
        self.free.store(space.free, Ordering::Relaxed);
    }

    /// Whether more may be written.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        let (free, reserve) = (self.free.load(Ordering::Relaxed), self.reserve.load(Ordering::Relaxed));
        if free < reserve {
            return Err(StorageError::DiskReserve { free, reserve });
        }
        Ok(())
    }

    /// Looks at each interval until stopped.
    pub(crate) fn run(&self) {
        let mut stopped = self.stopped.lock().expect(UNPOISONED);
        while !*stopped {
            stopped = self.stop.wait_timeout(stopped, self.interval).expect(UNPOISONED).0;
            match self.files.space() {
                Ok(space) => self.tell(space),
                Err(error) => tracing::warn!(%error, "the disk's free space couldn't be looked up"),
            }
        }
    }

    fn tell(&self, space: Space) {
        let was_short = self.check().is_err();
        self.note(space);
        match self.check() {
            Err(error) if !was_short => tracing::warn!("{error}"),
            Ok(()) if was_short => tracing::info!(free = space.free, "the disk has room again: writes are accepted"),
            _ => {}
        }
    }

    /// Ends [`Room::run`].
    pub(crate) fn stop(&self) {
        *self.stopped.lock().expect(UNPOISONED) = true;
        self.stop.notify_all();
    }
}
