//! This host's clocks, the one place that reads them for the machines.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use granary_core::time::Time;

/// Counts from the host's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// What it showed then.
    from: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            started: Instant::now(),
            from: Duration::ZERO,
        }
    }

    /// The clock of a host that has been up for so long.
    #[cfg(test)]
    pub(crate) fn started_before(from: Duration) -> Clock {
        Clock { from, ..Clock::start() }
    }

    /// Now, on the monotonic clock.
    pub(crate) fn time(&self) -> Time {
        Time((self.from + self.started.elapsed()).as_nanos() as u64)
    }
}

/// Now, on the wall clock: milliseconds since 1970, 0 when it's set to before that. For people to read, and for how long join tokens hold.
pub(crate) fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
