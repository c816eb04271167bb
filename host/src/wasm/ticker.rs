//! The interrupt tick: what stops guests that compute for long.
//!
//! A thread raises the engine's epoch every millisecond. Compiled code looks at it at each loop and function and calls the host
//! when it has risen: the host adds up the CPU time that the turn has taken, and lets the thread's other turns run.
//! CPU time is read from the thread's clock, so waiting and a busy machine don't count; a turn that ends within its first
//! tick costs no system call.
//!
//! When no turn has run for a second the thread sleeps until one does.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{StoreContextMut, UpdateDeadline};

use super::calls::GuestState;
use super::failure::{TurnFailure, raise};
use crate::threads;

/// Sleeps after this many ticks without a turn.
const IDLE_TICKS: u64 = 1_000;

/// The thread and what it shares with turns.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    join: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ticks: AtomicU64,
    /// The tick at which a turn was last seen running.
    recent: AtomicU64,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// What a turn that is being polled on this thread has taken.
#[derive(Clone, Copy, Default)]
struct Slice {
    /// The tick at which it began.
    tick: u64,
    /// The thread's CPU time at which it began, where that's known.
    cpu: Option<Duration>,
    /// Whether the turn was interrupted in it.
    interrupted: bool,
}

thread_local! {
    static SLICE: Cell<Slice> = const { Cell::new(Slice { tick: 0, cpu: None, interrupted: false }) };
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: &wasmtime::Engine, period: Duration) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let (engine, theirs) = (engine.clone(), Arc::clone(&shared));
        let join = threads::start("interrupt-tick", move || {
            while !theirs.stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(period);
                let tick = theirs.ticks.fetch_add(1, Ordering::SeqCst) + 1;
                engine.increment_epoch();
                if tick.saturating_sub(theirs.recent.load(Ordering::SeqCst)) > IDLE_TICKS {
                    theirs.sleep(tick);
                }
            }
        })?;
        Ok(Ticker {
            shared,
            thread: join.thread().clone(),
            join: Some(join),
        })
    }

    /// Runs a turn's future; [`on_tick`] adds up its CPU time.
    pub(super) async fn run<T>(&self, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        let mut interrupted = false;
        std::future::poll_fn(|cx| {
            // A turn that was interrupted once is a long one: from now on its slices begin at a known time.
            let slice = Slice {
                tick: self.wake(),
                cpu: interrupted.then(thread_cpu),
                interrupted: false,
            };
            let outer = SLICE.replace(slice);
            let poll = turn.as_mut().poll(cx);
            interrupted |= SLICE.replace(outer).interrupted;
            poll
        })
        .await
    }

    /// Makes sure that ticks come, and returns the last one.
    fn wake(&self) -> u64 {
        let tick = self.shared.ticks.load(Ordering::SeqCst);
        if self.shared.recent.load(Ordering::Relaxed) != tick {
            self.shared.recent.store(tick, Ordering::SeqCst);
            if self.shared.asleep.load(Ordering::SeqCst) {
                self.thread.unpark();
            }
        }
        tick
    }

    /// Whether the thread sleeps until a turn runs.
    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.shared.asleep.load(Ordering::SeqCst)
    }

    /// What [`on_tick`] needs of this.
    pub(super) fn ticks(&self) -> Ticks {
        Ticks(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
        if let Some(join) = self.join.take() {
            // It holds no lock and can't panic; there's nothing to do about it here if it did.
            let _ = join.join();
        }
    }
}

impl Shared {
    /// Sleeps until a turn runs. A turn writes `recent` before it reads `asleep`, this writes `asleep` before it reads
    /// `recent`: one of them sees the other.
    fn sleep(&self, tick: u64) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.recent.load(Ordering::SeqCst) != tick && !self.stop.load(Ordering::Relaxed) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// Reads the tick.
#[derive(Clone, Debug)]
pub(super) struct Ticks(Arc<Shared>);

/// A guest has seen a tick: may it go on?
pub(super) fn on_tick(mut store: StoreContextMut<'_, GuestState>, ticks: &Ticks) -> wasmtime::Result<UpdateDeadline> {
    let mut slice = SLICE.get();
    let tick = ticks.0.ticks.load(Ordering::Relaxed);
    if tick == slice.tick {
        // It waited for a call, and the tick came while it did.
        return Ok(UpdateDeadline::Continue(1));
    }
    let now = thread_cpu();
    let state = store.data_mut();
    state.cpu += match slice.cpu {
        Some(start) => now.saturating_sub(start),
        None => state.config.tick,
    };
    slice.interrupted = true;
    slice.cpu = Some(now);
    slice.tick = tick;
    SLICE.set(slice);
    if state.cpu > state.cpu_limit {
        let limit_ms = state.cpu_limit.as_millis() as u64;
        return Err(raise(TurnFailure::CpuLimit { limit_ms }));
    }
    stop_for_memory(&store)?;
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
}

/// Ends the turn when the host is out of memory and the guest is one of those that have much of it.
fn stop_for_memory(store: &StoreContextMut<'_, GuestState>) -> wasmtime::Result<()> {
    let state = store.data();
    let len = state.memory.map_or(0, |memory| memory.data_size(store) as u64);
    match &state.gate {
        Some(gate) if gate.must_stop(len) => Err(raise(TurnFailure::HostMemory {
            message: "it was stopped, since the host is out of memory".to_owned(),
        })),
        _ => Ok(()),
    }
}

/// CPU time that this thread has taken.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
}
