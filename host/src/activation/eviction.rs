//! Grains that nobody has called for a while leave memory; their next call brings them back.
//!
//! Leaving costs nothing but the next restore: a grain's commits are in storage already. Only a `volatile` grain is written first.
//! On the way there a grain rests: it keeps its memory and gives back what only turns need, its stack and its copies of pages.

use std::sync::Arc;
use std::time::Duration;

use super::Catalog;

/// How often all activations are looked at within one idle time.
const ROUNDS: u32 = 4;

impl Catalog {
    /// Evicts grains that have been idle for `idle`, until the task is dropped.
    pub(crate) async fn evict_idle(self: Arc<Self>, idle: Duration) {
        let pause = (idle / ROUNDS / self.steps() as u32).max(Duration::from_millis(1));
        let mut pause = tokio::time::interval(pause);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for shard in (0..self.steps()).cycle() {
            pause.tick().await;
            self.evict_some(shard, idle.as_millis() as u64);
        }
    }

    /// Evicts every grain that can leave, for a stop. Returns how many could not.
    pub(crate) fn evict_all(&self) -> usize {
        for shard in 0..self.steps() {
            self.evict_some(shard, 0);
        }
        self.len()
    }

    /// Makes room for another instance: evicts the idle grains of the first part of the catalog that has some.
    pub(crate) fn make_room(&self) {
        let first = self.next_shard();
        for step in 0..self.steps() {
            if self.evict_some(first + step, 0) > 0 {
                return;
            }
        }
    }

    fn evict_some(&self, shard: usize, idle_ms: u64) -> usize {
        let mut evicted = 0;
        for driver in self.some(shard) {
            let Some(ms) = driver.idle_ms() else { continue };
            if ms >= idle_ms {
                driver.evict();
                evicted += 1;
                self.parts.metrics.evictions.inc();
            } else if ms >= idle_ms / u64::from(ROUNDS) {
                driver.rest();
            }
        }
        evicted
    }
}
