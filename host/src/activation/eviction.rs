//! Grains leave memory when nobody has called them for a while, and earlier when the host needs room; their next call brings them
//! back.
//!
//! Leaving costs nothing but the next restore: a grain's commits are in storage already. Only a `volatile` grain is written first.
//! On the way there a grain rests: it keeps its memory and gives back what only turns need, its stack and its copies of pages.
//!
//! # Who leaves for room
//!
//! The least recently used idle grains, by **sampled LRU** as in Redis: of a sample of the activations the longest unused quarter
//! leaves, then another sample is taken, until enough memory is free. A list in the order of use would have to be written, under a
//! lock, by every turn; this costs a turn nothing but the time that it notes anyway. With a sample of thousands the oldest quarter
//! is all but certainly among the oldest third of all; up to the size of a sample it's exact. A sample is some shards of the
//! catalog, others each time: ids are hashes, so a shard is a random choice of grains.
//!
//! **Not here:** how much memory is taken, and when that's too much ([`budget`](super::budget)).

use std::sync::Arc;
use std::time::Duration;

use super::Catalog;
use super::driver::Driver;

/// How often all activations are looked at within one idle time.
const ROUNDS: u32 = 4;
/// Activations in a sample, at least, if there are so many.
const SAMPLE: usize = 2_048;
/// The most samples in a row: all that a host can hold would have left by then.
const SAMPLES: usize = 1_000;
/// The part of a sample that may leave before the next is taken.
const OLDEST_SHARE: usize = 4;
/// Leave at once, however few there are: a share of a small sample would be nobody.
const OLDEST_LEAST: usize = 8;

impl Catalog {
    /// Evicts grains that have been idle for `idle`, until the task is dropped.
    pub(crate) async fn evict_idle(self: Arc<Self>, idle: Duration) {
        let pause = (idle / ROUNDS / self.steps() as u32).max(Duration::from_millis(1));
        let mut pause = tokio::time::interval(pause);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let idle_ms = idle.as_millis() as u64;
        for shard in (0..self.steps()).cycle() {
            pause.tick().await;
            for driver in self.some(shard) {
                match driver.idle_ms() {
                    Some(ms) if ms >= idle_ms => {
                        driver.evict();
                        self.parts.metrics.evictions.idle.inc();
                    }
                    Some(ms) if ms >= idle_ms / u64::from(ROUNDS) => driver.rest(),
                    _ => {}
                }
            }
        }
    }

    /// Evicts every grain that can leave, for a stop. Returns how many could not.
    pub(crate) fn evict_all(&self) -> usize {
        for shard in 0..self.steps() {
            for driver in self.some(shard) {
                if driver.idle_ms().is_some() {
                    driver.evict();
                    self.parts.metrics.evictions.stop.inc();
                }
            }
        }
        self.len()
    }

    /// Makes room for another instance when all slots are taken: a few of the longest unused grains leave.
    pub(crate) fn make_room(&self) {
        let sample = self.sample();
        for driver in sample.iter().take(OLDEST_LEAST) {
            driver.evict();
            self.parts.metrics.evictions.slots.inc();
        }
    }

    /// Evicts until `target` bytes or less count as taken, or nothing more can leave. Returns what counts then.
    pub(crate) fn squeeze(&self, target: u64) -> u64 {
        // One at a time: two would evict twice what is needed.
        let _alone = self.squeezing.lock().expect("no panic under this lock");
        let budget = &self.parts.budget;
        let mut used = budget.measure();
        for _ in 0..SAMPLES {
            if used <= target {
                break;
            }
            let sample = self.sample();
            let oldest = (sample.len() / OLDEST_SHARE).max(OLDEST_LEAST);
            if sample.is_empty() {
                break;
            }
            for driver in sample.iter().take(oldest) {
                driver.evict();
                self.parts.metrics.evictions.budget.inc();
                used = budget.measure();
                if used <= target {
                    break;
                }
            }
        }
        used
    }

    /// Idle activations, the longest unused first.
    fn sample(&self) -> Vec<Arc<Driver>> {
        let mut idle = Vec::new();
        let first = self.next_shard();
        for shard in 0..self.steps() {
            let drivers = self.some(first + shard).into_iter();
            idle.extend(drivers.filter_map(|driver| Some((driver.idle_ms()?, driver))));
            if idle.len() >= SAMPLE {
                // The next sample begins behind this one.
                self.skip_shards(shard);
                break;
            }
        }
        idle.sort_unstable_by_key(|(ms, _)| std::cmp::Reverse(*ms));
        idle.into_iter().map(|(_, driver)| driver).collect()
    }
}
