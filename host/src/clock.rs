//! This host's clocks, the one place that reads them for the machines.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use granary_core::time::{Time, WallMillis};

/// Counts from the host's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            started: Instant::now(),
        }
    }

    /// Now, on the monotonic clock.
    pub(crate) fn time(&self) -> Time {
        Time(self.started.elapsed().as_nanos() as u64)
    }
}

/// Now, on the wall clock. 0 when that is set to before 1970.
pub(crate) fn wall() -> WallMillis {
    WallMillis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
    )
}
