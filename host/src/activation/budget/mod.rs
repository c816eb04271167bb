//! How much memory this host may take, and who may take more of it.
//!
//! What is taken is measured, not guessed: a [`Meter`] asks the kernel for the process' own memory and for what the memories of
//! grains take. Between two measurements the [`Budget`] adds what was handed out since: whoever is about to take memory (a grain
//! being restored, a guest that grows) holds a [`Charge`] for it; a charge that is given back counts until the next
//! measurement has seen what came of it. A turn that takes nothing touches none of this.
//!
//! Three lines, from below: at the **high-water mark** the longest unused grains begin to leave, until the **low-water mark** is
//! reached; at the **limit** nobody gets more: restores wait for a while and then fail as `overloaded`, guests are refused memory.
//!
//! **Not here:** which grains leave ([`eviction`](super::eviction)) and who measures when ([`keeper`](super::keeper)).

mod available;
mod charge;
mod heap;
mod meter;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::available::default_budget;
pub(crate) use self::charge::Charge;
pub(crate) use self::heap::fix_threshold;
pub(crate) use self::meter::{Meter, Taken};
use crate::telemetry::Metrics;

/// Percent of the limit at which grains begin to leave: what is above is room for what is handed out meanwhile.
const HIGH_PERCENT: u64 = 85;
/// Percent of the limit at which they stop leaving: far enough below that a round is worth its search.
const LOW_PERCENT: u64 = 75;
/// The keeper is woken when this share of the limit was handed out since it measured last.
const WAKE_SHARE: u64 = 32;

/// The knobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetLimits {
    /// Bytes that the host may take.
    pub(crate) bytes: u64,
    /// How long a restore waits for room.
    pub(crate) wait: Duration,
    /// The most restores that wait.
    pub(crate) waiters: usize,
    /// Guests with a memory of at least so many bytes are stopped when nothing else helps.
    pub(crate) large: u64,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: BudgetLimits,
    meter: Meter,
    /// What the kernel said last.
    measured: AtomicU64,
    /// Charges that are held.
    held: AtomicU64,
    /// Charges given back since the last measurement began.
    settled: AtomicU64,
    waiting: AtomicUsize,
    /// The most that somebody waits for.
    wanted: AtomicU64,
    /// Rings when there may be room.
    bell: Notify,
    keeper: OnceLock<Thread>,
    /// All that is idle has left, and still more is taken than may be.
    is_exhausted: AtomicBool,
    metrics: Arc<Metrics>,
}

/// A look at the budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetView {
    pub(crate) limit: u64,
    pub(crate) taken: Taken,
    pub(crate) charged: u64,
    pub(crate) waiting: usize,
}

impl Budget {
    pub(crate) fn new(limits: BudgetLimits, meter: Meter, metrics: Arc<Metrics>) -> Arc<Budget> {
        let budget = Budget {
            limits,
            meter,
            measured: AtomicU64::new(0),
            held: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            wanted: AtomicU64::new(0),
            bell: Notify::new(),
            keeper: OnceLock::new(),
            is_exhausted: AtomicBool::new(false),
            metrics,
        };
        budget.measure();
        Arc::new(budget)
    }

    /// Asks the kernel, and returns what counts now.
    pub(crate) fn measure(&self) -> u64 {
        // What is settled from here on may be missed by this measurement and counts until the next.
        let settled = self.settled.load(Ordering::SeqCst);
        let taken = self.meter.taken();
        self.measured.store(taken.bytes(), Ordering::SeqCst);
        self.settled.fetch_sub(settled, Ordering::SeqCst);
        self.used()
    }

    /// What counts: measured last, and handed out since.
    pub(crate) fn used(&self) -> u64 {
        self.measured.load(Ordering::SeqCst) + self.charged()
    }

    pub(crate) fn charged(&self) -> u64 {
        self.held.load(Ordering::SeqCst) + self.settled.load(Ordering::SeqCst)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limits.bytes
    }

    pub(crate) fn high(&self) -> u64 {
        self.limits.bytes / 100 * HIGH_PERCENT
    }

    fn low(&self) -> u64 {
        self.limits.bytes / 100 * LOW_PERCENT
    }

