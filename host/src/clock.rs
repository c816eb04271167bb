//! This host's clocks, the one place that reads what time it is.
//!
//! Whatever waits, ages or ends goes by the clock that nobody sets. The clock on the wall is for people to read, for guests that ask, and for
//! what has to hold beyond one process: certificates and join tokens. `docs/time.md` lists all uses.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use granary_core::time::Time;
use rustix::time::{ClockId, clock_gettime};

/// Counts from the host's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: u64,
    /// What it showed then.
    from: u64,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            started: steady_nanos(),
            from: 0,
        }
    }

    /// The clock of a host that has been up for so long.
    #[cfg(test)]
    pub(crate) fn started_before(up: Duration) -> Clock {
        Clock {
            from: up.as_nanos() as u64,
            ..Clock::start()
        }
    }

    /// Now. Nobody sets this clock, and it goes on while the machine sleeps: what was promised until a moment isn't kept beyond it.
    pub(crate) fn time(&self) -> Time {
        Time(self.from + steady_nanos().saturating_sub(self.started))
    }
}

fn steady_nanos() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Neither part of it is ever negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Now, on the wall clock.
pub(crate) fn wall() -> SystemTime {
    match BENT.get() {
        None => SystemTime::now(),
        Some(file) => bent(SystemTime::now(), file),
    }
}

/// The same since 1970, nothing when it's set to before that.
pub(crate) fn since_1970() -> Duration {
    wall().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// In milliseconds.
pub(crate) fn wall_millis() -> u64 {
    since_1970().as_millis() as u64
}

/// Where a test says how wrong the wall clock goes.
static BENT: OnceLock<PathBuf> = OnceLock::new();

/// For tests of the whole program: from now on the wall clock is wrong by as many seconds as this file says, which may change.
pub fn bend(file: PathBuf) {
    let _ = BENT.set(file);
}

fn bent(now: SystemTime, file: &PathBuf) -> SystemTime {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let seconds: i64 = text.trim().parse().unwrap_or(0);
    let by = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        now.checked_sub(by)
    } else {
        now.checked_add(by)
    };
    moved.unwrap_or(now)
}
