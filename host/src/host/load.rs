//! How loaded this host is, for those who place grains.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use granary_core::placement::Beat;
use rustix::time::{ClockId, clock_gettime};

use super::lag::Lag;
use crate::activation::Parts;

/// Measures between one beat and the next.
pub(super) struct Load {
    parts: Arc<Parts>,
    cores: f64,
    lag: Lag,
    last: Mutex<(Instant, f64)>,
}

impl Load {
    /// Of the runtime that this is called on.
    pub(super) fn new(parts: Arc<Parts>) -> Load {
        Load {
            parts,
            cores: std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
            lag: Lag::measure(),
            last: Mutex::new((Instant::now(), cpu_seconds())),
        }
    }

    /// The host's figures since the last call.
    pub(super) fn beat(&self) -> Beat {
        let (now, used) = (Instant::now(), cpu_seconds());
        let mut last = self.last.lock().expect("no panic under this lock");
        let elapsed = (now - last.0).as_secs_f64().max(1e-3);
        let cpu = (used - last.1) / elapsed / self.cores;
        *last = (now, used);
        let memory = self.parts.budget.view();
        let share = memory.taken.bytes() as f64 / memory.limit.max(1) as f64;
        Beat {
            cpu_permille: permille(cpu),
            memory_permille: permille(share),
            queue_wait_ms: u32::try_from(self.lag.mean().as_millis()).unwrap_or(u32::MAX),
            activations: u32::try_from(self.parts.metrics.activations.get()).unwrap_or(0),
            draining: self.parts.draining.load(Ordering::Relaxed),
            processors: self.cores as u16,
            memory_mib: u32::try_from(memory.limit >> 20).unwrap_or(u32::MAX),
        }
    }
}

fn permille(share: f64) -> u16 {
    (share * 1000.0).clamp(0.0, f64::from(u16::MAX)) as u16
}

/// Processor time of the process.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