    /// A charge for `bytes`, if there is room for them now.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let mut charge = Charge::new(self.clone());
        charge.raise(bytes).then_some(charge)
    }

    /// A charge for `bytes`, as soon as there is room. `until` bounds the waiting, and so does the number of those who wait.
    pub(crate) async fn room(self: &Arc<Self>, bytes: u64, until: Instant) -> Option<Charge> {
        if let Some(charge) = self.take(bytes) {
            return Some(charge);
        }
        self.metrics.budget_waits.inc();
        let _place = Place::new(self)?;
        loop {
            // Before the look, so that a bell in between is heard.
            let mut bell = std::pin::pin!(self.bell.notified());
            bell.as_mut().enable();
            if let Some(charge) = self.take(bytes) {
                return Some(charge);
            }
            self.wanted.fetch_max(bytes, Ordering::SeqCst);
            self.wake_keeper();
            tokio::time::timeout_at(until, bell).await.ok()?;
        }
    }

    /// How much ought to be taken at most, and how far to go down when it's more: the marks, or less if somebody waits for more room than
    /// there would be. Who goes on waiting says so again with the next bell.
    pub(crate) fn marks(&self) -> (u64, u64) {
        let limit = self.limits.bytes;
        match self.wanted.swap(0, Ordering::SeqCst) {
            0 => (self.high(), self.low()),
            wanted => {
                let target = self.low().min(limit.saturating_sub(wanted));
                (target, target)
            }
        }
    }

    /// Gives free pages of the heap back to the system, and measures again.
    pub(crate) fn trim(&self) -> u64 {
        heap::trim();
        self.measure()
    }

    /// How long one restore waits, all in all.
    pub(crate) fn patience(&self) -> Duration {
        self.limits.wait
    }

    /// There may be room: those who wait look again.
    pub(crate) fn ring(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.bell.notify_waiters();
        }
    }

    /// Who measures, and is woken when much was handed out.
    pub(crate) fn set_keeper(&self, keeper: Thread) {
        // A second keeper would only be woken later than the first.
        let _ = self.keeper.set(keeper);
    }

    pub(crate) fn set_exhausted(&self, is_exhausted: bool) {
        self.is_exhausted.store(is_exhausted, Ordering::Relaxed);
    }

    /// Whether a running turn on a memory of `len` bytes has to end, since nothing else gives memory back.
    pub(crate) fn must_stop(&self, len: u64) -> bool {
        self.is_exhausted.load(Ordering::Relaxed) && len >= self.limits.large
    }

    pub(crate) fn view(&self) -> BudgetView {
        BudgetView {
            limit: self.limits.bytes,
            taken: self.meter.taken(),
            charged: self.charged(),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// What a caller hears when there was no room in time.
    pub(crate) fn overloaded(&self, bytes: u64) -> CallFailure {
        self.metrics.budget_refusals.inc();
        let detail = format!(
            "the host's memory budget of {} bytes has no room for the {bytes} bytes that the grain needs: ask again later, or give the host \
             more (--memory-budget)",
            self.limits.bytes
        );
        CallFailure::before(Code::Overloaded, detail)
    }

    /// Adds to what is held if that stays within the limit.
    fn hold(&self, bytes: u64) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::SeqCst);
        let others = self.measured.load(Ordering::SeqCst) + self.settled.load(Ordering::SeqCst);
        if others.saturating_add(before).saturating_add(bytes) > self.limits.bytes {
            self.held.fetch_sub(bytes, Ordering::SeqCst);
            return false;
        }
        let step = (self.limits.bytes / WAKE_SHARE).max(1);
        if before / step != (before + bytes) / step || bytes >= step {
            self.wake_keeper();
        }
        true
    }

    /// What was held is memory now, or was never taken: the next measurement tells.
    fn settle(&self, bytes: u64) {
        let before = self.settled.fetch_add(bytes, Ordering::SeqCst);
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        let step = (self.limits.bytes / WAKE_SHARE).max(1);
        if before / step != (before + bytes) / step {
            self.wake_keeper();
        }
    }

    fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }
}

/// A place among those who wait.
struct Place<'a>(&'a Budget);

impl<'a> Place<'a> {
    fn new(budget: &'a Budget) -> Option<Place<'a>> {
        let before = budget.waiting.fetch_add(1, Ordering::SeqCst);
        let place = Place(budget);
        (before < budget.limits.waiters).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
